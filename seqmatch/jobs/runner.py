"""The one process of a data directory that starts runs and the lane, and finds those that died.

`python -m seqmatch.jobs.runner --data-dir D`. It keeps nothing in memory that matters: after a
kill at any moment the next one finds every run by its row and its locks. It ends by itself when
there is nothing to do and no page is open.
"""

import argparse
import os
import secrets
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from seqmatch.jobs.device_slots import device_names, num_processes, slot_names
from seqmatch.jobs.executors import ORPHAN_GRACE_SECONDS, Condition, Executor, LocalExecutor
from seqmatch.jobs.lane_process import LaneProcess
from seqmatch.jobs.locks import Lock, is_shared, try_lock
from seqmatch.jobs.outcomes import conclude
from seqmatch.jobs.runs_at_once import runs_at_once
from seqmatch.jobs.trainer_threads import trainer_threads
from storage import RunStore
from storage.errors import LeaseLostError, StorageError
from storage.placing import is_gpu, place
from storage.records import Claim, RunStatus, TaskStatus

RUNNER_LOCK = "runner.lock"
WEB_LOCK = "web.lock"
TRAINER = "seqmatch.training:train"
MIN_FREE_BYTES = 500 << 20
"""No run is started with less room on the disk."""


@dataclass(frozen=True)
class RunnerOptions:
    """The runner's habits; tests make them quicker."""

    poll_seconds: float = 1.0
    idle_seconds: float = 20.0
    orphan_grace_seconds: float = ORPHAN_GRACE_SECONDS
    trainer: str = TRAINER


class Runner:
    """Does one round of a runner's work at a time."""

    def __init__(
        self, store: RunStore, executor: Executor, lane: LaneProcess, devices: Sequence[str]
    ) -> None:
        self.store = store
        self.executor = executor
        self.lane = lane
        self.devices = devices
        self.name = secrets.token_hex(8)
        self._slots: list[str] = []
        self._told: set[tuple[str, str]] = set()

    def round(self) -> bool:
        """Recovers, starts, and tells; returns whether there is anything to do or to mind."""
        self._set_slots()
        for run in self.store.runs.active():
            try:
                self._recover(run.id, run.attempt)
            except (StorageError, OSError) as error:
                _say(f"run {run.id} is looked at again later: {error}")
        self._fail_impossible()
        self._start_waiting()
        tasks = self.store.tasks.list(limit=100)
        is_waiting = any(task.status is TaskStatus.QUEUED for task in tasks)
        is_left = any(task.status is TaskStatus.RUNNING for task in tasks)
        self.lane.tend(is_needed=is_waiting or is_left)
        return is_waiting or is_left or self.has_runs()

    def has_runs(self) -> bool:
        """True where a run waits or runs."""
        return any(not run.status.is_final for run in self.store.runs.list())

    def _set_slots(self) -> None:
        slots = slot_names(self.devices, runs_at_once(self.store))
        if slots != self._slots:
            self.store.devices.set_slots(slots)
            self._slots = slots

    def _recover(self, run_id: str, attempt: int) -> None:
        condition = self.executor.poll(run_id, attempt)
        if condition is Condition.ORPHANED:
            self.store.runs.renew(run_id, attempt)
            self.executor.cancel(run_id, attempt)
        elif condition is Condition.ENDED:
            status = conclude(self.store, run_id, attempt)
            _say(f"run {run_id}, attempt {attempt} had ended: {status or 'settled already'}")

    def _start_waiting(self) -> None:
        if shutil.disk_usage(self.store.data_dir).free < MIN_FREE_BYTES:
            self._tell_queued("disk_full", "It waits: the disk has less than 500 MB of free space.")
            return
        while (claim := self.store.runs.claim(self.name)) is not None:
            _say(f"run {claim.run.id}, attempt {claim.attempt} starts on {claim.device_slot}")
            try:
                self.executor.submit(claim)
            except OSError as error:
                message = f"Its process could not be started: {error}."
                self.store.runs.crashed(
                    claim.run.id, claim.attempt, "not started", message, may_retry=True
                )
                return

    def _fail_impossible(self) -> None:
        """Fails what waits for devices that this machine has not: it would wait for ever."""
        has_gpu = any(map(is_gpu, self.devices))
        for run in self.store.runs.list():
            is_waiting = run.status is RunStatus.QUEUED
            if is_waiting and place(run.device, self.devices, has_gpu) is None:
                here = ", ".join(self.devices)
                message = f"There is no device {run.device!r} here; there is {here}, or 'auto'."
                self.store.runs.fail_queued(run.id, "no device", message)

    def _tell_queued(self, code: str, message: str) -> None:
        for run in self.store.runs.list():
            if run.status is RunStatus.QUEUED:
                self._tell(run.id, code, message)

    def _tell(self, run_id: str, code: str, message: str) -> None:
        if (run_id, code) not in self._told:
            self._told.add((run_id, code))
            self.store.notes.add_event(run_id, None, "warning", code, message)


