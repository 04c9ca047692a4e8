"""Training the small model for a few steps: resuming bit by bit, stopping, faults, the export."""

import json
import math
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqmatch.checkpoints import published
from seqmatch.config import RunConfig
from seqmatch.config_flags import merge_settings, run_config
from seqmatch.errors import CheckpointError, ConfigError, DemonstrationError, DivergedError
from seqmatch.examples import EXAMPLES
from seqmatch.metrics import METRICS
from seqmatch.policy import load_saved_policy
from seqmatch.reporting import Control, NullReporter, Trace
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from seqmatch.training import TrainResult, train
from seqmatch.training_state import read_state
from seqmatch.types import Demonstration

SHA = "d" * 64
DEMONSTRATIONS = EXAMPLES["arithmetic"].load()[:120]
SETTINGS: dict[str, Any] = {
    "data": {"dataset": SHA, "max_tokens": 32},
    "objective": {
        "kind": "sequence_match",
        "warmup_fraction": 0.2,
        "corruption": {"rate": 0.3},
        "rollouts": {"every": 4, "batch_size": 6, "buffer_size": 9, "max_new_tokens": 4},
    },
    "adapter": {"kind": "full"},
    "optimization": {"num_steps": 20, "batch_size": 8, "warmup_steps": 3},
    "evaluation": {"every": 10, "num_prompts": 6, "max_new_tokens": 4, "num_samples": 2},
    "checkpoints": {"every": 5},
    "device": "cpu",
}
SFT = {"objective": {"kind": "sft", "backspace": False}}


class Killed(BaseException):
    """Stands for the death of the process: nothing in the loop may catch it."""


class Recorder(NullReporter):
    """Keeps what is reported; at a step it gives an answer or dies."""

    def __init__(self, at_step: int = -1, answer: Control | None = None) -> None:
        self.at_step, self.answer = at_step, answer
        self.values: dict[tuple[str, int], float] = {}
        self.traces: dict[int, Sequence[Trace]] = {}
        self.events: list[tuple[str, str]] = []
        self.artifacts: list[tuple[str, Path]] = []

    def progress(self, step: int, num_steps: int) -> Control:
        if step != self.at_step:
            return Control.GO_ON
        if self.answer is None:
            raise Killed
        return self.answer

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        self.values |= {(name, step): value for name, value in values.items()}

    def samples(self, step: int, traces: Sequence[Trace]) -> None:
        self.traces[step] = traces

    def event(self, level: str, code: str, message: str) -> None:
        self.events.append((code, message))

    def artifact(self, kind: str, path: Path) -> None:
        self.artifacts.append((kind, path))

    def repeatable(self) -> dict[tuple[str, int], float]:
        return {key: value for key, value in self.values.items() if "system/" not in key[0]}


def _config(changes: Mapping[str, Any] | None = None) -> RunConfig:
    return run_config(merge_settings(SETTINGS, changes or {}))


def _train(
    folder: Path,
    reporter: NullReporter,
    changes: Mapping[str, Any] | None = None,
    demonstrations: Sequence[Demonstration] = DEMONSTRATIONS,
) -> TrainResult:
    return train(
        _config(changes),
        demonstrations,
        run_dir=folder,
        models_dir=folder / "models",
        reporter=reporter,
        dataset_sha256=SHA,
    )


