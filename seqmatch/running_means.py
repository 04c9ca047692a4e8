"""Means of the training metrics between two reports; part of the state that a checkpoint holds."""

from collections.abc import Mapping
from typing import Self


class RunningMeans:
    """A mean for each name over the values added since the last `take`."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, int]] = {}

    def add(self, values: Mapping[str, float]) -> None:
        """Counts one value for each name; a name may be absent at some steps."""
        for name, value in values.items():
            total, count = self._sums.get(name, (0.0, 0))
            self._sums[name] = (total + value, count + 1)

    def take(self) -> dict[str, float]:
        """Returns the mean of each name that has values, and starts again."""
        means = {name: total / count for name, (total, count) in self._sums.items()}
        self._sums = {}
        return means

    def state(self) -> dict[str, tuple[float, int]]:
        """Returns the sums and counts as plain data; JSON keeps them exactly."""
        return dict(self._sums)

    @classmethod
    def from_state(cls, state: Mapping[str, tuple[float, int]]) -> Self:
        """Returns the means that `state` described."""
        means = cls()
        means._sums = {name: (float(total), int(count)) for name, (total, count) in state.items()}
        return means
