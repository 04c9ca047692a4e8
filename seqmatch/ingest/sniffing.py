"""What a file is, by its first bytes. Its name only decides between texts that look alike."""

import re
from dataclasses import dataclass
from pathlib import PurePath

from seqmatch.ingest.columns import COMPLETION_NAMES, PROMPT_NAMES
from seqmatch.ingest.delimited import DELIMITERS, find_delimiter
from seqmatch.ingest.lines import BYTE_ORDER_MARK
from seqmatch.ingest.problems import FileProblem, ProblemLog
from seqmatch.ingest.report import FileKind

HEAD_BYTES = 1 << 16
_TAR_AT = 257
_COMPRESSED = (
    (b"\x1f\x8b", "gzip"), (b"PK\x03\x04", "zip"), (b"PK\x05\x06", "zip"),
    (b"\xfd7zXZ\x00", "xz"), (b"\x28\xb5\x2f\xfd", "zstd"), (b"BZh", "bzip2"),
    (b"7z\xbc\xaf\x27\x1c", "7z"), (b"Rar!", "rar"), (b"\x04\x22\x4d\x18", "lz4"),
)  # fmt: skip
_BINARY = (
    (b"%PDF", "a PDF document"), (b"\x89PNG", "a PNG image"), (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"), (b"SQLite format 3\x00", "an SQLite database"),
    (b"\x7fELF", "a program"), (b"MZ", "a program"), (b"ARROW1", "an Arrow file"),
    (b"Obj\x01", "an Avro file"), (b"ORC", "an ORC file"), (b"\x93NUMPY", "a NumPy array"),
    (b"\x80\x02", "a Python pickle"), (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"), (b"\x80\x05", "a Python pickle"),
    (b"\xd0\xcf\x11\xe0", "an old Office document"), (b"RIFF", "a sound, image or film"),
)  # fmt: skip
_WEB_PAGE = re.compile(
    rb"\s*(?:<\?xml[^>]*>\s*)?(?:<!--.*?-->\s*)*<(?:!doctype html|html|head|body)", re.I | re.S
)
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_JSON_START = re.compile(r'\s*(?:[\[{]|"|-?\d|(?:null|true|false|NaN|Infinity)\b)')
_READ = "JSON Lines, a JSON array, CSV, TSV, Parquet and plain text are read"


def sniff(head: bytes, name: str, log: ProblemLog) -> FileKind:
    """Returns the kind of a file from its first bytes.

    Raises:
        FileProblem: E101, E103 (UTF-16), E104, E105.
    """
    suffix = PurePath(name).suffix.lower()
    if not head:
        raise FileProblem("E101", "the file is empty (0 bytes)")
    if head.startswith((b"PAR1", b"PARE")):
        if suffix not in ("", ".parquet", ".pq"):
            raise FileProblem(
                "E104", f"the file is called {suffix} but is a Parquet file; rename it to .parquet"
            )
        return "parquet"
    _refuse_binary(head, suffix)
    text = head.removeprefix(BYTE_ORDER_MARK).decode("utf-8", errors="replace")
    if len(head) < HEAD_BYTES and not text.strip():
        raise FileProblem("E101", "the file holds nothing but white space")
    if _WEB_PAGE.match(head.removeprefix(BYTE_ORDER_MARK)):
        raise FileProblem(
            "E105",
            "the file is a web page (HTML), perhaps an error page saved instead of the data",
            excerpt=text,
        )
    return _text_kind(text, suffix, log)


def _refuse_binary(head: bytes, suffix: str) -> None:
    for magic, what in _COMPRESSED:
        if head.startswith(magic):
            raise FileProblem(
                "E104", f"the file is {what}; compressed files are not accepted, unpack it first"
            )
    if head[_TAR_AT : _TAR_AT + 5] == b"ustar":
        raise FileProblem("E104", "the file is a tar archive; unpack it first")
    if head.startswith(_UTF16) or _looks_like_utf16(head):
        raise FileProblem("E103", "the file is UTF-16; save it as UTF-8", line=1)
    for magic, what in _BINARY:
        if head.startswith(magic):
            raise FileProblem("E104", f"the file is {what}; {_READ}")
    num_control = sum(head.count(code) for code in range(32) if code not in (9, 10, 12, 13, 27))
    if num_control > max(len(head) // 20, 8):
        raise FileProblem("E104", f"the file is binary; {_READ}")
    if suffix in (".parquet", ".pq"):
        raise FileProblem(
            "E140", "the file is called .parquet but does not start with the mark of a Parquet file"
        )


def _looks_like_utf16(head: bytes) -> bool:
    """UTF-16 without its mark: of mostly English text every second byte is zero."""
    start = head[:400]
    even, odd = start[::2], start[1::2]
    other = even if odd.count(0) > even.count(0) else odd
    num_zeros = max(even.count(0), odd.count(0))
    return len(start) >= 4 and num_zeros >= 0.4 * len(start) and other.count(0) <= len(other) // 10


@dataclass(frozen=True)
class _Name:
    """What the suffix of a file says, in words and as kinds."""

    kinds: tuple[FileKind, ...]
    words: str


_NAMES = {
    ".jsonl": _Name(("jsonl", "json_array"), "JSON"),
    ".ndjson": _Name(("jsonl", "json_array"), "JSON"),
    ".json": _Name(("jsonl", "json_array"), "JSON"),
    ".csv": _Name(("delimited",), "comma-separated"),
    ".tsv": _Name(("delimited",), "tab-separated"),
    ".tab": _Name(("delimited",), "tab-separated"),
    ".txt": _Name(("text",), "plain text"),
    ".text": _Name(("text",), "plain text"),
    ".md": _Name(("text",), "plain text"),
}
_WORDS: dict[FileKind, str] = {
    "jsonl": "JSON Lines",
    "json_array": "a JSON array",
    "delimited": "a table with separated columns",
    "text": "plain text",
}


def _text_kind(text: str, suffix: str, log: ProblemLog) -> FileKind:
    first = next((line for line in text.split("\n") if line.strip()), "").rstrip("\r")
    named = _NAMES.get(suffix)
    kind = _kind_by_content(text, first, named.kinds[0] if named else None)
    if named and kind not in named.kinds:
        log.add(
            "W203",
            f"the name says {named.words}, the content is {_WORDS[kind]}; the content decides",
            excerpt=first,
        )
    if kind == "delimited" and (delimiter := find_delimiter(first)) in first:
        expected = "\t" if suffix in (".tsv", ".tab") else ","
        if delimiter != expected:
            log.add(
                "W210",
                f"the columns are separated by {DELIMITERS[delimiter]}, not by "
                f"{DELIMITERS[expected]}; check the preview",
                line=1,
                excerpt=first,
            )
    return kind


def _kind_by_content(text: str, first: str, named: FileKind | None) -> FileKind:
    start = first.lstrip()[:1]
    if start == "[":
        return _lines_or_array(text, first, named)
    if start == "{" and (named != "text" or '"' in first):
        return "jsonl"
    if named == "jsonl":
        return "delimited" if _has_known_columns(first) else "jsonl"
    if named:
        return "delimited" if named == "text" and _has_known_columns(first) else named
    if _has_known_columns(first):
        return "delimited"
    return "jsonl" if _JSON_START.match(first) else "text"


def _lines_or_array(text: str, first: str, named: FileKind | None) -> FileKind:
    """A file that starts with [: an array, unless each line is a list of its own."""
    others = [line for line in text.split("\n") if line.strip()][1:]
    is_list_line = first.rstrip().endswith("]") and bool(others)
    if is_list_line and others[0].lstrip()[:1] in ("[", "{"):
        return "jsonl"
    follows = first.strip()[1:].lstrip()[:1] or (others[0].strip()[:1] if others else "")
    if named in ("text", "delimited") and follows not in ("{", "]"):
        return named
    return "json_array"


def _has_known_columns(first: str) -> bool:
    cells = [cell.strip().strip('"').lower() for cell in first.split(find_delimiter(first))]
    return any(cell in PROMPT_NAMES for cell in cells) and any(
        cell in COMPLETION_NAMES for cell in cells
    )