def work(runner: Runner, lock: Lock, options: RunnerOptions, ended: threading.Event) -> None:
    """Works in rounds until asked to end, or idle for long enough."""
    data_dir = runner.store.data_dir
    busy_at = time.monotonic()
    while not ended.wait(options.poll_seconds):
        if _has_work(runner) or is_shared(data_dir / WEB_LOCK):
            busy_at = time.monotonic()
        if time.monotonic() - busy_at < options.idle_seconds:
            continue
        # Who queues a run and still sees the lock counts on this process: look again without it.
        lock.close()
        if not runner.has_runs() and not runner.store.tasks.has_queued():
            return
        again = try_lock(data_dir / RUNNER_LOCK)
        if again is None:
            return
        lock = again
        busy_at = time.monotonic()


def _has_work(runner: Runner) -> bool:
    try:
        return runner.round()
    except LeaseLostError:
        return True
    except (StorageError, OSError) as error:
        _say(f"this round failed and is repeated: {error}")
        return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the runner; returns at once where the data directory has one already."""
    data_dir, options = _options(arguments)
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    signal.signal(signal.SIGINT, lambda *_: ended.set())
    data_dir.mkdir(parents=True, exist_ok=True)
    lock = try_lock(data_dir / RUNNER_LOCK)
    if lock is None:
        return 0
    store = RunStore.open(data_dir)
    cores = _num_cores()

    def num_threads(claim: Claim) -> int:
        kind = claim.device_slot.partition(":")[0]
        slots = [slot for slot in store.devices.list() if slot.name.partition(":")[0] == kind]
        on_one_slot = num_processes(claim.run.device) if kind == "cpu" else 1
        return trainer_threads(claim.run.base_model, cores, len(slots) * on_one_slot)

    executor = LocalExecutor(
        store.data_dir,
        trainer=options.trainer,
        num_threads=num_threads,
        grace_seconds=options.orphan_grace_seconds,
    )
    runner = Runner(store, executor, LaneProcess(store.data_dir, cores), device_names())
    _say(f"the runner minds {store.data_dir}")
    work(runner, lock, options, ended)
    store.close()
    return 0


def _num_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _say(text: str) -> None:
    print(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()), text, file=sys.stderr, flush=True)


def _options(arguments: Sequence[str] | None) -> tuple[Path, RunnerOptions]:
    parser = argparse.ArgumentParser(description=__doc__)
    defaults = RunnerOptions()
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--poll-seconds", type=float, default=defaults.poll_seconds)
    parser.add_argument("--idle-seconds", type=float, default=defaults.idle_seconds)
    grace = defaults.orphan_grace_seconds
    parser.add_argument("--orphan-grace-seconds", type=float, default=grace)
    parser.add_argument("--trainer", default=TRAINER, help="module:function, for tests")
    given = vars(parser.parse_args(arguments))
    return given.pop("data_dir").absolute(), RunnerOptions(**given)


if __name__ == "__main__":
    sys.exit(main())
