"""What a run will cost, before it starts: memory and time, and where the figures are from."""

from collections.abc import Sequence

from pages.components.plain import plain
from pages.presenters.html_parts import pairs
from pages.presenters.round_costs import round_costs
from pages.presenters.wording import duration
from seqmatch.config import RunConfig
from seqmatch.estimates import estimate, num_copies
from seqmatch.objectives.dispatch import adversarial_config, answers_per_prompt, rollout_config
from storage.records import RunRecord, RunStatus


def estimate_html(
    config: RunConfig | None, num_seeds: int, runs: Sequence[RunRecord], mean_tokens: float | None
) -> str:
    """Returns memory and time of a run; what an earlier run took goes before the estimate.

    `mean_tokens` is the mean length of a row, None where it is not known.
    """
    if config is None:
        return plain("The estimate appears when every field is right.")
    expected = estimate(config, mean_tokens)
    size = len(config.devices)
    seconds, memory = expected.seconds, expected.memory_bytes
    source = "A rough estimate for this machine: no run like this one has finished here."
    like = measured_like(config, runs)
    if like is not None:
        took = _seconds(like)
        # Start and evaluations do not grow with the steps: arithmetic says how much of it does.
        seconds *= took / estimate(_config_of(like), mean_tokens).seconds
        memory = (like.peak_memory_bytes or memory * size) // size  # a run's peak is that of all
        source = (
            f"From “{like.name}” with the same set, model, objective and batch: {like.step:,} "
            f"steps took {duration(took)}."
        )
    where = f"Memory of each of {size} processes" if size > 1 else "Memory"
    items = [("Time", f"about {duration(seconds)}"), (where, f"about {_size(memory)}")]
    if num_seeds > 1:
        items.append(("Runs", f"{num_seeds}, one for each seed; each takes this"))
    items.append(("Steps", f"{config.optimization.num_steps:,}"))
    lines = [source, *round_costs(config), *_sharing(config)]
    return pairs(items) + plain("\n".join(lines))


def measured_like(config: RunConfig, runs: Sequence[RunRecord]) -> RunRecord | None:
    """Returns the newest finished run whose cost says something about this config, or None.

    A run that was resumed does not count: its record has the time of its last start alone.
    """
    for run in runs:
        same = (run.base_model, run.dataset_id) == (config.base_model, config.data.dataset)
        is_measured = run.status is RunStatus.COMPLETED and run.attempt == 1 and run.step > 0
        if same and is_measured and _seconds(run) > 0 and _has_same_cost(run, config):
            return run
    return None


def _has_same_cost(run: RunRecord, config: RunConfig) -> bool:
    return _costs(_config_of(run)) == _costs(config)


def _config_of(run: RunRecord) -> RunConfig:
    return RunConfig.model_validate_json(run.config_json)


def _costs(config: RunConfig) -> tuple[object, ...]:
    return (
        config.objective.kind,
        config.objective.backspace,
        _noise(config),
        rollout_config(config.objective),
        num_copies(config),
        answers_per_prompt(config.objective),
        _backbone(config),
        config.optimization.batch_size,
        config.adapter.kind,
        config.data.max_tokens,
        config.device,
        config.parallelism,
        config.precision,
        config.gradient_checkpointing,
        config.packing,
    )


def _sharing(config: RunConfig) -> list[str]:
    """What several devices mean for a run."""
    size = len(config.devices)
    if size == 1:
        return []
    lines = [
        f"{size} processes share every batch and every sampling; the result is that of one. The "
        "first one evaluates and saves while the others wait."
    ]
    if config.device.startswith("cpu"):
        lines.append(
            "On the CPU they share its cores: a small model, which computes with one thread, "
            "gains; a larger one does not."
        )
    if adversarial_config(config.objective):
        lines.append("The first one trains the discriminator, on the whole batch, for all.")
    if config.parallelism == "shard":
        lines.append("To sample and to evaluate, each gathers all weights, without gradients.")
    return lines


def _backbone(config: RunConfig) -> object:
    adversarial = adversarial_config(config.objective)
    discriminator = adversarial.discriminator if adversarial else None
    return (discriminator.backbone, discriminator.updates) if discriminator else None


def _noise(config: RunConfig) -> object:
    return config.objective.corruption if config.objective.backspace else None


def _seconds(run: RunRecord) -> float:
    return (run.ended_at or 0.0) - (run.started_at or 0.0)


def _size(num_bytes: float) -> str:
    return (
        f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{round(num_bytes / 1e6, -1):.0f} MB"
    )
