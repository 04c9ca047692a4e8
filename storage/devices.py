"""The places where runs may train, one run each; a claim takes some, a run's end frees them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row, case, delete, insert, select, update

from storage.engine import Database
from storage.errors import InvalidValueError
from storage.placing import is_gpu, place
from storage.records import DeviceSlot
from storage.tables import device_slots, runs


class Devices:
    """The device slots of a store. May be called from any thread and process."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def set_slots(self, names: Sequence[str]) -> None:
        """Makes these the slots, in the order in which "auto" prefers them.

        A slot that a run occupies stays until the run ends, but nothing new is placed on it.

        Raises:
            InvalidValueError: A name is blank or stands twice.
        """
        if len(set(names)) != len(names) or not all(name.strip() for name in names):
            raise InvalidValueError(
                f"the slots {list(names)} are not distinct names; say each once"
            )
        with self._database.write() as connection:
            free = device_slots.c.run_number.is_(None)
            unlisted = device_slots.c.name.not_in(names)
            connection.execute(delete(device_slots).where(free & unlisted))
            connection.execute(update(device_slots).where(unlisted).values(is_retired=True))
            known = set(connection.execute(select(device_slots.c.name)).scalars())
            for position, name in enumerate(names):
                place = {"position": position, "is_retired": False}
                if name in known:
                    here = device_slots.c.name == name
                    connection.execute(update(device_slots).where(here).values(**place))
                else:
                    connection.execute(insert(device_slots).values(name=name, **place))

    def list(self) -> tuple[DeviceSlot, ...]:
        """Returns the slots in order, each with the id of its run; retired ones while occupied."""
        query = (
            select(device_slots.c.name, runs.c.id)
            .outerjoin(runs, runs.c.number == device_slots.c.run_number)
            .where(device_slots.c.is_retired.is_(False) | device_slots.c.run_number.is_not(None))
            .order_by(case((device_slots.c.is_retired, 1), else_=0), device_slots.c.position)
        )
        with self._database.read() as connection:
            return tuple(DeviceSlot(name, run_id) for name, run_id in connection.execute(query))


def find_place(
    connection: Connection, waiting: Sequence[Row[Any, Any, Any]]
) -> tuple[Row[Any, Any, Any], list[str]] | None:
    """Returns the first of the waiting runs that fits the free slots, and the slots that it takes.

    Args:
        connection: With the write lock.
        waiting: Rows of runs with their `device`, the first in the queue first.
    """
    query = (
        select(device_slots.c.name, device_slots.c.run_number)
        .where(device_slots.c.is_retired.is_(False))
        .order_by(device_slots.c.position)
    )
    slots = connection.execute(query).all()
    names = [slot.name for slot in slots]
    free = [slot.name for slot in slots if slot.run_number is None]
    has_gpu = any(map(is_gpu, names))
    for run in waiting:
        taken = place(run.device, free, has_gpu)
        if taken is not None:
            return run, taken
        if "," in run.device and place(run.device, names, has_gpu) is not None:
            kept = set(run.device.split(","))
            free = [each for each in free if not any(place(one, [each], has_gpu) for one in kept)]
    return None


def occupy(connection: Connection, run_number: int, slots: Sequence[str]) -> None:
    """Gives slots to a run."""
    taken = device_slots.c.name.in_(slots)
    connection.execute(update(device_slots).where(taken).values(run_number=run_number))
