"""Brings an older database up to date with Alembic. Imported only when there is need."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from storage.backup import copy_database
from storage.engine import named_errors, open_engine
from storage.errors import SchemaVersionError

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade_database(path: Path, backup: Path, version: str, target: str = "head") -> None:
    """Migrates the database at `path` in one transaction; on failure it stays as it was.

    Args:
        path: The database; the caller holds the store's lock.
        backup: Where a copy of it goes first.
        version: What it has now, for the error's text.
        target: A revision; the newest by default.

    Raises:
        SchemaVersionError: A step failed, or left rows that refer to nothing.
    """
    copy_database(path, backup)
    engine = open_engine(path)
    try:
        with named_errors(), engine.connect() as connection:
            driver = connection.connection.driver_connection
            assert driver is not None  # a checked-out connection has one
            # Batch migrations drop and remake tables; with keys on, that would delete the
            # referrers.
            driver.execute("PRAGMA foreign_keys=OFF")
            _migrate(connection, version, target)
    finally:
        engine.dispose()


def _migrate(connection: Connection, version: str, target: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    with connection.begin():
        command.upgrade(config, target)
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if orphans:
            raise SchemaVersionError(
                f"upgrading from schema {version} would leave rows that refer to nothing in "
                f"{sorted({str(row[0]) for row in orphans})}; nothing was changed"
            )
