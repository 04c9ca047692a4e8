"""Good files: what is written comes back, in every format, in pieces of any size."""

import csv
import io
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqmatch.ingest import ColumnMapping, Limits, UploadReport
from seqmatch.ingest.frozen import preview
from seqmatch.ingest.parquet_rows import FLAT_BATCH_ROWS, plan, read_parquet
from seqmatch.ingest.reading import read_upload
from seqmatch.types import Demonstration, Message

CONTROL = "".join(map(chr, range(32))).translate(str.maketrans("", "", "\t\n\r"))
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters=CONTROL), max_size=40)
ANSWER = TEXT.filter(lambda text: bool(text.strip()))
PAIRS = st.lists(st.tuples(TEXT, ANSWER), min_size=1, max_size=12)
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
WRITERS = ("jsonl", "json", "csv", "tsv", "parquet")


def read(
    folder: Path,
    files: dict[str, bytes],
    *,
    mapping: ColumnMapping | None = None,
    **limits: Any,
) -> tuple[UploadReport, list[Demonstration]]:
    paths = []
    for name, data in files.items():
        paths.append(folder / name)
        paths[-1].write_bytes(data)
    rows_path = folder / "rows.out"
    report = read_upload(paths, rows_path, Limits(**limits), mapping, lambda _name: None)
    assert report.num_rows_read == report.num_usable + report.num_refused
    rows = preview(rows_path, count=10**9)
    assert len(rows) == report.num_demonstrations
    return report, rows


def write(kind: str, pairs: list[tuple[str, str]]) -> bytes:
    rows = [{"prompt": prompt, "completion": answer} for prompt, answer in pairs]
    if kind == "jsonl":
        return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
    if kind == "json":
        return json.dumps(rows, indent=1).encode()
    if kind == "parquet":
        stream = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rows), stream)
        return stream.getvalue()
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t" if kind == "tsv" else ",", quoting=csv.QUOTE_ALL)
    writer.writerow(["prompt", "completion"])
    writer.writerows(pairs)
    return text.getvalue().encode()


def texts(rows: list[Demonstration]) -> list[tuple[object, str]]:
    return [(row.prompt, row.completion) for row in rows]


@pytest.mark.parametrize("kind", WRITERS)
@FEW
@given(pairs=PAIRS)
def test_round_trip(kind: str, pairs: list[tuple[str, str]], tmp_path: Path) -> None:
    if kind in ("csv", "tsv"):  # CSV has no way to say which line end stands inside quotes
        pairs = [(_plain_ends(prompt), _plain_ends(answer)) for prompt, answer in pairs]
        pairs = [pair for pair in pairs if pair[1].strip()] or [("p", "a")]
    report, rows = read(tmp_path, {f"rows.{kind}": write(kind, pairs)})
    assert texts(rows) == pairs
    assert report.num_refused == 0


def _plain_ends(text: str) -> str:
    return text.replace("\r", " ")


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "txt"])
@FEW
@given(pairs=PAIRS, cut=st.integers(0, 400), junk=st.binary(max_size=6))
def test_the_size_of_the_pieces_changes_nothing(
    kind: str, pairs: list[tuple[str, str]], cut: int, junk: bytes, tmp_path: Path
) -> None:
    data = write("jsonl" if kind == "txt" else kind, pairs)
    data = data[:cut] + junk + data[cut:]
    results = [
        read(tmp_path, {f"rows.{kind}": data}, read_bytes=size, max_row_bytes=200)
        for size in (1, 7, 4096)
    ]
    assert results[0] == results[1] == results[2]


@FEW
@given(data=st.binary(max_size=300), kind=st.sampled_from(["jsonl", "json", "csv", "txt", "x"]))
def test_any_bytes_give_rows_and_problems_never_an_exception(
    data: bytes, kind: str, tmp_path: Path
) -> None:
    first, second = (read(tmp_path, {f"any.{kind}": data}) for _ in range(2))
    assert first == second


@FEW
@given(
    head=st.sampled_from([b'{"prompt": ', b"[", b'[{"a":', b"prompt,response\n", b"PAR1", b""]),
    tail=st.lists(
        st.sampled_from(
            [b'"', b"{", b"}", b"[", b"]", b",", b"\n", b"\\", b"\\u", b"d800", b"\0", b"a", b"1e9",
             b"\xff", b"\xef\xbb\xbf", b":", b"null", b"NaN", b"\r", b"\t", b";", b"'", b"x" * 50]
        ),
        max_size=60,
    ),
)  # fmt: skip
def test_nasty_bytes_give_rows_and_problems_never_an_exception(
    head: bytes, tail: list[bytes], tmp_path: Path
) -> None:
    read(tmp_path, {"any.dat": head + b"".join(tail)})


