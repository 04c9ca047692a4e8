"""How fast a run goes and where its time goes, between two reports."""

import resource
import sys
from typing import Any

from seqmatch.phase_times import HostClock, PhaseTimes


class Throughput:
    """Counts steps and input positions since the last `take`, beside the seconds of the phases."""

    def __init__(self, phases: PhaseTimes[Any] | None = None) -> None:
        """Takes the clock of the phases; None reads the process's own."""
        self.phases = phases or PhaseTimes(HostClock())
        self._restart()

    def add_step(self, num_positions: int) -> None:
        """Counts one optimiser step over so many input positions."""
        self._num_steps += 1
        self._num_positions += num_positions

    def take(self) -> dict[str, float]:
        """Returns the metrics since the last call, and starts again."""
        seconds = self.phases.take()
        elapsed = max(sum(seconds.values()), 1e-9)
        found = {
            "system/steps_per_second": self._num_steps / elapsed,
            "system/tokens_per_second": self._num_positions / elapsed,
            "system/rollout_seconds": seconds.get("rollout", 0.0),
            "system/memory": peak_memory_megabytes(),
            **{f"system/share_{phase}": spent / elapsed for phase, spent in seconds.items()},
        }
        self._restart()
        return found

    def _restart(self) -> None:
        self._num_steps = 0
        self._num_positions = 0


def peak_memory_megabytes() -> float:
    """Returns the peak resident memory of this process in MB (10^6 bytes)."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bytes_per_unit = 1 if sys.platform == "darwin" else 1024
    return peak * bytes_per_unit / 1e6
