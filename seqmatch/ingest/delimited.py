"""Rows of comma-, tab- or semicolon-separated text, with the physical line of each.

The words NA, null, None and nan are text like any other, and so is a cell that starts with "=".
"""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import BinaryIO

from seqmatch.ingest.columns import is_known_name
from seqmatch.ingest.lines import Line, check_size, decode, read_lines
from seqmatch.ingest.problems import FileProblem, ProblemLog, RowProblem
from seqmatch.ingest.report import Limits
from seqmatch.ingest.rows import Row

DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_QUOTED = re.compile(r'"[^"]*+(?:""[^"]*+)*+("|\Z)')
_NAME = re.compile(r"[A-Za-z_][\w .\-/]{0,39}")


def find_delimiter(first_line: str) -> str:
    """Returns the delimiter that stands most often outside quotes; a comma where none does."""
    outside = _QUOTED.sub("", first_line)
    return max(DELIMITERS, key=lambda delimiter: outside.count(delimiter))


def read_delimited(stream: BinaryIO, limits: Limits, log: ProblemLog) -> Iterator[Row]:
    """Yields the rows of a file whose first row names the columns (W211 where it does not).

    Raises:
        FileProblem: E133, E150 to E153 in the first row; E151 where a quote is never closed.
    """
    source = _PhysicalLines(
        read_lines(stream, max_bytes=limits.max_row_bytes, read_bytes=limits.read_bytes),
        limits.max_row_bytes,
    )
    first = next(source.peeked(), "")
    delimiter = find_delimiter(first)
    csv.field_size_limit(limits.max_row_bytes + 2)
    records = _records(source, delimiter)
    header = next(records, None)
    if header is None:
        return
    if header.problem is not None:
        problem = header.problem
        raise FileProblem(
            problem.code, f"in the first row: {problem.message}", excerpt=problem.excerpt, line=1
        )
    columns, has_names = _column_names(header, limits, log)
    if not has_names:
        yield _to_row(header, columns)
    for record in records:
        yield _to_row(record, columns)


@dataclass(frozen=True, slots=True)
class _Record:
    line: int
    cells: list[str]
    problem: RowProblem | None = None


@dataclass
class _PhysicalLines:
    """Feeds the CSV parser line by line, and remembers the lines of the current record."""

    lines: Iterator[Line]
    max_bytes: int
    _ahead: list[Line] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    first_line: int = 0
    _num_bytes: int = 0

    def peeked(self) -> Iterator[str]:
        for line in self.lines:
            self._ahead.append(line)
            yield line.data.decode("utf-8", errors="replace")

    def start_record(self) -> None:
        self.texts, self.first_line, self._num_bytes = [], 0, 0

    def __iter__(self) -> "_PhysicalLines":
        return self

    def __next__(self) -> str:
        line = self._ahead.pop(0) if self._ahead else next(self.lines)
        self.first_line = self.first_line or line.number
        check_size(line.data, self.max_bytes)
        self._num_bytes += len(line.data) + 1
        if self._num_bytes > self.max_bytes and self.texts:
            raise _TooLongError
        text = decode(line.data, line.number)
        if "\0" in text:
            raise RowProblem("E115", "the text holds a NUL character", excerpt=text)
        self.texts.append(text)
        return text + "\n"

    def open_quote(self) -> tuple[int, str]:
        """Returns the line in which the quote opened that is not closed, and the text there."""
        text = "\n".join(self.texts)
        for match in _QUOTED.finditer(text):
            if not match[1]:
                at = match.start()
                return self.first_line + text.count("\n", 0, at), text[at : at + 100]
        return self.first_line, text[:100]


class _TooLongError(Exception):
    """A record over several lines is longer than a row may be."""


def _records(source: _PhysicalLines, delimiter: str) -> Iterator[_Record]:
    reader = csv.reader(source, delimiter=delimiter, strict=True)
    while True:
        source.start_record()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except RowProblem as problem:
            yield _Record(source.first_line, [], problem)
        except _TooLongError:
            yield _unclosed(source, "within the size that a row may have")
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                yield _unclosed(source, "before the end of the file")
                return
            yield _Record(source.first_line, [], _broken(error, source))
        else:
            if any(cells) or len(cells) > 1:
                yield _Record(source.first_line, cells)


def _unclosed(source: _PhysicalLines, where: str) -> _Record:
    line, excerpt = source.open_quote()
    message = (
        f"the quote opened in line {line} is not closed {where}; nothing after it was read. "
        "Inside quotes a quote is written twice"
    )
    return _Record(source.first_line, [], RowProblem("E151", message, excerpt=excerpt, line=line))


def _broken(error: csv.Error, source: _PhysicalLines) -> RowProblem:
    text = "\n".join(source.texts)
    if "expected after" in str(error):
        return RowProblem(
            "E151",
            f"a quote opened in line {source.first_line} is closed in the middle of a field; "
            "inside quotes a quote is written twice",
            excerpt=text,
        )
    return RowProblem("E153", f"not readable as CSV: {error}", excerpt=text)


def _column_names(header: _Record, limits: Limits, log: ProblemLog) -> tuple[list[str], bool]:
    cells = [cell.strip() for cell in header.cells]
    if len(cells) > limits.max_columns:
        raise FileProblem(
            "E133",
            f"the first row has {len(cells):,} columns; at most {limits.max_columns:,} are allowed",
            line=header.line,
        )
    has_names = any(map(is_known_name, cells)) or all(_NAME.fullmatch(cell) for cell in cells)
    if not has_names:
        log.add(
            "W211",
            "the first row looks like data, so it was read as a row; the columns are called "
            "column 1, column 2 and so on. A first row with names is better",
            line=header.line,
            excerpt=", ".join(cells),
        )
        return [f"column {number}" for number in range(1, len(cells) + 1)], False
    names = [cell or f"column {number}" for number, cell in enumerate(cells, 1)]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise FileProblem(
            "E152",
            f"two columns are called {twice[0]!r}; each needs its own name",
            line=header.line,
            column=twice[0],
            excerpt=", ".join(cells),
        )
    return names, True


def _to_row(record: _Record, columns: list[str]) -> Row:
    if record.problem is not None:
        return Row(record.line, problem=record.problem)
    if len(record.cells) != len(columns):
        return Row(
            record.line,
            problem=RowProblem(
                "E150",
                f"the row has {len(record.cells)} fields where the header has {len(columns)}; "
                "a field with the delimiter inside needs quotes",
                excerpt=" | ".join(record.cells),
            ),
        )
    return Row(record.line, dict(zip(columns, record.cells, strict=True)))
