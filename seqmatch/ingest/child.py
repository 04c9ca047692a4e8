"""The process in which uploaded files are parsed: `python -m seqmatch.ingest.child` in its folder.

It reads `request.json`, limits itself before it opens any other file, and writes `rows.jsonl` and
`report.json`. `reading.txt` names the file it is at, for the parent to report if this process dies.
"""

import ctypes
import resource
import sys
from pathlib import Path

from seqmatch.ingest.reading import read_upload
from seqmatch.ingest.report import Limits
from seqmatch.ingest.request import CURRENT, OUT_OF_MEMORY, REPORT, REQUEST, ROWS, Request

_PR_SET_NO_NEW_PRIVS = 38


def limit_this_process(limits: Limits) -> None:
    """Sets limits on memory, CPU time, file size and open files that cannot be raised again."""
    for what, value in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, limits.cpu_seconds),
        (resource.RLIMIT_FSIZE, limits.max_unpacked_bytes + limits.max_total_bytes),
        (resource.RLIMIT_NOFILE, 64),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        allowed = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (allowed, allowed))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


def main() -> int:
    """Reads the request in the current folder; returns the exit status."""
    folder = Path.cwd()
    request = Request.model_validate_json((folder / REQUEST).read_bytes())
    limit_this_process(request.limits)
    current = folder / CURRENT
    try:
        report = read_upload(
            list(request.paths),
            folder / ROWS,
            request.limits,
            request.mapping,
            lambda name: _note(current, name),
        )
    except MemoryError:
        return OUT_OF_MEMORY
    (folder / REPORT).write_text(report.model_dump_json(), encoding="utf-8")
    return 0


def _note(path: Path, name: str) -> None:
    path.write_text(name, encoding="utf-8", errors="replace")


if __name__ == "__main__":
    sys.exit(main())
