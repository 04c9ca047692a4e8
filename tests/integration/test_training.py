"""Training the small model for a few steps: resuming bit by bit, stopping, faults, the export."""

import json
import math
import shutil
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqmatch.checkpoints import published
from seqmatch.errors import CheckpointError
from seqmatch.metrics import METRICS
from seqmatch.policy import load_saved_policy
from seqmatch.reporting import Control, NullReporter
from seqmatch.training import TrainResult, train
from seqmatch.training_state import read_state
from tests.short_runs import (
    DEMONSTRATIONS,
    SFT,
    SHA,
    Killed,
    Recorder,
    config_short,
    train_short,
)


def _assert_same_end(folder: Path, other: Path) -> None:
    """All tensors, the optimiser, the buffer and the counters are equal, bit by bit."""
    ends = [run / "checkpoints" / "step-00000020" for run in (folder, other)]
    for name in (
        "policy/model.safetensors",
        "policy/backspace.safetensors",
        "optimizer.safetensors",
    ):
        one, two = (load_file(end / name) for end in ends)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[key], two[key]) for key in one), name
    targets = [end / "target.safetensors" for end in ends]
    if targets[0].exists():
        assert targets[0].read_bytes() == targets[1].read_bytes()
    assert targets[0].exists() is targets[1].exists()
    buffers = [(end / "buffer.json").read_text() for end in ends]
    assert buffers[0] == buffers[1]
    states = [json.loads((end / "state.json").read_text()) for end in ends]
    for state in states:
        for name in [name for name in state["latest"] if name.startswith("system/")]:
            del state["latest"][name]
    assert states[0] == states[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder, TrainResult]:
    """Twenty steps at once."""
    folder, reporter = tmp_path_factory.mktemp("whole"), Recorder()
    return folder, reporter, train_short(folder, reporter)


Whole = tuple[Path, Recorder, TrainResult]


def test_a_run_reports_its_curves_samples_and_zip(whole: Whole) -> None:
    folder, reporter, result = whole

    names = {name for name, _ in reporter.values}

    assert (result.status, result.step) == ("completed", 20)
    assert names <= set(METRICS)
    assert {"train/mixture_penalty", "rollout/age", "eval/divergence", "eval/nll"} <= names
    assert all(math.isfinite(value) for value in reporter.values.values())
    assert [step for name, step in sorted(reporter.values) if name == "train/loss"] == [
        *range(1, 21)
    ]
    assert [step for name, step in sorted(reporter.values) if name == "eval/nll"] == [0, 10, 20]
    assert set(reporter.traces) == {0, 10, 20}
    assert [len(traces) for traces in reporter.traces.values()] == [0, 2, 2]
    assert [checkpoint.step for checkpoint in published(folder / "checkpoints")] == [20, 15]
    assert result.export_path is not None
    assert reporter.artifacts == [("adapter_zip", result.export_path)]
    with zipfile.ZipFile(result.export_path) as archive:
        assert "train/loss,20," in archive.read("metrics.csv").decode()


@pytest.mark.parametrize("stop_at", [10, 13])
def test_stopping_with_saving_and_resuming_changes_nothing(
    whole: Whole, tmp_path: Path, stop_at: int
) -> None:
    stopped, resumed = Recorder(stop_at, Control.STOP_AND_SAVE), Recorder()

    first = train_short(tmp_path, stopped)
    second = train_short(tmp_path, resumed)

    assert (first.status, first.step) == ("stopped", stop_at)
    assert first.export_path is not None
    assert second.status == "completed"
    assert ("resumed", f"resumed from the checkpoint of step {stop_at}") in resumed.events
    _assert_same_end(whole[0], tmp_path)
    assert not stopped.repeatable().keys() & resumed.repeatable().keys()
    assert stopped.repeatable() | resumed.repeatable() == whole[1].repeatable()


def test_a_killed_run_resumes_from_its_checkpoint(whole: Whole, tmp_path: Path) -> None:
    killed, resumed = Recorder(14), Recorder()
    with pytest.raises(Killed):
        train_short(tmp_path, killed)
    leftover = tmp_path / "checkpoints" / ".unfinished-step-00000014-x"
    leftover.mkdir()

    train_short(tmp_path, resumed)

    assert not leftover.exists()
    assert ("resumed", "resumed from the checkpoint of step 10") in resumed.events
    _assert_same_end(whole[0], tmp_path)
    assert killed.repeatable() | resumed.repeatable() == whole[1].repeatable()
    both = killed.repeatable().keys() & resumed.repeatable().keys()
    assert all(killed.values[key] == resumed.values[key] for key in both)


