"""The `oracle` command as a person calls it: tables, CSV, lists, mistakes, and a closed pipe."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from seqmatch.cli import main
from seqmatch.exact.choices import ORACLE_OBJECTIVES
from seqmatch.exact.languages import LANGUAGES


def _main(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main(["oracle", *argv])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_tables_on_stdout_progress_on_stderr_and_every_number_in_the_file(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "numbers.csv"
    objectives = "sft,sequence_match:reverse_kl"

    code, out, err = _main(
        capsys, "--objectives", objectives, "--seeds", "0-1", "--alpha", "0.1,1", "--runs",
        "--csv", str(file),
    )  # fmt: skip

    assert code == 0
    assert out.startswith("# Two modes\n")
    assert "| sequence_match:reverse_kl α=0.1 |" in out
    assert "| sequence_match:reverse_kl α=1 " in out
    assert "## Cross-divergence matrix between laws of answers" in out
    assert "2 of 2" in out
    assert "alpha 0.1, 4 of 4: done" in err
    assert "alpha 1, 2 of 2: done" in err
    assert "± is the 95 % interval" in out
    with file.open(encoding="utf-8", newline="") as opened:
        rows = list(csv.DictReader(opened))
    # SFT does not depend on alpha: it is there once for each seed.
    assert {(row["objective"], row["alpha"]) for row in rows} == {
        ("data", ""), ("sft", ""),
        ("sequence_match:reverse_kl", "0.1"), ("sequence_match:reverse_kl", "1.0"),
    }  # fmt: skip
    law = [float(row["value"]) for row in rows if row["quantity"] == "law" and row["seed"] == "1"]
    assert sum(law) == pytest.approx(3.0)


def test_a_table_of_ones_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    table = tmp_path / "answers.txt"
    table.write_text("ab 3\nba 1\n", encoding="utf-8")

    code, out, _ = _main(
        capsys, "--table", str(table), "--objectives", "sft,exact:reverse_kl", "--seeds", "0"
    )

    assert code == 0
    assert "Note: exact:reverse_kl is not trained" in out
    assert "| data          | 0.7500 | 0.2500 |" in out
    assert "95 % interval" not in out  # of one seed there is none


def test_adversarial_objectives_tell_how_far_they_came_from_their_start(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "numbers.csv"

    code, out, _ = _main(
        capsys, "--objectives", "sft,adversarial:jensen_shannon:token", "--seeds", "0-1",
        "--csv", str(file),
    )  # fmt: skip

    assert code == 0
    _, _, table = out.partition("## Adversarial objectives: their own divergence")
    rows = table.partition("## ")[0]
    assert "| adversarial:jensen_shannon:token | jensen_shannon |" in rows
    assert "| 2 of 2 |" in rows
    assert "| sft" not in rows
    with file.open(encoding="utf-8", newline="") as opened:
        found = [row for row in csv.DictReader(opened) if row["quantity"].startswith("own_")]
    values = [float(row["value"]) for row in found if row["objective"] != "sft"]
    assert len(values) == 4
    assert max(values[1::2]) < min(values[::2])


def test_nothing_to_train_is_exit_code_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    table = tmp_path / "answers.txt"
    table.write_text("ab 3\nba 1\n", encoding="utf-8")

    code, out, _ = _main(capsys, "--table", str(table), "--objectives", "exact:reverse_kl")

    assert code == 1
    assert "it is infinite for every policy" in out


def test_the_list_has_every_language_and_objective(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = _main(capsys, "--list")

    assert (code, err) == (0, "")
    assert all(f"  {name} " in out for name in (*LANGUAGES, *ORACLE_OBJECTIVES))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--language", "klingon"], "unknown language 'klingon'; known: addition_mod_4"),
        (["--objectives", "sftt"], "objectives: unknown objective 'sftt'; known: "),
        (["--seeds", "4-1"], "'4-1' is no range"),
        (["--seeds", "x"], "'x' is neither a number nor a range"),
        (["--alpha", "0"], "alpha: Input should be greater than 0"),
        (["--alpha", "a"], "could not convert string to float"),
        (["--alpha", ""], "'' is empty; at least one is needed"),
        (["--objectives", ","], "',' is empty; at least one is needed"),
        (["--seeds", ""], "'' is empty; at least one is needed"),
        (["--table", "gone.txt"], "--table gone.txt: "),
        (["--csv", "nowhere/x.csv"], "there is no folder nowhere"),
        (["--csv", "."], "--csv .: is a folder; name a file"),
        (["--objectivs", "sft"], "did you mean --objectives?"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    code, out, err = _main(capsys, *argv)

    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no full device")
def test_a_file_that_cannot_be_written_is_one_line_after_the_tables(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, out, err = _main(capsys, "--objectives", "sft", "--seeds", "0", "--csv", "/dev/full")

    assert code == 2
    assert "## Cross-divergence matrix" in out
    assert err.splitlines()[-1].startswith("python -m seqmatch oracle: --csv /dev/full: ")


def test_a_reader_that_leaves_is_no_error_message() -> None:
    command = f"{sys.executable} -m seqmatch oracle --list | head -n 1"

    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=True)

    assert (done.stdout, done.stderr) == ("languages:\n", "")
