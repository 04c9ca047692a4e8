"""Brings an older database up to date with Alembic. Imported only when there is need."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from storage.backup import copy_database
from storage.engine import IMMEDIATE, named_errors, open_engine
from storage.errors import SchemaVersionError

MIGRATIONS = Path(__file__).parent / "migrations"


def upgrade_database(path: Path, backup: Path, version: str, migrations: Path = MIGRATIONS) -> None:
    """Migrates the database at `path` in one transaction; on failure it stays as it was.

    Args:
        path: The database; the caller holds the store's lock.
        backup: Where a copy of it goes first.
        version: What it has now, for the error's text.
        migrations: The folder of the steps; it is taken to its newest.

    Raises:
        SchemaVersionError: A step left rows that refer to nothing.
        StorageError: A step failed.
    """
    copy_database(path, backup)
    engine = open_engine(path)
    try:
        with named_errors(), engine.connect() as connection:
            connection = connection.execution_options(**IMMEDIATE)
            driver = connection.connection.driver_connection
            assert driver is not None  # a checked-out connection has one
            # Batch steps drop and remake tables; with keys on, rows that refer to them would go.
            driver.execute("PRAGMA foreign_keys=OFF")
            _migrate(connection, version, migrations)
    finally:
        engine.dispose()


def _migrate(connection: Connection, version: str, migrations: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    with connection.begin():
        command.upgrade(config, "head")
        orphans = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchall()
        if orphans:
            raise SchemaVersionError(
                f"upgrading from schema {version} would leave rows that refer to nothing in "
                f"{sorted({str(row[0]) for row in orphans})}; nothing was changed"
            )
