"""All of a run that must survive a stop, and how it is written to a checkpoint and read back.

Random generators are not in it: each is a function of the run's seed, its name and the step
(`seqmatch.seeding`), as the learning rate and beta are functions of the step. The data cursor is
the number of demonstrations drawn so far.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from seqmatch.collapse import CollapseMonitor
from seqmatch.config import RunConfig
from seqmatch.discriminators.files import load_discriminator, save_discriminator
from seqmatch.discriminators.player import DiscriminatorPlayer
from seqmatch.errors import CheckpointError
from seqmatch.held_weights import HeldWeights
from seqmatch.objectives.dispatch import adversarial_config
from seqmatch.optimization import load_optimizer_tensors, make_optimizer, optimizer_tensors
from seqmatch.policy import Policy, save_policy
from seqmatch.replay_buffer import ReplayBuffer
from seqmatch.rounds import Round
from seqmatch.running_means import RunningMeans
from seqmatch.seeding import child_seed
from seqmatch.sharding import Kept
from seqmatch.target_network import TargetNetwork, make_target

_FORMAT = 1
_PLAYER, _ROUND = "discriminator_optimizer.safetensors", "round.json"
_FIXED = ("base_model", "data", "objective", "adapter", "seed")
"""Settings with which a checkpoint was made and that resuming may not change."""


@dataclass
class TrainState:
    """The mutable state of a run."""

    policy: Policy
    optimizer: torch.optim.AdamW
    buffer: ReplayBuffer
    target: TargetNetwork | None = None
    """Gives the values of next states, where the objective has one."""
    round: Round | None = None
    """The answers that steps are trained on, where the objective is trained in rounds."""
    player: DiscriminatorPlayer | None = None
    """The discriminator with its optimiser, where the objective has one."""
    reference: HeldWeights | None = None
    """The policy at the end of the imitation warm-up, from then on, where it is needed."""
    start: HeldWeights | None = None
    """The policy before training, where it is needed."""
    monitor: CollapseMonitor | None = None
    """Raises flags, where the objective is trained in rounds."""
    step: int = 0
    """Batches done, skipped ones included."""
    num_drawn: int = 0
    """Demonstrations drawn so far: the data cursor."""
    skipped_steps: list[int] = field(default_factory=list)
    """Steps whose update was refused, in order."""
    evaluated_step: int = -1
    """The last step after which an evaluation was reported."""
    means: RunningMeans = field(default_factory=RunningMeans)
    """Training metrics since the last report."""

    latest: dict[str, float] = field(default_factory=dict)
    """The last reported number of each metric."""

    @property
    def num_updates(self) -> int:
        """Optimiser steps taken."""
        return self.step - len(self.skipped_steps)


def write_state(
    state: TrainState,
    config: RunConfig,
    dataset_sha256: str,
    folder: Path,
    kept: Kept | None = None,
) -> None:
    """Writes the state into an empty folder: all that learns, rollouts, counters.

    Args:
        state: The state.
        config: Of the run.
        dataset_sha256: Identifies the demonstrations.
        folder: Where it goes.
        kept: Policy and optimiser where those of the state are shards; None takes the state's.

    Raises:
        OSError: A file could not be written.
    """
    if kept is None:
        parameters = state.policy.trainable_parameters()
        kept = Kept(state.policy, optimizer_tensors(state.optimizer, parameters))
    save_policy(kept.policy, folder / "policy")
    save_file(kept.moments, folder / "optimizer.safetensors")
    for name, held in (
        ("target", state.target),
        ("reference", state.reference),
        ("start", state.start),
    ):
        if held is not None:
            save_file(held.tensors(), folder / f"{name}.safetensors")
    if state.player is not None:
        save_discriminator(state.player.discriminator, folder / "policy")
        save_file(state.player.optimizer_tensors(), folder / _PLAYER)
    if state.round is not None:
        _write_json(folder / _ROUND, state.round.state())
    _write_json(folder / "buffer.json", state.buffer.state())
    _write_json(
        folder / "state.json",
        {
            "format": _FORMAT,
            "step": state.step,
            "num_drawn": state.num_drawn,
            "skipped_steps": state.skipped_steps,
            "evaluated_step": state.evaluated_step,
            "means": state.means.state(),
            "latest": state.latest,
            "monitor": state.monitor.state() if state.monitor else None,
            "discriminator_updates": state.player.num_updates if state.player else 0,
            "config": config.model_dump(mode="json"),
            "dataset_sha256": dataset_sha256,
        },
    )


def read_state(folder: Path, policy: Policy, config: RunConfig, dataset_sha256: str) -> TrainState:
    """Returns the state of a verified checkpoint around its already loaded `policy`.

    Raises:
        CheckpointError: It belongs to other demonstrations or to settings that resuming may not
            change.
    """
    stored = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    _check_it_fits(stored, config, dataset_sha256, folder)
    optimizer = make_optimizer(policy.trainable_parameters(), config.optimization)
    tensors = load_file(folder / "optimizer.safetensors")
    load_optimizer_tensors(optimizer, policy.trainable_parameters(), tensors)
    target = make_target(policy, config.objective)
    if target is not None:
        target.load(load_file(folder / "target.safetensors"), "the target network")
    buffer = json.loads((folder / "buffer.json").read_text(encoding="utf-8"))
    player = make_player(policy, config)
    if player is not None:
        found = load_discriminator(folder / "policy", policy)
        if found is None:
            raise CheckpointError(f"{folder.name} has no discriminator beside its policy")
        player.resume(found, load_file(folder / _PLAYER), stored["discriminator_updates"])
    return TrainState(
        policy=policy,
        optimizer=optimizer,
        buffer=ReplayBuffer.from_state(buffer),
        target=target,
        round=_read_round(folder / _ROUND),
        player=player,
        reference=_read_held(folder / "reference.safetensors", policy),
        start=_read_held(folder / "start.safetensors", policy),
        monitor=CollapseMonitor.from_state(stored["monitor"]) if stored.get("monitor") else None,
        step=stored["step"],
        num_drawn=stored["num_drawn"],
        skipped_steps=stored["skipped_steps"],
        evaluated_step=stored["evaluated_step"],
        means=RunningMeans.from_state(stored["means"]),
        latest=stored["latest"],
    )


def make_player(policy: Policy, config: RunConfig) -> DiscriminatorPlayer | None:
    """Returns a new discriminator beside the policy; None where the objective has none."""
    objective = adversarial_config(config.objective)
    if objective is None:
        return None
    return DiscriminatorPlayer(policy, objective, child_seed(config.seed, "discriminator"))


def _read_round(path: Path) -> Round | None:
    return Round.from_state(json.loads(path.read_text("utf-8"))) if path.exists() else None


def _read_held(path: Path, policy: Policy) -> HeldWeights | None:
    if not path.exists():
        return None
    held = HeldWeights(policy)
    held.load(load_file(path), path.stem)
    return held


def _check_it_fits(
    stored: dict[str, object], config: RunConfig, dataset_sha256: str, folder: Path
) -> None:
    if stored.get("format") != _FORMAT:
        raise CheckpointError(
            f"{folder.name} has format {stored.get('format')!r}; this version reads {_FORMAT}"
        )
    if stored["dataset_sha256"] != dataset_sha256:
        raise CheckpointError(
            f"{folder.name} was trained on demonstrations {stored['dataset_sha256']!r}, "
            f"not on {dataset_sha256!r}; start a new run for other data"
        )
    # Read as a config, so that settings which are newer than the checkpoint have their default.
    before = RunConfig.model_validate(stored["config"])
    changed = [name for name in _FIXED if getattr(before, name) != getattr(config, name)]
    if changed:
        raise CheckpointError(
            f"{folder.name} was trained with another {', '.join(changed)}; resuming may change "
            "the other settings only, so start a new run"
        )


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, allow_nan=False), encoding="utf-8")
