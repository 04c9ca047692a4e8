"""Short requests to the worker lane that keeps models loaded, and their streamed output."""

from typing import Any

from sqlalchemy import Connection, Row, Select, delete, insert, select, update

from storage.engine import Database
from storage.errors import IllegalTransitionError, InvalidValueError, TaskNotFoundError
from storage.ids import new_id
from storage.records import TaskOutput, TaskRecord, TaskStatus
from storage.tables import task_outputs, tasks

MAX_STARTS = 2
"""A task that a lane died on is started once more; then it is taken for the cause."""

_FINAL = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.CANCELLED)
_HIDDEN = ("number", "worker", "num_starts", "output_seq")
_COLUMNS = [column for column in tasks.c if column.name not in _HIDDEN]


class Tasks:
    """The tasks of a store. May be called from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def submit(self, kind: str, payload_json: str) -> TaskRecord:
        """Queues a task."""
        record = TaskRecord(
            id=new_id(),
            kind=kind,
            payload_json=payload_json,
            status=TaskStatus.QUEUED,
            created_at=self._database.now(),
            started_at=None,
            ended_at=None,
            error_message="",
            is_cancel_requested=False,
        )
        with self._database.write() as connection:
            row = {**vars(record), "worker": "", "num_starts": 0, "output_seq": 0}
            connection.execute(insert(tasks).values(**row))
        return record

    def get(self, task_id: str) -> TaskRecord:
        """Returns a task.

        Raises:
            TaskNotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            return _fetch(connection, task_id)

    def list(self, kind: str | None = None, limit: int | None = None) -> tuple[TaskRecord, ...]:
        """Returns the tasks, of one kind or of all, the newest first."""
        query = select(*_COLUMNS).order_by(tasks.c.number.desc()).limit(limit)
        if kind is not None:
            query = query.where(tasks.c.kind == kind)
        with self._database.read() as connection:
            return tuple(map(_to_record, connection.execute(query)))

    def has_queued(self) -> bool:
        """True where a task waits for a lane."""
        query = select(tasks.c.number).where(tasks.c.status == TaskStatus.QUEUED).limit(1)
        with self._database.read() as connection:
            return connection.execute(query).first() is not None

    def claim(self, worker: str) -> TaskRecord | None:
        """Takes the longest waiting task; None where none waits."""
        oldest = (
            select(tasks.c.number)
            .where(tasks.c.status == TaskStatus.QUEUED)
            .order_by(tasks.c.number)
            .limit(1)
            .scalar_subquery()
        )
        statement = (
            update(tasks)
            .where(tasks.c.number == oldest, tasks.c.status == TaskStatus.QUEUED)
            .values(
                status=TaskStatus.RUNNING,
                worker=worker,
                num_starts=tasks.c.num_starts + 1,
                started_at=self._database.now(),
            )
            .returning(*_COLUMNS)
        )
        with self._database.write() as connection:
            row = connection.execute(statement).first()
        return None if row is None else _to_record(row)

    def append(self, task_id: str, payload_json: str) -> bool:
        """Adds a piece of output to a running task.

        Returns:
            True to go on; False where the task was asked to stop.

        Raises:
            IllegalTransitionError: The task is not running (any more).
            TaskNotFoundError: There is no such task.
        """
        statement = (
            update(tasks)
            .where(tasks.c.id == task_id, tasks.c.status == TaskStatus.RUNNING)
            .values(output_seq=tasks.c.output_seq + 1)
            .returning(tasks.c.number, tasks.c.output_seq, tasks.c.is_cancel_requested)
        )
        with self._database.write() as connection:
            row = connection.execute(statement).first()
            if row is None:
                task = _fetch(connection, task_id)
                raise IllegalTransitionError(
                    f"task {task_id} is {task.status}; only a running one has more output"
                )
            connection.execute(
                insert(task_outputs).values(
                    task_number=row.number, seq=row.output_seq, payload_json=payload_json
                )
            )
        return not row.is_cancel_requested

    def output(self, task_id: str, after: int = 0) -> tuple[TaskOutput, ...]:
        """Returns the pieces of output since the `seq` of the last one seen, in order.

        After a lane has died the task starts over: its older pieces are gone, and the new ones come
        with higher numbers.
        """
        query = (
            select(task_outputs.c.seq, task_outputs.c.payload_json)
            .join(tasks, tasks.c.number == task_outputs.c.task_number)
            .where(tasks.c.id == task_id, task_outputs.c.seq > after)
            .order_by(task_outputs.c.seq)
        )
        with self._database.read() as connection:
            return tuple(TaskOutput(*row) for row in connection.execute(query))

    def finish(self, task_id: str, status: TaskStatus, error_message: str = "") -> None:
        """Ends a running task.

        Raises:
            InvalidValueError: `status` is not a final one.
            IllegalTransitionError: The task is not running.
        """
        if status not in _FINAL:
            raise InvalidValueError(
                f"task {task_id} cannot end as {status}; allowed: completed, failed, cancelled"
            )
        with self._database.write() as connection:
            task = _fetch(connection, task_id)
            if task.status != TaskStatus.RUNNING:
                raise IllegalTransitionError(
                    f"task {task_id} is {task.status}; it cannot end again"
                )
            end = {"status": status, "error_message": error_message}
            connection.execute(
                update(tasks)
                .where(tasks.c.id == task_id)
                .values(ended_at=self._database.now(), **end)
            )

    def cancel(self, task_id: str) -> TaskRecord:
        """Cancels a queued task; asks a running one to stop; leaves a finished one as it is."""
        with self._database.write() as connection:
            task = _fetch(connection, task_id)
            change: dict[str, Any] = {}
            if task.status == TaskStatus.QUEUED:
                change = {"status": TaskStatus.CANCELLED, "ended_at": self._database.now()}
            if task.status not in _FINAL:
                statement = update(tasks).where(tasks.c.id == task_id)
                connection.execute(statement.values(is_cancel_requested=True, **change))
            return _fetch(connection, task_id)

    def requeue_lost(self, worker: str) -> int:
        """Settles what an earlier lane left RUNNING; for a lane that starts, being the only one.

        Each such task is queued again without its output; one that was asked to stop is CANCELLED,
        and one that was started `MAX_STARTS` times is FAILED.

        Returns:
            How many were queued again.
        """
        lost = (tasks.c.status == TaskStatus.RUNNING) & (tasks.c.worker != worker)
        ended = {"ended_at": self._database.now()}
        with self._database.write() as connection:
            connection.execute(
                update(tasks)
                .where(lost, tasks.c.is_cancel_requested)
                .values(status=TaskStatus.CANCELLED, **ended)
            )
            message = f"the worker died {MAX_STARTS} times while it worked on this; see its log"
            connection.execute(
                update(tasks)
                .where(lost, tasks.c.num_starts >= MAX_STARTS)
                .values(status=TaskStatus.FAILED, error_message=message, **ended)
            )
            numbers = select(tasks.c.number).where(lost)
            connection.execute(delete(task_outputs).where(task_outputs.c.task_number.in_(numbers)))
            again = update(tasks).where(lost).values(status=TaskStatus.QUEUED, started_at=None)
            return connection.execute(again).rowcount

    def purge(self, before: float) -> int:
        """Removes the tasks that ended before this time, with their output; returns how many."""
        old = tasks.c.status.in_(_FINAL) & (tasks.c.ended_at < before)
        with self._database.write() as connection:
            return connection.execute(delete(tasks).where(old)).rowcount


def _fetch(connection: Connection, task_id: str) -> TaskRecord:
    query: Select[Any] = select(*_COLUMNS).where(tasks.c.id == task_id)
    row = connection.execute(query).first()
    if row is None:
        raise TaskNotFoundError(f"no task has the id {task_id[:80]!r}")
    return _to_record(row)


def _to_record(row: Row[Any]) -> TaskRecord:
    values = dict(row._mapping)
    return TaskRecord(**{**values, "status": TaskStatus(values["status"])})
