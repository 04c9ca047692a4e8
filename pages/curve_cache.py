"""The curves of the runs that are looked at: each point is read from the store once.

A cache and nothing more: what it gives is a function of the store, so a restart changes nothing.
"""

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from pages.presenters.curves import RunCurves
from pages.presenters.palette import RunLook, run_looks
from storage import RunStore
from storage.records import RunRecord

MAX_RUNS = 100


@dataclass
class _Entry:
    attempt: int
    cursor: int = 0
    series: dict[str, dict[int, float | None]] = field(default_factory=dict)


class CurveCache:
    """Reads curves incrementally. May be used by all threads."""

    def __init__(self, store: RunStore) -> None:
        self._store = store
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._lock = threading.Lock()

    def of_run(self, run: RunRecord, look: RunLook) -> tuple[RunCurves, int]:
        """Returns all points of a run, and a cursor that changes when they do."""
        with self._lock:
            entry = self._entry(run)
            page = self._store.metrics.read(run.id, after=entry.cursor)
            for point in page.points:
                entry.series.setdefault(point.name, {})[point.step] = point.value
            entry.cursor = page.cursor
            series = {name: dict(points) for name, points in entry.series.items()}
            return RunCurves(run.id, run.name, look, series), entry.cursor

    def of_runs(self, run_ids: Sequence[str]) -> list[RunCurves]:
        """Returns all points of several runs.

        Raises:
            RunNotFoundError: One of them is no run.
        """
        runs = [self._store.runs.get(run_id) for run_id in dict.fromkeys(run_ids)]
        looks = run_looks(self._store.runs.list(include_deleted=True))
        return [self.of_run(run, looks[run.id])[0] for run in runs]

    def _entry(self, run: RunRecord) -> _Entry:
        entry = self._entries.get(run.id)
        # A new attempt drops the points beyond its checkpoint, and a deleted point has no cursor:
        # read anew when the attempt changes, and while points are ahead of the run.
        if entry is None or entry.attempt != run.attempt or _last_step(entry) > run.step:
            entry = _Entry(run.attempt)
        self._entries[run.id] = entry
        self._entries.move_to_end(run.id)
        while len(self._entries) > MAX_RUNS:
            self._entries.popitem(last=False)
        return entry


def _last_step(entry: _Entry) -> int:
    return max((max(points) for points in entry.series.values() if points), default=0)
