"""Malformed files, each made in the test, with what must be said about it."""

# ruff: noqa: E501 - the table reads best with one file a line

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

GOOD = b'{"prompt": "p", "response": "r"}\n'
HEADER = b"prompt,response\n"


@dataclass(frozen=True)
class Malformed:
    """A file, and the problem that must be reported."""

    name: str
    make: Callable[[], bytes]
    code: str
    line: int
    words: str
    """Must stand in the message."""
    num_usable: int = 0
    column: str | None = None
    is_killer: bool = False
    """Known to bring a reader down: inspected alone, in a process of its own."""


def _parquet(table: pa.Table, **options: object) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, **options)
    return stream.getvalue()


def _pairs(count: int) -> pa.Table:
    texts = [f"text {i}" for i in range(count)]
    return pa.table({"prompt": texts, "response": texts})


def _zip() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.jsonl", GOOD)
    return stream.getvalue()


def _tar() -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        entry = tarfile.TarInfo("a.jsonl")
        entry.size = len(GOOD)
        archive.addfile(entry, io.BytesIO(GOOD))
    return stream.getvalue()


def _dictionary_bomb() -> bytes:
    """150,000 rows of one text of 100 kB: 15 GB when unpacked, a few kB as a file."""
    indices = pa.array([0] * 150_000, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 100_000]))
    return _parquet(pa.table({"prompt": column, "response": column}), compression="zstd")


def _many_rows() -> bytes:
    indices = pa.array([0] * 2_000_000, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 1000]))
    return _parquet(pa.table({"prompt": column, "response": column}))


def _flipped() -> bytes:
    data = bytearray(_parquet(_pairs(2000), compression="snappy"))
    for at in range(200, 3000, 7):
        data[at] ^= 0xFF
    return bytes(data)


def _chat(*turns: tuple[str, object], **more: object) -> str:
    return json.dumps({"messages": [{"role": r, "content": c, **more} for r, c in turns]})


CHAT_GOOD = _chat(("user", "q"), ("assistant", "a"))
SHAREGPT_GOOD = '{"conversations":[{"from":"human","value":"q"},{"from":"gpt","value":"a"}]}'


def _lines(*lines: str) -> Callable[[], bytes]:
    return lambda: "\n".join(lines).encode() + b"\n"


def _second(line: str | bytes, good: bytes = GOOD) -> Callable[[], bytes]:
    raw = line if isinstance(line, bytes) else line.encode()
    return lambda: good + raw + b"\n" + good


def _chat_second(line: str) -> Callable[[], bytes]:
    return _lines(CHAT_GOOD, line, CHAT_GOOD)


def _pair(response: str) -> str:
    return f'{{"prompt": "p", "response": {response}}}'


