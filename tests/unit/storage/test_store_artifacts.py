"""Artefacts: hash and size in the row, and no way out of the run's folder."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from storage import RunStore
from storage.errors import ArtifactError, ArtifactNotFoundError, RunNotFoundError
from storage.records import Claim, RunRecord

BYTES = b"PK adapter"


@pytest.fixture
def run(claim: Callable[..., Claim]) -> RunRecord:
    return claim().run


@pytest.fixture
def file(store: RunStore, run: RunRecord) -> Path:
    path = store.run_dir(run.id) / "export" / "policy.zip"
    path.parent.mkdir()
    path.write_bytes(BYTES)
    return path


def test_add_records_hash_and_size(store: RunStore, run: RunRecord, file: Path) -> None:
    added = store.artifacts.add(run.id, "adapter_zip", file, attempt=1)

    assert added.sha256 == hashlib.sha256(BYTES).hexdigest()
    assert (added.size_bytes, added.filename, added.kind) == (10, "policy.zip", "adapter_zip")
    assert store.artifacts.get(added.id) == added
    assert store.artifacts.list(run.id) == (added,)
    assert store.artifacts.path(added.id) == store.artifacts.verify(added.id) == file


def test_a_path_that_is_reached_by_another_name_is_the_same_file(
    store: RunStore, run: RunRecord, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "alias").symlink_to(store.data_dir)
    alias = tmp_path / "alias" / "runs" / run.id / "export" / ".." / "export" / "policy.zip"

    added = store.artifacts.add(run.id, "adapter_zip", alias)

    assert store.artifacts.path(added.id) == file


def test_the_same_path_again_replaces_the_row(store: RunStore, run: RunRecord, file: Path) -> None:
    old = store.artifacts.add(run.id, "adapter_zip", file)
    file.write_bytes(b"resumed and longer")

    new = store.artifacts.add(run.id, "adapter_zip", file)

    assert store.artifacts.list(run.id) == (new,)
    with pytest.raises(ArtifactNotFoundError):
        store.artifacts.path(old.id)


def test_a_changed_file_is_not_handed_out(store: RunStore, run: RunRecord, file: Path) -> None:
    added = store.artifacts.add(run.id, "adapter_zip", file)

    file.write_bytes(BYTES[::-1])
    with pytest.raises(ArtifactError, match="has SHA-256"):
        store.artifacts.verify(added.id)
    file.write_bytes(BYTES + b"!")
    with pytest.raises(ArtifactError, match="has 11 bytes where 10"):
        store.artifacts.path(added.id)
    file.unlink()
    with pytest.raises(ArtifactError, match="no plain file"):
        store.artifacts.path(added.id)
    file.symlink_to("/etc/hostname")
    with pytest.raises(ArtifactError, match="is a link"):
        store.artifacts.path(added.id)


def test_a_folder_replaced_by_a_link_is_noticed(
    store: RunStore, run: RunRecord, file: Path, tmp_path: Path
) -> None:
    added = store.artifacts.add(run.id, "adapter_zip", file)
    elsewhere = tmp_path / "elsewhere"
    file.parent.rename(elsewhere)
    file.parent.symlink_to(elsewhere)

    with pytest.raises(ArtifactError, match="is a link"):
        store.artifacts.path(added.id)


def _outside(folder: Path) -> Path:
    path = folder.parent / "secret"
    path.write_bytes(b"secret")
    return path


def _link_to_file(folder: Path) -> Path:
    path = folder / "link.zip"
    path.symlink_to(_outside(folder))
    return path


def _link_to_folder(folder: Path) -> Path:
    _outside(folder)
    (folder / "out").symlink_to(folder.parent)
    return folder / "out" / "secret"


def _step_up(folder: Path) -> Path:
    _outside(folder)
    return folder / ".." / "secret"


def _folder(folder: Path) -> Path:
    (folder / "deep").mkdir()
    return folder / "deep"


def _pipe(folder: Path) -> Path:
    os.mkfifo(folder / "pipe")
    return folder / "pipe"


def _parent(folder: Path) -> Path:
    return folder / "x" / ".."


@pytest.mark.parametrize(
    "make",
    [
        _outside,
        _link_to_file,
        _link_to_folder,
        _step_up,
        _folder,
        _pipe,
        _parent,
        lambda folder: folder / "absent.zip",
        lambda folder: folder,
        lambda folder: Path("/etc/hostname"),
        lambda folder: Path("../../../../../../etc/hostname"),
    ],
)
def test_only_a_plain_file_in_the_runs_folder_is_taken(
    store: RunStore, run: RunRecord, make: Callable[[Path], Path]
) -> None:
    path = make(store.run_dir(run.id))

    with pytest.raises(ArtifactError):
        store.artifacts.add(run.id, "adapter_zip", path)

    assert store.artifacts.list(run.id) == ()


def test_unknown_ids(store: RunStore, file: Path) -> None:
    with pytest.raises(ArtifactNotFoundError, match=r"'\.\./x'"):
        store.artifacts.path("../x")
    with pytest.raises(RunNotFoundError):
        store.artifacts.add("../x", "adapter_zip", file)
