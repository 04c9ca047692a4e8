"""Every kind of objective trains, resumes bit by bit, and can be asked for on the command line."""

import argparse
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from seqmatch.config import RunConfig
from seqmatch.config_flags import equivalent_command, merge_settings, run_config
from seqmatch.examples import EXAMPLES
from seqmatch.jobs.commands import train as train_command
from seqmatch.metrics import METRICS
from seqmatch.objectives import CONFIGS
from seqmatch.reporting import Control, NullReporter
from seqmatch.training import train
from tests.objective_settings import OBJECTIVE_SETTINGS

SHA = "d" * 64
DEMONSTRATIONS = EXAMPLES["arithmetic"].load()[:60]
NUM_STEPS = 4
SETTINGS: dict[str, Any] = {
    "data": {"dataset": SHA, "max_tokens": 32},
    "adapter": {"kind": "full"},
    "optimization": {"num_steps": NUM_STEPS, "batch_size": 4, "warmup_steps": 1},
    "evaluation": {"every": 100, "num_prompts": 2, "max_new_tokens": 2, "num_samples": 1},
    "checkpoints": {"every": 2},
    "device": "cpu",
}
every = pytest.mark.parametrize("kind", list(CONFIGS))


class Recorder(NullReporter):
    """Keeps numbers and events; stops the run with a checkpoint at a step."""

    def __init__(self, stop_at: int = -1) -> None:
        self.stop_at = stop_at
        self.values: dict[str, float] = {}
        self.events: list[str] = []

    def progress(self, step: int, num_steps: int) -> Control:
        return Control.STOP_AND_SAVE if step == self.stop_at else Control.GO_ON

    def metrics(self, step: int, values: dict[str, float]) -> None:  # type: ignore[override]
        self.values |= values

    def event(self, level: str, code: str, message: str) -> None:
        self.events.append(f"{level} {code}: {message}")


def _settings(kind: str, **changes: Any) -> dict[str, Any]:
    objective: dict[str, Any] = {**OBJECTIVE_SETTINGS[kind], "corruption": {"rate": 0.3}, **changes}
    if "rollouts" in CONFIGS[kind].model_fields:
        objective["rollouts"] = {"every": 2, "batch_size": 4, "buffer_size": 4, "max_new_tokens": 3}
    return merge_settings(SETTINGS, {"objective": objective})


def _train(config: RunConfig, folder: Path, *reporters: NullReporter) -> dict[str, torch.Tensor]:
    """Trains once for each reporter, the later ones from the last checkpoint."""
    for reporter in reporters:
        train(
            config,
            DEMONSTRATIONS,
            run_dir=folder,
            models_dir=folder / "models",
            reporter=reporter,
            dataset_sha256=SHA,
        )
    weights: dict[str, torch.Tensor] = load_file(folder / "policy" / "model.safetensors")
    return weights


@every
def test_it_trains_and_resumes_bit_by_bit(kind: str, tmp_path: Path) -> None:
    config, recorder = run_config(_settings(kind)), Recorder()

    whole = _train(config, tmp_path / "whole", recorder)
    resumed = _train(config, tmp_path / "resumed", Recorder(stop_at=2), Recorder())

    assert recorder.values.keys() <= METRICS.keys()
    assert math.isfinite(recorder.values["train/loss"])
    assert not [event for event in recorder.events if event.startswith("warning")]
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_a_run_with_weights_that_leave_out_the_stop_says_so(tmp_path: Path) -> None:
    settings = _settings("forward_kl_occupancy", weights="paper", backspace=False)
    recorder = Recorder()

    _train(run_config(settings), tmp_path, recorder)

    (warning,) = [event for event in recorder.events if event.startswith("warning objective")]
    assert "stop token, the weight 0" in warning


@every
def test_its_equivalent_command_gives_the_same_config(kind: str) -> None:
    config = run_config(merge_settings(_settings(kind), {"data": {"dataset": "x"}}))
    parser = argparse.ArgumentParser(allow_abbrev=False)
    train_command.add_arguments(parser)

    command = shlex.split(equivalent_command(config))
    given = train_command.requested_settings(parser.parse_args(command[4:]))

    assert run_config(merge_settings(given, {"data": {"dataset": "x"}})) == config
    assert f"--objective.kind {kind}" in shlex.join(command) or kind == "sft"


def _changes_of_kind() -> Sequence[tuple[str, str]]:
    kinds = list(CONFIGS)
    return list(zip(kinds, [*kinds[1:], kinds[0]], strict=True))


@pytest.mark.parametrize(("kind", "other"), _changes_of_kind())
def test_another_kind_takes_nothing_of_the_first(kind: str, other: str) -> None:
    merged = merge_settings(_settings(kind), {"objective": {"kind": other}})

    assert run_config(merged).objective == CONFIGS[other]()


@every
def test_a_wrong_setting_is_named_without_the_tag(kind: str) -> None:
    with pytest.raises(ValueError, match=r"^objective\.corruption\.rate: "):
        run_config(_settings(kind, corruption={"rate": 2}))
