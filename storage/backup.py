"""A copy of the database taken while it is in use: `python -m storage.backup DATA_DIR TARGET`.

Copying the file by hand is not a backup: pages move under the copy, and the newest commits stand in
the write-ahead log. `VACUUM INTO` writes one consistent snapshot; it is checked, synced and renamed
into place.
"""

import argparse
import sys
from pathlib import Path

from storage.engine import named_errors, sqlite_module
from storage.errors import StorageError, StoreCorruptedError
from storage.file_system import make_private_folder, sync_file, sync_folder


def copy_database(source: Path, target: Path) -> Path:
    """Writes a consistent copy of the database `source` to `target`, replacing what is there.

    Returns:
        `target`.

    Raises:
        StorageError: There is no database, or `target` is it.
        StoreCorruptedError: The copy does not pass SQLite's integrity check; it was removed.
    """
    if not source.is_file():
        raise StorageError(f"there is no database at {source}; name the data directory of a store")
    if target.exists() and target.samefile(source):
        raise StorageError(f"{target} is the database itself; name another file for the backup")
    make_private_folder(target.parent)
    draft = target.with_name(target.name + ".part")
    draft.unlink(missing_ok=True)
    draft.touch(mode=0o600)
    try:
        with named_errors():
            _vacuum_into(source, draft)
            verdict = _integrity(draft)
        if verdict != "ok":
            raise StoreCorruptedError(f"the copy of {source} is damaged: {verdict}; it was removed")
        sync_file(draft)
        draft.replace(target)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(target.parent)
    return target


def _vacuum_into(source: Path, draft: Path) -> None:
    connection = sqlite_module().connect(
        f"{source.absolute().as_uri()}?mode=rw", uri=True, timeout=10
    )
    try:
        connection.execute("VACUUM INTO ?", (str(draft),))
    finally:
        connection.close()


def _integrity(path: Path) -> str:
    connection = sqlite_module().connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)
    try:
        return str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    finally:
        connection.close()


def main(arguments: list[str] | None = None) -> int:
    """Runs the command; prints where the copy is, or why there is none."""
    parser = argparse.ArgumentParser(prog="python -m storage.backup", description=__doc__)
    parser.add_argument("data_dir", type=Path, metavar="DATA_DIR")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the file to write")
    options = parser.parse_args(arguments)
    try:
        target = copy_database(options.data_dir / "store.sqlite", options.target)
    except (StorageError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{target}: {target.stat().st_size} bytes, integrity ok")
    return 0


if __name__ == "__main__":
    sys.exit(main())
