"""Opening the database file: create it, accept it, bring it up to date, or refuse it.

A new database is built beside its place and renamed into it, so an existing file is always a whole
one: an empty or cut file is damage, never "a new store". The tables of a new database come from
`storage.tables`; an older one gets there through the migrations, and a test holds the two to be
equal.
"""

import sqlite3
from pathlib import Path

from sqlalchemy import create_engine, text

from storage.engine import named_errors, open_engine, sqlite_module
from storage.errors import SchemaVersionError, StorageError, StoreCorruptedError
from storage.file_system import (
    PRIVATE_FILE,
    PRIVATE_FOLDER,
    Presence,
    locked,
    make_private_folder,
    sync_file,
    sync_folder,
)
from storage.tables import metadata

DATABASE_NAME = "store.sqlite"
SCHEMA_VERSION = "0002"
"""The newest migration; versions are four digits and count up."""

APPLICATION_ID = 0x5365714D  # "SeqM": tells our files from other programs' databases

FOLDERS = ("runs", "demonstrations", "backups")


def prepare(data_dir: Path, presence: Presence) -> None:
    """Makes `data_dir` hold a database of this version, creating or upgrading it where needed.

    Processes that do this at the same moment take turns. After it `open_engine` may be called.

    Raises:
        StoreCorruptedError: The database is damaged, is not ours, or is gone while its files are
            there.
        SchemaVersionError: It is newer than this code.
    """
    path = data_dir / DATABASE_NAME
    if not path.exists():
        with locked(data_dir / "store.lock"):
            if not path.exists():
                _create(data_dir, path)
                return
    version = _checked_version(path, is_thorough=presence.is_first)
    if version != SCHEMA_VERSION:
        with locked(data_dir / "store.lock"):
            _upgrade(path, data_dir / "backups")


def _create(data_dir: Path, path: Path) -> None:
    leftovers = [name for name in ("runs", "demonstrations") if _holds_something(data_dir / name)]
    if leftovers or path.with_name(path.name + "-wal").exists():
        raise StoreCorruptedError(
            f"{path} is missing, yet {data_dir} holds what belongs to it: "
            f"{', '.join(leftovers) or path.name + '-wal'}. Put the database, or a backup of it, "
            "back, or name another data directory"
        )
    data_dir.chmod(PRIVATE_FOLDER)
    for name in FOLDERS:
        make_private_folder(data_dir / name)
    fresh = path.with_name(path.name + ".new")
    for remains in (fresh, fresh.with_name(fresh.name + "-journal")):
        remains.unlink(missing_ok=True)  # of a creation that was killed
    fresh.touch(mode=PRIVATE_FILE)
    with named_errors():
        _build(fresh)
    sync_file(fresh)
    fresh.rename(path)
    sync_folder(data_dir)
    _prove_shared_journal(path)


def _holds_something(folder: Path) -> bool:
    return folder.is_dir() and any(folder.iterdir())


def _build(path: Path) -> None:
    module = sqlite_module()
    engine = create_engine(f"sqlite:///{path}", module=module)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")
            metadata.create_all(connection)
            # The table and the row that Alembic keeps.
            connection.exec_driver_sql(
                "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
                "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
            )
            connection.execute(
                text("INSERT INTO alembic_version VALUES (:version)"), {"version": SCHEMA_VERSION}
            )
    finally:
        engine.dispose()


def _prove_shared_journal(path: Path) -> None:
    """Writes and reads back: some file systems accept WAL and then cannot map its index."""
    engine = open_engine(path)
    try:
        with named_errors(), engine.begin() as connection:
            connection.execute(
                text("INSERT INTO settings VALUES ('store/schema_created', :version)"),
                {"version": f'"{SCHEMA_VERSION}"'},
            )
        with named_errors(), engine.connect() as connection:
            found = connection.execute(text("SELECT value_json FROM settings")).scalar_one()
        if found != f'"{SCHEMA_VERSION}"':
            raise StorageError(
                f"{path} read back {found!r} where it had written {SCHEMA_VERSION!r}"
            )
    finally:
        engine.dispose()


def _checked_version(path: Path, *, is_thorough: bool) -> str:
    """Returns the schema version of a database that is ours and sound."""
    if not path.is_file() or path.stat().st_size == 0:
        raise _damaged(path, "it is empty, or not a file")
    leftovers = [path.with_name(path.name + end) for end in ("-wal", "-journal")]
    was_unclean = any(leftover.exists() for leftover in leftovers)
    with named_errors():
        connection = sqlite_module().connect(
            f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=10
        )
        try:
            return _inspect(path, connection, is_thorough=is_thorough and was_unclean)
        finally:
            connection.close()


def _inspect(path: Path, connection: sqlite3.Connection, *, is_thorough: bool) -> str:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application != APPLICATION_ID:
        raise _damaged(path, f"its application id is {application}, not {APPLICATION_ID}")
    # Left behind by a death: look at every page once, before anything is written.
    if is_thorough:
        (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
        if verdict != "ok":
            raise _damaged(path, verdict)
    rows = connection.execute("SELECT version_num FROM alembic_version").fetchall()
    version = str(rows[0][0]) if len(rows) == 1 else f"{len(rows)} rows"
    if not (len(version) == 4 and version.isdigit()):
        raise _damaged(path, f"its schema version is {version}")
    if version > SCHEMA_VERSION:
        raise SchemaVersionError(
            f"{path} has schema {version}, written by a newer release; this one knows up to "
            f"{SCHEMA_VERSION}. Use that release, or a backup made before its upgrade"
        )
    return version


def _damaged(path: Path, what: str) -> StoreCorruptedError:
    return StoreCorruptedError(
        f"{path} is not a sound store: {what}. It was not changed. "
        "Restore a backup (docs/storage.md), or name another data directory"
    )


def _upgrade(path: Path, backups: Path) -> None:
    # Another process may have done it while this one waited for the lock.
    version = _checked_version(path, is_thorough=True)
    if version == SCHEMA_VERSION:
        return
    # Alembic takes longer to import than all the rest of an opening, and is needed once a release.
    from storage.upgrade import upgrade_database  # noqa: PLC0415

    upgrade_database(path, backups / f"before-{SCHEMA_VERSION}-from-{version}.sqlite", version)
