"""Collapses that are made on purpose stop a run with the right flag; healthy seeds raise none."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from seqmatch.config_flags import merge_settings, run_config
from seqmatch.discriminators import PairFeatures
from seqmatch.discriminators.player import DiscriminatorPlayer
from seqmatch.examples import EXAMPLES
from seqmatch.objectives import AdversarialConfig
from seqmatch.reporting import Control
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from seqmatch.training import carry_on
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
FASTER = {"optimization": {"learning_rate": 1.2e-2}}
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
    """It takes every stop for the policy's and learns no more; nothing holds the policy back."""
    changes = {
        "objective": {
            "warmup_fraction": 1 / 3,
            "final_beta": 0.0,
            "policy_step": {"kl_weight": 0.0, "whiten": True},
            "discriminator": {"learning_rate": 1e-12},
            "rollouts": {"every": 2, "max_new_tokens": 24},
            "discount": 0.99,
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
    """The weights of a discriminator with h = 1 for every token in every state, and -3 for a stop.

    Fitted on random states and on embeddings with noise, since both move while the policy learns.
    """
    policy = run.state.policy
    teacher = DiscriminatorPlayer(policy, AdversarialConfig(), seed=0).discriminator
    head = teacher.head
    table = policy.lm.get_input_embeddings().weight.detach()
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    rng = torch.Generator().manual_seed(0)
    for _ in range(400):
        token = torch.randint(48, 58, (256,), generator=rng)
        token[::2] = policy.space.eos_id
        action = table[token] + 0.2 * table.std() * torch.randn(256, table.shape[1], generator=rng)
        features = PairFeatures(
            states=torch.randn(256, policy.head_weight.shape[1], generator=rng),
            actions=action,
            is_backspace=torch.zeros(256, dtype=torch.bool),
            is_action=torch.ones(256, 1, dtype=torch.bool),
        )
        wanted = torch.where(token == policy.space.eos_id, -3.0, 1.0)
        loss = (head(features)[:, 0] - wanted).square().mean()
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
    assert loss.item() < 0.1
    return teacher.tensors()
