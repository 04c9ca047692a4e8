"""The end of a run's newest log, as plain text."""

import re
from pathlib import Path

MAX_BYTES = 16_000
_LOG_NAME = re.compile(r"attempt-(\d+)\.log")
_NOT_TEXT = re.compile(
    r"\x1b\[[0-9;?]*[ -/]*[@-~]|[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\u2066-\u2069]"
)


def newest_log(run_dir: Path) -> Path | None:
    """Returns the log of the last attempt; None where no attempt has begun."""
    found = [
        (int(match[1]), path)
        for path in (run_dir.iterdir() if run_dir.is_dir() else ())
        if (match := _LOG_NAME.fullmatch(path.name))
    ]
    return max(found)[1] if found else None


def log_tail(run_dir: Path, max_bytes: int = MAX_BYTES) -> str:
    """Returns the last lines of the newest log, without what terminals do with text.

    A carriage return starts a line anew: of a progress bar only its last state is kept.
    """
    path = newest_log(run_dir)
    if path is None:
        return ""
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(length - max_bytes, 0))
        text = file.read(max_bytes).decode("utf-8", errors="replace")
    lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in text.split("\n")]
    if length > max_bytes:
        lines = ["…", *lines[1:]]
    return "\n".join(_NOT_TEXT.sub("", line) for line in lines).strip("\n")
