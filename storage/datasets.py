"""Frozen sets of demonstrations: a row each, and a folder named by the hash of its content."""

import shutil
from pathlib import Path
from typing import Any

from sqlalchemy import RowMapping, Select, delete, func, insert, select, update

from storage.engine import Database
from storage.errors import DatasetInUseError, DatasetNotFoundError, InvalidValueError
from storage.ids import is_content_id
from storage.records import DatasetRecord
from storage.tables import datasets, runs


class Datasets:
    """The sets of demonstrations of a store. May be called from any thread and process."""

    def __init__(self, database: Database, root: Path) -> None:
        self._database = database
        self._root = root

    def folder(self, dataset_id: str) -> Path:
        """Returns where the set's files are; the folder need not exist yet.

        Raises:
            DatasetNotFoundError: This can be no set's id.
        """
        if not is_content_id(dataset_id):
            raise _not_found(dataset_id)
        return self._root / dataset_id

    def add(
        self, dataset_id: str, name: str, num_rows: int, num_refused: int, summary_json: str
    ) -> DatasetRecord:
        """Adds a set whose folder is complete; one that is there already stays as it is.

        Raises:
            InvalidValueError: The id is not a SHA-256, or a count is negative.
        """
        if not is_content_id(dataset_id):
            raise InvalidValueError(f"{dataset_id[:80]!r} is no SHA-256 of 64 hexadecimal digits")
        if num_rows < 0 or num_refused < 0:
            raise InvalidValueError(f"{num_rows} rows, {num_refused} refused; counts are 0 or more")
        with self._database.write(is_durable=True) as connection:
            row = connection.execute(_by_id(dataset_id)).mappings().first()
            if row is None:
                record = DatasetRecord(
                    id=dataset_id,
                    name=name,
                    num_rows=num_rows,
                    num_refused=num_refused,
                    created_at=self._database.now(),
                    summary_json=summary_json,
                )
                connection.execute(insert(datasets).values(**vars(record)))
                return record
        return _to_record(row)

    def list(self) -> tuple[DatasetRecord, ...]:
        """Returns the sets, the newest first."""
        query = select(datasets).order_by(datasets.c.created_at.desc(), datasets.c.id)
        with self._database.read() as connection:
            return tuple(map(_to_record, connection.execute(query).mappings()))

    def get(self, dataset_id: str) -> DatasetRecord:
        """Returns a set.

        Raises:
            DatasetNotFoundError: There is none with this id.
        """
        with self._database.read() as connection:
            row = connection.execute(_by_id(dataset_id)).mappings().first()
        if row is None:
            raise _not_found(dataset_id)
        return _to_record(row)

    def rename(self, dataset_id: str, name: str) -> DatasetRecord:
        """Gives a set another name.

        Raises:
            InvalidValueError: The name is blank.
            DatasetNotFoundError: There is none with this id.
        """
        if not name.strip():
            raise InvalidValueError(f"the name {name!r} is blank; give it at least one letter")
        with self._database.write() as connection:
            change = update(datasets).where(datasets.c.id == dataset_id).values(name=name)
            row = connection.execute(change.returning(*datasets.c)).mappings().first()
        if row is None:
            raise _not_found(dataset_id)
        return _to_record(row)

    def delete(self, dataset_id: str) -> None:
        """Removes a set: its row, then its files.

        Raises:
            DatasetInUseError: Runs refer to it, be they deleted but not purged.
            DatasetNotFoundError: There is none with this id.
        """
        with self._database.write() as connection:
            users = select(func.count()).select_from(runs).where(runs.c.dataset_id == dataset_id)
            count = connection.execute(users).scalar_one()
            if count:
                raise DatasetInUseError(
                    f"{count} runs use the demonstrations {dataset_id[:12]}; purge those runs first"
                )
            gone = delete(datasets).where(datasets.c.id == dataset_id)
            if connection.execute(gone).rowcount == 0:
                raise _not_found(dataset_id)
        shutil.rmtree(self.folder(dataset_id), ignore_errors=True)


def _by_id(dataset_id: str) -> Select[Any]:
    return select(datasets).where(datasets.c.id == dataset_id)


def _to_record(row: RowMapping) -> DatasetRecord:
    return DatasetRecord(**row)


def _not_found(dataset_id: str) -> DatasetNotFoundError:
    return DatasetNotFoundError(f"no set of demonstrations has the id {dataset_id[:80]!r}")
