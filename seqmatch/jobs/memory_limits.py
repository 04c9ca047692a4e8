"""Whether the machine killed a process because memory ran out."""

from pathlib import Path

_CGROUP = Path("/sys/fs/cgroup")
_SELF = Path("/proc/self/cgroup")


def oom_kills(root: Path = _CGROUP, self_file: Path = _SELF) -> int | None:
    """Returns how often the kernel killed in this process's control group for lack of memory.

    None where the system does not tell (no control groups of version 2).
    """
    for folder in (root / _own_group(self_file), root):
        count = _count(folder / "memory.events")
        if count is not None:
            return count
    return None


def _own_group(self_file: Path) -> str:
    try:
        lines = self_file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line[3:].lstrip("/") for line in lines if line.startswith("0::")), "")


def _count(path: Path) -> int | None:
    try:
        words = path.read_text(encoding="utf-8").split()
    except OSError:
        return None
    values = dict(zip(words[::2], words[1::2], strict=False))
    return int(values["oom_kill"]) if "oom_kill" in values else None