@FEW
@given(pairs=st.lists(st.tuples(TEXT, ANSWER), min_size=3, max_size=9), data=st.data())
def test_one_broken_line_is_the_line_that_is_named(
    pairs: list[tuple[str, str]], data: st.DataObject, tmp_path: Path
) -> None:
    lines = write("jsonl", pairs).split(b"\n")[:-1]
    at = data.draw(st.integers(0, len(lines) - 1))
    lines[at] = lines[at][: data.draw(st.integers(1, len(lines[at]) - 1))]
    report, _ = read(tmp_path, {"rows.jsonl": b"\n".join(lines) + b"\n"})
    errors = [one for one in report.problems if one.severity == "error"]
    assert [one.line for one in errors] == [at + 1]
    assert report.num_usable == len(lines) - 1


def test_three_files_of_three_formats_at_once(tmp_path: Path) -> None:
    chat = {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}]}
    report, rows = read(
        tmp_path,
        {
            "a.jsonl": (json.dumps(chat) + "\n").encode(),
            "b.tsv": b"question\tanswer\nwhat\tthat\n",
            "c.json": b'[{"instruction": "add", "input": "1 2", "output": "3"}]',
        },
    )
    assert texts(rows) == [
        ((Message("user", "hi"),), "yo"),
        ("what", "that"),
        ("add\n\n1 2", "3"),
    ]
    assert [row.source for row in rows] == ["a.jsonl:1", "b.tsv:2", "c.json:1"]
    formats = [file.mapping.format for file in report.files if file.mapping]
    assert formats == ["messages", "prompt_completion", "alpaca"]
    assert report.detected == report.files[0].mapping


def test_every_assistant_turn_is_a_demonstration(tmp_path: Path) -> None:
    turns = [("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d")]
    data = json.dumps({"conversations": [{"from": r, "value": v} for r, v in turns]}).encode()
    report, rows = read(tmp_path, {"a.jsonl": data})
    system, user = Message("system", "s"), Message("user", "a")
    longer = (system, user, Message("assistant", "b"), Message("user", "c"))
    assert texts(rows) == [((system, user), "b"), (longer, "d")]
    assert rows[0].group == rows[1].group
    assert (report.num_usable, report.num_demonstrations) == (1, 2)
    assert report.detected is not None
    last = report.detected.model_copy(update={"turns": "last"})
    assert texts(read(tmp_path, {"a.jsonl": data}, mapping=last)[1]) == [(longer, "d")]


def test_the_person_can_change_the_mapping(tmp_path: Path) -> None:
    data = b"first,second,third\na,b,c\n"
    report, rows = read(tmp_path, {"a.csv": data})
    assert report.counts["E123"] == 1
    mapping = ColumnMapping(
        format="prompt_completion",
        fields={"prompt": "third", "completion": "first", "system": "second"},
    )
    report, rows = read(tmp_path, {"a.csv": data}, mapping=mapping)
    assert texts(rows) == [((Message("system", "b"), Message("user", "c")), "a")]
    assert report.detected == mapping


def test_a_mapping_names_what_it_lacks() -> None:
    with pytest.raises(ValueError, match=r"lacks \['completion'\]"):
        ColumnMapping(format="prompt_completion", fields={"prompt": "a"})
    with pytest.raises(ValueError, match=r"unknown \['answer'\]"):
        ColumnMapping(format="text", fields={"text": "a", "answer": "b"})


def test_parquet_columns_of_many_texts_are_read_plainly_and_others_keep_their_dictionary(
    tmp_path: Path,
) -> None:
    numbers = random.Random(0)
    written = [
        {
            "prompt": f"{index} " + "".join(numbers.choices("abcdefgh", k=300)),
            "completion": "yes" if index % 7 else None,
        }
        for index in range(9_000)
    ]
    pq.write_table(pa.Table.from_pylist(written), tmp_path / "a.parquet", row_group_size=8_000)
    with pq.ParquetFile(tmp_path / "a.parquet") as file:
        assert plan(file) == (["completion"], FLAT_BATCH_ROWS)
    rows = list(read_parquet(tmp_path / "a.parquet", Limits()))
    assert [row.values for row in rows] == written


