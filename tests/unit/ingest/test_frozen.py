"""Freezing: one id for the same rows, and a set that was changed is not read."""

import subprocess
import sys
from pathlib import Path

import pytest

from seqmatch.errors import DemonstrationError
from seqmatch.ingest import discard, freeze, freeze_demonstrations, inspect_upload, read_frozen
from seqmatch.types import Demonstration, Message

ROWS = [
    Demonstration("p", "a", "g", "x:1"),
    Demonstration((Message("system", "s"), Message("user", "\u2028 ü")), "b\n", "h", "x:2"),
]


def test_the_same_rows_have_the_same_id_whatever_the_file(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text("prompt,answer\np,a\nq,b\n")
    (tmp_path / "two.jsonl").write_text(
        '{"question":"p","output":"a"}\n{"question":"q","output":"b"}'
    )
    root = tmp_path / "sets"
    sets = []
    for name in ("one.csv", "two.jsonl", "one.csv"):
        report = inspect_upload([tmp_path / name], work_dir=tmp_path / "work")
        sets.append(freeze(report, root))
        discard(report)
    assert sets[0] == sets[1] == sets[2]
    assert sets[0].num_rows == 2
    assert [path.name for path in root.iterdir()] == [sets[0].sha256]
    assert [row.completion for row in read_frozen(sets[0].folder)] == ["a", "b"]


def test_what_is_frozen_comes_back(tmp_path: Path) -> None:
    assert read_frozen(freeze_demonstrations(ROWS, tmp_path).folder) == ROWS


def test_order_and_content_change_the_id(tmp_path: Path) -> None:
    ids = {
        freeze_demonstrations(rows, tmp_path).sha256
        for rows in (ROWS, ROWS[::-1], ROWS[:1], [*ROWS, ROWS[0]])
    }
    assert len(ids) == 4


def test_a_changed_set_is_not_read(tmp_path: Path) -> None:
    folder = freeze_demonstrations(ROWS, tmp_path).folder
    rows = folder / "rows.jsonl"
    rows.write_text(rows.read_text().replace('"a"', '"z"'))
    with pytest.raises(DemonstrationError, match="were changed"):
        read_frozen(folder)
    rows.write_text("{}\n")
    with pytest.raises(DemonstrationError, match=r"line 1 of rows\.jsonl"):
        read_frozen(folder)
    with pytest.raises(DemonstrationError, match="no demonstrations under"):
        read_frozen(tmp_path / "absent")


def test_nothing_usable_is_not_frozen(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("null\n")
    report = inspect_upload([tmp_path / "a.jsonl"], work_dir=tmp_path / "work")
    with pytest.raises(DemonstrationError, match="none of the 1 rows can be used"):
        freeze(report, tmp_path / "sets")
    with pytest.raises(DemonstrationError, match="no demonstration to freeze"):
        freeze_demonstrations([], tmp_path / "sets")
    assert list((tmp_path / "sets").iterdir()) == []


def test_the_same_file_has_the_same_verdict(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"prompt":"p","answer":"a"}\nnull\n{"prompt":1,"answer":"a"}\n' * 50)
    first, second = (inspect_upload([path], work_dir=tmp_path / "work") for _ in range(2))
    assert first.model_copy(update={"rows_path": None}) == second.model_copy(
        update={"rows_path": None}
    )
    assert first.rows_path is not None
    assert second.rows_path is not None
    assert first.rows_path.read_bytes() == second.rows_path.read_bytes()


def test_a_missing_file_is_the_callers_mistake(tmp_path: Path) -> None:
    with pytest.raises(DemonstrationError, match=r"no file 'a\.jsonl'"):
        inspect_upload([tmp_path / "a.jsonl"])
    with pytest.raises(DemonstrationError, match="no file was given"):
        inspect_upload([])


def test_the_web_process_loads_no_parser_and_no_torch() -> None:
    code = (
        "import sys, seqmatch.ingest, seqmatch.examples, seqmatch.demonstrations\n"
        "heavy = {'torch', 'transformers', 'datasets', 'pandas', 'pyarrow'} & set(sys.modules)\n"
        "sys.exit(', '.join(sorted(heavy)) or None)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
