"""What a run will cost, before it starts: memory and time, and where the figures are from."""

import json
from collections.abc import Sequence

from pages.components.plain import plain
from pages.presenters.html_parts import pairs
from pages.presenters.wording import duration, size
from seqmatch.config import RunConfig
from seqmatch.estimates import estimate
from storage.records import RunRecord


def estimate_html(config: RunConfig | None, num_seeds: int, runs: Sequence[RunRecord]) -> str:
    """Returns memory and time of a run; measured rates of an earlier run go before the estimate."""
    if config is None:
        return plain("The estimate appears when every field is right.")
    expected = estimate(config)
    like = measured_like(config, runs)
    if like is not None and like.steps_per_second:
        seconds = config.optimization.num_steps / like.steps_per_second
        source = (
            f"Time from “{like.name}”, which ran {like.steps_per_second:.3g} steps per second with "
            "the same model, objective and batch."
        )
    else:
        seconds = expected.seconds
        source = "A rough estimate for this machine: no run like this one has been measured here."
    memory = expected.memory_bytes
    if like is not None and like.peak_memory_bytes:
        memory = like.peak_memory_bytes
    items = [("Time", f"about {duration(seconds)}"), ("Memory", f"about {size(round(memory, -7))}")]
    if num_seeds > 1:
        items.append(("Runs", f"{num_seeds}, one for each seed; each takes this"))
    items.append(("Steps", f"{config.optimization.num_steps:,}"))
    return pairs(items) + plain(source)


def measured_like(config: RunConfig, runs: Sequence[RunRecord]) -> RunRecord | None:
    """Returns the newest run whose speed says something about this config, or None."""
    for run in runs:
        same = (run.base_model, run.objective) == (config.base_model, config.objective.kind)
        if same and run.steps_per_second and _batch(run) == config.optimization.batch_size:
            return run
    return None


def _batch(run: RunRecord) -> int | None:
    config = json.loads(run.config_json)
    return config.get("optimization", {}).get("batch_size") if isinstance(config, dict) else None
