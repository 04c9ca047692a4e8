"""The task "oracle": objectives trained to their optimum in a small language, streamed as they end.

What was written before a stop stays: each run is a piece of its own.
"""

import time

from seqmatch.exact.experiment import run_experiment
from seqmatch.exact.results import OraclePiece, OracleRequest
from seqmatch.jobs.answering import Stopped, Write

PROGRESS_SECONDS = 0.3
"""Progress is written no more often than this: a page asks once a second."""


def experiment(request: OracleRequest, write: Write) -> None:
    """Runs an experiment to its end.

    Raises:
        ConfigError: The language cannot be read, or does not fit what is asked.
        Stopped: It was asked to stop; what was written stays.
    """
    stream = _Stream(write)
    run_experiment(request, stream.tell)
    if stream.is_stopped:
        raise Stopped


class _Stream:
    """Writes every result at once and progress now and then."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._told_at = float("-inf")
        self.is_stopped = False

    def tell(self, piece: OraclePiece) -> bool:
        """Writes a piece; False where the task was asked to stop."""
        now = time.monotonic()
        if piece.kind != "progress" or now - self._told_at >= PROGRESS_SECONDS:
            self._told_at = now if piece.kind == "progress" else self._told_at
            self.is_stopped = not self._write(piece) or self.is_stopped
        return not self.is_stopped