def _begin(folder: Path, reporter: NullReporter) -> TrainingRun:
    return begin(
        _config(),
        DEMONSTRATIONS,
        run_dir=folder,
        models_dir=folder / "models",
        allowed_models=(),
        reporter=reporter,
        dataset_sha256=SHA,
        metrics_csv=None,
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
    return folder, reporter, _train(folder, reporter)


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

    first = _train(tmp_path, stopped)
    second = _train(tmp_path, resumed)

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
        _train(tmp_path, killed)
    leftover = tmp_path / "checkpoints" / ".unfinished-step-00000014-x"
    leftover.mkdir()

    _train(tmp_path, resumed)

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

    _train(tmp_path / "unbroken", unbroken, changes)
    with pytest.raises(Killed):
        _train(tmp_path / "killed", killed, changes)
    _train(tmp_path / "killed", resumed, changes)

    _assert_same_end(tmp_path / "unbroken", tmp_path / "killed")
    assert (tmp_path / "killed" / "checkpoints" / "step-00000020" / "target.safetensors").exists()
    assert killed.repeatable() | resumed.repeatable() == unbroken.repeatable()
    reported = {name for name, _ in unbroken.values}
    assert {"train/target_gap", "train/clipped_data", "train/clipped_rollout"} <= reported
    assert unbroken.values["train/backspace_labels", 20] > 0.1
    assert unbroken.values["train/target_gap", 20] > 0.0


def test_offline_nothing_is_sampled(tmp_path: Path) -> None:
    reporter = Recorder()

    _train(tmp_path, reporter, {"objective": {"offline": True}, "evaluation": {"every": 100}})

    reported = {name for name, _ in reporter.values}
    assert "train/sm_loss" in reported
    assert not reported & {"train/td_rollout", "train/mixture_penalty", "rollout/age"}


def test_a_damaged_checkpoint_is_passed_over_with_an_event(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    weights = tmp_path / "checkpoints" / "step-00000020" / "policy" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-4] + b"\0\0\0\1")
    reporter = Recorder()

    _train(tmp_path, reporter)

    codes = [code for code, _ in reporter.events]
    assert codes == ["checkpoint_unusable", "resumed"]
    _assert_same_end(whole[0], tmp_path)


def test_stopping_without_saving_writes_nothing_more(tmp_path: Path) -> None:
    result = _train(tmp_path, Recorder(7, Control.STOP))

    assert result == TrainResult("stopped", 7, None, None)
    assert [checkpoint.step for checkpoint in published(tmp_path / "checkpoints")] == [5]
    assert not (tmp_path / "policy").exists()


@pytest.mark.parametrize("answer", [Control.STOP, Control.STOP_AND_SAVE])
def test_a_stop_at_the_last_step_ends_a_whole_run_and_says_what_is_missing(
    tmp_path: Path, answer: Control
) -> None:
    reporter = Recorder(4, answer)
    result = _train(tmp_path, reporter, {**SFT, "optimization": {"num_steps": 4}})

    assert (result.status, result.step) == ("completed", 4)
    assert result.policy_folder is not None
    assert [code for code, _ in reporter.events] == ["not_evaluated"]
    assert ("eval/nll", 4) not in reporter.values


def test_a_finished_run_can_be_prolonged_and_one_at_its_end_exports_again(
    whole: Whole, tmp_path: Path
) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)
    again, longer = Recorder(), Recorder()

    at_its_end = _train(tmp_path, again)
    prolonged = _train(tmp_path, longer, {"optimization": {"num_steps": 22}})

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
        _train(tmp_path, Recorder(), changes)


def test_a_checkpoint_older_than_a_setting_has_its_default(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[0] / "checkpoints" / "step-00000020", tmp_path, dirs_exist_ok=True)
    state = json.loads((tmp_path / "state.json").read_text())
    del state["config"]["objective"]["target_decay"]
    (tmp_path / "state.json").write_text(json.dumps(state))
    policy = load_saved_policy(tmp_path / "policy", device="cpu", models_dir=tmp_path)

    assert read_state(tmp_path, policy, _config(), SHA).step == 20
    with pytest.raises(CheckpointError, match="another objective"):
        read_state(tmp_path, policy, _config({"objective": {"target_decay": 0.5}}), SHA)


def test_resuming_on_other_demonstrations_is_refused(whole: Whole, tmp_path: Path) -> None:
    shutil.copytree(whole[0], tmp_path, dirs_exist_ok=True)

    with pytest.raises(CheckpointError, match="start a new run for other data"):
        train(
            _config(),
            DEMONSTRATIONS,
            run_dir=tmp_path,
            models_dir=tmp_path,
            reporter=NullReporter(),
            dataset_sha256="e" * 64,
        )


