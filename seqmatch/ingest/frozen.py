"""Frozen sets of demonstrations: a folder named by the hash of its content, never changed again."""

import uuid
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from seqmatch.durable_files import new_folder
from seqmatch.errors import DemonstrationError
from seqmatch.ingest.canonical import ContentHash, from_line, to_lines
from seqmatch.ingest.report import UploadReport
from seqmatch.types import Demonstration

ROWS = "rows.jsonl"


class FrozenSet(NamedTuple):
    """Where a frozen set is."""

    sha256: str
    folder: Path
    num_rows: int
    """Demonstrations in it."""


def freeze(report: UploadReport, root: Path) -> FrozenSet:
    """Puts the usable rows of an upload under their content hash in `root`.

    Freezing the same rows again changes nothing and gives the same id.

    Raises:
        DemonstrationError: no row is usable, or the canonical rows are gone.
    """
    if report.rows_path is None:
        raise DemonstrationError(
            f"none of the {report.num_rows_read} rows can be used; at least one is needed"
        )
    if not report.rows_path.is_file():
        raise DemonstrationError("the checked rows are gone; upload and check the files again")
    return freeze_demonstrations(_read_lines(report.rows_path), root)


def freeze_demonstrations(demonstrations: Iterable[Demonstration], root: Path) -> FrozenSet:
    """Freezes demonstrations that come from anywhere, such as a bundled example.

    Raises:
        DemonstrationError: there is none.
    """
    root.mkdir(parents=True, exist_ok=True)
    incoming = root / f".incoming-{uuid.uuid4().hex}.jsonl"
    try:
        sha256, num_rows = _write_lines(demonstrations, incoming)
        if not num_rows:
            raise DemonstrationError("there is no demonstration to freeze; at least one is needed")
        place = root / sha256
        if not (place / ROWS).is_file():
            with new_folder(place) as folder:
                incoming.rename(folder / ROWS)
    finally:
        incoming.unlink(missing_ok=True)
    return FrozenSet(sha256, place, num_rows)


def _write_lines(demonstrations: Iterable[Demonstration], path: Path) -> tuple[str, int]:
    content, num_rows = ContentHash(), 0
    with path.open("wb") as file:
        for demonstration in demonstrations:
            stored, hashed = to_lines(demonstration)
            file.write(stored)
            content.add(hashed)
            num_rows += 1
    return content.hexdigest(), num_rows


def read_frozen(folder: Path) -> list[Demonstration]:
    """Returns the demonstrations of a frozen set.

    Raises:
        DemonstrationError: the set is not there, or its content is not what its id says.
    """
    path = folder / ROWS
    if not path.is_file():
        raise DemonstrationError(f"there are no demonstrations under {folder.name!r}")
    content = ContentHash()
    demonstrations = []
    for demonstration in _read_lines(path):
        content.add(to_lines(demonstration)[1])
        demonstrations.append(demonstration)
    if content.hexdigest() != folder.name:
        raise DemonstrationError(
            f"the demonstrations under {folder.name!r} were changed: their hash is "
            f"{content.hexdigest()!r}"
        )
    return demonstrations


def preview(rows_path: Path, start: int = 0, count: int = 20) -> list[Demonstration]:
    """Returns `count` demonstrations of a file of canonical rows, from number `start` on."""
    return list(islice(_read_lines(rows_path), start, start + count))


def _read_lines(path: Path) -> Iterator[Demonstration]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                yield from_line(line)
            except (ValueError, LookupError, TypeError) as error:
                raise DemonstrationError(
                    f"line {number} of {path.name} is no demonstration: {error}"
                ) from error
