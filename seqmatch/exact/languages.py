"""Small languages whose law is known: a probability for every whole answer. Light.

A language has at most 8 tokens, the stop token (number 0) among them, and answers of at most 6,
the stop token included, so that everything about a policy on it can be computed without sampling.
There is no prompt: an answer starts from the empty state.
"""

import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from seqmatch.errors import ConfigError, unknown_name

State = tuple[int, ...]
"""The answer's tokens so far; a state that ends with token 0, the stop token, is terminal."""
PolicyKind = Literal["tabular", "by_position", "bounded"]

STOP = 0
STOP_SYMBOL = "stop"
MAX_VOCABULARY = 8
MAX_LENGTH = 6
TABLE = "table"
"""The name of a language that was pasted."""
_SUM_TOLERANCE = 1e-9
_ROW = re.compile(r"(?P<answer>.*?)(?P<gap>[\s,;]+)(?P<number>[^\s,;]+)")
_GAP = re.compile(r"[\s,;]+")
_DECIMAL_COMMA = re.compile(r".*[\s;](?P<whole>\d+),(?P<rest>\d+)")
_EMPTY = "(empty)"


@dataclass(frozen=True)
class Language:
    """A law of whole answers, and what is to be learned from it.

    Raises:
        ConfigError: Too many tokens, an answer that is too long or does not stop, a law that does
            not sum to 1, or a rate or discount outside its range.
    """

    name: str
    title: str
    sentence: str
    tokens: tuple[str, ...]
    """Symbols; the first is the stop token, shown as "stop"."""
    max_length: int
    """Tokens of the longest answer that fits, stop token included."""
    law: Mapping[State, float] = field(hash=False)
    """Probability of each complete answer; sums to 1. What is left out has probability 0."""
    policy: PolicyKind
    """What the model can represent: `seqmatch.exact.policies` says which logits are shared."""
    backspace: bool
    """Whether the policy has the backspace action unless something else is asked for."""
    noise_rate: float
    """Probability of a mistake before each token of a demonstration, where there is backspace."""
    discount: float

    def __post_init__(self) -> None:
        _check_size(self.tokens, self.max_length)
        _check_law(self)
        if not 0.0 <= self.noise_rate < 1.0:
            raise ConfigError(f"noise rate {self.noise_rate}; allowed: from 0, below 1")
        if not 0.0 < self.discount < 1.0:
            raise ConfigError(f"discount {self.discount}; allowed: above 0 and below 1")

    def text(self, state: State) -> str:
        """Returns a state as people write it, without the stop token; "(empty)" for nothing."""
        symbols = [self.tokens[token] for token in state if token != STOP]
        joint = "" if all(len(symbol) == 1 for symbol in self.tokens[1:]) else " "
        return joint.join(symbols) or _EMPTY


def get_language(name: str) -> Language:
    """Returns a built-in language.

    Raises:
        UnknownNameError: No language has this name; the message lists those that exist.
    """
    if name not in LANGUAGES:
        raise unknown_name("language", name, LANGUAGES)
    return LANGUAGES[name]


def complete_answers(vocabulary: int, max_length: int) -> Iterator[State]:
    """Yields every answer that ends with the stop token, the shortest first.

    Args:
        vocabulary: Number of tokens, the stop token included.
        max_length: Tokens of the longest answer, the stop token included.
    """
    for length in range(max_length):
        for tokens in itertools.product(range(1, vocabulary), repeat=length):
            yield (*tokens, STOP)


