"""The files of an attempt in its run's folder: each has one writer, named here."""

import re
from pathlib import Path

SHIM_LOCK = "shim.lock"
TREE_LOCK = "tree.lock"
MAX_LOG_BYTES = 5 << 20
"""A log that reaches it starts over; what it held is kept as the one older piece."""
MAX_TOTAL_LOG_BYTES = 20 << 20
"""All logs of a run; the oldest are deleted first."""
_LOG = re.compile(r"attempt-(\d+)\.log(\.1)?")


def log_path(run_dir: Path, attempt: int) -> Path:
    """The trainer's output, as it is; written by the trainer, shortened by its shim."""
    return run_dir / f"attempt-{attempt}.log"


def identity_path(run_dir: Path, attempt: int) -> Path:
    """How the attempt's processes are found; written by the shim."""
    return run_dir / f"attempt-{attempt}.json"


def result_path(run_dir: Path, attempt: int, process: int = 0) -> Path:
    """How training ended; written by the trainer as its last act.

    Of several processes the main one, 0, writes it; another one only what failed in it.
    """
    of_process = f"-process-{process}" if process else ""
    return run_dir / f"result-{attempt}{of_process}.json"


def rendezvous_path(run_dir: Path, attempt: int) -> Path:
    """Where the processes of a trainer find each other; gone with them."""
    return run_dir / f"rendezvous-{attempt}"


def exit_path(run_dir: Path, attempt: int) -> Path:
    """How the process ended; written by the shim, which alone can know."""
    return run_dir / f"exit-{attempt}.json"


def spool_path(run_dir: Path) -> Path:
    """What was reported while the store could not be written; by the trainer, then who comes."""
    return run_dir / "unreported.jsonl"


def shorten_log(path: Path, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Starts a log over that has reached its limit; True where it did.

    Its writers append, so they go on at the new end; what they write in between may be lost.
    """
    if not path.exists() or path.stat().st_size < max_bytes:
        return False
    older = path.with_name(f"{path.name}.1")
    with path.open("rb") as source, older.open("wb") as target:
        source.seek(-max_bytes, 2)
        target.write(source.read(max_bytes))
    with path.open("r+b") as file:
        file.truncate(0)
    return True


def delete_old_logs(run_dir: Path, max_bytes: int = MAX_TOTAL_LOG_BYTES) -> None:
    """Deletes the logs of the oldest attempts until the rest fits."""
    logs = [(int(m[1]), p) for p in run_dir.iterdir() if (m := _LOG.fullmatch(p.name))]
    total = 0
    for _, path in sorted(logs, reverse=True):
        total += path.stat().st_size
        if total > max_bytes:
            path.unlink(missing_ok=True)


def last_lines(path: Path, num_lines: int = 5) -> str:
    """Returns the last lines of a log that say something; empty where there are none."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ""
    return "\n".join([line for line in text.splitlines() if line.strip()][-num_lines:])
