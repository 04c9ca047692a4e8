"""Where the time of a run goes: seconds by phase, exclusive, so that they add up to all of it.

A phase may begin within another one, which then stands still. A border between two phases is one
reading of a clock. Kernels on a GPU run after they were asked for, so there the clock is an event
in the GPU's own stream: nothing waits at a border, and the events are read, after one
synchronisation, when somebody asks for the seconds.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Generic, Literal, Protocol, TypeVar

import torch

Phase = Literal[
    "data",
    "rollout",
    "forward",
    "backward",
    "discriminator",
    "optimiser",
    "logging",
    "evaluation",
    "checkpoint",
    "other",
]
"""`other` is what is in none of the rest."""

Mark = TypeVar("Mark")


class Clock(Protocol[Mark]):
    """Marks moments now and says later how far apart they were."""

    def mark(self) -> Mark:
        """Marks this moment."""

    def settle(self, last: Mark) -> None:
        """Returns when every mark up to the last one can be read."""

    def seconds(self, earlier: Mark, later: Mark) -> float:
        """Returns the seconds between two settled marks."""


class HostClock:
    """The process's own clock, for work that is done when a call returns."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        """Takes the function that tells the time in seconds."""
        self._now = now

    def mark(self) -> float:
        """Reads the clock."""
        return self._now()

    def settle(self, last: float) -> None:
        """Has nothing to wait for."""

    def seconds(self, earlier: float, later: float) -> float:
        """Returns the difference."""
        return later - earlier


class StreamClock:
    """The clock of a GPU's current stream: a mark is an event among the kernels."""

    def mark(self) -> Any:
        """Puts an event behind the kernels that were asked for so far."""
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def settle(self, last: Any) -> None:
        """Waits until the GPU has come to the last event."""
        last.synchronize()

    def seconds(self, earlier: Any, later: Any) -> float:
        """Returns the time between two events on the GPU."""
        return float(earlier.elapsed_time(later)) / 1000.0


def clock_of(device: torch.device) -> Clock[Any]:
    """Returns the clock that tells what the phases take on a device."""
    return StreamClock() if device.type == "cuda" else HostClock()


class PhaseTimes(Generic[Mark]):
    """Adds up the seconds of each phase since the last `take`."""

    def __init__(self, clock: Clock[Mark]) -> None:
        """Starts in `other`."""
        self._clock = clock
        self._open: list[Phase] = ["other"]
        self._known: dict[Phase, None] = {"other": None}
        self._borders: list[tuple[Phase, Mark]] = [("other", clock.mark())]

    @contextmanager
    def during(self, phase: Phase) -> Iterator[None]:
        """Counts what happens within to a phase, but for phases that begin within."""
        self._open.append(phase)
        self._known[phase] = None
        self._borders.append((phase, self._clock.mark()))
        try:
            yield
        finally:
            self._open.pop()
            self._borders.append((self._open[-1], self._clock.mark()))

    def take(self) -> dict[Phase, float]:
        """Returns the seconds since the last call, and starts again.

        Every phase that was ever in is there, at 0 where it was not in since.
        """
        end = self._clock.mark()
        self._clock.settle(end)
        found: dict[Phase, float] = dict.fromkeys(self._known, 0.0)
        laters = [mark for _, mark in self._borders[1:]] + [end]
        for (phase, mark), later in zip(self._borders, laters, strict=True):
            found[phase] += self._clock.seconds(mark, later)
        self._borders = [(self._open[-1], end)]
        return found
