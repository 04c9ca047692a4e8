"""Plain text: paragraphs, separated by empty lines, each an answer to an empty prompt."""

from collections.abc import Iterator
from typing import BinaryIO

from seqmatch.ingest.lines import Line, check_size, decode, read_lines
from seqmatch.ingest.problems import ProblemLog, RowProblem
from seqmatch.ingest.report import Limits
from seqmatch.ingest.rows import Row

COLUMN = "text"


def read_plain_text(stream: BinaryIO, limits: Limits, log: ProblemLog) -> Iterator[Row]:
    """Yields the paragraphs of a text as rows with the one column `text`."""
    log.add("I302", "each paragraph (text between empty lines) is an answer to an empty prompt")
    paragraph: list[Line] = []
    num_bytes = 0
    for line in read_lines(stream, max_bytes=limits.max_row_bytes, read_bytes=limits.read_bytes):
        if line.data.strip():
            num_bytes += len(line.data) + 1
            # Past the limit only the size still matters, so the text is no longer held.
            if num_bytes <= limits.max_row_bytes + 1 or not paragraph:
                paragraph.append(line)
        elif paragraph:
            yield _row(paragraph, num_bytes, limits)
            paragraph, num_bytes = [], 0
    if paragraph:
        yield _row(paragraph, num_bytes, limits)


def _row(paragraph: list[Line], num_bytes: int, limits: Limits) -> Row:
    line = paragraph[0].number
    data = b"\n".join(part.data for part in paragraph)
    try:
        check_size(
            data if num_bytes - 1 <= limits.max_row_bytes else data.ljust(num_bytes),
            limits.max_row_bytes,
        )
        text = decode(data, line)
        if "\0" in text:
            raise RowProblem("E115", "the text holds a NUL character", excerpt=text)
    except RowProblem as problem:
        return Row(line, problem=problem)
    return Row(line, {COLUMN: text})
