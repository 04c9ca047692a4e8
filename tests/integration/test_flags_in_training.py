"""Collapses that are made on purpose stop a run with the right flag; healthy seeds raise none."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from seqmatch.config_flags import merge_settings, run_config
from seqmatch.discriminators.player import DiscriminatorPlayer, SeenPass
from seqmatch.examples import EXAMPLES
from seqmatch.objectives import AdversarialConfig
from seqmatch.reporting import Control
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from seqmatch.single_pass import build_batch
from seqmatch.training import carry_on
from seqmatch.types import Trajectory
from tests.short_runs import SHA, Recorder

DEMONSTRATIONS = EXAMPLES["arithmetic"].load()[:600]
SETTINGS: dict[str, Any] = {
    "data": {"dataset": SHA, "max_tokens": 32},
    "adapter": {"kind": "full"},
    "objective": {
        "kind": "adversarial",
        "backspace": False,
        "warmup_fraction": 0.5,
        "rollouts": {"every": 4, "batch_size": 64, "max_new_tokens": 16},
        "discriminator": {"warmup_steps": 20},
    },
    "optimization": {
        "num_steps": 200,
        "batch_size": 32,
        "warmup_steps": 10,
        "learning_rate": 3e-3,
        "schedule": "constant",
    },
    "evaluation": {"every": 50, "num_prompts": 64, "max_new_tokens": 16, "num_samples": 1},
    "checkpoints": {"every": 1000},
    "device": "cpu",
}
FASTER = {"optimization": {"learning_rate": 6e-3}}
STARTED = 100
"""The last step of the imitation warm-up."""


def start(
    folder: Path, reporter: Recorder, changes: Mapping[str, Any] | None = None
) -> TrainingRun:
    return begin(
        run_config(merge_settings(SETTINGS, changes or {})),
        DEMONSTRATIONS,
        run_dir=folder,
        models_dir=folder,
        allowed_models=(),
        reporter=reporter,
        dataset_sha256=SHA,
        metrics_csv=None,
    )


def flags(reporter: Recorder) -> list[str]:
    return [code for code, _ in reporter.events if code.startswith("flag_")]


@pytest.fixture(scope="module")
def imitated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run at the end of its imitation warm-up; its learning rate may differ when it goes on."""
    folder = tmp_path_factory.mktemp("imitated")
    recorder = Recorder(STARTED, Control.STOP_AND_SAVE)
    carry_on(start(folder, recorder))
    assert not flags(recorder)
    return folder


def copied(folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(folder, tmp_path / "run"))


@pytest.mark.parametrize("seed", range(2))
def test_healthy_seeds_raise_none(seed: int, tmp_path: Path) -> None:
    recorder = Recorder()
    result = carry_on(start(tmp_path, recorder, {"seed": seed}))
    assert flags(recorder) == []
    assert result.status == "completed"


@pytest.mark.parametrize(
    ("level", "discriminator"),
    [
        # Right about nearly every whole answer of each batch:
        (
            "trajectory",
            {"learning_rate": 3e-3, "label_smoothing": 0.0, "updates": 4, "warmup_steps": 200},
        ),
        # As it is suggested but for the gate; single actions often look alike, answers do not:
        ("token", {"learning_rate": 1e-2}),
    ],
)
def test_a_policy_that_stands_still_is_told_apart(
    level: str, discriminator: dict[str, Any], tmp_path: Path
) -> None:
    """Random weights that are not trained, and a discriminator without a gate."""
    objective = {
        "level": level,
        "warmup_fraction": 0.0,
        "discriminator": {"warmup_steps": 0, "gate": 1.0, **discriminator},
    }
    changes = {"optimization": {"learning_rate": 1e-9}, "objective": objective}
    recorder = Recorder()

    result = carry_on(start(tmp_path, recorder, changes))

    assert flags(recorder) == ["flag_discriminator_won"]
    assert result.status == "stopped"
    assert result.export_path is not None


def test_a_discriminator_that_sees_nothing_gives_up(tmp_path: Path) -> None:
    """Its first layer reads nothing, while an independent probe tells the two sides apart."""
    recorder = Recorder()
    run = start(tmp_path, recorder, {"optimization": {"learning_rate": 1e-5}})
    assert run.state.player is not None
    first = run.state.player.discriminator.head.first
    with torch.no_grad():
        first.weight.zero_()
    first.weight.requires_grad_(False)
    group = run.state.player.optimizer.param_groups[0]
    group["params"] = [each for each in group["params"] if each is not first.weight]

    result = carry_on(run)

    assert flags(recorder) == ["flag_discriminator_gave_up"]
    assert result.status == "stopped"


def test_a_learning_rate_a_hundred_times_too_large_collapses(
    imitated: Path, tmp_path: Path
) -> None:
    recorder = Recorder()
    changes = {"optimization": {"learning_rate": 0.3}, "evaluation": {"every": 1000}}

    result = carry_on(start(copied(imitated, tmp_path), recorder, changes))

    assert flags(recorder) == ["flag_policy_collapsed"]
    assert result.status == "stopped"


def test_a_discriminator_that_pays_for_length_is_exploited(tmp_path: Path) -> None:
    """It has learnt that long answers are the expert's, and learns no more; nothing holds back."""
    changes = {
        "objective": {
            "warmup_fraction": 1 / 3,
            "final_beta": 0.0,
            "policy_step": {"kl_weight": 0.0, "whiten": True},
            "discriminator": {"learning_rate": 1e-12},
            "rollouts": {"max_new_tokens": 24},
        },
        "optimization": {"num_steps": 600},
        "evaluation": {"every": 1000},
    }
    carry_on(start(tmp_path, Recorder(2 * STARTED, Control.STOP_AND_SAVE), changes))
    recorder = Recorder()
    run = start(tmp_path, recorder, merge_settings(changes, FASTER))
    assert run.state.player is not None
    run.state.player.discriminator.load(_paying_for_length(run))

    result = carry_on(run)

    assert flags(recorder) == ["flag_length_exploited"]
    assert result.status == "stopped"


def _paying_for_length(run: TrainingRun) -> dict[str, torch.Tensor]:
    """The weights of a discriminator that was taught by long answers against short ones."""
    policy = run.state.policy
    stop = policy.space.eos_id
    rng = np.random.default_rng(0)
    prompts = [row.prompt_ids for row in run.rows.train[:96]]

    def answers(shortest: int, longest: int) -> list[Trajectory]:
        sizes = rng.integers(shortest, longest, size=len(prompts), endpoint=True)
        digits = [tuple(rng.integers(48, 58, size=size).tolist()) for size in sizes]
        return [
            Trajectory(prompt, (*each, stop), (*each, stop))
            for prompt, each in zip(prompts, digits, strict=True)
        ]

    long, short = answers(9, 22), answers(0, 8)
    config = {"warmup_fraction": 0.5, "discriminator": {"learning_rate": 1e-2, "gate": 1.0}}
    teacher = DiscriminatorPlayer(policy, AdversarialConfig.model_validate(config), seed=0)
    batch = build_batch([*long, *short], policy.space)
    with torch.no_grad():
        hidden = policy.slot_states(batch)
        values = policy.state_action_values(batch, hidden=hidden)
    for step in range(200):
        teacher.learn(policy, [SeenPass(long, batch, hidden, values)], [], step)
    return teacher.discriminator.tensors()
