"""How fast a run goes, between two reports."""

import resource
import sys
import time
from collections.abc import Callable


class Throughput:
    """Counts steps, input positions and the seconds spent on sampling since the last `take`."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._restart()

    def add_step(self, num_positions: int) -> None:
        """Counts one optimiser step over so many input positions."""
        self._num_steps += 1
        self._num_positions += num_positions

    def add_sampling(self, seconds: float) -> None:
        """Counts time spent on sampling rollouts."""
        self._sampling_seconds += seconds

    def take(self) -> dict[str, float]:
        """Returns the metrics since the last call, and starts again."""
        elapsed = max(self._clock() - self._started, 1e-9)
        found = {
            "system/steps_per_second": self._num_steps / elapsed,
            "system/tokens_per_second": self._num_positions / elapsed,
            "system/rollout_seconds": self._sampling_seconds,
            "system/memory": peak_memory_megabytes(),
        }
        self._restart()
        return found

    def _restart(self) -> None:
        self._started = self._clock()
        self._num_steps = 0
        self._num_positions = 0
        self._sampling_seconds = 0.0


def peak_memory_megabytes() -> float:
    """Returns the peak resident memory of this process in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return peak * bytes_per_unit / 1e6
