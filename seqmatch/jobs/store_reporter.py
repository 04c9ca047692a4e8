"""The reporter of a trainer: a thread that writes to the store, so that training never waits.

Nothing here raises into training. While the store is locked or full, reports go to a file beside
the run and are written later, by this process or by whoever comes after its death.
"""

import json
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from seqmatch.jobs.attempt_files import spool_path
from seqmatch.jobs.reports import (
    Report,
    append_spool,
    num_last_metrics,
    points_of,
    write_reports,
)
from seqmatch.metrics import METRICS
from seqmatch.reporting import Control, Level, Trace
from storage import RunStore
from storage.errors import LeaseLostError, RunNotFoundError, StorageError
from storage.records import ControlRequest, Progress, RunStatus

WRITE_SECONDS = 0.5
"""How long a report may wait for others to be written with."""
_FLUSH_SECONDS = 30.0
_CONTROLS = {
    ControlRequest.NONE: Control.GO_ON,
    ControlRequest.STOP: Control.STOP,
    ControlRequest.STOP_AND_SAVE: Control.STOP_AND_SAVE,
    ControlRequest.KILL: Control.STOP,
}


class StoreReporter:
    """Writes the reports of one attempt of a run; implements `seqmatch.reporting.Reporter`."""

    def __init__(
        self,
        store: RunStore,
        run_id: str,
        attempt: int,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._run_id = run_id
        self._attempt = attempt
        self._clock = clock
        self._run_dir = store.run_dir(run_id)
        self._spool = spool_path(self._run_dir)
        self._guard = threading.Lock()
        self._pending: list[Report] = []
        self._num_spooled = 0
        self._done: tuple[int, float] | None = None
        self._written_done: tuple[int, float] | None = None
        self._control = Control.GO_ON
        self._unknown: set[str] = set()
        self._is_superseded = False
        self._is_interrupted = False
        self._wake = threading.Event()
        self._is_closing = False
        self._writing = threading.Lock()
        self._thread = threading.Thread(target=self._write_on, name="reporter", daemon=True)
        self._thread.start()

    # ---- what training calls

    def phase(self, name: str) -> None:
        """Reports what the run is doing."""
        self._add("phase", {"name": name})

    def progress(self, step: int, num_steps: int) -> Control:
        """Notes a finished step; returns what was asked of the run, as far as is known by now."""
        del num_steps
        self._done = (step, self._clock())
        if self._is_interrupted and self._control is Control.GO_ON:
            self.flush()  # a signal is rare, and what was asked decides whether to save
            return Control.STOP_AND_SAVE if self._control is Control.GO_ON else self._control
        return self._control

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Reports numbers; those that are not finite are kept as missing."""
        for name in set(values) - METRICS.keys() - self._unknown:
            self._unknown.add(name)
            self.event("error", "unknown_metric", f"{name!r} is no registered metric; not kept")
        points = [
            {"name": name, "step": step, "value": value if math.isfinite(value) else None}
            for name, value in ((name, float(value)) for name, value in values.items())
            if name in METRICS
        ]
        if points:
            self._add("metrics", {"points": points})

    def samples(self, step: int, traces: Sequence[Trace]) -> None:
        """Reports sampled answers."""
        payloads = [json.dumps(asdict(trace)) for trace in traces]
        self._add("samples", {"step": step, "payloads": payloads})

    def event(self, level: Level, code: str, message: str) -> None:
        """Reports an event, on the log too."""
        print(f"{level}: {message}", file=sys.stderr, flush=True)
        self._add("event", {"level": level, "code": code, "message": message})

    def artifact(self, kind: str, path: Path) -> None:
        """Reports a finished file of the run's folder."""
        place = path.absolute()
        inside = place.relative_to(self._run_dir) if self._run_dir in place.parents else place
        self._add("artifact", {"kind": kind, "path": str(inside)})

    def flush(self) -> None:
        """Returns when all reports are in the store or, while that cannot be, in the spool."""
        deadline = time.monotonic() + _FLUSH_SECONDS
        if self._writing.acquire(timeout=_FLUSH_SECONDS):
            try:
                while not self._write() and time.monotonic() < deadline and not self._is_durable():
                    time.sleep(WRITE_SECONDS)
            finally:
                self._writing.release()

    # ---- what the worker calls

    @property
    def is_superseded(self) -> bool:
        """True where another attempt, or none, owns the run now."""
        return self._is_superseded

    def interrupt(self) -> None:
        """Asks training to save and stop, from a signal handler: nobody asked the run to end."""
        self._is_interrupted = True

    def close(self) -> None:
        """Writes what is left and ends the thread."""
        self._is_closing = True
        self._wake.set()
        self._thread.join(timeout=_FLUSH_SECONDS)
        self.flush()

    # ---- the thread

    def _add(self, kind: str, body: dict[str, Any]) -> None:
        with self._guard:
            self._pending.append(Report(kind, body))

    def _write_on(self) -> None:
        while not self._is_closing:
            self._wake.wait(WRITE_SECONDS)
            with self._writing:
                self._write()

    def _write(self) -> bool:
        """Writes all that is pending; False where some of it stays for later."""
        if self._is_superseded:
            return True
        try:
            with self._guard:
                reports = list(self._pending)
            # The last numbers and the progress are one transaction: most writes are of these two.
            count = num_last_metrics(reports) if self._has_progress() else 0
            border = len(reports) - count
            self._write_reports(reports[:border])
            self._exchange_progress(reports[border:])
        except (LeaseLostError, RunNotFoundError) as error:
            print(f"this attempt no longer owns the run: {error}", file=sys.stderr, flush=True)
            self._is_superseded = True
            self._control = Control.STOP
        except (StorageError, OSError) as error:
            print(f"the store cannot be written now: {error}", file=sys.stderr, flush=True)
            self._spool_rest()
            return False
        return True

    def _has_progress(self) -> bool:
        return self._done is not None and self._done != self._written_done

    def _write_reports(self, reports: Sequence[Report]) -> None:
        written = 0
        for done in write_reports(self._store, self._run_id, self._attempt, reports):
            self._forget(done - written)
            written = done

    def _forget(self, count: int) -> None:
        """Drops the first pending reports, which are in the store."""
        with self._guard:
            del self._pending[:count]
            self._num_spooled = max(0, self._num_spooled - count)
            if not self._num_spooled:
                self._spool.unlink(missing_ok=True)

    def _exchange_progress(self, curves: Sequence[Report]) -> None:
        """Writes the last reports of metrics and how far the run is; hears what is asked of it."""
        done, before = self._done, self._written_done
        if done is None or done == before:
            run = self._store.runs.get(self._run_id)
            if run.attempt != self._attempt or run.status is not RunStatus.RUNNING:
                raise LeaseLostError(f"run {self._run_id} is {run.status}, attempt {run.attempt}")
            self._control = _CONTROLS[run.control]
            return
        step, at = done
        speed = None
        if before is not None and at > before[1] and step >= before[0]:
            speed = (step - before[0]) / (at - before[1])
        asked_by, progress = (self._run_id, self._attempt), Progress(step, speed)
        if points := points_of(curves):
            asked = self._store.metrics.append(*asked_by, points, progress)
            self._forget(len(curves))
        else:
            asked = self._store.runs.progress(*asked_by, progress)
        self._control = _CONTROLS[asked]
        self._written_done = done

    def _spool_rest(self) -> None:
        with self._guard:
            fresh = self._pending[self._num_spooled :]
        try:
            append_spool(self._spool, fresh)
        except OSError as error:
            print(f"nor can its spool: {error}", file=sys.stderr, flush=True)
            return
        self._num_spooled += len(fresh)

    def _is_durable(self) -> bool:
        with self._guard:
            return self._num_spooled >= len(self._pending)
