"""Rows of JSON: one object a line, or one array of objects, both read as a stream."""

import re
from collections.abc import Iterator
from typing import BinaryIO

from seqmatch.ingest.lines import check_size, decode, read_lines
from seqmatch.ingest.problems import FileProblem, ProblemLog, RowProblem
from seqmatch.ingest.report import Limits
from seqmatch.ingest.rows import Row
from seqmatch.ingest.strict_json import parse_object

_OUTSIDE = re.compile(rb'["\[\]{},]')
_INSIDE = re.compile(rb'["\\]')
_OPEN, _CLOSE = b"[{", b"]}"


def read_json_lines(stream: BinaryIO, limits: Limits, _log: ProblemLog) -> Iterator[Row]:
    """Yields the rows of JSON Lines. Lines of white space alone are no rows."""
    for line in read_lines(stream, max_bytes=limits.max_row_bytes, read_bytes=limits.read_bytes):
        if line.data and not line.data.isspace():
            yield _row(line.data, line.number, limits, is_cut_off=not line.is_ended)


def read_json_array(stream: BinaryIO, limits: Limits, log: ProblemLog) -> Iterator[Row]:
    """Yields the elements of one JSON array, with the line at which each one starts.

    Raises:
        FileProblem: E110, the array is not closed, or there is text after it.
    """
    log.add("I301", "the file is a JSON array; its elements are the rows")
    splitter = ArraySplitter(limits)
    while chunk := stream.read(limits.read_bytes):
        for line, data in splitter.feed(chunk):
            yield _element(data, line, limits)
    line, rest = splitter.rest()
    if splitter.is_closed and rest:
        raise FileProblem("E110", "there is text after the array", line=line, excerpt=_show(rest))
    if splitter.is_closed:
        return
    if rest:
        yield _row(rest, line, limits, is_cut_off=True)
    raise FileProblem(
        "E110", "the array is not closed by ]; the file seems cut off here", line=splitter.line
    )


def _show(data: bytes) -> str:
    return data[:400].decode("utf-8", errors="replace")


def _element(data: bytes, line: int, limits: Limits) -> Row:
    if data:
        return _row(data, line, limits, is_cut_off=False)
    return Row(line, problem=RowProblem("E110", "there is a comma without a value beside it"))


def _row(data: bytes, line: int, limits: Limits, *, is_cut_off: bool) -> Row:
    try:
        check_size(data, limits.max_row_bytes)
        text = decode(data, line)
        return Row(line, parse_object(text, limits, is_cut_off=is_cut_off))
    except RowProblem as problem:
        if problem.code in ("E110", "E115") and problem.line:
            problem.line += line
        return Row(line, problem=problem)


class ArraySplitter:
    """Cuts the bytes of a JSON array into its elements, whatever the size of the pieces fed."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._depth = 0
        self._in_string = False
        self._is_escaped = False
        self._element = bytearray()
        self._start_line = 0
        self._num_elements = 0
        self._comma_line = 0
        self.line = 1
        self.is_closed = False

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes]]:
        """Yields (line, bytes) of each element that ends in this chunk; empty between two commas.

        Raises nothing; what stands after the array becomes an element of its own.
        """
        at = 0
        while at < len(chunk):
            if self.is_closed:
                self._take(chunk[at:])
                return
            if self._in_string:
                at = self._inside(chunk, at)
                continue
            match = _OUTSIDE.search(chunk, at)
            end = match.start() if match else len(chunk)
            self._take(chunk[at:end])
            if match is None:
                return
            yield from self._structure(chunk[end : end + 1])
            at = end + 1

    def rest(self) -> tuple[int, bytes]:
        """Returns the element that was open when the file ended, and its line."""
        return self._start_line or self.line, bytes(self._element).strip()

    def _inside(self, chunk: bytes, at: int) -> int:
        if self._is_escaped:
            self._is_escaped = False
            self._take(chunk[at : at + 1])
            return at + 1
        match = _INSIDE.search(chunk, at)
        end = match.end() if match else len(chunk)
        self._take(chunk[at:end])
        if match:
            self._is_escaped = self._in_string = match[0] == b"\\"
        return end

    def _structure(self, mark: bytes) -> Iterator[tuple[int, bytes]]:
        if mark == b'"':
            self._in_string = True
            self._take(mark)
        elif mark in (b"[", b"{"):
            self._depth += 1
            if self._depth > 1:
                self._take(mark)
        elif mark == b",":
            if self._depth == 1:
                yield self._finish()
                self._comma_line = self.line
            else:
                self._take(mark)
        else:
            yield from self._close(mark)

    def _close(self, mark: bytes) -> Iterator[tuple[int, bytes]]:
        self._depth -= 1
        if self._depth > 0:
            self._take(mark)
        elif self._depth == 0:
            self.is_closed = True
            if self._element.strip() or self._num_elements:
                yield self._finish()
            self._element.clear()

    def _take(self, data: bytes) -> None:
        if not self._start_line and (stripped := data.lstrip()):
            self._start_line = self.line + data[: len(data) - len(stripped)].count(b"\n")
        self.line += data.count(b"\n")
        room = self._limits.max_row_bytes + 2 - len(self._element)
        if self._start_line and room > 0:
            self._element += (data if self._element else data.lstrip())[:room]

    def _finish(self) -> tuple[int, bytes]:
        found = (self._start_line or self._comma_line or self.line, bytes(self._element).strip())
        self._element.clear()
        self._start_line = 0
        self._num_elements += 1
        return found