def test_the_policys_own_noise_and_a_target_network_resume_bit_by_bit(tmp_path: Path) -> None:
    """Bursts drawn from the policy, and the average of its weights, are as in an unbroken run."""
    noise = {"rate": 0.3, "burst": 3, "alphabet": "model_top_k"}
    options = {"corruption": noise, "target_decay": 0.8, "reward_clip": 0.1, "estimator": "paper"}
    changes = {"objective": options, "evaluation": {"every": 100}}
    unbroken, killed, resumed = Recorder(), Recorder(14), Recorder()

    train_short(tmp_path / "unbroken", unbroken, changes)
    with pytest.raises(Killed):
        train_short(tmp_path / "killed", killed, changes)
    train_short(tmp_path / "killed", resumed, changes)

    _assert_same_end(tmp_path / "unbroken", tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoints" / "step-00000020" / "target.safetensors").exists()
    assert killed.repeatable() | resumed.repeatable() == unbroken.repeatable()
    reported = {name for name, _ in unbroken.values}
    assert {"train/target_gap", "train/clipped_data", "train/clipped_rollout"} <= reported
    assert unbroken.values["train/backspace_labels", 20] > 0.1
    assert unbroken.values["train/target_gap", 20] > 0.0


def test_offline_nothing_is_sampled(tmp_path: Path) -> None:
    reporter = Recorder()

    train_short(tmp_path, reporter, {"objective": {"offline": True}, "evaluation": {"every": 100}})

    reported = {name for name, _ in reporter.values}
    assert "train/sm_loss" in reported
    assert not reported & {"train/td_rollout", "train/mixture_penalty", "rollout/age"}


def test_a_damaged_checkpoint_is_passed_over_with_an_event(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "checkpoints" / "step-00000020" / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    reporter = Recorder()

    train_short(tmp_path, reporter)

    assert reporter.codes == ["checkpoint_unusable", "resumed"]
    _assert_same_end(whole[0], tmp_path)


def test_stopping_without_saving_writes_nothing_more(tmp_path: Path) -> None:
    result = train_short(tmp_path, Recorder(7, Control.STOP))

    assert result == TrainResult("stopped", 7, None, None)
    assert [checkpoint.step for checkpoint in published(tmp_path / "checkpoints")] == [5]
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize("answer", [Control.STOP, Control.STOP_AND_SAVE])
def test_a_stop_at_the_last_step_ends_a_whole_run_and_says_what_is_missing(
    tmp_path: Path, answer: Control
) -> None:
    reporter = Recorder(4, answer)
    result = train_short(tmp_path, reporter, {**SFT, "optimization": {"num_steps": 4}})

    assert (result.status, result.step) == ("completed", 4)
    assert result.policy_folder is not None
    assert reporter.codes == ["not_evaluated"]
    assert ("eval/nll", 4) not in reporter.values


def test_a_finished_run_can_be_prolonged_and_one_at_its_end_exports_again(
    whole: Whole, tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    again, longer = Recorder(), Recorder()

    at_its_end = train_short(tmp_path, again)
    prolonged = train_short(tmp_path, longer, {"optimization": {"num_steps": 22}})

    assert at_its_end.step == 20
    assert again.values == {}
    assert [kind for kind, _ in again.artifacts] == ["adapter_zip"]
    assert (prolonged.step, prolonged.status) == (22, "completed")
    assert {step for _, step in longer.values} == {21, 22}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, "another seed"),
        ({"objective": {"alpha": 0.5}}, "another objective"),
        (SFT, "another objective"),
    ],
)
def test_resuming_with_other_settings_is_refused(
    whole: Whole, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)

    with pytest.raises(CheckpointError, match=message):
        train_short(tmp_path, Recorder(), changes)


def test_a_checkpoint_older_than_a_setting_has_its_default(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[0] / "checkpoints" / "step-00000020", tmp_path, dirs_exist_ok=True)
    state = json.loads((tmp_path / "state.json").read_text())
    del state["config"]["objective"]["target_decay"]
    (tmp_path / "state.json").write_text(json.dumps(state))
    policy = load_saved_policy(tmp_path / "policy", device="cpu", models_dir=tmp_path)

    assert read_state(tmp_path, policy, config_short(), SHA).step == 20
    with pytest.raises(CheckpointError, match="another objective"):
        read_state(tmp_path, policy, config_short({"objective": {"target_decay": 0.5}}), SHA)


def test_resuming_on_other_demonstrations_is_refused(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)

    with pytest.raises(CheckpointError, match="start a new run for other data"):
        train(
            config_short(),
            DEMONSTRATIONS,
            run_dir=tmp_path,
            models_dir=tmp_path,
            reporter=NullReporter(),
            dataset_sha256="e" * 64,
        )


def test_sft_lowers_the_held_out_loss(tmp_path: Path) -> None:
    reporter = Recorder()

    result = train_short(tmp_path, reporter, SFT | {"optimization": {"num_steps": 40}})

    assert result.status == "completed"
    assert reporter.values["eval/nll", 40] < 0.7 * reporter.values["eval/nll", 0]
    assert "train/sm_loss" not in {name for name, _ in reporter.values}
    assert not (tmp_path / "policy" / "backspace.safetensors").exists()
