"""Curves: points written in batches, read from a cursor on.

A point is (run, name, step). Each writing gives it a new number in the run's own count, which never
goes back; a reader that passes the last number it saw gets what is new, and points that were
written over.
"""

import math
from collections.abc import Iterable, Sequence

from sqlalchemy import Connection, bindparam, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from storage.engine import Database
from storage.records import ControlRequest, MetricPage, MetricPoint, Progress
from storage.run_rows import not_found, of_progress, update_owned
from storage.tables import metric_points, metric_series, runs, samples

# Made once: making a statement takes SQLAlchemy longer than SQLite takes to run it.
_INSERT = insert(metric_points)
_WRITE = _INSERT.on_conflict_do_update(
    index_elements=["series_id", "step"],
    set_={"value": _INSERT.excluded.value, "seq": _INSERT.excluded.seq},
)
_SERIES = select(metric_series.c.name, metric_series.c.id).where(
    metric_series.c.run_number == bindparam("run_number")
)
_NEW_SERIES = insert(metric_series).on_conflict_do_nothing()


class Metrics:
    """The curves of a store. May be called from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def append(
        self,
        run_id: str,
        attempt: int,
        points: Sequence[MetricPoint],
        progress: Progress | None = None,
    ) -> ControlRequest:
        """Writes points in one transaction; once it returns, no death of a process loses them.

        A point of the same name and step is replaced. Not-a-number and infinities are kept as None.

        Args:
            run_id: The run.
            attempt: Who works on it.
            points: At least one.
            progress: How far the run is, where that is told by the way.

        Returns:
            What was asked of the run.

        Raises:
            LeaseLostError: The attempt does not own the run; nothing was written.
        """
        with self._database.write() as connection:
            told = {} if progress is None else of_progress(progress, self._database.now())
            # The fence, the numbers of the points and the progress are one statement.
            last = update_owned(connection, run_id, attempt, metric_seq=len(points), **told)
            series = _series_ids(connection, last["number"], {point.name for point in points})
            first = last["metric_seq"] - len(points) + 1
            rows = [
                {
                    "series_id": series[point.name],
                    "step": point.step,
                    "value": _finite(point.value),
                    "seq": first + index,
                }
                for index, point in enumerate(points)
            ]
            connection.execute(_WRITE, rows)
        return ControlRequest(last["control"])

    def read(self, run_id: str, names: Iterable[str] | None = None, after: int = 0) -> MetricPage:
        """Returns the points written since the cursor `after`, in the order of their writing.

        Args:
            run_id: The run.
            names: The curves wanted; all by default.
            after: The cursor of the reader's last page; 0 for everything.

        Returns:
            The points and the new cursor. Where points were dropped since `after`, the page starts
            over: `is_reset` is True and it holds every point there is.

        Raises:
            RunNotFoundError: There is no such run.
        """
        with self._database.read() as connection:
            columns = (runs.c.number, runs.c.metric_seq, runs.c.metric_reset_seq)
            run = connection.execute(select(*columns).where(runs.c.id == run_id)).first()
            if run is None:
                raise not_found(run_id)
            is_reset = 0 < after < run.metric_reset_seq
            query = (
                select(metric_series.c.name, metric_points.c.step, metric_points.c.value)
                .join(metric_points, metric_points.c.series_id == metric_series.c.id)
                .where(metric_series.c.run_number == run.number)
                .where(metric_points.c.seq > (0 if is_reset else after))
                .order_by(metric_points.c.seq)
            )
            if names is not None:
                query = query.where(metric_series.c.name.in_(list(names)))
            points = tuple(MetricPoint(*row) for row in connection.execute(query))
        return MetricPage(points=points, cursor=run.metric_seq, is_reset=is_reset)

    def names(self, run_id: str) -> tuple[str, ...]:
        """Returns the names of the run's curves, sorted."""
        query = (
            select(metric_series.c.name)
            .join(runs, runs.c.number == metric_series.c.run_number)
            .where(runs.c.id == run_id)
            .order_by(metric_series.c.name)
        )
        with self._database.read() as connection:
            return tuple(connection.execute(query).scalars())

    def clear_after(self, run_id: str, attempt: int, step: int) -> None:
        """Drops the points and the samples beyond `step`: those of work that a resume does again.

        Raises:
            LeaseLostError: The attempt does not own the run.
        """
        with self._database.write() as connection:
            # The count advances past all points, so that older cursors are known for what they are.
            row = update_owned(connection, run_id, attempt, metric_seq=1)
            of_run = select(metric_series.c.id).where(metric_series.c.run_number == row["number"])
            dropped = connection.execute(
                delete(metric_points).where(
                    metric_points.c.series_id.in_(of_run), metric_points.c.step > step
                )
            )
            connection.execute(
                delete(samples).where(samples.c.run_number == row["number"], samples.c.step > step)
            )
            if dropped.rowcount:
                mark = update(runs).where(runs.c.number == row["number"])
                connection.execute(mark.values(metric_reset_seq=row["metric_seq"]))


def _series_ids(connection: Connection, run_number: int, names: set[str]) -> dict[str, int]:
    """Returns the ids of the run's series by name, making those of `names` that are missing."""
    asked = {"run_number": run_number}
    found = dict(connection.execute(_SERIES, asked).all())
    if missing := sorted(names - found.keys()):
        connection.execute(_NEW_SERIES, [{**asked, "name": name} for name in missing])
        found = dict(connection.execute(_SERIES, asked).all())
    return found


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
