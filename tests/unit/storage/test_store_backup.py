"""Backups: consistent, checked, private, and a store when they are put back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from storage import RunStore
from storage.backup import copy_database, main
from storage.errors import StorageError, StoreCorruptedError
from storage.records import RunRecord
from storage.schema import APPLICATION_ID, DATABASE_NAME


def test_a_backup_put_back_is_the_store(store: RunStore, queue, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run: RunRecord = queue()
    target = tmp_path / "new" / "folder" / DATABASE_NAME

    assert copy_database(store.data_dir / DATABASE_NAME, target) == target

    assert target.stat().st_mode & 0o777 == 0o600
    restored = RunStore.open(target.parent)
    assert restored.runs.get(run.id) == run
    restored.close()


def test_the_command(store: RunStore, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "storage.backup", store.data_dir, tmp_path / "copy"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.endswith("integrity ok\n")
    assert (tmp_path / "copy").exists()


def test_the_command_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(tmp_path), str(tmp_path / "copy")]) == 1

    assert "there is no database at" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_backup_is_replaced_only_by_a_good_one(filled: Path, tmp_path: Path) -> None:
    target = tmp_path / "copy"
    copy_database(filled, target)
    before = target.read_bytes()
    os.truncate(filled, filled.stat().st_size // 2)

    with pytest.raises(StoreCorruptedError):
        copy_database(filled, target)

    assert target.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".part"] == []


def test_a_backup_is_not_the_database_itself(filled: Path) -> None:
    with pytest.raises(StorageError, match="is the database itself"):
        copy_database(filled, filled)


def test_a_backup_is_known_as_ours(filled: Path, tmp_path: Path) -> None:
    copy_database(filled, tmp_path / "copy")

    header = (tmp_path / "copy").read_bytes()[:100]

    assert int.from_bytes(header[68:72], "big") == APPLICATION_ID
