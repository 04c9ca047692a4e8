"""Rows of a Parquet file, in small batches and under a budget. Only the child process imports this.

A file of 200 KB can say "two million rows of one long text" in its dictionary. So the number of
rows is read from the footer first, texts stay dictionary-encoded until a row needs them, and every
text that is taken out is counted against the budget.

Where a column's texts lie in the file one by one, as most writers leave texts that differ, keeping
them encoded would gather them all in one dictionary: those columns are read plainly, in batches of
a few megabytes. A file that lies about it runs into the limit on memory of this process (E132).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from seqmatch.ingest.problems import FileProblem, RowProblem
from seqmatch.ingest.report import Limits
from seqmatch.ingest.rows import Row

FLAT_BATCH_ROWS = 8192
"""Of texts a batch holds indices into the dictionary, which Arrow builds anew for each batch."""
PLAIN_BATCH_BYTES = 8_000_000
"""Of texts that are not kept encoded, by their mean size."""
NESTED_BATCH_ROWS = 64
"""Lists of messages are unpacked whole, so few are held at once."""
_INDEX_BYTES = 4
_DICTIONARY_BYTES = 2_000_000
"""No usual writer makes a larger dictionary: it writes the texts one by one instead."""
_ERRORS = (pa.ArrowException, OSError, ValueError, TypeError, NotImplementedError)


def read_parquet(path: Path, limits: Limits) -> Iterator[Row]:
    """Yields the rows of a Parquet file; `line` is the row's number.

    Raises:
        FileProblem: E132 to E134, E140, E152.
    """
    number = 0
    try:
        with pq.ParquetFile(path, memory_map=False, pre_buffer=False) as footer:
            _check_footer(footer, limits)
            texts, batch_rows = plan(footer)
        budget = _Budget(limits)
        with pq.ParquetFile(
            path, memory_map=False, pre_buffer=False, read_dictionary=texts
        ) as file:
            for batch in file.iter_batches(batch_size=batch_rows, use_threads=False):
                for values in budget.rows(batch):
                    number += 1
                    yield (
                        Row(number, values)
                        if isinstance(values, dict)
                        else Row(number, problem=values)
                    )
    except (MemoryError, pa.ArrowMemoryError):
        raise FileProblem(
            "E132", "the rows need more memory when unpacked than is allowed", line=number + 1
        ) from None
    except _ERRORS as error:
        raise FileProblem(
            "E140", f"the Parquet file cannot be read after row {number:,}: {error}", line=number
        ) from None


def _check_footer(file: Any, limits: Limits) -> None:
    meta = file.metadata
    if meta.num_rows > limits.max_rows:
        raise FileProblem(
            "E132",
            f"the file says it holds {meta.num_rows:,} rows; at most {limits.max_rows:,} are "
            "allowed",
        )
    if meta.num_columns > limits.max_columns:
        raise FileProblem(
            "E133",
            f"the file has {meta.num_columns:,} columns; at most {limits.max_columns:,} are "
            "allowed",
        )
    unpacked = sum(meta.row_group(i).total_byte_size for i in range(meta.num_row_groups))
    if unpacked > limits.max_unpacked_bytes:
        raise FileProblem(
            "E132",
            f"the file is {unpacked:,} bytes when unpacked; at most "
            f"{limits.max_unpacked_bytes:,} are allowed",
        )
    names = list(file.schema_arrow.names)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise FileProblem("E152", f"two columns are called {twice!r}", column=twice)


def plan(file: Any) -> tuple[list[str], int]:
    """Returns the columns to keep dictionary-encoded, and how many rows to hold at once."""
    schema = file.schema_arrow
    is_text = (
        pa.types.is_string,
        pa.types.is_large_string,
        pa.types.is_binary,
        pa.types.is_large_binary,
    )
    texts = [field.name for field in schema if any(check(field.type) for check in is_text)]
    plain = _row_bytes_of_plain_columns(file.metadata)
    encoded = [name for name in texts if name not in plain]
    if any(pa.types.is_nested(field.type) for field in schema):
        return encoded, NESTED_BATCH_ROWS
    fitting = int(PLAIN_BATCH_BYTES / (sum(plain.values()) or 1))
    return encoded, min(max(fitting, NESTED_BATCH_ROWS), FLAT_BATCH_ROWS)


def _row_bytes_of_plain_columns(meta: Any) -> dict[str, float]:
    """Returns the columns with a part too large for indices and a dictionary: bytes a row."""
    found: dict[str, float] = {}
    for group in map(meta.row_group, range(meta.num_row_groups)):
        for column in map(group.column, range(group.num_columns)):
            indices = _INDEX_BYTES * column.num_values
            if column.total_uncompressed_size > indices + _DICTIONARY_BYTES:
                row_bytes = column.total_uncompressed_size / max(column.num_values, 1)
                name = column.path_in_schema
                found[name] = max(found.get(name, 0.0), row_bytes)
    return found


def _values(column: Any) -> Iterator[object]:
    """Yields the values of a column; one that stands in a dictionary is unpacked once."""
    if not pa.types.is_dictionary(column.type):
        for scalar in column:
            yield scalar.as_py()
        return
    known: dict[int, object] = {}
    for index in column.indices.to_pylist():
        if index is not None and index not in known:
            known[index] = column.dictionary[index].as_py()
        yield None if index is None else known[index]


class _Budget:
    """Takes rows out of batches and counts the bytes of what it takes out."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._num_bytes = 0

    def rows(self, batch: Any) -> Iterator[dict[str, object] | RowProblem]:
        names = batch.schema.names
        columns = [_values(batch.column(index)) for index in range(batch.num_columns)]
        for row in zip(*columns, strict=True):
            values = dict(zip(names, row, strict=True))
            size = _size(values)
            self._num_bytes += size
            if self._num_bytes > self._limits.max_unpacked_bytes:
                raise FileProblem(
                    "E132",
                    f"the rows are more than {self._limits.max_unpacked_bytes:,} bytes when "
                    "unpacked; that is the most that is allowed",
                )
            if size > self._limits.max_row_bytes:
                yield RowProblem(
                    "E131",
                    f"the row is {size:,} bytes; at most {self._limits.max_row_bytes:,} are "
                    "allowed",
                )
            else:
                yield values


def _size(value: object) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_size, value))
    return 8
