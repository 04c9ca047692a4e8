"""What a run tells its owner, and how its owner answers.

The method knows this protocol and no store.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Literal, Protocol

Level = Literal["info", "warning", "error"]
COMPUTING = "computing"
"""Code of the event by which each start of a run tells what it computes on, and how."""


class Control(StrEnum):
    """What the owner of a run asks it to do next."""

    GO_ON = "go_on"
    STOP = "stop"
    STOP_AND_SAVE = "stop_and_save"


@dataclass(frozen=True)
class Trace:
    """One sampled answer as the sequence of actions that produced it."""

    prompt: str
    actions: tuple[int, ...]
    """Token ids; the backspace action has the id that follows the last token."""
    pieces: tuple[str, ...]
    """The text of each action; empty for backspace."""
    text: str
    """What stands at the end, special tokens left out."""
    num_backspaces: int
    is_finished: bool
    """False where a limit ended it before the stop token."""
    reference: str | None = None
    """The demonstrated answer, where there is one."""


class Reporter(Protocol):
    """Receives what a run reports. Reporting never raises into training."""

    def phase(self, name: str) -> None:
        """Tells what the run is doing now, in a few words: "loading model", "training"."""

    def progress(self, step: int, num_steps: int) -> Control:
        """Tells that `step` of `num_steps` is done and asks whether to go on."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Reports numbers of this step; the names are those of `seqmatch.metrics.METRICS`."""

    def samples(self, step: int, traces: Sequence[Trace]) -> None:
        """Reports answers sampled at this step."""

    def event(self, level: Level, code: str, message: str) -> None:
        """Reports something that a person should know."""

    def artifact(self, kind: str, path: Path) -> None:
        """Reports a finished file: it is complete and will not change."""

    def flush(self) -> None:
        """Returns when all reports are durable; called before a checkpoint is published."""


class NullReporter:
    """Reports to nobody and never stops: for scripts and tests."""

    def phase(self, name: str) -> None:
        """Ignores the phase."""

    def progress(self, step: int, num_steps: int) -> Control:
        """Always goes on."""
        del step, num_steps
        return Control.GO_ON

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Ignores the numbers."""

    def samples(self, step: int, traces: Sequence[Trace]) -> None:
        """Ignores the samples."""

    def event(self, level: Level, code: str, message: str) -> None:
        """Ignores the event."""

    def artifact(self, kind: str, path: Path) -> None:
        """Ignores the file."""

    def flush(self) -> None:
        """Has nothing to flush."""