def test_three_bad_batches_in_a_row_end_the_run_and_change_nothing(tmp_path: Path) -> None:
    reporter = Recorder()
    run = _begin(tmp_path, reporter)
    weights = run.state.policy.trainable_parameters()
    poisoned = next(iter(weights.values()))
    poisoned.data[:] = math.nan
    others = {name: weight.detach().clone() for name, weight in weights.items()}

    for _ in range(2):
        run.update(run.draw_demonstrations(), [])
    with pytest.raises(DivergedError, match=r"steps \[1, 2, 3\]"):
        run.update(run.draw_demonstrations(), [])

    assert [code for code, _ in reporter.events] == ["step_skipped"] * 3
    assert run.state.num_updates == 0
    assert all(
        torch.equal(weights[name], old) for name, old in others.items() if old.isfinite().all()
    )
    with pytest.raises(DivergedError, match="not finite after step 3"):
        run.save()
    assert published(tmp_path / "checkpoints") == []


def test_more_than_one_bad_batch_in_a_hundred_ends_the_run(tmp_path: Path) -> None:
    run = _begin(tmp_path, Recorder())
    run.state.step = 3
    run.state.skipped_steps = [1] * 10
    next(iter(run.state.policy.trainable_parameters().values())).data[:] = math.nan

    with pytest.raises(DivergedError, match=r"10 of 1,000"):
        run.update(run.draw_demonstrations(), [])


def test_a_checkpoint_that_cannot_be_written_is_tried_again(tmp_path: Path) -> None:
    reporter = Recorder()
    run = _begin(tmp_path, reporter)
    (tmp_path / "checkpoints").touch()  # a file where the folder should be

    run.save()
    run.save()
    with pytest.raises(OSError, match="checkpoints"):
        run.save()

    assert [code for code, _ in reporter.events] == ["checkpoint_failed"] * 3


def test_sft_lowers_the_held_out_loss(tmp_path: Path) -> None:
    reporter = Recorder()

    result = _train(tmp_path, reporter, SFT | {"optimization": {"num_steps": 40}})

    assert result.status == "completed"
    assert reporter.values["eval/nll", 40] < 0.7 * reporter.values["eval/nll", 0]
    assert "train/sm_loss" not in {name for name, _ in reporter.values}
    assert not (tmp_path / "policy" / "backspace.safetensors").exists()


@pytest.mark.parametrize(("too_long", "told"), [("drop", "left out and 0 cut"), ("cut", "0 were")])
def test_rows_over_the_limit_are_told(tmp_path: Path, too_long: str, told: str) -> None:
    reporter = Recorder()
    long = [Demonstration(f"{n}+{n}=", "15" * 20, group=f"long {n}") for n in range(30)]
    changes = {"data": {"too_long": too_long}, "optimization": {"num_steps": 1}}

    _train(tmp_path, reporter, changes, [*DEMONSTRATIONS, *long])

    messages = [message for code, message in reporter.events if code == "rows_over_limit"]
    assert len(messages) == 1
    assert "rows have more than 32 tokens" in messages[0]
    assert told in messages[0]


@pytest.mark.parametrize(
    ("changes", "demonstrations", "error", "message"),
    [
        ({"data": {"max_tokens": 8}}, DEMONSTRATIONS, DemonstrationError, "more than 8 tokens"),
        ({}, DEMONSTRATIONS[:1], DemonstrationError, "different prompts"),
        ({"device": "cuda:7"}, DEMONSTRATIONS, ConfigError, "CUDA devices"),
        ({"adapter": {"kind": "lora"}}, DEMONSTRATIONS, ConfigError, "random weights"),
    ],
)
def test_what_cannot_be_trained_is_refused_with_its_reason(
    tmp_path: Path,
    changes: dict[str, Any],
    demonstrations: Sequence[Demonstration],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        _train(tmp_path, Recorder(), changes, demonstrations)
