"""Every malformed file gets its code, its line and a sentence, and this process lives on."""

import threading
from pathlib import Path

import psutil
import pytest

from seqmatch.ingest import UploadReport, discard, inspect_upload
from seqmatch.ingest.codes import PROBLEM_CODES
from seqmatch.ingest.report import Limits
from tests.unit.ingest.malformed import CASES, GOOD, Malformed

LIMITS = Limits(max_file_bytes=80_000_000, max_unpacked_bytes=40_000_000)


def inspect(tmp_path: Path, name: str, data: bytes, limits: Limits = LIMITS) -> UploadReport:
    path = tmp_path / name
    path.write_bytes(data)
    return inspect_upload([path], limits=limits, work_dir=tmp_path / "work")


def check_sums(report: UploadReport) -> None:
    assert report.num_rows_read == report.num_usable + report.num_refused
    for file in report.files:
        assert file.num_rows_read == file.num_usable + file.num_refused
    errors = sum(count for code, count in report.counts.items() if code.startswith("E"))
    assert errors >= report.num_refused


@pytest.fixture(scope="module")
def all_at_once(tmp_path_factory: pytest.TempPathFactory) -> UploadReport:
    """One upload of all the files that no reader should die of."""
    folder = tmp_path_factory.mktemp("malformed")
    paths = []
    for case in CASES:
        if not case.is_killer:
            paths.append(folder / case.name)
            paths[-1].write_bytes(case.make())
    return inspect_upload(paths, limits=LIMITS, work_dir=folder / "work")


@pytest.mark.parametrize("case", [one for one in CASES if not one.is_killer], ids=lambda c: c.name)
def test_it_gets_its_code_line_and_sentence(case: Malformed, all_at_once: UploadReport) -> None:
    check_case(case, all_at_once)


@pytest.mark.parametrize("case", [one for one in CASES if one.is_killer], ids=lambda c: c.name)
def test_it_kills_nobody(case: Malformed, tmp_path: Path) -> None:
    check_case(case, inspect(tmp_path, case.name, case.make()))


def check_case(case: Malformed, report: UploadReport) -> None:
    own = [one for one in report.problems if one.file == case.name]
    found = [one for one in own if one.code == case.code]
    assert found, [(one.code, one.line, one.message) for one in own]
    problem = found[0]
    assert problem.severity == "error"
    assert problem.line == case.line, problem
    assert case.words in problem.message
    assert len(problem.excerpt) <= 80
    assert problem.excerpt.isprintable()
    file = next(one for one in report.files if one.name == case.name)
    assert file.num_usable == case.num_usable
    if case.column is not None:
        assert problem.column == case.column
    check_sums(report)
    others = {one.code for one in own if one.severity == "error"} - {case.code}
    assert others <= {"E102", "E110", "E121", "E123"}, others


def test_the_catalogue_is_covered() -> None:
    covered = {case.code for case in CASES}
    elsewhere = {"E134", "E135", "E136", "E153"}
    assert {code for code in PROBLEM_CODES if code.startswith("E")} <= covered | elsewhere


def test_too_many_rows(tmp_path: Path) -> None:
    report = inspect(tmp_path, "a.jsonl", GOOD * 20, Limits(max_rows=5))
    assert report.counts["E134"] == 1
    assert report.num_usable == 5
    assert [one.line for one in report.problems if one.code == "E134"] == [6]


def test_too_large_a_file_is_not_even_opened(tmp_path: Path) -> None:
    path = tmp_path / "sparse.jsonl"
    with path.open("wb") as file:
        file.truncate(50 * 10**9)
    report = inspect_upload([path], work_dir=tmp_path)
    assert report.counts == {"E135": 1}
    assert "50,000,000,000" in report.problems[0].message


def test_too_large_an_upload(tmp_path: Path) -> None:
    report = inspect(tmp_path, "a.jsonl", GOOD * 20, Limits(max_total_bytes=100))
    assert report.counts == {"E135": 1}


def test_lone_carriage_returns_are_not_csv(tmp_path: Path) -> None:
    report = inspect(tmp_path, "a.csv", b"prompt,response\na\rb,c\nd,e\n")
    assert report.counts["E153"] == 1
    assert report.num_usable == 1


def test_time_is_limited(tmp_path: Path) -> None:
    report = inspect(tmp_path, "slow.jsonl", GOOD * 200, Limits(wall_seconds=0.01))
    assert report.counts == {"E136": 1}
    assert "0.01 seconds" in report.problems[0].message
    assert report.rows_path is None


def test_computing_is_limited(tmp_path: Path) -> None:
    report = inspect(tmp_path, "slow.jsonl", GOOD * 190_000, Limits(cpu_seconds=1))
    assert report.counts == {"E136": 1}
    assert "slow.jsonl" in report.problems[0].message


def test_memory_is_limited(tmp_path: Path) -> None:
    rows = b"".join(
        b'{"prompt": "%d", "response": "%d%s"}\n' % (i, i, b"x" * 100) for i in range(150_000)
    )
    limits = Limits(memory_bytes=200_000_000, max_row_bytes=10**9, read_bytes=10**9)
    report = inspect(tmp_path, "many.jsonl", rows, limits)
    assert set(report.counts) <= {"E132", "E136"}
    assert report.num_usable == 0


def test_all_problems_are_counted_and_the_first_are_listed(tmp_path: Path) -> None:
    report = inspect(tmp_path, "a.jsonl", GOOD + b'{"prompt": "p", "response": ""}\n' * 3000)
    assert report.counts["E122"] == 3000
    assert len(report.problems) == 1000
    assert [one.line for one in report.problems if one.code == "E122"][:3] == [2, 3, 4]
    check_sums(report)


def test_warnings_never_hide_errors(tmp_path: Path) -> None:
    data = GOOD * 1500 + b"null\n"
    report = inspect(tmp_path, "a.jsonl", data)
    assert report.counts["W232"] == 1499
    assert any(one.code == "E113" and one.line == 1501 for one in report.problems)


def test_nothing_is_left_behind(tmp_path: Path) -> None:
    before = _children_and_threads()
    inspect(tmp_path, "a.jsonl", b"null\n")
    assert list((tmp_path / "work").iterdir()) == []
    report = inspect(tmp_path, "b.jsonl", GOOD)
    discard(report)
    assert list((tmp_path / "work").iterdir()) == []
    assert _children_and_threads() == before


def _children_and_threads() -> tuple[set[int], int]:
    children = psutil.Process().children()
    return {child.pid for child in children}, threading.active_count()
