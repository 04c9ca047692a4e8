"""Flags, progress lines and the light help of the commands, without any process of a run."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from seqmatch.cli import main
from seqmatch.jobs.commands.follow import Lines
from seqmatch.jobs.environment import child_environment
from storage import RunStore
from storage.records import Claim, RunStatus

Capture = pytest.CaptureFixture[str]


def _call(capsys: Capture, *argv: str) -> tuple[int, str, str]:
    try:
        code = main(argv)
    except SystemExit as ended:
        code = int(ended.code or 0)
    return (code, *capsys.readouterr())


@pytest.mark.parametrize(
    ("argv", "meant"),
    [
        (["train", "--data", "x", "--optimization.num_step", "5"], "--optimization.num_steps"),
        (["train", "--dat", "x"], "--data"),
        (["runs", "list", "--jsn"], "--json"),
        (["runs", "--data-dirr", "x", "list"], "--data-dir"),
    ],
)
def test_an_unknown_flag_is_one_line_with_the_nearest(
    capsys: Capture, argv: list[str], meant: str
) -> None:
    code, out, err = _call(capsys, *argv)
    assert (code, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert f"did you mean {meant}?" in err


def test_hyphens_stand_for_underscores(capsys: Capture, tmp_path: Path) -> None:
    folder = ["--data_dir", str(tmp_path / "d")]
    flags = ["--optimization.num-steps=7", "--optimization.batch-size", "3", "--print-config"]
    code, out, err = _call(capsys, "train", "--data", "arithmetic", *folder, *flags)
    assert code == 0, err
    assert '"num_steps": 7' in out
    assert '"batch_size": 3' in out


def test_lora_on_random_weights_queues_nothing(capsys: Capture, tmp_path: Path) -> None:
    flags = ["--adapter.kind", "lora", "--data-dir", str(tmp_path / "d")]
    code, out, err = _call(capsys, "train", "--data", "arithmetic", *flags)
    assert (code, out) == (2, "")
    assert "starts from random weights" in err
    assert not (tmp_path / "d").exists()


def test_the_data_directory_may_stand_after_the_action(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for argv in (["runs", "list", "--data-dir", "a"], ["runs", "--data-dir", "a", "list"]):
        assert _call(capsys, *argv)[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


@pytest.mark.parametrize(
    "name", ["generate", "evaluate", "demo", "train", "prepare-model", "oracle"]
)
def test_help_loads_no_torch(name: str) -> None:
    code = f"""
import sys
from seqmatch.cli import main
try:
    main([{name!r}, "--help"])
except SystemExit as ended:
    assert not ended.code
else:
    raise AssertionError("help did not end the program")
assert not {{"torch", "transformers", "peft"}} & sys.modules.keys()
"""
    command = [sys.executable, "-c", code]
    subprocess.run(command, check=True, env=child_environment(), stdout=subprocess.DEVNULL)


def test_where_no_terminal_is_progress_is_told_now_and_then(store: RunStore, claim: Claim) -> None:
    lines: list[str] = []
    now = [0.0]
    display = Lines(lines.append, clock=lambda: now[0])
    run = replace(claim.run, num_steps=1000, steps_per_second=10.0, phase="training")
    for step in range(100):  # ten polls a second for ten seconds
        now[0] = step * 0.1
        display.show(replace(run, step=step))
    assert len(lines) == 2, "the first, and one after 5 % of the steps"
    assert "step 50 of 1000, training, 10.0 steps/s, 1.6 min left" in lines[1]
    now[0] += 15.0
    display.show(replace(run, step=99))
    display.show(replace(run, step=99, status=RunStatus.COMPLETED))
    assert len(lines) == 4


def test_how_many_runs_train_at_once_is_set_and_shown(capsys: Capture, tmp_path: Path) -> None:
    folder = ["--data-dir", str(tmp_path / "d")]
    assert _call(capsys, "runs", "at-once", *folder)[1].endswith("at once: 1\n")
    assert _call(capsys, "runs", "at-once", "3", *folder)[0] == 0
    assert _call(capsys, "runs", "at-once", *folder)[1].endswith("at once: 3\n")
    code, _, err = _call(capsys, "runs", "at-once", "0", *folder)
    assert (code, "1 to 64" in err) == (2, True)
