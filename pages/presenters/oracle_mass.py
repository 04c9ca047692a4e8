"""Where an objective put the policy's mass, in words and as a table: computed, not promised."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pages.components.plain import table
from pages.presenters.oracle_view import (
    Experiment,
    capitalised,
    interval_text,
    listed,
    percent,
    percents,
    range_text,
    title_of,
)
from pages.presenters.spreadsheet import Cell, csv_link, to_csv
from seqmatch.exact.choices import ORACLE_OBJECTIVES
from seqmatch.exact.results import OracleLanguage, OracleRun

MODE_SHARE = 0.25
"""A mode has more than an equal share of the probability, and this share of the likeliest's."""
CLEAR_SHARE = 2 / 3
"""Modes that hold less than this of the data do not stand out."""
MAX_KEPT = 3
"""A sentence names no more kinds of runs."""
LIKELIHOOD = "sft"
"""The objective that SequenceMatch is held against."""
COVERED_SHARE = 0.25
"""A mode is covered where the policy gives it at least this share of its probability."""
CLOSE = 0.05
"""Laws at most this far apart, in total variation, are called close."""


@dataclass(frozen=True)
class Modes:
    """The likely answers of a language; where none stand out, all that the data has."""

    indices: tuple[int, ...]
    texts: tuple[str, ...]
    outside: float
    """The data's probability of all other answers."""
    are_clear: bool
    """False where no answers stand out."""


@dataclass(frozen=True)
class Verdict:
    """What the runs of one objective did with the modes of the data."""

    objective: str
    num_modes: int
    covered: tuple[tuple[str, ...], ...]
    """By run: the modes that it covers."""
    outside: tuple[float, ...]
    """By run: its probability outside the modes."""
    overlap: tuple[float, ...]
    """By run: the probability that it shares with the data, 1 - total variation."""

    @property
    def is_covering(self) -> bool:
        """True where every run covers every mode."""
        return all(len(one) == self.num_modes for one in self.covered)

    @property
    def mean_outside(self) -> float:
        """The mean over runs of the probability outside the modes."""
        return sum(self.outside) / len(self.outside)


def modes_of(language: OracleLanguage) -> Modes:
    """Returns the modes of the data: see `MODE_SHARE`. A pooled entry is none."""
    answers = language.answers
    single = answers[:-1] if language.num_pooled else answers
    num_given = sum(one.probability > 0 for one in single)
    equal = 1 / max(num_given + language.num_pooled, 1)
    floor = MODE_SHARE * max((one.probability for one in single), default=0.0)
    found = [
        index
        for index, one in enumerate(single)
        if one.probability > equal and one.probability >= floor
    ]
    inside = sum(answers[index].probability for index in found)
    are_clear = inside >= CLEAR_SHARE
    if not are_clear:
        found = [index for index, one in enumerate(answers) if one.probability > 0]
        inside = 1.0
    return Modes(
        tuple(found),
        tuple(answers[index].text for index in found),
        max(0.0, 1.0 - inside),
        are_clear,
    )


def verdict_of(language: OracleLanguage, modes: Modes, runs: Sequence[OracleRun]) -> Verdict:
    """Returns which modes each run covers and how much it puts outside them."""
    data = [answer.probability for answer in language.answers]
    covered, outside, overlap = [], [], []
    for run in runs:
        covered.append(
            tuple(
                text
                for index, text in zip(modes.indices, modes.texts, strict=True)
                if run.law[index] >= COVERED_SHARE * data[index]
            )
        )
        outside.append(max(0.0, 1.0 - sum(run.law[index] for index in modes.indices)))
        overlap.append(sum(map(min, data, run.law)))
    return Verdict(
        runs[0].objective, len(modes.indices), tuple(covered), tuple(outside), tuple(overlap)
    )


def summary(verdict: Verdict, modes: Modes) -> str:
    """Says in a sentence what one objective did: the text beside its chart."""
    outside = percents(verdict.outside)
    if not modes.are_clear:
        return (
            f"Shares {percents(verdict.overlap)} with the data; puts {outside} on answers that "
            "the data never gives."
        )
    tail = f"Outside the modes: {outside} (data {percent(modes.outside)})."
    if verdict.is_covering:
        return f"Covers {all_of(verdict.num_modes)}. {tail}"
    return f"{capitalised(_kept(verdict))} {tail}"


