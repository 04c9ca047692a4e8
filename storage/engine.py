"""The connection to SQLite: which library and settings, how transactions begin, errors' names.

SQLite releases before 3.51.3 can lose pages in WAL mode when one connection writes while another
checkpoints (sqlite.org, "WAL-reset bug"); Python's own copy is often older. `pysqlite3` carries a
newer one, so the newest of the two is used, and where both are too old the rollback journal takes
WAL's place.

One process must never hold two copies of the SQLite library on the same file, nor open the database
file by other means than SQLite: closing any descriptor of a file drops all POSIX locks that the
process has on it. That is why nothing in this package reads the database with `open`.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import QueuePool

from storage.errors import (
    StorageError,
    StoreBusyError,
    StoreCorruptedError,
    StoreFullError,
)

if find_spec("pysqlite3") is not None:
    import pysqlite3.dbapi2 as newer_sqlite
else:
    newer_sqlite = sqlite3

FIRST_SAFE_WAL = (3, 51, 3)
BUSY_TIMEOUT_MS = 10_000

_BEGIN_OPTION = "seqmatch_begin"
IMMEDIATE = {_BEGIN_OPTION: "IMMEDIATE"}
"""Execution options of a connection whose transactions take the write lock when they begin."""


def sqlite_module() -> ModuleType:
    """Returns the DB-API module with the newest SQLite of those installed."""
    best: ModuleType = max((newer_sqlite, sqlite3), key=lambda module: module.sqlite_version_info)
    return best


def is_wal_safe(version: tuple[int, ...]) -> bool:
    """True where this SQLite version writes WAL without the WAL-reset bug."""
    return version >= FIRST_SAFE_WAL


def journal_mode(version: tuple[int, ...] | None = None) -> str:
    """Returns "wal", or "delete" (the rollback journal) where this SQLite's WAL loses data."""
    return "wal" if is_wal_safe(version or sqlite_module().sqlite_version_info) else "delete"


def open_engine(path: Path, *, journal: str | None = None) -> Engine:
    """Returns an engine on an existing database file; connecting never creates one.

    Args:
        path: The database file.
        journal: "wal" or "delete"; by default what `journal_mode` says.
    """
    module = sqlite_module()
    address = f"file:{quote(str(path.absolute()))}?mode=rw"
    wanted = journal or journal_mode()

    def connect() -> sqlite3.Connection:
        connection: sqlite3.Connection = module.connect(
            address,
            uri=True,
            timeout=BUSY_TIMEOUT_MS / 1000,
            check_same_thread=False,
            isolation_level=None,  # SQLAlchemy emits BEGIN (see below), not the driver
        )
        try:
            _set_pragmas(connection, wanted)
        except BaseException:
            connection.close()
            raise
        return connection

    engine = create_engine(
        "sqlite://", module=module, creator=connect, poolclass=QueuePool, max_overflow=-1
    )
    event.listen(engine, "begin", _emit_begin)
    return engine


def _set_pragmas(connection: sqlite3.Connection, wanted_journal: str) -> None:
    """Sets what SQLite forgets between connections; no mmap, which made the WAL bug worse."""
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA mmap_size=0")
    connection.execute("PRAGMA trusted_schema=OFF")
    (found,) = connection.execute(f"PRAGMA journal_mode={wanted_journal}").fetchone()
    if found != wanted_journal:
        raise StorageError(
            f"SQLite answered journal mode {found!r} where {wanted_journal!r} is needed. "
            "Put the data directory on a local disk, or close the other programs that have it open."
        )
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute("PRAGMA journal_size_limit=67108864")


def _emit_begin(connection: Connection) -> None:
    """Readers begin DEFERRED, writers IMMEDIATE: a read snapshot cannot be upgraded under load."""
    mode = connection.get_execution_options().get(_BEGIN_OPTION, "DEFERRED")
    connection.exec_driver_sql(f"BEGIN {mode}")


class Database:
    """The engine with its two kinds of transaction and the clock. Safe to share between threads.

    Not to be carried over `fork`: a child opens its own.
    """

    def __init__(self, engine: Engine, clock: Callable[[], float]) -> None:
        self._engine = engine
        self._clock = clock

    def now(self) -> float:
        """Returns the time, UTC seconds since the epoch."""
        return self._clock()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One snapshot: all reads inside see the same state."""
        with named_errors(), self._engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *, is_durable: bool = False) -> Iterator[Connection]:
        """One transaction that holds the write lock from its first statement to its commit.

        Args:
            is_durable: Also survive a power cut (an fsync). Otherwise only every death of a
                process.
        """
        with named_errors(), self._engine.connect() as connection:
            connection = connection.execution_options(**IMMEDIATE)
            driver = connection.connection.driver_connection
            assert driver is not None  # a checked-out connection has one
            if is_durable:
                driver.execute("PRAGMA synchronous=FULL")
            try:
                with connection.begin():
                    yield connection
            finally:
                if is_durable:
                    driver.execute("PRAGMA synchronous=NORMAL")

    def close(self) -> None:
        """Closes the connections; the last process to do so folds the write-ahead log in."""
        self._engine.dispose()


@contextmanager
def named_errors() -> Iterator[None]:
    """Translates SQLite's errors into the store's, once, at the border."""
    try:
        yield
    except DBAPIError as error:
        raise _named(str(error.orig)) from error
    except sqlite_module().DatabaseError as error:
        raise _named(str(error)) from error


def _named(text: str) -> StorageError:
    if "locked" in text or "busy" in text:
        return StoreBusyError(
            f"another process locked the store for {BUSY_TIMEOUT_MS // 1000} s ({text}); try again"
        )
    if "is full" in text:
        return StoreFullError(f"nothing was written: {text}; free some disk space and try again")
    if "malformed" in text or "not a database" in text:
        return StoreCorruptedError(
            f"the store's database is damaged ({text}); it was not changed. "
            "Restore a backup: docs/storage.md says how"
        )
    return StorageError(f"SQLite refused: {text}")
