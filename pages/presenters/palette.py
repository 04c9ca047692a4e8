"""How a run looks everywhere: one colour, and a dash and a marker as the second cue.

The palette is Okabe and Ito's, which people with the usual colour blindnesses can tell apart; its
yellow is left out, being too pale on white.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from storage.records import RunRecord

Theme = Literal["light", "dark"]
COLOURS: dict[Theme, tuple[str, ...]] = {
    "light": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#6B6B6B"),
    "dark": ("#4FA8DE", "#F0803C", "#2BC49A", "#DE9CC0", "#8FD0F5", "#F2B93B", "#B5B5B5"),
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
FILLS = ("", "/", ".")
"""Patterns of areas, for those that come again to the first colour."""
MARKERS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "triangle-down")
SHAPES = ("●", "■", "◆", "▲", "✕", "✚", "▼")
"""The markers as characters, for lists and tables."""


@dataclass(frozen=True)
class RunLook:
    """The cues of one run."""

    index: int

    def colour(self, theme: Theme) -> str:
        """Returns the run's colour on this theme's ground."""
        return COLOURS[theme][self.index % len(COLOURS[theme])]

    @property
    def marker(self) -> str:
        """The run's plotly marker; it changes at another period than the colour."""
        return MARKERS[(self.index + self.index // len(MARKERS)) % len(MARKERS)]

    @property
    def shape(self) -> str:
        """The same marker as a character."""
        return SHAPES[MARKERS.index(self.marker)]

    def html(self) -> str:
        """Returns the run's mark for a list; style.css gives it the colour of the theme."""
        index = self.index % len(COLOURS["light"])
        return f'<span class="run-mark run-colour-{index}" aria-hidden="true">{self.shape}</span>'


def run_looks(runs: Iterable[RunRecord]) -> dict[str, RunLook]:
    """Gives each run its look, by the order in which all runs were made.

    Args:
        runs: All runs of the store, deleted ones too: a deletion then changes no other run's look.
    """
    ordered = sorted(runs, key=lambda run: (run.created_at, run.id))
    return {run.id: RunLook(index) for index, run in enumerate(ordered)}
