"""How a run begins: the policy and the rows, from the newest checkpoint where there is one."""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from seqmatch.batches import TrainingRows, prepare_rows
from seqmatch.checkpoints import Checkpoint, newest_verified
from seqmatch.collapse import CollapseMonitor, patience_of
from seqmatch.config import RunConfig
from seqmatch.durable_files import remove_unfinished
from seqmatch.errors import ConfigError
from seqmatch.held_weights import HeldWeights
from seqmatch.lens import Eyes
from seqmatch.micro_batches import positions_per_pass
from seqmatch.objectives.dispatch import has_start, in_rounds, rollout_config, warnings_of
from seqmatch.optimization import make_optimizer
from seqmatch.policy import Policy, load_policy, load_saved_policy
from seqmatch.replay_buffer import ReplayBuffer
from seqmatch.reporting import Reporter
from seqmatch.round_summary import summarise
from seqmatch.run_steps import TrainingRun
from seqmatch.seeding import child_seed
from seqmatch.target_network import make_target
from seqmatch.training_state import TrainState, make_player, read_state
from seqmatch.types import Demonstration


def begin(
    config: RunConfig,
    demonstrations: Sequence[Demonstration],
    *,
    run_dir: Path,
    models_dir: Path,
    allowed_models: Sequence[str],
    reporter: Reporter,
    dataset_sha256: str,
    metrics_csv: Callable[[], str] | None,
) -> TrainingRun:
    """Returns the run at its first step, or where its newest usable checkpoint left it.

    Arguments and errors are those of `seqmatch.training.train`.
    """
    reporter.phase("loading the model")
    for folder in (run_dir, run_dir / "checkpoints"):
        remove_unfinished(folder)
    checkpoint = _newest_checkpoint(run_dir, reporter)
    device = torch_device(config.device)
    if checkpoint is None:
        policy = load_policy(
            config.base_model,
            config.adapter,
            config.objective.backspace,
            seed=child_seed(config.seed, "new weights"),
            device=device,
            models_dir=models_dir,
            allowed=allowed_models,
        )
        state = _new_state(policy, config)
        for warning in warnings_of(config.objective):
            reporter.event("warning", "objective", warning)
    else:
        policy = load_saved_policy(
            checkpoint.folder / "policy",
            device=device,
            models_dir=models_dir,
            allowed=allowed_models,
        )
        state = read_state(checkpoint.folder, policy, config, dataset_sha256)
        reporter.event("info", "resumed", f"resumed from the checkpoint of step {state.step}")
    policy.train()
    reporter.phase("reading the demonstrations")
    rows = prepare_rows(config, demonstrations, policy, reporter)
    if state.monitor is None and in_rounds(config.objective):
        state.monitor = _new_monitor(config, rows)
    eyes = None
    if config.evaluation.probe:
        eyes = Eyes.of(policy, models_dir=models_dir, allowed=allowed_models)
    reporter.phase("training")
    return TrainingRun(
        config=config,
        rows=rows,
        state=state,
        reporter=reporter,
        run_dir=run_dir,
        dataset_sha256=dataset_sha256,
        metrics_csv=metrics_csv,
        max_positions=pass_positions(policy),
        eyes=eyes,
    )


def torch_device(name: str) -> torch.device:
    """Returns the device that a config's `device` means here; "auto" takes a GPU if there is one.

    Raises:
        ConfigError: It asks for a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices; "
            "'auto' or 'cpu' always work"
        )
    return device


def _newest_checkpoint(run_dir: Path, reporter: Reporter) -> Checkpoint | None:
    def tell(checkpoint: Checkpoint, reason: str) -> None:
        reporter.event(
            "warning",
            "checkpoint_unusable",
            f"the checkpoint of step {checkpoint.step} was passed over: {reason}",
        )

    return newest_verified(run_dir / "checkpoints", tell)


def _new_state(policy: Policy, config: RunConfig) -> TrainState:
    rollouts = rollout_config(config.objective)
    return TrainState(
        policy=policy,
        optimizer=make_optimizer(policy.trainable_parameters(), config.optimization),
        buffer=ReplayBuffer(1 if rollouts is None else rollouts.buffer_size),
        target=make_target(policy, config.objective),
        player=make_player(policy, config),
        start=HeldWeights(policy) if has_start(config.objective) else None,
    )


def _new_monitor(config: RunConfig, rows: TrainingRows) -> CollapseMonitor:
    demonstrated = summarise(
        [row.completion_ids for row in rows.train], [row.prompt_ids for row in rows.train]
    )
    patience = patience_of(config.optimization.num_steps)
    return CollapseMonitor(patience, demonstrations=demonstrated)


def pass_positions(policy: Policy) -> int:
    """Returns how many input positions of this policy go through one pass with gradient."""
    config = policy.lm_config
    return positions_per_pass(
        hidden_size=config.hidden_size,
        intermediate_size=getattr(config, "intermediate_size", 4 * config.hidden_size),
        num_layers=config.num_hidden_layers,
    )
