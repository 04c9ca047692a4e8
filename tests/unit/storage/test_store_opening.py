"""Opening a folder: made once, private, with the right settings, and on a local disk."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from storage import RunStore, schema
from storage.engine import (
    Database,
    is_wal_safe,
    journal_mode,
    open_engine,
)
from storage.errors import (
    UnsupportedFileSystemError,
)
from storage.file_system import Presence, network_type, refuse_network


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}


def test_folders_and_files_are_private(data_dir: Path) -> None:
    data_dir.mkdir(mode=0o755)
    previous = os.umask(0o000)
    try:
        store = RunStore.open(data_dir)
        store.settings.set("x", 1)
        modes = _modes(data_dir)
    finally:
        os.umask(previous)
    store.close()

    assert stat.S_IMODE(data_dir.stat().st_mode) == 0o700
    folders = {name: mode for name, mode in modes.items() if (data_dir / name).is_dir()}
    assert folders == dict.fromkeys(["runs", "demonstrations", "backups"], 0o700)
    files = {name: mode for name, mode in modes.items() if name not in folders}
    assert set(files.values()) == {0o600}
    assert f"{schema.DATABASE_NAME}-wal" in files or journal_mode() == "delete"


def test_every_connection_has_the_pragmas(filled: Path) -> None:
    engine = open_engine(filled)
    expected = {
        "journal_mode": journal_mode(),
        "foreign_keys": 1,
        "busy_timeout": 10_000,
        "synchronous": 1,
        "mmap_size": 0,
        "trusted_schema": 0,
    }

    with engine.connect() as first, engine.connect() as second:
        for connection in (first, second):
            found = {
                name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected
            }
            # SQLite built without mmap has no such setting at all.
            assert found | {"mmap_size": found["mmap_size"] or 0} == expected
    engine.dispose()


def test_a_durable_write_syncs_and_the_next_does_not(filled: Path) -> None:
    database = Database(open_engine(filled), lambda: 0.0)

    with database.write(is_durable=True) as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2
    with database.write() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 1
    database.close()


def test_an_old_sqlite_gets_the_rollback_journal() -> None:
    """sqlite.org: the WAL-reset bug was fixed in 3.51.3."""
    assert [is_wal_safe(v) for v in [(3, 40, 1), (3, 51, 2), (3, 51, 3), (3, 53, 4)]] == [
        False,
        False,
        True,
        True,
    ]
    assert journal_mode((3, 40, 1)) == "delete"


def test_the_store_works_with_the_rollback_journal(filled: Path) -> None:
    engine = open_engine(filled, journal="delete")
    database = Database(engine, lambda: 0.0)

    with database.write() as connection:
        connection.exec_driver_sql("UPDATE runs SET name = 'other'")
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT name FROM runs").scalar() == "other"
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
    database.close()


def test_opening_again_is_the_same_store_and_leaves_alembic_alone(
    data_dir: Path, filled: Path
) -> None:
    code = (
        "import sys; from pathlib import Path; from storage import RunStore;"
        "store = RunStore.open(Path(sys.argv[1])); print(len(store.runs.list()));"
        "print([name for name in ('alembic', 'torch', 'gradio') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code, str(data_dir)], capture_output=True, text=True, check=True
    )

    assert done.stdout.split("\n")[:2] == ["1", "[]"]


def test_close_may_be_called_twice(data_dir: Path) -> None:
    store = RunStore.open(data_dir)

    store.close()
    store.close()

    assert not (data_dir / f"{schema.DATABASE_NAME}-wal").exists()


def test_a_creation_that_was_killed_is_done_again(data_dir: Path) -> None:
    data_dir.mkdir()
    (data_dir / f"{schema.DATABASE_NAME}.new").write_bytes(b"half")
    (data_dir / f"{schema.DATABASE_NAME}.new-journal").write_bytes(b"half")
    (data_dir / "runs").mkdir()

    RunStore.open(data_dir).close()

    assert not list(data_dir.glob("*.new*"))


# ---- where the folder is

MOUNTS = """\
/dev/vda / ext4 rw 0 0
tmpfs /tmp tmpfs rw 0 0
server:/home /home nfs4 rw 0 0
/dev/vdb /home/me/fast ext4 rw 0 0
//nas/share /mnt/with\\040blank cifs rw 0 0
sshfs /mnt/far fuse.sshfs rw 0 0
/dev/sdb /mnt/disk fuseblk rw 0 0
none /over ext4 rw 0 0
share /over 9p rw 0 0
broken
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/data", None),
        ("/tmp/data", None),
        ("/home/me/data", "nfs4"),
        ("/home/me/fast/data", None),
        ("/homeless/data", None),
        ("/mnt/with blank/data", "cifs"),
        ("/mnt/far", "fuse.sshfs"),
        ("/mnt/disk/data", None),
        ("/over/data", "9p"),
    ],
)
def test_network_type(path: str, expected: str | None) -> None:
    assert network_type(Path(path), MOUNTS) == expected


def test_a_containers_own_root_is_local_whatever_its_type() -> None:
    assert network_type(Path("/data"), "none / 9p rw 0 0\n") is None


def test_a_network_folder_is_refused(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"server:/x {tmp_path} nfs rw 0 0\n")

    with pytest.raises(UnsupportedFileSystemError, match=r"\(nfs\), where .* --data-dir"):
        refuse_network(tmp_path / "data", mounts)
    refuse_network(tmp_path / "data", tmp_path / "a system without proc")


def test_the_first_to_open_knows_that_it_is(tmp_path: Path) -> None:
    first = Presence(tmp_path / "open")
    second = Presence(tmp_path / "open")
    assert (first.is_first, second.is_first) == (True, False)

    first.close()
    third = Presence(tmp_path / "open")
    second.close()
    third.close()
    fourth = Presence(tmp_path / "open")

    assert (third.is_first, fourth.is_first) == (False, True)
    fourth.close()


def test_a_store_copied_with_its_folder_opens(data_dir: Path, filled: Path, tmp_path: Path) -> None:

    shutil.copytree(data_dir, tmp_path / "with ? and # in its name")
    store = RunStore.open(tmp_path / "with ? and # in its name")

    assert len(store.runs.list()) == 1
    store.close()
