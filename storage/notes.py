"""What a run leaves besides numbers: answers sampled in training, and events."""

from collections.abc import Sequence

from sqlalchemy import delete, insert, select

from storage import run_rows
from storage.engine import Database
from storage.errors import InvalidValueError
from storage.records import EventRecord, SampleRecord
from storage.tables import events, runs, samples

LEVELS = ("info", "warning", "error")


class Notes:
    """The samples and events of a store. May be called from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add_samples(self, run_id: str, attempt: int, step: int, payloads: Sequence[str]) -> None:
        """Keeps the answers sampled at a step, as JSON; they replace those of an earlier attempt.

        Raises:
            LeaseLostError: The attempt does not own the run.
        """
        with self._database.write() as connection:
            run_rows.fetch_owned(connection, run_id, attempt)
            number = run_rows.number_of(connection, run_id)
            here = (samples.c.run_number == number) & (samples.c.step == step)
            connection.execute(delete(samples).where(here))
            rows = [
                {"run_number": number, "step": step, "index": index, "payload_json": payload}
                for index, payload in enumerate(payloads)
            ]
            if rows:
                connection.execute(insert(samples), rows)

    def samples(self, run_id: str, step: int | None = None) -> tuple[SampleRecord, ...]:
        """Returns the samples of a step, or of all steps, in order."""
        query = (
            select(samples.c.step, samples.c.index, samples.c.payload_json)
            .join(runs, runs.c.number == samples.c.run_number)
            .where(runs.c.id == run_id)
            .order_by(samples.c.step, samples.c.index)
        )
        if step is not None:
            query = query.where(samples.c.step == step)
        with self._database.read() as connection:
            return tuple(SampleRecord(*row) for row in connection.execute(query))

    def add_event(
        self, run_id: str, attempt: int | None, level: str, code: str, message: str
    ) -> None:
        """Notes an event. With an `attempt`, only if that owns the run; None is for the others.

        Raises:
            LeaseLostError: The attempt does not own the run.
            RunNotFoundError: There is no such run.
            InvalidValueError: The level is none of `LEVELS`.
        """
        if level not in LEVELS:
            raise InvalidValueError(f"unknown level {level!r} of event {code}; known: {LEVELS}")
        with self._database.write() as connection:
            if attempt is not None:
                run_rows.fetch_owned(connection, run_id, attempt)
            connection.execute(
                insert(events).values(
                    run_number=run_rows.number_of(connection, run_id),
                    at=self._database.now(),
                    level=level,
                    code=code,
                    message=message,
                )
            )

    def events(self, run_id: str) -> tuple[EventRecord, ...]:
        """Returns the events of a run, the oldest first."""
        query = (
            select(events.c.at, events.c.level, events.c.code, events.c.message)
            .join(runs, runs.c.number == events.c.run_number)
            .where(runs.c.id == run_id)
            .order_by(events.c.number)
        )
        with self._database.read() as connection:
            return tuple(EventRecord(*row) for row in connection.execute(query))
