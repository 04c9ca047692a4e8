"""What a trainer reported, as plain data: written to the store, or to a spool while that cannot be.

Each report is one JSON line. Writing one twice is as once (events excepted), so a spool may be
replayed after a death without asking how far the last one came.
"""

import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, takewhile
from pathlib import Path
from typing import Any

from storage import RunStore
from storage.errors import ArtifactError, InvalidValueError
from storage.records import MetricPoint


@dataclass(frozen=True)
class Report:
    """One thing reported."""

    kind: str
    """metrics, samples, event, artifact or phase."""
    body: dict[str, Any]


def write_reports(
    store: RunStore, run_id: str, attempt: int, reports: Sequence[Report]
) -> Iterator[int]:
    """Writes reports in order; yields after each transaction how many are done.

    Raises:
        LeaseLostError: The attempt does not own the run (any more).
        StorageError: The store cannot be written now; what was yielded is written.
        OSError: Likewise.
    """
    done = 0
    for kind, group in groupby(reports, key=lambda report: report.kind):
        batch = list(group)
        if kind == "metrics":
            store.metrics.append(run_id, attempt, points_of(batch))
            done += len(batch)
            yield done
            continue
        for report in batch:
            _write_one(store, run_id, attempt, report)
            done += 1
            yield done


def points_of(reports: Iterable[Report]) -> list[MetricPoint]:
    """Returns the points of reports of metrics."""
    return [MetricPoint(**point) for report in reports for point in report.body["points"]]


def num_last_metrics(reports: Sequence[Report]) -> int:
    """Returns how many reports at the end are of metrics."""
    return len(list(takewhile(lambda report: report.kind == "metrics", reversed(reports))))


def _write_one(store: RunStore, run_id: str, attempt: int, report: Report) -> None:
    body = report.body
    try:
        if report.kind == "samples":
            store.notes.add_samples(run_id, attempt, body["step"], body["payloads"])
        elif report.kind == "event":
            store.notes.add_event(run_id, attempt, body["level"], body["code"], body["message"])
        elif report.kind == "phase":
            store.runs.set_phase(run_id, attempt, body["name"])
        else:
            path = store.run_dir(run_id) / body["path"]
            store.artifacts.add(run_id, body["kind"], path, attempt=attempt)
    except (ArtifactError, InvalidValueError) as error:
        # No repetition would help: say it where people look, and go on.
        store.notes.add_event(run_id, None, "error", "report_refused", str(error))


def append_spool(path: Path, reports: Iterable[Report]) -> None:
    """Adds reports to a spool; they survive the death of every process.

    Raises:
        OSError: The disk is full, or the like.
    """
    lines = "".join(json.dumps([report.kind, report.body]) + "\n" for report in reports)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())


def read_spool(path: Path) -> list[Report]:
    """Returns the reports of a spool; a last line that a death cut off is left out."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    reports = []
    for line in text.split("\n"):
        try:
            kind, body = json.loads(line)
        except ValueError:
            continue
        reports.append(Report(kind, body))
    return reports


def replay_spool(store: RunStore, run_id: str, attempt: int, path: Path) -> None:
    """Writes what an earlier moment could not write, then deletes the spool.

    Raises:
        StorageError: The store still cannot be written; the spool stays.
        OSError: Likewise.
    """
    reports = read_spool(path)
    for _ in write_reports(store, run_id, attempt, reports):
        pass
    path.unlink(missing_ok=True)