CASES: list[Malformed] = [
    # Files that are nothing, or not what is read.
    Malformed("empty.jsonl", lambda: b"", "E101", 0, "empty"),
    Malformed("blank.jsonl", lambda: b" \n\n\t\n", "E101", 0, "white space"),
    Malformed("empty.csv", lambda: b"", "E101", 0, "empty"),
    Malformed("empty.parquet", lambda: b"", "E101", 0, "empty"),
    Malformed("header_only.csv", lambda: HEADER, "E102", 0, "no row"),
    Malformed("empty_array.json", lambda: b"[]", "E102", 0, "no row"),
    Malformed("no_rows.parquet", lambda: _parquet(_pairs(0)), "E102", 0, "no row"),
    Malformed("utf16.jsonl", lambda: GOOD.decode().encode("utf-16"), "E103", 1, "UTF-16"),
    Malformed("utf16le.csv", lambda: (HEADER * 20).decode().encode("utf-16-le"), "E103", 1, "UTF-16"),
    Malformed("latin1.jsonl", _second(_pair('"caf\xe9"').encode("latin-1")), "E103", 2, "0xe9", 2),
    Malformed("latin1.csv", lambda: HEADER + b"a,b\ncaf\xe9,d\n", "E103", 3, "UTF-8", 1),
    Malformed("gzip.jsonl", lambda: gzip.compress(b"\n" * 3_000_000), "E104", 0, "gzip", is_killer=True),
    Malformed("zip.jsonl", _zip, "E104", 0, "zip"),
    Malformed("xz.csv", lambda: b"\xfd7zXZ\x00" + b"\0" * 50, "E104", 0, "xz"),
    Malformed("zstd.jsonl", lambda: b"\x28\xb5\x2f\xfd" + b"\1" * 50, "E104", 0, "zstd"),
    Malformed("tar.jsonl", _tar, "E104", 0, "tar"),
    Malformed("parquet.jsonl", lambda: _parquet(_pairs(3)), "E104", 0, "Parquet"),
    Malformed("png.csv", lambda: b"\x89PNG\r\n\x1a\n" + b"\0" * 50, "E104", 0, "PNG"),
    Malformed("pdf.jsonl", lambda: b"%PDF-1.7\n" + GOOD, "E104", 0, "PDF"),
    Malformed("pickle.jsonl", lambda: b"\x80\x04\x95\x10\0\0\0\0\0\0\0", "E104", 0, "pickle"),
    Malformed("noise.bin", lambda: bytes(range(256)) * 40, "E104", 0, "binary"),
    Malformed("page.jsonl", lambda: b"<!DOCTYPE html>\n<html><body>404", "E105", 0, "web page"),
    Malformed("page.csv", lambda: b"\n <HTML><head>", "E105", 0, "web page"),
    # JSON.
    Malformed("cut_off.jsonl", lambda: GOOD + GOOD[:20], "E110", 2, "cut off", 1),
    Malformed("trailing_comma.jsonl", _second('{"prompt": "p", "response": "r",}'), "E110", 2, "trailing comma", 2),
    Malformed("python.jsonl", _second("{'prompt': 'p', 'response': 'r'}"), "E110", 2, "Python", 2),
    Malformed("two_objects.jsonl", _second(GOOD.strip() + GOOD.strip()), "E110", 2, "Extra data", 2),
    Malformed("words.jsonl", _second("hello"), "E110", 2, "not valid JSON", 2),
    Malformed("spread.jsonl", lambda: b'{\n"prompt": "p",\n"response": "r"\n}\n', "E110", 1, "several lines"),
    Malformed("open_array.json", lambda: b"[\n" + GOOD.strip() + b",\n" + GOOD[:12], "E110", 3, "cut off", 1),
    Malformed("array_comma.json", lambda: b"[" + GOOD + b",\n]", "E110", 2, "comma", 1),
    Malformed("array_tail.json", lambda: b"[" + GOOD + b"]\nextra", "E110", 3, "after the array", 1),
    Malformed("nan.jsonl", _second(_pair("NaN")), "E111", 2, "NaN", 2),
    Malformed("infinity.jsonl", _second(_pair("-Infinity")), "E111", 2, "Infinity", 2),
    Malformed("twice.jsonl", _second('{"prompt":"a","prompt":"b","response":"r"}'), "E112", 2, "twice", 2, "prompt"),
    Malformed("null.jsonl", _second("null"), "E113", 2, "null", 2),
    Malformed("number.jsonl", _second("42"), "E113", 2, "a number", 2),
    Malformed("list.jsonl", _second("[1, 2]"), "E113", 2, "a list", 2),
    Malformed("text.jsonl", _second('"text"'), "E113", 2, "a text", 2),
    Malformed("surrogate.jsonl", _second(_pair(r'"\ud83d"')), "E114", 2, "surrogate", 2, "response"),
    Malformed("nul.jsonl", _second(_pair(r'"a\u0000b"')), "E115", 2, "NUL", 2, "response"),
    Malformed("control.jsonl", _second(_pair('"a\x01b"')), "E115", 2, "U+0001", 2),
    Malformed("nul.csv", lambda: HEADER + b"a,b\nc,d\0e\n", "E115", 3, "NUL", 1),
    Malformed("digits.jsonl", _second(_pair("1" * 5000)), "E116", 2, "5,000 digits", 2, is_killer=True),
    Malformed("1e400.jsonl", _second(_pair("1e400")), "E116", 2, "largest number", 2),
    Malformed("brackets.jsonl", _second("[" * 20_000 + "]" * 20_000), "E130", 2, "32", 2, is_killer=True),
    Malformed("brackets.json", lambda: b"[" + b"[" * 20_000, "E130", 1, "32", is_killer=True),
    Malformed("objects.jsonl", _second('{"a":' * 20_000), "E130", 2, "32", 2, is_killer=True),
    Malformed("long_line.jsonl", _second(_pair('"' + "x" * 64_000_000 + '"')), "E131", 2, "1,000,000", 2, is_killer=True),
    Malformed("long_element.json", lambda: b"[" + GOOD + b",\n" + _pair('"' + "x" * 2_000_000 + '"').encode() + b"]", "E131", 3, "1,000,000", 1),
    Malformed("keys.jsonl", _second("{" + ",".join(f'"{i}":1' for i in range(90_000)) + "}"), "E133", 2, "90,000", 2),
    # What the rows mean.
    Malformed("alpaca_among.jsonl", _second('{"instruction": "i", "output": "o"}'), "E120", 2, "Alpaca", 2),
    Malformed("messages_among.jsonl", _second(CHAT_GOOD), "E120", 2, "Messages", 2),
    Malformed("list_answer.jsonl", _second(_pair('["r"]')), "E121", 2, "a list, text expected", 2, "response"),
    Malformed("number_answer.jsonl", _second(_pair("579")), "E121", 2, "a number, text expected", 2, "response"),
    Malformed("null_answer.jsonl", _second(_pair("null")), "E122", 2, "null", 2, "response"),
    Malformed("blank_answer.jsonl", _second(_pair(r'" \n\t "')), "E122", 2, "white space", 2, "response"),
    Malformed("empty_answer.csv", lambda: HEADER + b'a,b\nc,""\n', "E122", 3, "empty", 1, "response"),
    Malformed("no_answer.jsonl", _second('{"prompt": "p"}'), "E123", 2, "no 'response'", 2, "response"),
    Malformed("no_key.jsonl", _second("{}"), "E123", 2, "no keys", 2),
    # Conversations.
    Malformed("no_content.jsonl", _chat_second('{"messages":[{"role":"user"}]}'), "E124", 2, "no content", 2),
    Malformed("no_role.jsonl", _chat_second('{"messages":[{"content":"x"}]}'), "E124", 2, "no role", 2),
    Malformed("text_turn.jsonl", _chat_second('{"messages":["hi"]}'), "E124", 2, "a text", 2, "messages[0]"),
    Malformed("role.jsonl", _chat_second(_chat(("robot", "x"), ("assistant", "a"))), "E125", 2, "allowed are system, user", 2),
    Malformed("from.jsonl", _lines(SHAREGPT_GOOD, '{"conversations":[{"from":"alien","value":"x"}]}'), "E125", 2, "human", 1),
    Malformed("two_users.jsonl", _chat_second(_chat(("user", "x"), ("user", "y"), ("assistant", "a"))), "E126", 2, "user, user, assistant", 2),
    Malformed("assistant_first.jsonl", _chat_second(_chat(("assistant", "a"), ("user", "y"))), "E126", 2, "assistant, user", 2),
    Malformed("user_last.jsonl", _chat_second(_chat(("user", "x"), ("assistant", "a"), ("user", "y"))), "E126", 2, "last message", 2),
    Malformed("late_system.jsonl", _chat_second(_chat(("user", "x"), ("system", "s"), ("assistant", "a"))), "E126", 2, "system", 2),
    Malformed("no_assistant.jsonl", _chat_second(_chat(("user", "x"))), "E122", 2, "no assistant message", 2),
    Malformed("no_turns.jsonl", _chat_second('{"messages":[]}'), "E122", 2, "no messages", 2),
    Malformed("blank_turn.jsonl", _chat_second(_chat(("user", "x"), ("assistant", "  "))), "E122", 2, "empty", 2, "messages[1].content"),
    Malformed("parts.jsonl", _chat_second(_chat(("user", [{"type": "text"}]), ("assistant", "a"))), "E121", 2, "a list", 2),
    Malformed("messages_text.jsonl", _chat_second('{"messages":"hi"}'), "E121", 2, "list of messages", 2),
    # CSV.
    Malformed("long_row.csv", lambda: HEADER + b"a,b\na,b,c\n", "E150", 3, "3 fields", 1),
    Malformed("short_row.csv", lambda: HEADER + b"a\na,b\n", "E150", 2, "1 fields", 1),
    Malformed("open_quote.csv", lambda: HEADER + b'a,"b\nc,d\ne,f\n', "E151", 2, "opened in line 2"),
    Malformed("open_quote_big.csv", lambda: HEADER + b'a,"b\n' + b"c,d\n" * 400_000, "E151", 2, "opened in line 2", is_killer=True),
    Malformed("after_quote.csv", lambda: HEADER + b'a,"b"c\nd,e\n', "E151", 2, "middle of a field", 1),
    Malformed("same_names.csv", lambda: b"prompt,response,prompt\na,b,c\n", "E152", 1, "'prompt'", 0, "prompt"),
    Malformed("wide.csv", lambda: b",".join(b"c%d" % i for i in range(5000)) + b"\n", "E133", 1, "5,000"),
    Malformed("one_line.csv", lambda: b"prompt,response" + b"x" * 3_000_000, "E131", 1, "1,000,000"),
    # Parquet.
    Malformed("cut.parquet", lambda: _parquet(_pairs(50))[:-30], "E140", 0, "cannot be read"),
    Malformed("magic.parquet", lambda: b"PAR1", "E140", 0, "cannot be read"),
    Malformed("footer.parquet", lambda: b"PAR1" + b"\xff\xff\xff\x7fPAR1", "E140", 0, "cannot be read", is_killer=True),
    Malformed("flipped.parquet", _flipped, "E140", 0, "cannot be read", is_killer=True),
    Malformed("encrypted.parquet", lambda: b"PARE" + b"\1" * 40 + b"PARE", "E140", 0, "cannot be read"),
    Malformed("text.parquet", lambda: GOOD, "E140", 0, "does not start"),
    Malformed("bomb.parquet", _dictionary_bomb, "E132", 200, "40,000,000", 199, is_killer=True),
    Malformed("rows.parquet", _many_rows, "E132", 0, "2,000,000 rows", is_killer=True),
    Malformed("columns.parquet", lambda: _parquet(pa.table({f"c{i}": ["x"] for i in range(2000)})), "E133", 0, "2,000"),
    Malformed("numbers.parquet", lambda: _parquet(pa.table({"prompt": ["a", "b"], "response": [1, 2]})), "E121", 1, "a number", 0, "response"),
    Malformed("nulls.parquet", lambda: _parquet(pa.table({"prompt": ["a", "b"], "response": ["r", None]})), "E122", 2, "null", 1, "response"),
]  # fmt: skip
