r"""Lines of a file as bytes, however long they claim to be. A line ends with \n alone.

U+2028, U+0085 and the like are text, so `str.splitlines` is never used.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from seqmatch.ingest.problems import RowProblem

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Line:
    r"""One line without its end (\n or \r\n)."""

    number: int
    data: bytes
    """At most one byte more than the limit: that is how a line that is too long is told."""
    is_ended: bool
    """False for a last line without a line end."""


def read_lines(stream: BinaryIO, *, max_bytes: int, read_bytes: int) -> Iterator[Line]:
    """Yields the lines of a stream, holding at most `max_bytes` + `read_bytes` of one line.

    Of a longer line the first `max_bytes` + 1 bytes are given; the rest is read past.
    """
    number, pending = 1, b""
    while chunk := stream.read(read_bytes):
        *complete, last = chunk.split(b"\n")
        for part in complete:
            yield Line(number, _without_return(pending + part)[: max_bytes + 1], True)
            number, pending = number + 1, b""
        pending = (pending + last)[: max_bytes + 2]
    if pending:
        yield Line(number, pending[: max_bytes + 1], False)


def _without_return(data: bytes) -> bytes:
    return data[:-1] if data.endswith(b"\r") else data


def decode(data: bytes, line: int) -> str:
    """Returns the text of UTF-8 bytes that start in this line.

    Raises:
        RowProblem: E103, with the line and the byte, and how it would read as Windows-1252.
    """
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        around = data[max(error.start - 30, 0) : error.start + 30]
        preview = around.decode("cp1252", errors="replace")
        raise RowProblem(
            "E103",
            f"byte 0x{data[error.start]:02x} at position {error.start + 1} of the row is not "
            "UTF-8; save the file as UTF-8 (the excerpt shows it read as Windows-1252)",
            excerpt=preview,
            line=line + data.count(b"\n", 0, error.start),
        ) from None


def check_size(data: bytes, max_bytes: int) -> None:
    """Raises RowProblem E131 where a row is longer than the limit."""
    if len(data) > max_bytes:
        raise RowProblem(
            "E131",
            f"the row is longer than {max_bytes:,} bytes; that is the most that is allowed",
            excerpt=data[:200].decode("utf-8", errors="replace"),
        )
