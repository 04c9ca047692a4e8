"""Rows of the runs table: finding one, making it a record, and the guarded ways to change it.

Every change of status is one conditional UPDATE inside a transaction that holds the write lock.
"""

from functools import cache
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, func, outerjoin, select, update
from sqlalchemy.sql.dml import ReturningUpdate

from storage.errors import IllegalTransitionError, LeaseLostError, RunNotFoundError
from storage.placing import several
from storage.records import ControlRequest, Progress, RunRecord, RunStatus
from storage.tables import device_slots, runs

_HIDDEN = ("number", "metric_seq", "metric_reset_seq")


def select_runs() -> Select[Any]:
    """Returns the query of all runs with their slots; the caller narrows and orders it."""
    columns = [column for column in runs.c if column.name not in _HIDDEN]
    number = device_slots.c.run_number
    slots = (
        select(number, func.group_concat(device_slots.c.name, ",").label("device_slot"))
        .where(number.is_not(None))
        .group_by(number)
        .subquery()
    )
    joined = outerjoin(runs, slots, slots.c.run_number == runs.c.number)
    return select(*columns, slots.c.device_slot).select_from(joined)


def to_record(row: RowMapping) -> RunRecord:
    """Returns the record of one row of `select_runs`."""
    values = dict(row)
    values["status"] = RunStatus(values["status"])
    values["control"] = ControlRequest(values["control"])
    if values["device_slot"] is not None:
        values["device_slot"] = several(sorted(values["device_slot"].split(",")))
    return RunRecord(**values)


def fetch(connection: Connection, run_id: str) -> RunRecord:
    """Returns the run with this id.

    Raises:
        RunNotFoundError: There is none.
    """
    row = connection.execute(select_runs().where(runs.c.id == run_id)).mappings().first()
    if row is None:
        raise not_found(run_id)
    return to_record(row)


def number_of(connection: Connection, run_id: str) -> int:
    """Returns the number by which other tables know the run.

    Raises:
        RunNotFoundError: There is no such run.
    """
    number = connection.execute(select(runs.c.number).where(runs.c.id == run_id)).scalar()
    if number is None:
        raise not_found(run_id)
    return int(number)


def not_found(run_id: str) -> RunNotFoundError:
    """Returns the error for an id that no run has."""
    return RunNotFoundError(f"no run has the id {run_id[:80]!r}; it may have been purged")


def move(connection: Connection, run: RunRecord, status: RunStatus, **changes: Any) -> None:
    """Moves a run, read in this transaction, to another status.

    Raises:
        IllegalTransitionError: A run never passes from its status to this one.
    """
    if not run.status.may_become(status):
        raise IllegalTransitionError(f"run {run.id} is {run.status}; it cannot become {status}")
    result = connection.execute(
        update(runs)
        .where(runs.c.id == run.id, runs.c.status == run.status, runs.c.attempt == run.attempt)
        .values(status=status, **changes)
    )
    assert result.rowcount == 1  # read under the same write lock
    if status != RunStatus.RUNNING:
        free_slot(connection, run.id)


def free_slot(connection: Connection, run_id: str) -> None:
    """Frees the device slots of a run, if it has some."""
    owner = select(runs.c.number).where(runs.c.id == run_id).scalar_subquery()
    connection.execute(
        update(device_slots).where(device_slots.c.run_number == owner).values(run_number=None)
    )


def fetch_owned(connection: Connection, run_id: str, attempt: int) -> RunRecord:
    """Returns the run if this attempt works on it.

    Raises:
        LeaseLostError: Another attempt does, or none.
        RunNotFoundError: There is no such run.
    """
    run = fetch(connection, run_id)
    if run.status != RunStatus.RUNNING or run.attempt != attempt:
        raise lease_lost(run, attempt)
    return run


def lease_lost(run: RunRecord, attempt: int) -> LeaseLostError:
    """Returns the error for a write of an attempt that does not own its run."""
    return LeaseLostError(
        f"attempt {attempt} does not own run {run.id}: it is {run.status}, attempt {run.attempt}; "
        "only the running attempt may write"
    )


@cache
def _change_of_owner(names: tuple[str, ...]) -> ReturningUpdate[Any]:
    """The statement of `update_owned`; a trainer runs it several times a second."""
    changes: dict[str, Any] = {
        name: bindparam(f"to_{name}", type_=runs.c[name].type) for name in names
    }
    if "metric_seq" in changes:
        changes["metric_seq"] = runs.c.metric_seq + changes["metric_seq"]
    return (
        update(runs)
        .where(
            runs.c.id == bindparam("of_id"),
            runs.c.attempt == bindparam("of_attempt"),
            runs.c.status == RunStatus.RUNNING,
        )
        .values(changes)
        .returning(runs.c.number, runs.c.control, runs.c.metric_seq)
    )


def of_progress(progress: Progress, now: float) -> dict[str, Any]:
    """Returns the changes to a run that is so far now."""
    told = {"step": progress.step, "steps_per_second": progress.steps_per_second}
    return told | {"progress_at": now}


def update_owned(connection: Connection, run_id: str, attempt: int, **changes: Any) -> RowMapping:
    """Changes a run if this attempt works on it, in one statement; this is the fence.

    Of `metric_seq` the change is what is added to it.

    Returns:
        number, control and metric_seq of the row after the change.

    Raises:
        LeaseLostError: Another attempt works on it, or none.
        RunNotFoundError: There is no such run.
    """
    asked = {f"to_{name}": value for name, value in changes.items()}
    asked |= {"of_id": run_id, "of_attempt": attempt}
    found = connection.execute(_change_of_owner(tuple(changes)), asked).mappings().first()
    if found is None:
        raise lease_lost(fetch(connection, run_id), attempt)
    return found
