"""Rollouts of earlier policies, kept to be trained on several times."""

from collections import deque
from collections.abc import Iterable
from typing import Any

import numpy as np

from seqmatch.types import Trajectory


class ReplayBuffer:
    """The newest `capacity` trajectories; the oldest are dropped first."""

    def __init__(self, capacity: int) -> None:
        """Starts empty.

        Raises:
            ValueError: The capacity is below 1.
        """
        if capacity < 1:
            raise ValueError(f"a replay buffer of capacity {capacity}; it must hold at least 1")
        self._trajectories: deque[Trajectory] = deque(maxlen=capacity)

    def __len__(self) -> int:
        return len(self._trajectories)

    @property
    def capacity(self) -> int:
        """How many trajectories are kept."""
        return self._trajectories.maxlen or 0

    def add(self, trajectories: Iterable[Trajectory]) -> None:
        """Adds trajectories, each newer than the one before it."""
        self._trajectories.extend(trajectories)

    def sample(self, count: int, rng: np.random.Generator) -> list[Trajectory]:
        """Returns `count` trajectories, without repetition while there are enough of them.

        Raises:
            ValueError: The buffer is empty.
        """
        held = len(self._trajectories)
        if not held:
            raise ValueError("nothing can be drawn from an empty replay buffer")
        if count <= held:
            chosen = rng.choice(held, size=count, replace=False)
        else:
            chosen = rng.integers(held, size=count)
        return [self._trajectories[index] for index in chosen]

    def state(self) -> dict[str, Any]:
        """Returns the content as plain data that JSON can hold."""
        rows = [
            [list(each.prompt_ids), list(each.labels), list(each.pushes), each.born_at_step]
            for each in self._trajectories
        ]
        return {"capacity": self.capacity, "trajectories": rows}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> "ReplayBuffer":
        """Returns the buffer whose `state` this is."""
        buffer = cls(state["capacity"])
        buffer.add(
            Trajectory(tuple(prompt), tuple(labels), tuple(pushes), born)
            for prompt, labels, pushes, born in state["trajectories"]
        )
        return buffer
