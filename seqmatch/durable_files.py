"""Folders that are complete or absent: written beside their place, synced, hashed, then renamed.

A folder's `manifest.json` is written last and names every file with its size and SHA-256; a folder
without one, or that differs from it, was not finished or was damaged since.
"""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from seqmatch.errors import CheckpointError

MANIFEST = "manifest.json"
SCRATCH = ".unfinished-"
"""How a folder that a writer has not finished is named; `remove_unfinished` sweeps by it."""
_REPLACED = ".replaced-"


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """Yields an empty folder to fill; on leaving it is synced, hashed and takes its `place`.

    Where `place` exists it is replaced. On any error the folder is removed and `place` is as it
    was.

    Raises:
        OSError: A file could not be written; nothing is left behind.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    unfinished = place.parent / f"{SCRATCH}{place.name}-{uuid.uuid4().hex[:8]}"
    unfinished.mkdir()
    try:
        yield unfinished
        _write_manifest(unfinished)
        _sync_tree(unfinished)
        _take_place(unfinished, place)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_unfinished(parent: Path) -> None:
    """Removes what a killed writer left in `parent`. Only while no other process writes there.

    A folder that was moved aside while its successor had not yet taken its place is moved back.
    """
    for replaced in parent.glob(f"{_REPLACED}*"):
        place = parent / replaced.name.removeprefix(_REPLACED).rpartition("-")[0]
        if not place.exists():
            replaced.rename(place)
    for leftover in (*parent.glob(f"{SCRATCH}*"), *parent.glob(f"{_REPLACED}*")):
        shutil.rmtree(leftover, ignore_errors=True)


def verify_folder(folder: Path) -> None:
    """Compares the folder with its manifest: every file there, with its size and SHA-256.

    Raises:
        CheckpointError: It has no readable manifest, or a file is missing or differs.
    """
    for name, expected in _read_manifest(folder).items():
        path = folder / name
        if not path.is_file():
            raise CheckpointError(f"{folder.name} lacks {name}, which its manifest names")
        if path.stat().st_size != expected["size"]:
            raise CheckpointError(
                f"{folder.name}/{name} has {path.stat().st_size} bytes, not {expected['size']}"
            )
        if file_sha256(path) != expected["sha256"]:
            raise CheckpointError(f"{folder.name}/{name} differs from its SHA-256")


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file's bytes as 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_manifest(folder: Path) -> None:
    files = {
        path.relative_to(folder).as_posix(): {
            "size": path.stat().st_size,
            "sha256": file_sha256(path),
        }
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    text = json.dumps({"format": 1, "files": files}, indent=1)
    (folder / MANIFEST).write_text(text, encoding="utf-8")


def _read_manifest(folder: Path) -> dict[str, dict[str, int | str]]:
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        files: dict[str, dict[str, int | str]] = manifest["files"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise CheckpointError(f"{folder.name} has no readable {MANIFEST}: {error}") from error
    return files


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*"), reverse=True):
        _sync(path)
    _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _take_place(folder: Path, place: Path) -> None:
    replaced = place.parent / f"{_REPLACED}{place.name}-{uuid.uuid4().hex[:8]}"
    if place.exists():
        place.rename(replaced)
    try:
        folder.rename(place)
    except OSError:
        if replaced.exists():
            replaced.rename(place)
        raise
    _sync(place.parent)
    shutil.rmtree(replaced, ignore_errors=True)
