"""Finished files of runs: bytes in the run's folder, and a row with their hash and size.

A file is reached by the artefact's id. A path is computed here and nowhere else, and leads into the
run's folder through no link.
"""

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Row, Select, delete, insert, select

from storage import run_rows
from storage.engine import Database
from storage.errors import ArtifactError, ArtifactNotFoundError
from storage.ids import new_id
from storage.records import ArtifactRecord
from storage.tables import artifacts, runs


class Artifacts:
    """The artefacts of a store. May be called from any thread and process."""

    def __init__(self, database: Database, run_dir: Callable[[str], Path]) -> None:
        self._database = database
        self._run_dir = run_dir

    def add(
        self, run_id: str, kind: str, path: Path, *, attempt: int | None = None
    ) -> ArtifactRecord:
        """Registers a complete file that lies in the run's folder already; reads it for its hash.

        The same path again replaces the older row: its id ends, since its bytes are gone.

        Args:
            run_id: The run.
            kind: What it is; "adapter_zip" is the download.
            path: The file.
            attempt: Where given, only the owner of the run may.

        Raises:
            ArtifactError: It is not a plain file inside the run's folder, or is reached through a
                link.
            LeaseLostError: The attempt does not own the run.
            RunNotFoundError: There is no such run.
        """
        folder = self._run_dir(run_id)
        relative = _relative(path, folder)
        sha256, size = _digest(_checked(folder, relative))
        record = ArtifactRecord(
            id=new_id(),
            run_id=run_id,
            kind=kind,
            filename=path.name,
            size_bytes=size,
            sha256=sha256,
            created_at=self._database.now(),
        )
        with self._database.write(is_durable=True) as connection:
            if attempt is not None:
                run_rows.fetch_owned(connection, run_id, attempt)
            number = run_rows.number_of(connection, run_id)
            same = (artifacts.c.run_number == number) & (artifacts.c.path == relative)
            connection.execute(delete(artifacts).where(same))
            connection.execute(
                insert(artifacts).values(
                    id=record.id,
                    run_number=number,
                    kind=kind,
                    path=relative,
                    size_bytes=size,
                    sha256=sha256,
                    created_at=record.created_at,
                )
            )
        return record

    def list(self, run_id: str) -> tuple[ArtifactRecord, ...]:
        """Returns the artefacts of a run, the oldest first."""
        query = _select().where(runs.c.id == run_id).order_by(artifacts.c.created_at)
        with self._database.read() as connection:
            return tuple(map(_to_record, connection.execute(query)))

    def get(self, artifact_id: str) -> ArtifactRecord:
        """Returns an artefact.

        Raises:
            ArtifactNotFoundError: There is none with this id.
        """
        return _to_record(self._row(artifact_id))

    def path(self, artifact_id: str) -> Path:
        """Returns where the artefact's file is, after checking that it is still there and as long.

        Raises:
            ArtifactNotFoundError: There is none with this id.
            ArtifactError: The file is gone, was replaced by a link, or has another size.
        """
        row = self._row(artifact_id)
        where = f"{row.path} of run {row.run_id}"
        path = _checked(self._run_dir(row.run_id), row.path)
        size = path.stat().st_size
        if size != row.size_bytes:
            raise ArtifactError(
                f"{where} has {size} bytes where {row.size_bytes} were registered; it was changed"
            )
        return path

    def verify(self, artifact_id: str) -> Path:
        """As `path`, and reads the file to compare its SHA-256.

        Raises:
            ArtifactError: As `path`, or the bytes are others.
        """
        path, record = self.path(artifact_id), self.get(artifact_id)
        found, _ = _digest(path)
        if found != record.sha256:
            raise ArtifactError(
                f"{record.filename} of run {record.run_id} has SHA-256 {found} where "
                f"{record.sha256} was registered; it was changed"
            )
        return path

    def _row(self, artifact_id: str) -> Row[Any]:
        with self._database.read() as connection:
            row = connection.execute(_select().where(artifacts.c.id == artifact_id)).first()
        if row is None:
            raise ArtifactNotFoundError(f"no artefact has the id {artifact_id[:80]!r}")
        return row


def _select() -> Select[Any]:
    return select(artifacts, runs.c.id.label("run_id")).join(
        runs, runs.c.number == artifacts.c.run_number
    )


def _to_record(row: Row[Any]) -> ArtifactRecord:
    return ArtifactRecord(
        id=row.id,
        run_id=row.run_id,
        kind=row.kind,
        filename=Path(row.path).name,
        size_bytes=row.size_bytes,
        sha256=row.sha256,
        created_at=row.created_at,
    )


def _relative(path: Path, folder: Path) -> str:
    """Returns where the file stands below the folder; if it is a link, that of the link."""
    try:
        relative = (path.parent.resolve() / path.name).relative_to(folder.resolve())
    except ValueError as error:
        raise ArtifactError(f"{path} is not inside {folder}, the folder of its run") from error
    return relative.as_posix()


def _checked(folder: Path, relative: str) -> Path:
    """Returns the path of a plain file below the folder that no link leads to or out of."""
    path = folder
    for part in Path(relative).parts:
        path = path / part
        if path.is_symlink():
            raise ArtifactError(
                f"{path} is a link; an artefact is a plain file in its run's folder"
            )
    if ".." in Path(relative).parts or not path.is_file():
        raise ArtifactError(f"there is no plain file {relative!r} in {folder}")
    return path


def _digest(path: Path) -> tuple[str, int]:
    """Returns the SHA-256 and the size of one opened file, which is not a link."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise ArtifactError(f"{path} is not a plain file")
        digest = hashlib.file_digest(file, "sha256")
        return digest.hexdigest(), status.st_size
