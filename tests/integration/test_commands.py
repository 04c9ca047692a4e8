"""The command line as a person calls it: help, mistakes in one line, data, and a whole run."""

import json
import re
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from seqmatch.cli import COMMANDS, main
from seqmatch.jobs.locks import is_held
from seqmatch.jobs.runner import RUNNER_LOCK
from storage import RunStore
from storage.records import RunStatus

HEAVY = ("torch", "transformers", "peft", "gradio", "sqlalchemy", "datasets")


def _main(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    try:
        code = main([str(each) for each in argv])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = f"""
import sys
from seqmatch.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout

    assert output.strip().endswith("[]")
    assert all(name in output for name in COMMANDS)


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "users"])
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], name: str) -> None:
    code, out, err = _main(capsys, name, "--help")

    assert (code, err) == (0, "")
    assert f"seqmatch {name}" in out


def test_the_document_names_every_command() -> None:
    text = (Path(__file__).parents[2] / "docs" / "commands.md").read_text(encoding="utf-8")

    assert [name for name in COMMANDS if f"| `{name}` |" not in text] == []


ROWS = '{"prompt": "a?", "completion": "b"}\n{"prompt": "c?"}\n'


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["fly"], "invalid choice: 'fly'"),
        (["train", "--data", "none.jsonl"], r"none\.jsonl: no such file, no stored set"),
        (["train", "--data", "arithmetic", "--seed", "x"], "seed: Input should be a valid integer"),
        (["train", "--data", "arithmetic", "--config", "gone"], "gone: No such file"),
        (["train", "--data", "rows.jsonl"], "1 of 2 rows cannot be used"),
        (["train", "--data", "arithmetic", "--objective.kind", "sfd"], "objective"),
        (["runs", "stop", "abc"], "no run has the id or name 'abc'"),
        (["generate", "--base-model", "gpt9", "--prompt", "x"], "gpt9"),
        (["generate", "--base-model", "x", "--prompt", "x", "--top_p", "7"], "top_p: Input should"),
        (["evaluate", "abc"], "no run has"),
        (["export", "abc"], "no run has"),
        (["data", "check", "gone.csv"], r"gone\.csv: no such file"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS, encoding="utf-8")

    code, _, err = _main(capsys, *argv)

    assert code == 2
    last = err.strip().splitlines()[-1]
    assert last.startswith("python -m seqmatch")
    assert re.search(message, last)
    assert "Traceback" not in err


def test_data_is_checked_and_imported(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("rows.jsonl").write_text(ROWS, encoding="utf-8")

    checked = _main(capsys, "data", "check", "rows.jsonl")
    imported = _main(capsys, "data", "import", "--accept", "--name", "mine", "rows.jsonl")
    listed = _main(capsys, "data", "list")

    assert checked[0] == 1
    assert "1 of 2 rows can be used" in checked[1]
    assert "rows.jsonl:2: error" in checked[2]
    assert imported[0] == 0
    assert imported[1].endswith("1 demonstrations  mine\n")
    assert "mine" in listed[1]
    assert "arithmetic" in listed[1]


def test_settings_come_from_the_example_the_file_and_the_flags(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("c.json").write_text('{"seed": 5, "adapter": {"kind": "full"}}', encoding="utf-8")
    flags = ["--print-config", "--optimization.num_steps", "7"]

    suggested = json.loads(_main(capsys, "train", "--data", "arithmetic", *flags)[1])
    given = json.loads(
        _main(capsys, "train", "--data", "arithmetic", "--config", "c.json", *flags)[1]
    )

    assert suggested["data"]["max_tokens"] == 32
    assert suggested["adapter"]["kind"] == "full"
    assert suggested["optimization"]["num_steps"] == given["optimization"]["num_steps"] == 7
    assert (given["seed"], given["data"]["max_tokens"]) == (5, 256)


@pytest.mark.slow
def test_a_run_from_the_command_line_to_its_answers(tmp_path: Path) -> None:
    """Queued in the store, trained by the runner's processes, measured, exported, answered."""
    store = ["--data-dir", str(tmp_path / "store")]
    small = ["--optimization.num_steps", "4", "--evaluation.num_prompts", "4"]

    def call(*argv: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "seqmatch", *argv, *store],
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )

    trained = call("train", "--data", "arithmetic", "--name", "first", *small)
    assert trained.returncode == 0, trained.stderr
    assert "completed, 4 steps" in trained.stderr
    scores = tmp_path / "scores.json"
    measured = call("evaluate", "first", "--num-prompts", "5", "--output", str(scores))
    exported = call("export", "first", "--output", str(tmp_path / "adapter.zip"))
    answered = call("generate", "--run", "first", "--prompt", "1+1=", "--json")

    assert measured.returncode == 0, measured.stderr
    assert json.loads(scores.read_text(encoding="utf-8"))[0]["num_prompts"] == 5
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "adapter.zip").stat().st_size > 1000
    assert [json.loads(line)["backspace"] for line in answered.stdout.splitlines()] == [True, False]


def test_without_a_runner_a_run_is_queued_and_waits(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    data_dir = str(tmp_path / "data")
    devices = ["--device", "cpu, cpu"]
    code, out, _ = _main(
        capsys, "train", "--data-dir", data_dir, "--data", "arithmetic", "--no-runner", *devices
    )
    with closing(RunStore.open(tmp_path / "data")) as store:
        (run,) = store.runs.list()
    assert (code, out.strip(), run.status) == (0, run.id, RunStatus.QUEUED)
    assert run.device == "cpu,cpu"
    assert not is_held(tmp_path / "data" / RUNNER_LOCK)
