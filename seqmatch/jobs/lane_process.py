"""The lane as the runner sees it: a process to be there while tasks wait."""

import subprocess
import time
from pathlib import Path

from seqmatch.jobs.environment import ROOT, child_environment, python_module
from seqmatch.jobs.locks import is_held

LANE_LOCK = "lane.lock"
MAX_LOG_BYTES = 5 << 20
_RESTART_SECONDS = 5.0


class LaneProcess:
    """Starts the lane where it is needed and not there; not more often than every few seconds."""

    def __init__(self, data_dir: Path, num_threads: int) -> None:
        self._data_dir = data_dir
        self._num_threads = num_threads
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = float("-inf")

    def tend(self, *, is_needed: bool) -> None:
        """Reaps a lane that ended; starts one where it is needed and none lives."""
        if self._process is not None and self._process.poll() is None:
            return
        self._process = None
        is_early = time.monotonic() - self._started_at < _RESTART_SECONDS
        if not is_needed or is_early or is_held(self._data_dir / LANE_LOCK):
            return
        self._started_at = time.monotonic()
        threads = str(self._num_threads)
        path = log_file(self._data_dir, "lane.log")
        with path.open("ab") as log:
            self._process = subprocess.Popen(
                python_module("seqmatch.jobs.lane", "--data-dir", str(self._data_dir)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=child_environment(OMP_NUM_THREADS=threads, MKL_NUM_THREADS=threads),
                cwd=ROOT,
                start_new_session=True,
            )


def log_file(data_dir: Path, name: str) -> Path:
    """Returns the path of a long-lived process's log; one that is too long starts over."""
    folder = data_dir / "logs"
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = folder / name
    if path.exists() and path.stat().st_size > MAX_LOG_BYTES:
        path.replace(folder / f"{name}.1")
    return path
