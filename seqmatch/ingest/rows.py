"""A row as every reader gives it: named values, or the problem that stood in its place."""

from dataclasses import dataclass

from seqmatch.ingest.problems import RowProblem


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a file. Exactly one of `values` and `problem` is given."""

    line: int
    """1-based line at which the row starts (in Parquet: its number)."""
    values: dict[str, object] | None = None
    problem: RowProblem | None = None
