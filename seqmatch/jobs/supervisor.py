"""What a page or a command does so that queued work is worked on: see to it that a runner lives."""

import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from seqmatch.jobs.environment import ROOT, child_environment, python_module
from seqmatch.jobs.lane_process import log_file
from seqmatch.jobs.locks import Lock, is_held, share_lock
from seqmatch.jobs.runner import RUNNER_LOCK, WEB_LOCK


def ensure_runner(data_dir: Path, options: Sequence[str] = ()) -> None:
    """Starts the runner of a data directory unless it lives; to be called after work was queued.

    It is a process of its own session: it outlives the caller. Two callers at once are harmless:
    the second runner finds the lock taken and ends.

    Args:
        data_dir: The data directory.
        options: Further options of `python -m seqmatch.jobs.runner`, for tests.
    """
    folder = data_dir.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if is_held(folder / RUNNER_LOCK):
        return
    with log_file(folder, "runner.log").open("ab") as log:
        process = subprocess.Popen(
            python_module("seqmatch.jobs.runner", "--data-dir", str(folder), *options),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=child_environment(),
            cwd=ROOT,
            start_new_session=True,
        )
    # Waits for its end, so that it leaves no entry in the process table.
    threading.Thread(target=process.wait, name="runner's end", daemon=True).start()


def hold_web_lock(data_dir: Path) -> Lock:
    """Tells the runner that a page is open, until the lock is closed or this process dies."""
    data_dir.mkdir(parents=True, exist_ok=True)
    return share_lock(data_dir.absolute() / WEB_LOCK)
