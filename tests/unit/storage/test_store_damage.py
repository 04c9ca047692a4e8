"""Damaged, foreign, newer, full and busy databases: each has its error, and none is replaced.

The database is read by the store's own copy of SQLite only: a second copy in one process would drop
the first one's locks.
"""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import RunStore, schema
from storage.engine import (
    IMMEDIATE,
    Database,
    named_errors,
    open_engine,
    sqlite_module,
)
from storage.errors import (
    SchemaVersionError,
    StorageError,
    StoreBusyError,
    StoreCorruptedError,
    StoreFullError,
)


def _zeros(database: Path) -> None:
    database.write_bytes(bytes(database.stat().st_size))


def _empty(database: Path) -> None:
    database.write_bytes(b"")


def _text(database: Path) -> None:
    database.write_text("dear diary\n" * 1_000)


def _folder(database: Path) -> None:
    database.unlink()
    database.mkdir()


def _other_program(database: Path) -> None:
    database.unlink()
    connection = sqlite_module().connect(database)
    connection.execute("CREATE TABLE songs (title TEXT)")
    connection.commit()
    connection.close()


def _no_version(database: Path) -> None:
    _execute(database, "DELETE FROM alembic_version")


def _odd_version(database: Path) -> None:
    _execute(database, "UPDATE alembic_version SET version_num = 'banana'")


def _execute(database: Path, statement: str) -> None:
    connection = sqlite_module().connect(database)
    connection.execute(statement)
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    "damage",
    [_zeros, _empty, _text, _folder, _other_program, _no_version, _odd_version],
)
def test_a_damaged_or_foreign_file_is_refused_and_left_alone(
    data_dir: Path, filled: Path, damage: Callable[[Path], None]
) -> None:
    damage(filled)
    before = filled.read_bytes() if filled.is_file() else None

    with pytest.raises(StoreCorruptedError, match="not changed"):
        RunStore.open(data_dir)

    assert filled.exists()
    if before is not None:
        assert filled.read_bytes() == before


@pytest.mark.parametrize("tenths", range(10))
def test_a_file_cut_anywhere_is_refused(data_dir: Path, filled: Path, tenths: int) -> None:
    os.truncate(filled, filled.stat().st_size * tenths // 10)

    with pytest.raises(StoreCorruptedError):
        RunStore.open(data_dir)


def test_a_missing_database_is_not_replaced_by_a_blank_one(data_dir: Path, filled: Path) -> None:
    filled.rename(data_dir / "elsewhere")

    with pytest.raises(StoreCorruptedError, match=r"missing, yet .* runs\."):
        RunStore.open(data_dir)

    assert not filled.exists()


def test_a_missing_database_whose_log_is_there_is_not_replaced(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / f"{schema.DATABASE_NAME}-wal").write_bytes(b"x")

    with pytest.raises(StoreCorruptedError, match="-wal"):
        RunStore.open(data_dir)


def test_pages_overwritten_before_an_unclean_stop_are_noticed(data_dir: Path, filled: Path) -> None:
    """A `-wal` that nobody owns: the last stop was a death. Then every page is looked at."""
    with filled.open("r+b") as file:
        for page in range(60, filled.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    (data_dir / f"{schema.DATABASE_NAME}-wal").touch()

    with pytest.raises(StoreCorruptedError):
        RunStore.open(data_dir)


def test_damage_found_while_reading_has_its_name(data_dir: Path, filled: Path) -> None:
    with filled.open("r+b") as file:
        for page in range(60, filled.stat().st_size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 64)
    store = RunStore.open(data_dir)

    with pytest.raises(StoreCorruptedError, match="malformed"):
        store.metrics.read(store.runs.list()[0].id)
    store.close()


def test_a_folder_that_cannot_be_written_says_so(data_dir: Path) -> None:
    data_dir.parent.joinpath("data").write_text("a file where the folder should be")

    with pytest.raises(FileExistsError):
        RunStore.open(data_dir)


# ---- versions


def test_a_newer_schema_is_refused(data_dir: Path, filled: Path) -> None:
    _execute(filled, "UPDATE alembic_version SET version_num = '9999'")

    with pytest.raises(SchemaVersionError, match=r"has schema 9999, .* newer release"):
        RunStore.open(data_dir)


# ---- full disks and busy files


def test_a_full_database_keeps_what_it_has(filled: Path) -> None:
    database = Database(open_engine(filled), lambda: 0.0)
    with database.read() as connection:
        count = connection.exec_driver_sql("SELECT count(*) FROM metric_points").scalar_one()
    fill = "INSERT INTO settings SELECT step, hex(randomblob(4000)) FROM metric_points"

    with database.read() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages + 2}")

    with pytest.raises(StoreFullError, match="nothing was written"), database.write() as connection:
        connection.exec_driver_sql(fill)

    with database.read() as connection:
        after = connection.exec_driver_sql("SELECT count(*) FROM metric_points").scalar_one()
        settings = connection.exec_driver_sql("SELECT count(*) FROM settings").scalar_one()
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar_one() == "ok"
    assert (after, settings) == (count, 1)
    database.close()


def test_a_locked_file_has_its_name(filled: Path) -> None:
    holder, waiter = open_engine(filled), open_engine(filled)
    with holder.connect() as first:
        first = first.execution_options(**IMMEDIATE)
        with first.begin(), waiter.connect() as second:
            second.connection.driver_connection.execute("PRAGMA busy_timeout=1")  # type: ignore[union-attr]
            second = second.execution_options(**IMMEDIATE)
            with pytest.raises(StoreBusyError, match="try again"), named_errors():
                second.begin()
    holder.dispose()
    waiter.dispose()


def test_other_refusals_of_sqlite_keep_their_words(filled: Path) -> None:
    database = Database(open_engine(filled), lambda: 0.0)

    with pytest.raises(StorageError, match="no such table: absent"), database.read() as connection:
        connection.exec_driver_sql("SELECT * FROM absent")
    with pytest.raises(StorageError, match="FOREIGN KEY"), database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET dataset_id = 'nobody'")
    with pytest.raises(StorageError, match="CHECK"), database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET status = 'paused'")
    database.close()
