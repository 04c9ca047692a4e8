"""Inspects an upload from outside: a limited child process parses, this process only reads JSON."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from seqmatch.errors import DemonstrationError
from seqmatch.ingest.problems import ProblemLog
from seqmatch.ingest.report import ColumnMapping, FileReport, Limits, UploadReport
from seqmatch.ingest.request import CURRENT, OUT_OF_MEMORY, REPORT, REQUEST, Request

_PACKAGE_ROOT = Path(__file__).resolve().parents[2]
_MAX_REPORT_BYTES = 20_000_000


def inspect_upload(
    paths: Sequence[Path],
    *,
    limits: Limits | None = None,
    mapping: ColumnMapping | None = None,
    work_dir: Path | None = None,
) -> UploadReport:
    """Parses uploaded files in a child process with limits and says what is in them.

    Args:
        paths: The files, in the order in which their rows are to stand.
        limits: What the upload may cost; None takes the defaults.
        mapping: Which column plays which part, for all files; None detects it for each file.
        work_dir: A folder that the caller owns; the canonical rows are written to a new folder
            in it. None makes one for temporary files. `discard` removes it.

    Returns:
        The report. Whatever the files hold, problems are in the report and never raised: also
        where the child ran out of memory or time, or crashed (E132, E136).

    Raises:
        DemonstrationError: no file was given, or one of them does not exist.
    """
    limits = limits or Limits()
    files = [Path(path).resolve() for path in paths]
    missing = [path.name for path in files if not path.is_file()]
    if not files or missing:
        raise DemonstrationError(
            f"no file {missing[0]!r} was found" if missing else "no file was given; one is needed"
        )
    if work_dir is not None:
        work_dir.mkdir(parents=True, exist_ok=True)
    if refused := _too_large(files, limits):
        return refused
    folder = Path(tempfile.mkdtemp(prefix="inspection-", dir=work_dir)).resolve()
    request = Request(paths=tuple(files), limits=limits, mapping=mapping)
    (folder / REQUEST).write_text(request.model_dump_json(), encoding="utf-8")
    reason = _run_child(folder, limits)
    if reason is None:
        return _read_report(folder)
    report = _stopped(folder, files, limits, *reason)
    shutil.rmtree(folder, ignore_errors=True)
    return report


def discard(report: UploadReport) -> None:
    """Removes the canonical rows of an inspection; harmless where they are gone."""
    if report.rows_path is not None:
        shutil.rmtree(report.rows_path.parent, ignore_errors=True)


def _environment() -> dict[str, str]:
    """Nothing of this process's environment but what Python needs to start."""
    kept = {name: os.environ[name] for name in ("PATH", "SYSTEMROOT") if name in os.environ}
    return kept | {
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(_PACKAGE_ROOT),
        "PYTHONSAFEPATH": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "ARROW_DEFAULT_MEMORY_POOL": "system",
    }


def _run_child(folder: Path, limits: Limits) -> tuple[str, str] | None:
    """Runs the child; returns None, or the code and the reason why it has no result."""
    with (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-m", "seqmatch.ingest.child"],
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            start_new_session=True,
        )
        try:
            status = process.wait(limits.wall_seconds)
        except subprocess.TimeoutExpired:
            return "E136", f"it took more than {limits.wall_seconds:g} seconds"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status == 0:
        return None
    if status == OUT_OF_MEMORY:
        return "E132", f"it needs more than {limits.memory_bytes // 1_000_000:,} MB of memory"
    if status == -signal.SIGXCPU or status == -signal.SIGKILL:
        return "E136", f"it took more than {limits.cpu_seconds} seconds of computing, or was killed"
    return "E136", _last_words(folder, status)


def _last_words(folder: Path, status: int) -> str:
    if status < 0:
        return f"the reading process crashed (signal {-status})"
    text = (folder / "stderr.txt").read_bytes()[-2000:].decode("utf-8", errors="replace")
    lines = text.strip().splitlines()
    if any("MemoryError" in line for line in lines[-3:]):
        return "it needs more memory than is allowed"
    return f"the reading process failed ({lines[-1] if lines else f'exit status {status}'})"


def _read_report(folder: Path) -> UploadReport:
    path = folder / REPORT
    if path.stat().st_size > _MAX_REPORT_BYTES:
        raise DemonstrationError(f"the report is larger than {_MAX_REPORT_BYTES:,} bytes")
    report = UploadReport.model_validate_json(path.read_bytes())
    if report.rows_path is None:
        shutil.rmtree(folder, ignore_errors=True)
    return report


def _stopped(
    folder: Path, files: list[Path], limits: Limits, code: str, reason: str
) -> UploadReport:
    current = folder / CURRENT
    name = current.read_text(encoding="utf-8") if current.is_file() else files[0].name
    return _refused(files, limits, code, f"reading {name} was stopped: {reason}", name)


def _too_large(files: list[Path], limits: Limits) -> UploadReport | None:
    sizes = {path: path.stat().st_size for path in files}
    for path, size in sizes.items():
        if size > limits.max_file_bytes:
            message = (
                f"the file is {size:,} bytes; at most {limits.max_file_bytes:,} are allowed a file"
            )
            return _refused(files, limits, "E135", message, path.name)
    total = sum(sizes.values())
    if total > limits.max_total_bytes:
        message = (
            f"the files together are {total:,} bytes; at most {limits.max_total_bytes:,} are "
            "allowed at once"
        )
        return _refused(files, limits, "E135", message, files[-1].name)
    return None


def _refused(files: list[Path], limits: Limits, code: str, message: str, name: str) -> UploadReport:
    """The report of an upload of which nothing is used."""
    log = ProblemLog(limits.max_problems)
    log.start_file(name)
    log.add(code, message)
    return UploadReport(
        files=tuple(
            FileReport(
                name=path.name, kind="unreadable", num_bytes=path.stat().st_size, mapping=None,
                columns=(), num_rows_read=0, num_usable=0, num_refused=0, num_demonstrations=0,
            )
            for path in files
        ),
        detected=None,
        columns=(),
        problems=log.listed(),
        counts=dict(log.counts),
        num_rows_read=0,
        num_usable=0,
        num_refused=0,
        num_demonstrations=0,
        rows_path=None,
    )  # fmt: skip
