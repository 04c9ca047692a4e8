"""An exact experiment as far as it has come: its pieces put together, and its state in words."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

from pages.presenters.wording import duration
from seqmatch.exact.choices import ORACLE_OBJECTIVES
from seqmatch.exact.results import OracleLanguage, OraclePiece, OracleRequest, OracleRun
from seqmatch.intervals import mean_with_interval

TINY = 5e-7
"""Numbers below it are shown as 0: the optimiser and double precision leave some."""


@dataclass
class Experiment:
    """What was asked, and what has come of it."""

    request: OracleRequest
    language: OracleLanguage | None = None
    """None until the first piece has come."""
    runs: list[OracleRun] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    done: int = 0
    total: int = 0
    doing: str = ""
    """What is being trained now, in words."""

    def of(self, objective: str) -> list[OracleRun]:
        """Returns the runs of one objective, one a seed."""
        return [run for run in self.runs if run.objective == objective]

    @property
    def objectives(self) -> list[str]:
        """The objectives that have a run, in the order in which they were asked for."""
        have = {run.objective for run in self.runs}
        return [key for key in self.request.objectives if key in have]


def gather(request: OracleRequest, pieces: Iterable[OraclePiece]) -> Experiment:
    """Puts the streamed pieces together."""
    found = Experiment(request, total=len(request.objectives) * len(request.seeds))
    for piece in pieces:
        if piece.language is not None:
            found.language = piece.language
        if piece.run is not None:
            found.runs.append(piece.run)
        if piece.kind == "note":
            found.notes.append(capitalised(_titled(piece.text, request)))
        if piece.kind == "progress":
            found.done, found.total, found.doing = piece.done, piece.total, piece.text
    return found


def _titled(text: str, request: OracleRequest) -> str:
    """Puts titles for the keys in a note; the longest first, as one key may begin another."""
    for key in sorted(request.objectives, key=len, reverse=True):
        text = re.sub(rf"(?<![\w:]){re.escape(key)}(?![\w:])", title_of(key), text)
    return text


def title_of(objective: str) -> str:
    """Returns an objective's title; its key where it is registered no more."""
    known = ORACLE_OBJECTIVES.get(objective)
    return known.title if known else objective


def progress_html(found: Experiment, seconds: float) -> str:
    """Returns a bar with the runs that are done, what is trained now, and the time left.

    Args:
        found: The experiment so far.
        seconds: How long the worker has been at it.
    """
    words = [f"{found.done} of {found.total} runs"]
    if found.doing:
        words.append(found.doing)
    if found.done:
        left = seconds / found.done * (found.total - found.done)
        words.append(f"about {duration(max(left, 1.0))} left")
    return (
        f'<progress class="run-progress" max="{max(found.total, 1)}" value="{found.done}" '
        f'aria-label="Runs done"></progress>'
        f'<p class="say say-waiting">{escape(" · ".join(words))}</p>'
    )


def interval_text(values: Sequence[float], digits: int = 3) -> str:
    """Returns a mean over seeds with half its 95 % interval: "0.41 ± 0.02"."""
    mean, half = mean_with_interval(values)
    if half is None:
        return small(mean, digits)
    return f"{small(mean, digits)} ± {small(half, digits - 1)}"


def small(value: float, digits: int = 3) -> str:
    """Returns a number; rounding noise of double precision is shown as 0, infinity as "∞"."""
    if value == float("inf"):
        return "∞"
    return "0" if abs(value) < TINY else f"{float(f'{value:.{digits}g}'):g}"


def percent(value: float) -> str:
    """Returns a probability for a sentence: "41 %", "0.3 %", "less than 0.1 %"."""
    if value <= TINY or value >= 1 - TINY:
        return "0 %" if value <= TINY else "100 %"
    if value >= 0.9995:
        return "more than 99.9 %"
    if value < 0.001:
        return "less than 0.1 %"
    return f"{100 * value:.0f} %" if 0.0995 <= value < 0.95 else f"{100 * value:.1f} %"


def percents(shares: Sequence[float]) -> str:
    """Returns a mean share over seeds with half its interval: "50.4 ± 0.3 %"."""
    mean, half = mean_with_interval(shares)
    return f"{100 * mean:.1f} %" if half is None else f"{100 * mean:.1f} ± {100 * half:.1f} %"


def range_text(values: Sequence[float]) -> str:
    """Returns the range of some probabilities: "12 to 35 %", or "12 %" where they are alike."""
    low, high = percent(min(values)), percent(max(values))
    return low if low == high else f"{low.removesuffix(' %')} to {high}"


def listed(items: Sequence[str]) -> str:
    """Returns items as a sentence has them: "A, B and C"."""
    return " and ".join([", ".join(items[:-1]), items[-1]]) if len(items) > 1 else "".join(items)


def capitalised(text: str) -> str:
    """Returns a text as a sentence: a capital first, a full stop last."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
