"""A few values that outlive the processes: key to JSON."""

import json
from typing import Any

from sqlalchemy import select
from sqlalchemy.dialects.sqlite import insert

from storage.engine import Database
from storage.errors import InvalidValueError
from storage.tables import settings


class Settings:
    """The settings of a store. May be called from any thread and process; the last writer wins."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def get(self, key: str, default: Any = None) -> Any:
        """Returns the value of a key, or the default where it was never set."""
        query = select(settings.c.value_json).where(settings.c.key == key)
        with self._database.read() as connection:
            found = connection.execute(query).scalar()
        return default if found is None else json.loads(found)

    def set(self, key: str, value: Any) -> None:
        """Sets a key.

        Raises:
            InvalidValueError: The value is not plain JSON (not-a-number and infinities are not).
        """
        try:
            value_json = json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidValueError(
                f"setting {key!r} cannot be written as JSON: {error}"
            ) from error
        statement = insert(settings).values(key=key, value_json=value_json)
        with self._database.write() as connection:
            connection.execute(
                statement.on_conflict_do_update(
                    index_elements=["key"], set_={"value_json": value_json}
                )
            )
