"""Runs: what a person asks of them, and what the worker that owns an attempt writes.

A worker's writes carry its attempt number. The store refuses those of any attempt but the running
one, so a worker that was given up for dead and wakes again cannot touch the run of its successor.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from sqlalchemy import Connection, delete, insert, select, update

from storage import run_rows
from storage.devices import find_place, occupy
from storage.engine import Database
from storage.errors import DatasetNotFoundError, IllegalTransitionError, InvalidValueError
from storage.file_system import make_private_folder
from storage.ids import new_id
from storage.placing import several
from storage.records import Claim, ControlRequest, NewRun, Progress, RunRecord, RunStatus
from storage.tables import datasets, runs

MAX_CRASHES = 3
"""So often a start that died without reporting is followed by another by itself."""

_URGENCY = (
    ControlRequest.NONE,
    ControlRequest.STOP_AND_SAVE,
    ControlRequest.STOP,
    ControlRequest.KILL,
)
_CLEAN = {
    "control": ControlRequest.NONE,
    "phase": "",
    "steps_per_second": None,
    "lease_until": None,
    "error_kind": "",
    "error_message": "",
}


class Runs:
    """The runs of a store. May be called from any thread and process."""

    def __init__(self, database: Database, run_dir: Callable[[str], Path]) -> None:
        self._database = database
        self._run_dir = run_dir

    # ---- what a person asks

    def create(self, new: NewRun) -> RunRecord:
        """Queues a run.

        Raises:
            DatasetNotFoundError: Its demonstrations are not in the store.
            RunNotFoundError: Its parent is not in the store.
            InvalidValueError: It has no steps.
        """
        _check_num_steps(new.num_steps)
        run_id, now = new_id(), self._database.now()
        with self._database.write(is_durable=True) as connection:
            known = select(datasets.c.id).where(datasets.c.id == new.dataset_id)
            if connection.execute(known).scalar() is None:
                raise DatasetNotFoundError(
                    f"no set of demonstrations has the id {new.dataset_id[:80]!r}; add it first"
                )
            if new.parent_id is not None:
                run_rows.number_of(connection, new.parent_id)
            connection.execute(
                insert(runs).values(
                    **asdict(new),
                    **_CLEAN,
                    id=run_id,
                    status=RunStatus.QUEUED,
                    step=0,
                    attempt=0,
                    num_crashes=0,
                    created_at=now,
                    queued_at=now,
                    runner="",
                    metric_seq=0,
                    metric_reset_seq=0,
                )
            )
            record = run_rows.fetch(connection, run_id)
        make_private_folder(self._run_dir(run_id))
        return record

    def get(self, run_id: str) -> RunRecord:
        """Returns a run, deleted ones too.

        Raises:
            RunNotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return run_rows.fetch(connection, run_id)

    def list(
        self, *, include_deleted: bool = False, limit: int | None = None
    ) -> tuple[RunRecord, ...]:
        """Returns the runs, the newest first."""
        query = run_rows.select_runs().order_by(runs.c.number.desc()).limit(limit)
        if not include_deleted:
            query = query.where(runs.c.deleted_at.is_(None))
        with self._database.read() as connection:
            return tuple(map(run_rows.to_record, connection.execute(query).mappings()))

    def active(self) -> tuple[RunRecord, ...]:
        """Returns the runs that are RUNNING, the longest running first."""
        query = run_rows.select_runs().where(runs.c.status == RunStatus.RUNNING)
        with self._database.read() as connection:
            rows = connection.execute(query.order_by(runs.c.started_at, runs.c.number)).mappings()
            return tuple(map(run_rows.to_record, rows))

    def rename(self, run_id: str, name: str) -> RunRecord:
        """Gives a run another name.

        Raises:
            InvalidValueError: The name is blank.
        """
        if not name.strip():
            raise InvalidValueError(f"the name {name!r} of run {run_id} is blank; give it a letter")
        with self._database.write() as connection:
            run = run_rows.fetch(connection, run_id)
            connection.execute(update(runs).where(runs.c.id == run_id).values(name=name))
        return replace(run, name=name)

    def request(self, run_id: str, control: ControlRequest) -> RunRecord:
        """Asks a run to stop. A queued one is cancelled at once; a finished one is left as it is.

        Asking again may only press harder: STOP_AND_SAVE, then STOP, then KILL.

        Raises:
            InvalidValueError: `control` is NONE; a stop cannot be taken back.
        """
        if control == ControlRequest.NONE:
            raise InvalidValueError(
                f"asked nothing of run {run_id}; ask stop, stop_and_save or kill"
            )
        with self._database.write(is_durable=True) as connection:
            run = run_rows.fetch(connection, run_id)
            if run.status == RunStatus.QUEUED:
                run_rows.move(connection, run, RunStatus.CANCELLED, ended_at=self._database.now())
            elif run.status == RunStatus.RUNNING:
                harder = max(run.control, control, key=_URGENCY.index)
                connection.execute(update(runs).where(runs.c.id == run_id).values(control=harder))
            return run_rows.fetch(connection, run_id)

    def requeue(self, run_id: str, num_steps: int | None = None) -> RunRecord:
        """Resumes a finished run: it is queued again and goes on from its newest checkpoint.

        Args:
            run_id: The run.
            num_steps: Another end, to train longer; None keeps it.

        Raises:
            IllegalTransitionError: It is queued or running already, or deleted.
        """
        with self._database.write(is_durable=True) as connection:
            run = run_rows.fetch(connection, run_id)
            if run.deleted_at is not None:
                raise IllegalTransitionError(f"run {run_id} is deleted; restore it before resuming")
            if not run.status.is_final:
                raise IllegalTransitionError(f"run {run_id} is {run.status}; it needs no resuming")
            steps = run.num_steps if num_steps is None else num_steps
            _check_num_steps(steps)
            changes = {**_CLEAN, "num_steps": steps, "num_crashes": 0, "ended_at": None}
            run_rows.move(
                connection, run, RunStatus.QUEUED, queued_at=self._database.now(), **changes
            )
            return run_rows.fetch(connection, run_id)

    def delete(self, run_id: str) -> RunRecord:
        """Hides a run; `restore` brings it back. A queued one is cancelled. Twice is as once.

        Raises:
            IllegalTransitionError: It is running.
        """
        now = self._database.now()
        with self._database.write() as connection:
            run = run_rows.fetch(connection, run_id)
            if run.status == RunStatus.RUNNING:
                raise IllegalTransitionError(f"run {run_id} is running; stop it before deleting")
            if run.status == RunStatus.QUEUED:
                run_rows.move(connection, run, RunStatus.CANCELLED, ended_at=now)
            hide = update(runs).where(runs.c.id == run_id, runs.c.deleted_at.is_(None))
            connection.execute(hide.values(deleted_at=now))
            return run_rows.fetch(connection, run_id)

    def restore(self, run_id: str) -> RunRecord:
        """Takes a deletion back."""
        with self._database.write() as connection:
            run_rows.fetch(connection, run_id)
            connection.execute(update(runs).where(runs.c.id == run_id).values(deleted_at=None))
            return run_rows.fetch(connection, run_id)

    def purge(self, run_id: str) -> None:
        """Removes a deleted run for good: rows, then files.

        Raises:
            IllegalTransitionError: It was not deleted before.
        """
        with self._database.write() as connection:
            run = run_rows.fetch(connection, run_id)
            if run.deleted_at is None:
                raise IllegalTransitionError(
                    f"run {run_id} is not deleted; delete it before purging"
                )
            connection.execute(delete(runs).where(runs.c.id == run_id))
        shutil.rmtree(self._run_dir(run_id), ignore_errors=True)

    def fail_queued(self, run_id: str, error_kind: str, error_message: str) -> None:
        """Ends a run that can never be started here; one that does not wait is left as it is."""
        end = {"error_kind": error_kind, "error_message": error_message}
        with self._database.write(is_durable=True) as connection:
            run = run_rows.fetch(connection, run_id)
            if run.status == RunStatus.QUEUED:
                now = self._database.now()
                run_rows.move(connection, run, RunStatus.FAILED, ended_at=now, **end)

    # ---- what the owner of an attempt writes

    def claim(self, runner: str, *, lease_seconds: float = 60) -> Claim | None:
        """Takes the longest waiting run that fits free devices, and those devices.

        What a run may take is in `storage.placing`. A run that waits for several devices keeps
        later runs off those that it could use, or it might wait for ever.

        Returns:
            The claim, or None where no waiting run fits the free slots.
        """
        waiting = (
            select(runs.c.number, runs.c.id, runs.c.device)
            .where(runs.c.status == RunStatus.QUEUED, runs.c.deleted_at.is_(None))
            .order_by(runs.c.queued_at, runs.c.number)
        )
        with self._database.write() as connection:
            found = find_place(connection, connection.execute(waiting).all())
            if found is None:
                return None
            return self._start(connection, found[0].id, found[1], runner, lease_seconds)

    def claim_one(self, run_id: str, runner: str, *, lease_seconds: float = 60) -> Claim:
        """Takes a waiting run for a worker that has devices of its own, outside of the slots.

        Raises:
            IllegalTransitionError: It does not wait.
            RunNotFoundError: There is no such run.
        """
        with self._database.write() as connection:
            return self._start(connection, run_id, [], runner, lease_seconds)

    def _start(
        self,
        connection: Connection,
        run_id: str,
        slots: Sequence[str],
        runner: str,
        lease_seconds: float,
    ) -> Claim:
        now = self._database.now()
        run = run_rows.fetch(connection, run_id)
        start = {**_CLEAN, "lease_until": now + lease_seconds, "started_at": now}
        start |= {"attempt": run.attempt + 1, "runner": runner, "ended_at": None}
        start |= {"alive_at": None, "progress_at": None}
        run_rows.move(connection, run, RunStatus.RUNNING, **start)
        occupy(connection, run_rows.number_of(connection, run_id), slots)
        claimed = run_rows.fetch(connection, run_id)
        make_private_folder(self._run_dir(run_id))
        return Claim(run=claimed, attempt=claimed.attempt, device_slot=several(slots))

    def renew(self, run_id: str, attempt: int, lease_seconds: float = 60) -> ControlRequest | None:
        """Says that the attempt is alive and holds its lease for another while.

        Returns:
            What was asked of the run, or None where the attempt has been superseded and must end.
        """
        now = self._database.now()
        owned = (runs.c.id == run_id) & (runs.c.attempt == attempt)
        statement = (
            update(runs)
            .where(owned, runs.c.status == RunStatus.RUNNING)
            .values(alive_at=now, lease_until=now + lease_seconds)
            .returning(runs.c.control)
        )
        with self._database.write() as connection:
            control = connection.execute(statement).scalar()
        return None if control is None else ControlRequest(control)

    def progress(self, run_id: str, attempt: int, progress: Progress) -> ControlRequest:
        """Says how far a run is; returns what was asked of it.

        Raises:
            LeaseLostError: The attempt does not own the run.
        """
        with self._database.write() as connection:
            changes = run_rows.of_progress(progress, self._database.now())
            row = run_rows.update_owned(connection, run_id, attempt, **changes)
        return ControlRequest(row["control"])

    def set_phase(self, run_id: str, attempt: int, phase: str) -> None:
        """Says in a few words what the run is doing.

        Raises:
            LeaseLostError: The attempt does not own the run.
        """
        with self._database.write() as connection:
            run_rows.update_owned(connection, run_id, attempt, phase=phase)

    def finish(
        self,
        run_id: str,
        attempt: int,
        status: RunStatus,
        *,
        error_kind: str = "",
        error_message: str = "",
        peak_memory_bytes: int | None = None,
    ) -> None:
        """Ends a run and frees its device, in one transaction that survives a power cut.

        Raises:
            InvalidValueError: `status` is not a final one.
            LeaseLostError: The attempt does not own the run (it was superseded, or has ended
                already).
        """
        if not status.is_final:
            raise InvalidValueError(
                f"run {run_id} cannot end as {status}; allowed: completed, failed, cancelled"
            )
        changes = {"error_kind": error_kind, "error_message": error_message}
        with self._database.write(is_durable=True) as connection:
            run = run_rows.fetch_owned(connection, run_id, attempt)
            peak = run.peak_memory_bytes if peak_memory_bytes is None else peak_memory_bytes
            end = {"ended_at": self._database.now(), "lease_until": None, "phase": ""}
            run_rows.move(connection, run, status, peak_memory_bytes=peak, **end, **changes)

    def crashed(
        self, run_id: str, attempt: int, reason: str, message: str, *, may_retry: bool
    ) -> RunStatus:
        """Records that the attempt died without reporting, and decides what becomes of the run.

        Returns:
            QUEUED: it will start again. FAILED: it may not, or crashed too often in a row
            (`MAX_CRASHES` new starts). CANCELLED: someone had asked it to stop.

        Raises:
            LeaseLostError: The attempt does not own the run.
        """
        now = self._database.now()
        with self._database.write(is_durable=True) as connection:
            run = run_rows.fetch_owned(connection, run_id, attempt)
            crashes = run.num_crashes + 1
            status = RunStatus.FAILED
            if run.control != ControlRequest.NONE:
                status = RunStatus.CANCELLED
            elif may_retry and crashes <= MAX_CRASHES:
                status = RunStatus.QUEUED
            changes = {
                **_CLEAN,
                "error_kind": reason,
                "error_message": message,
                "num_crashes": crashes,
            }
            when = {"queued_at": now} if status == RunStatus.QUEUED else {"ended_at": now}
            run_rows.move(connection, run, status, **changes, **when)
        return status


def _check_num_steps(num_steps: int) -> None:
    if num_steps < 1:
        raise InvalidValueError(f"a run of {num_steps} steps was asked for; at least 1 is needed")