def parse_language(text: str, policy: PolicyKind = "tabular") -> Language:
    """Reads a pasted table: one answer and its probability a line.

    What stands last in a line is the number; tabs, commas, semicolons or spaces come before it. If
    any answer has such a gap within, the tokens of all answers are words, else single characters.
    An answer that stops at once is "(empty)", or nothing before a tab or comma. Numbers that do not
    sum to 1 (counts, say) are divided by their sum, and the language's sentence says so.

    Args:
        text: The table; blank lines do not count.
        policy: What the model can represent.

    Raises:
        ConfigError: A line cannot be read, an answer stands twice or is too long, there are too
            many tokens, or all numbers are 0; the message names the line.
    """
    rows = [_row(line, at) for at, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not rows:
        raise ConfigError(
            "the table is empty; one answer and its probability a line, as in: ab 0.5"
        )
    has_words = any(len(row.pieces) > 1 for row in rows)
    answers = [_answer_symbols(row, has_words) for row in rows]
    tokens = (STOP_SYMBOL, *_symbols(rows, answers))
    law = _tabled_law(rows, answers, tokens)
    total = math.fsum(law.values())
    if total == 0.0:
        raise ConfigError(f"lines 1 to {rows[-1].at}: all probabilities are 0; one must be above")
    is_normalised = abs(total - 1.0) <= _SUM_TOLERANCE
    said = "" if is_normalised else f" The numbers sum to {total:.6g} and were divided by that."
    return Language(
        name=TABLE,
        title="Your own table",
        sentence=f"The probabilities of a pasted table.{said}",
        tokens=tokens,
        max_length=max(len(answer) for answer in law),
        law={answer: number / total for answer, number in law.items()},
        policy=policy,
        backspace=False,
        noise_rate=0.1,
        discount=0.9,
    )


@dataclass(frozen=True)
class _Row:
    """A line of a pasted table."""

    at: int
    pieces: tuple[str, ...]
    """The answer, cut at its gaps."""
    number: float


def _row(line: str, at: int) -> _Row:
    found = _ROW.fullmatch(line.rstrip())
    answer = found["answer"].strip() if found else ""
    if not found or (not answer and not found["gap"].strip(" ")):
        raise ConfigError(
            f"line {at}: {line.strip()[:60]!r} is not an answer and its probability, as in: ab 0.5"
        )
    if (comma := _DECIMAL_COMMA.fullmatch(line.rstrip())) is not None:
        whole, rest = comma["whole"], comma["rest"]
        raise ConfigError(
            f"line {at}: {whole},{rest} could be one number or two; write {whole}.{rest}, or "
            f"{whole} {rest} where the answer ends with {whole}"
        )
    try:
        number = float(found["number"])
    except ValueError as error:
        raise ConfigError(
            f"line {at}: {found['number'][:60]!r} is not a number; "
            "a probability or a count stands last in a line"
        ) from error
    if not 0.0 <= number < math.inf:
        raise ConfigError(f"line {at}: probability {number}; allowed: 0 and more, and finite")
    answer = "" if answer == _EMPTY else answer.removeprefix('"').removesuffix('"')
    return _Row(at, tuple(piece for piece in _GAP.split(answer) if piece), number)


def _answer_symbols(row: _Row, has_words: bool) -> tuple[str, ...]:
    """The answer's tokens without the stop token, which may be written out after words."""
    symbols = row.pieces if has_words else tuple("".join(row.pieces))
    if has_words and symbols and symbols[-1] == STOP_SYMBOL:
        symbols = symbols[:-1]
    if STOP_SYMBOL in symbols:
        raise ConfigError(f"line {row.at}: {STOP_SYMBOL!r} within an answer; it may only end one")
    if len(symbols) >= MAX_LENGTH:
        raise ConfigError(
            f"line {row.at}: an answer of {len(symbols)} tokens; allowed: up to {MAX_LENGTH - 1}"
        )
    return symbols


def _symbols(rows: Sequence[_Row], answers: Sequence[tuple[str, ...]]) -> list[str]:
    """All symbols in alphabetical order."""
    known: set[str] = set()
    for row, symbols in zip(rows, answers, strict=True):
        known |= set(symbols)
        if len(known) >= MAX_VOCABULARY:
            raise ConfigError(
                f"line {row.at}: up to here there are {len(known)} different tokens; "
                f"allowed: {MAX_VOCABULARY - 1}"
            )
    if not known:
        raise ConfigError(f"line {rows[0].at}: no answer of the table has a token")
    return sorted(known)


def _tabled_law(
    rows: Sequence[_Row], answers: Sequence[tuple[str, ...]], tokens: Sequence[str]
) -> dict[State, float]:
    lines: dict[State, int] = {}
    law: dict[State, float] = {}
    for row, symbols in zip(rows, answers, strict=True):
        answer = (*(tokens.index(symbol) for symbol in symbols), STOP)
        if answer in law:
            shown = " ".join(symbols) or _EMPTY
            raise ConfigError(f"line {row.at}: answer {shown!r} stands in line {lines[answer]} too")
        lines[answer], law[answer] = row.at, row.number
    return law


def _check_size(tokens: tuple[str, ...], max_length: int) -> None:
    if not 2 <= len(tokens) <= MAX_VOCABULARY:
        raise ConfigError(
            f"{len(tokens)} tokens, the stop token included; allowed: 2 to {MAX_VOCABULARY}"
        )
    if tokens[STOP] != STOP_SYMBOL or len(set(tokens)) < len(tokens):
        raise ConfigError(f"tokens {tokens}; allowed: {STOP_SYMBOL!r} first, and each only once")
    if not 1 <= max_length <= MAX_LENGTH:
        raise ConfigError(
            f"answers of up to {max_length} tokens, the stop token included; "
            f"allowed: 1 to {MAX_LENGTH}"
        )


def _check_law(language: Language) -> None:
    tokens = range(1, len(language.tokens))
    for answer, probability in language.law.items():
        if not answer or answer[-1] != STOP or any(token not in tokens for token in answer[:-1]):
            raise ConfigError(
                f"answer {answer}: an answer is tokens 1 to {len(tokens)}, then the stop token 0"
            )
        if len(answer) > language.max_length:
            raise ConfigError(
                f"answer {answer} has {len(answer)} tokens; allowed: {language.max_length}"
            )
        if not 0.0 <= probability <= 1.0:
            raise ConfigError(f"answer {answer} has probability {probability}; allowed: 0 to 1")
    total = math.fsum(language.law.values())
    if abs(total - 1.0) > _SUM_TOLERANCE:
        raise ConfigError(f"the probabilities sum to {total}; they must sum to 1")


def _with_rest(
    chosen: Mapping[State, float], vocabulary: int, max_length: int
) -> dict[State, float]:
    """Spreads what the chosen answers leave over all other answers, evenly."""
    others = [each for each in complete_answers(vocabulary, max_length) if each not in chosen]
    rest = (1.0 - math.fsum(chosen.values())) / len(others)
    return {**chosen, **dict.fromkeys(others, rest)}


def _two_modes() -> Language:
    return Language(
        name="two_modes",
        title="Two modes",
        sentence="Mostly “ok”, often “no”, and rarely anything else. The model chooses each letter "
        "by its position alone, so it cannot say both without also mixing them.",
        tokens=(STOP_SYMBOL, "o", "k", "n"),
        max_length=3,
        law=_with_rest({(1, 2, STOP): 0.6, (3, 1, STOP): 0.3}, 4, 3),
        policy="by_position",
        backspace=False,
        noise_rate=0.1,
        discount=0.9,
    )


def _trap() -> Language:
    """Up to three steps; each time the walk stops with probability 1/4, and the pit is never there.

    The law gives probability to every answer without the pit, so that ending in the pit is the
    only way to leave the data.
    """
    step, stop = 0.75, 0.25
    return Language(
        name="trap",
        title="A trap",
        sentence="A walk of up to three steps. The data never falls into the pit, and never comes "
        "back from it: only backspace leads out. The model slips at times, since its logits are "
        "bounded; mistakes in the demonstrations show it how to get out.",
        tokens=(STOP_SYMBOL, "step", "pit"),
        max_length=4,
        law={
            (STOP,): stop,
            (1, STOP): step * stop,
            (1, 1, STOP): step**2 * stop,
            (1, 1, 1, STOP): step**3,
        },
        policy="bounded",
        backspace=True,
        noise_rate=0.2,
        discount=0.9,
    )


def _geometric() -> Language:
    max_length = 6
    law = {(*[1] * n, STOP): 0.5 ** (n + 1) for n in range(max_length - 1)}
    law[(*[1] * (max_length - 1), STOP)] = 0.5 ** (max_length - 1)
    return Language(
        name="geometric",
        title="Geometric",
        sentence="Stops after each token with probability one half, and at the limit for certain.",
        tokens=(STOP_SYMBOL, "a"),
        max_length=max_length,
        law=law,
        policy="tabular",
        backspace=False,
        noise_rate=0.1,
        discount=0.9,
    )


def _addition() -> Language:
    sums: dict[State, float] = {
        (1 + a, 1 + b, 1 + (a + b) % 4, STOP): 0.95 / 16
        for a, b in itertools.product(range(4), repeat=2)
    }
    return Language(
        name="addition_mod_4",
        title="Addition modulo 4",
        sentence="Two digits and their sum modulo 4, each sum equally often; one answer in twenty "
        "is any other.",
        tokens=(STOP_SYMBOL, "0", "1", "2", "3"),
        max_length=4,
        law=_with_rest(sums, 5, 4),
        policy="tabular",
        backspace=False,
        noise_rate=0.1,
        discount=0.9,
    )


LANGUAGES: Mapping[str, Language] = {
    language.name: language for language in (_two_modes(), _trap(), _geometric(), _addition())
}
