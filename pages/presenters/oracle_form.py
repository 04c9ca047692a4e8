"""The form of the Oracle page: what can be chosen, and the request that its values make."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from pydantic import ValidationError

from pages.presenters.oracle_view import percent
from pages.presenters.training_choices import parse_seeds
from seqmatch.errors import ConfigError
from seqmatch.exact.choices import ORACLE_OBJECTIVES, ObjectiveGroup
from seqmatch.exact.languages import LANGUAGES, Language, PolicyKind, get_language, parse_language
from seqmatch.exact.results import TABLE, OracleRequest

MAX_OBJECTIVES = 12
"""As many have a place for their chart."""
NUM_PICTURED = 10
"""Answers in the picture of a language."""
_GROUPS: tuple[tuple[ObjectiveGroup, str, str], ...] = (
    (
        "exact divergence",
        "Exact divergences",
        "The divergence itself, by exact gradients: what an objective aims at.",
    ),
    ("objective", "Objectives", "The losses that Train offers, in expectation over all answers."),
    (
        "adversarial",
        "Adversarial imitation",
        "A policy against the exact discriminator, where Train learns one; from a start of "
        "supervised fine-tuning.",
    ),
)
TABLE_EXAMPLE = "ab 5\nba 3\naa 1\nbb 1"
AS_LANGUAGE = "language"
"""The choice that leaves a thing as the language comes with it."""
BACKSPACE_CHOICES: tuple[tuple[str, str], ...] = (
    ("as the language has it", AS_LANGUAGE),
    ("yes", "on"),
    ("no", "off"),
)
POLICY_CHOICES: tuple[tuple[str, str], ...] = (
    ("as the language has it", AS_LANGUAGE),
    ("unlimited", "tabular"),
    ("by position", "by_position"),
    ("bounded", "bounded"),
)
_POLICIES: Mapping[PolicyKind, str] = {
    "tabular": "any distribution over the answers",
    "by_position": "a distribution for each position, whatever came before it",
    "bounded": "any order of preference, but with bounded logits it never excludes a token",
}
_BACKSPACE: Mapping[str, bool | None] = {AS_LANGUAGE: None, "on": True, "off": False}


@dataclass(frozen=True)
class ObjectiveGroupChoices:
    """One group of objectives in the form."""

    heading: str
    hint: str
    choices: tuple[tuple[str, str], ...]
    """(shown, key) of each."""


def language_choices() -> list[tuple[str, str]]:
    """Returns (shown, value) of the built-in languages and of a pasted table."""
    built_in = [(language.title, name) for name, language in LANGUAGES.items()]
    return [*built_in, ("Your own table", TABLE)]


def objective_groups() -> tuple[ObjectiveGroupChoices, ...]:
    """Returns what can be trained, by group, in the order of the form."""
    return tuple(
        ObjectiveGroupChoices(
            heading,
            hint,
            tuple((one.title, key) for key, one in ORACLE_OBJECTIVES.items() if one.group == group),
        )
        for group, heading, hint in _GROUPS
    )


def objectives_html() -> str:
    """Returns every objective with its sentence, to be read where a name says too little."""
    items = "".join(
        f"<dt>{escape(one.title)}</dt><dd>{escape(one.sentence)}</dd>"
        for one in ORACLE_OBJECTIVES.values()
    )
    return (
        '<div class="objective-list" tabindex="0" role="region" aria-label="Objectives">'
        f'<dl class="objective-meanings">{items}</dl></div>'
    )


def language_html(name: str, table: str) -> str:
    """Returns what a language is, in a sentence and as bars of its likeliest answers.

    Raises:
        ConfigError: The pasted table cannot be read; the message names the line.
    """
    language = chosen_language(name, table)
    action = "with the backspace action" if language.backspace else "no backspace action"
    return (
        f'<p class="about">{escape(language.sentence)}</p>'
        f"{_picture(language)}"
        f'<p class="hint">The policy can represent {_POLICIES[language.policy]}; {action}.</p>'
    )


def chosen_language(name: str, table: str) -> Language:
    """Returns the built-in language of this name, or the one that a table gives.

    Raises:
        ConfigError: The table cannot be read.
        UnknownNameError: There is no such language.
    """
    return parse_language(table) if name == TABLE else get_language(name)


def _picture(language: Language) -> str:
    law = sorted(language.law.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = law[:NUM_PICTURED], law[NUM_PICTURED:]
    bars = [(language.text(answer), probability) for answer, probability in shown]
    if rest:
        bars.append((f"{len(rest):,} others", sum(probability for _, probability in rest)))
    highest = max(probability for _, probability in bars)
    rows = "".join(
        f'<tr><th scope="row">{escape(text)}</th>'
        f'<td class="bar"><span style="width:{100 * probability / highest:.1f}%"></span></td>'
        f"<td>{percent(probability)}</td></tr>"
        for text, probability in bars
    )
    return (
        '<table class="plain-table histogram law"><caption class="visually-hidden">Probability of '
        f"the likeliest answers of {escape(language.title)}</caption><tbody>{rows}</tbody></table>"
    )


@dataclass(frozen=True)
class FormValues:
    """What stands in the form."""

    language: str
    table: str
    objectives: Sequence[str]
    alpha: float | None
    seeds: str
    level: str
    policy: str
    backspace: str
    divergence_order: float | None
    num_simulated: float | None


def read_request(values: FormValues) -> OracleRequest:
    """Makes the request of the form.

    Raises:
        ConfigError: Something is missing or has a value that it may not have; says which.
    """
    number = len(values.objectives)
    if not 1 <= number <= MAX_OBJECTIVES:
        raise ConfigError(f"{number} objectives are chosen; choose 1 to {MAX_OBJECTIVES}")
    try:
        seeds = list(parse_seeds(values.seeds))
    except ConfigError as error:
        raise ConfigError(f"Seeds: {error}") from error
    chosen_language(values.language, values.table)
    try:
        return OracleRequest.model_validate(
            {
                "language": values.language,
                "table": values.table if values.language == TABLE else "",
                "objectives": list(values.objectives),
                "seeds": seeds,
                "alpha": values.alpha,
                "level": values.level,
                "policy": None if values.policy == AS_LANGUAGE else values.policy,
                "backspace": _BACKSPACE[values.backspace],
                "divergence_order": values.divergence_order,
                "num_simulated": values.num_simulated,
            }
        )
    except ValidationError as error:
        raise ConfigError(_problem(error)) from error


def backspace_value(backspace: bool | None) -> str:
    """Returns the choice that stands for what a request asked."""
    return next(choice for choice, value in _BACKSPACE.items() if value is backspace)


def seeds_text(seeds: Sequence[int]) -> str:
    """Returns seeds as the form has them: "0-4", or "0, 3"."""
    is_range = len(seeds) > 1 and list(seeds) == list(range(seeds[0], seeds[-1] + 1))
    return f"{seeds[0]}-{seeds[-1]}" if is_range else ", ".join(map(str, seeds))


def size_words(num_objectives: int, num_seeds: int) -> str:
    """Returns how much there is to train: "6 objectives × 5 seeds = 30 runs"."""
    runs = num_objectives * num_seeds
    parts = [
        f"{num} {word}{'' if num == 1 else 's'}"
        for num, word in ((num_objectives, "objective"), (num_seeds, "seed"), (runs, "run"))
    ]
    return f"{parts[0]} × {parts[1]} = {parts[2]}"


def _problem(error: ValidationError) -> str:
    first = error.errors()[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    field = OracleRequest.model_fields.get(name)
    title = (field.title if field else None) or name.capitalize()
    return f"{title}: {first['msg'].removeprefix('Value error, ')}, not {first['input']!r:.60}"
