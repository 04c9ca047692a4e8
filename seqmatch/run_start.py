"""How a run begins: the policy and the rows, from the newest checkpoint where there is one."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch

from seqmatch.batches import TrainingRows, prepare_rows
from seqmatch.checkpoints import Checkpoint, newest_verified
from seqmatch.collapse import CollapseMonitor, patience_of
from seqmatch.config import RunConfig, unshardable
from seqmatch.demonstrations import num_tokens
from seqmatch.distributed import ALONE, World, process_device
from seqmatch.durable_files import remove_unfinished
from seqmatch.errors import ConfigError
from seqmatch.held_weights import HeldWeights
from seqmatch.lens import Eyes
from seqmatch.memory_probe import positions_on_gpu
from seqmatch.micro_batches import positions_per_pass
from seqmatch.objectives.dispatch import (
    has_reference,
    has_start,
    in_rounds,
    rollout_config,
    warnings_of,
)
from seqmatch.optimization import make_optimizer
from seqmatch.packing_check import check_packing
from seqmatch.pass_mode import PassMode, resolved_precision
from seqmatch.phase_times import PhaseTimes, clock_of
from seqmatch.policy import Policy, load_policy, load_saved_policy
from seqmatch.replay_buffer import ReplayBuffer
from seqmatch.reporting import COMPUTING, Reporter
from seqmatch.round_summary import summarise
from seqmatch.run_batches import PASSES_WITHOUT_GRADIENT
from seqmatch.run_steps import TrainingRun
from seqmatch.seeding import child_seed
from seqmatch.sharding import Shards
from seqmatch.target_network import make_target
from seqmatch.throughput import Throughput
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
    world: World = ALONE,
) -> TrainingRun:
    """Returns the run at its first step, or where its newest usable checkpoint left it.

    Arguments and errors are those of `seqmatch.training.train`; `world` are the processes that
    train the run together.
    """
    reporter.phase("loading the model")
    checkpoint = world.from_main(partial(_newest_checkpoint, run_dir, reporter))
    device = process_device(config.device)
    is_sharded = _is_sharded(config, world)
    policy = _policy(
        config,
        checkpoint,
        device=torch.device("cpu") if is_sharded else device,
        models_dir=models_dir,
        allowed=allowed_models,
    )
    precision = world.from_main(partial(resolved_precision, config.precision, device))
    policy.set_pass_mode(PassMode(precision, config.gradient_checkpointing, config.packing))
    shards = Shards(policy, world, device) if is_sharded else None
    if shards is None:
        world.copy_from_main(list(policy.trainable_parameters().values()))
    if checkpoint is None:
        state = _new_state(policy, config)
        for warning in warnings_of(config.objective, config.optimization.batch_size):
            reporter.event("warning", "objective", warning)
    else:
        state = read_state(checkpoint.folder, policy, config, dataset_sha256)
        reporter.event("info", "resumed", f"resumed from the checkpoint of step {state.step}")
    policy.train()
    reporter.phase("reading the demonstrations")
    rows = prepare_rows(config, demonstrations, policy, reporter)
    if state.monitor is None and in_rounds(config.objective):
        state.monitor = _new_monitor(config, rows)
    eyes = None
    if config.evaluation.probe and world.is_main:
        eyes = Eyes.of(policy, models_dir=models_dir, allowed=allowed_models)
    packing = _packing(policy, world, reporter, can_check=shards is None)
    is_measured = device.type == "cuda" and shards is None
    if is_measured:
        reporter.phase("measuring how much fits the GPU")
        max_positions = min(world.gather(_measured_positions(config, rows, state, world.size)))
    else:  # of sharded weights no process can try a pass alone
        max_positions = pass_positions(policy)
    where = ", ".join(world.gather(str(device)))
    how = f"on {where}, in {precision}, in passes of at most {max_positions:,} positions{packing}"
    reporter.event("info", COMPUTING, how + (", as measured" if is_measured else ""))
    reporter.phase("training")
    return TrainingRun(
        config=config,
        rows=rows,
        state=state,
        reporter=reporter,
        run_dir=run_dir,
        dataset_sha256=dataset_sha256,
        metrics_csv=metrics_csv,
        max_positions=max_positions,
        eyes=eyes,
        throughput=Throughput(PhaseTimes(clock_of(device))),
        world=world,
        shards=shards,
    )


def _is_sharded(config: RunConfig, world: World) -> bool:
    """True where the weights are divided; a launcher may know more processes than the config."""
    if config.parallelism != "shard" or world.size == 1:
        return False
    reason = unshardable(config.adapter, config.objective, config.optimization, world.size)
    if reason:
        raise ConfigError(f"parallelism 'shard': {reason}")
    return True


def _policy(
    config: RunConfig,
    checkpoint: Checkpoint | None,
    *,
    device: torch.device,
    models_dir: Path,
    allowed: Sequence[str],
) -> Policy:
    """The policy of a checkpoint, or a fresh one."""
    if checkpoint is None:
        return load_policy(
            config.base_model,
            config.adapter,
            config.objective.backspace,
            seed=child_seed(config.seed, "new weights"),
            device=device,
            models_dir=models_dir,
            allowed=allowed,
        )
    return load_saved_policy(
        checkpoint.folder / "policy", device=device, models_dir=models_dir, allowed=allowed
    )


def _packing(policy: Policy, world: World, reporter: Reporter, *, can_check: bool) -> str:
    """How rows are packed, in words; of sharded weights no process can try a pass alone."""
    if not policy.pass_mode.is_packed:
        return ""
    if not can_check:
        return ", packed"
    reporter.phase("comparing packed rows with padded ones")
    error = max(world.gather(check_packing(policy)))
    return f", packed (off padded rows by {error:.0e})"


def _newest_checkpoint(run_dir: Path, reporter: Reporter) -> Checkpoint | None:
    def tell(checkpoint: Checkpoint, reason: str) -> None:
        reporter.event(
            "warning",
            "checkpoint_unusable",
            f"the checkpoint of step {checkpoint.step} was passed over: {reason}",
        )

    for folder in (run_dir, run_dir / "checkpoints"):
        remove_unfinished(folder)
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


def _measured_positions(
    config: RunConfig, rows: TrainingRows, state: TrainState, num_processes: int
) -> int:
    """How many input positions go through one pass on this process's GPU."""
    policy = state.policy
    longest, wanted = largest_shape(config, rows, policy.max_positions, num_processes)
    trained = sum(each.nbytes for each in policy.trainable_parameters().values())
    # AdamW makes its two moments at the first step; a reference is held after the warm-up.
    copies = 2 * (not state.optimizer.state) + has_reference(config.objective)
    has_second = state.player is not None and state.player.discriminator.moves_by_itself
    return positions_on_gpu(
        policy,
        longest=longest,
        wanted=wanted,
        without_gradient=PASSES_WITHOUT_GRADIENT,
        reserved_bytes=copies * trained,
        num_models=2 if has_second else 1,
    )


def largest_shape(
    config: RunConfig, rows: TrainingRows, limit: int | None, num_processes: int = 1
) -> tuple[int, int]:
    """Returns the positions of the longest row that may come, and of one process's largest batch.

    Args:
        config: Of the run.
        rows: Its demonstrations.
        limit: The model's longest input, where it has one.
        num_processes: Processes that share a batch.
    """
    longest = max(num_tokens(row) for row in rows.train)
    rollouts = rollout_config(config.objective)
    sides = 1
    if rollouts is not None:
        sides = 2
        prompt = max(len(row.prompt_ids) for row in rows.train)
        longest = max(longest, prompt + rollouts.max_new_tokens)
    longest = min(longest, limit or longest)
    num_rows = min(config.optimization.batch_size, len(rows.train))
    return longest, longest * -(-sides * num_rows // num_processes)


def pass_positions(policy: Policy) -> int:
    """Returns how many input positions of this policy go through one pass with gradient."""
    config = policy.lm_config
    return positions_per_pass(
        hidden_size=config.hidden_size,
        intermediate_size=getattr(config, "intermediate_size", 4 * config.hidden_size),
        num_layers=config.num_hidden_layers,
        is_checkpointed=policy.pass_mode.is_checkpointed,
    )