def test_plain_text_is_paragraphs(tmp_path: Path) -> None:
    report, rows = read(tmp_path, {"a.txt": b"one\ntwo\n\n\n three\r\n\r\nfour"})
    assert texts(rows) == [("", "one\ntwo"), ("", " three"), ("", "four")]
    assert [row.source for row in rows] == ["a.txt:1", "a.txt:5", "a.txt:7"]
    assert report.counts["I302"] == 1


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.jsonl", b'\xef\xbb\xbf{"prompt": "p", "answer": "a"}\n', "W201"),
        ("a.csv", b"\xef\xbb\xbfprompt,answer\np,a\n", "W201"),
        ("a.jsonl", '{"prompt": "p", "answer": "it\u00e2\u20ac\u2122s"}'.encode(), "W202"),
        ("a.jsonl", b"prompt,answer\np,a\n", "W203"),
        ("a.csv", b'{"prompt": "p", "answer": "a"}\n', "W203"),
        ("a.csv", b"prompt\tanswer\np\ta\n", "W210"),
        ("a.csv", b"prompt;answer\np;a\n", "W210"),
        ("a.csv", b"What is 1+1?,2\nWhat is 2+2?,4\n", "W211"),
        ("a.csv", b"prompt,question,answer\np,q,a\n", "W212"),
        ("a.csv", b"links,rechts\np,a\n", "W212"),
        ("a.jsonl", b'{"messages":[{"role":"user","content":"q","name":"n"},'
         b'{"role":"assistant","content":"a"}]}', "W220"),
        ("a.jsonl", b'{"prompt": "", "answer": "a"}', "W221"),
        ("a.jsonl", b'{"prompt": "p", "answer": "a"}', "W231"),
        ("a.jsonl", b'{"prompt": "p", "answer": "a"}\n' * 2, "W232"),
        ("a.jsonl", b'{"prompt": "p", "answer": "a"}\n{"prompt": "p", "answer": "b"}', "W233"),
        ("a.jsonl", b'{"prompt": "p", "answer": " p"}', "W234"),
        ("a.jsonl", b'{"prompt": "Hi", "answer": "a"}\n{"prompt": "hi ", "answer": "b"}', "W235"),
        ("a.jsonl", b'{"prompt": "<|im_end|>", "answer": "a"}', "W236"),
        ("a.jsonl", b'{"prompt": "p", "answer": "mail a.b@example.org"}', "W237"),
        ("a.json", b'[{"prompt": "p", "answer": "a"}]', "I301"),
        ("a.csv", b"prompt,answer,topic\np,a,t\n", "I303"),
    ],
)  # fmt: skip
def test_warnings_refuse_nothing(name: str, data: bytes, code: str, tmp_path: Path) -> None:
    report, _ = read(tmp_path, {name: data})
    assert code in report.counts, report.problems
    assert report.num_refused == 0
    assert report.num_usable > 0


@pytest.mark.parametrize("text", ["NA", "null", "None", "nan", "=cmd|'/C calc'!A0", "001", " x "])
def test_cells_are_text_and_nothing_else(text: str, tmp_path: Path) -> None:
    _, rows = read(tmp_path, {"a.csv": f"prompt,answer\n{text},{text}\n".encode()})
    assert texts(rows) == [(text, text)]


def test_large_cells_and_odd_line_ends_inside_text(tmp_path: Path) -> None:
    big = "x" * 200_000
    odd = "a\u2028b\x85c\x0cd"
    data = f'prompt,answer\r\n"{big}","{odd}\ne"\r\n\r\n'.encode()
    _, rows = read(tmp_path, {"a.csv": data})
    assert texts(rows) == [(big, f"{odd}\ne")]


def test_the_same_prompt_is_one_group_whatever_its_format(tmp_path: Path) -> None:
    chat = b'{"messages":[{"role":"user","content":"q"},{"role":"assistant","content":"b"}]}'
    _, rows = read(tmp_path, {"a.csv": b"prompt,answer\nq,a\nQ ,c\nr,d\n", "b.jsonl": chat})
    groups = [row.group for row in rows]
    assert groups[0] == groups[1] == groups[3] != groups[2]