def overview(found: Experiment) -> list[tuple[str, str]]:
    """Says, from the numbers, which objectives cover the data's modes and which leave some out.

    Returns:
        (what they do, which ones and how much lies elsewhere) of each kind that there is.
    """
    if found.language is None or not found.runs:
        return []
    modes = modes_of(found.language)
    verdicts = [verdict_of(found.language, modes, found.of(key)) for key in found.objectives]
    if not modes.are_clear:
        return [("Closeness to the data.", _closeness(verdicts))]
    covering = [one for one in verdicts if one.is_covering]
    seeking = [one for one in verdicts if not one.is_covering]
    lines = []
    if covering:
        names = listed([title_of(one.objective) for one in covering])
        head = f"Cover {all_of(len(modes.indices))}."
        lines.append((head, f"{names}. {_outside(covering, modes)}"))
    if seeking:
        parts = [f"{title_of(one.objective)} {_kept(one)}" for one in seeking]
        head = "Leave a mode out." if len(modes.indices) > 1 else "Leave the mode out."
        lines.append((head, f"{'; '.join(parts)}. {_outside(seeking, modes)}"))
    return lines


def all_of(num_modes: int) -> str:
    """Returns "the one mode", "both modes" or "all 3 modes"."""
    return {1: "the one mode", 2: "both modes"}.get(num_modes, f"all {num_modes} modes")


def _closeness(verdicts: Sequence[Verdict]) -> str:
    shares = {one.objective: sum(one.overlap) / len(one.overlap) for one in verdicts}
    ordered = sorted(shares, key=lambda key: -shares[key])
    parts = [f"{title_of(key)} {percent(shares[key])}" for key in ordered]
    return f"No answers stand out in this language. Probability shared with it: {listed(parts)}."


def _outside(verdicts: Sequence[Verdict], modes: Modes) -> str:
    spread = range_text([one.mean_outside for one in verdicts])
    who = "It puts" if len(verdicts) == 1 else "They put"
    return f"{who} {spread} outside the modes; the data has {percent(modes.outside)} there."


def _kept(verdict: Verdict) -> str:
    """Returns "keeps “a” in 3 of 5 seeds, “b” in 2": what the runs cover, the most usual first."""
    num_runs = len(verdict.covered)
    parts: list[str] = []
    for kept, count in Counter(verdict.covered).most_common(MAX_KEPT):
        what = listed([f"“{text}”" for text in kept]) or "none"
        if count < num_runs:
            what += f" in {count} of {num_runs} seeds" if not parts else f" in {count}"
        parts.append(what)
    return f"keeps {', '.join(parts)}"


def alpha_note(found: Experiment) -> str:
    """Says how far what depends on alpha is from likelihood, and why; empty where nothing does."""
    matching = [key for key in found.objectives if _uses_alpha(key)]
    distances = [
        distance
        for key in matching
        for run in found.of(key)
        for distance in _distances(run, found.of(LIKELIHOOD))
    ]
    if not distances:
        return ""
    far = percent(max(distances))
    reason = (
        "the divergence enters the loss beside the likelihood as about α d² / (2 f″(1)), d being "
        "the temporal difference of the policy's own logits"
    )
    if max(distances) <= CLOSE:
        most = far if far.startswith("less") else f"at most {far}"
        return (
            f"The objectives that depend on α stay close to likelihood here: {most} of the mass "
            "lies elsewhere than after supervised fine-tuning. That is so for any divergence while "
            f"α is small: {reason}. To see their difference, raise α, to 1 for example."
        )
    return (
        f"The objectives that depend on α move up to {far} of the mass away from where supervised "
        f"fine-tuning puts it: {reason}, and this α is large enough for that to count."
    )


def _uses_alpha(objective: str) -> bool:
    known = ORACLE_OBJECTIVES.get(objective)
    return known is not None and known.uses_alpha


def _distances(run: OracleRun, others: Sequence[OracleRun]) -> list[float]:
    """Total variation between the laws of this run and those of the same seed."""
    return [
        sum(abs(one - two) for one, two in zip(run.law, other.law, strict=True)) / 2
        for other in others
        if other.seed == run.seed
    ]


def table_html(found: Experiment) -> str:
    """Returns the probability of every answer, data first, and the same of each run as CSV."""
    if found.language is None:
        return ""
    headers = ["Answer", "Data", *map(title_of, found.objectives)]
    rows = []
    for index, answer in enumerate(found.language.answers):
        means = [
            interval_text([run.law[index] for run in found.of(key)]) for key in found.objectives
        ]
        rows.append([answer.text, f"{answer.probability:.3g}", *means])
    caption = "Probability of each answer"
    link = csv_link("oracle-answers.csv", answers_csv(found))
    return f"<p>{link}</p>{table(headers, rows, caption, numbers=range(1, len(headers)))}"


def answers_csv(found: Experiment) -> str:
    """Returns one row an answer and run, with nothing rounded."""
    language = found.language
    rows: list[list[Cell]] = [
        [
            answer.text,
            answer.probability,
            title_of(run.objective),
            run.objective,
            run.seed,
            run.law[index],
        ]
        for run in found.runs
        if language is not None
        for index, answer in enumerate(language.answers)
    ]
    headers = ["answer", "data_probability", "objective", "key", "seed", "model_probability"]
    return to_csv(headers, rows)
