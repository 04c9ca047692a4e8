"""Runs of the product, begun to be driven step by step."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.random_rows import PROMPT, answers
from seqmatch.config_flags import DEFAULT_DATA_DIR, merge_settings, run_config
from seqmatch.reporting import NullReporter, Reporter
from seqmatch.run_start import begin
from seqmatch.run_steps import TrainingRun
from seqmatch.types import Demonstration, TokenizedDemonstration

WITHOUT_END: Mapping[str, Any] = {
    "data": {"dataset": "0" * 64},
    "optimization": {"num_steps": 10_000_000, "schedule": "constant", "warmup_steps": 0},
    "evaluation": {"every": 1_000_000, "probe": False},
    "checkpoints": {"every": 1_000_000},
}
"""Nothing but training steps and their reports, however long it is looked at."""


def begin_run(
    settings: Mapping[str, Any],
    rows: Sequence[Demonstration],
    folder: Path,
    reporter: Reporter | None = None,
) -> TrainingRun:
    """Returns a new run; what `settings` leave open is that of `WITHOUT_END`."""
    return begin(
        run_config(merge_settings(WITHOUT_END, settings)),
        rows,
        run_dir=folder,
        models_dir=DEFAULT_DATA_DIR / "models",
        allowed_models=(),
        reporter=reporter or NullReporter(),
        dataset_sha256="0" * 64,
        metrics_csv=None,
    )


def begin_on_random_tokens(
    settings: Mapping[str, Any],
    num_rows: int,
    num_positions: int,
    folder: Path,
    reporter: Reporter | None = None,
) -> TrainingRun:
    """Returns a new run on rows of random tokens, all of `num_positions` with their prompt."""
    text = [Demonstration(f"{at}:", "a", str(at)) for at in range(20)]
    run = begin_run(settings, text, folder, reporter)
    drawn = answers(num_rows, num_positions, run.state.policy.space, seed=0)
    rows = [TokenizedDemonstration(each[:PROMPT], each, at) for at, each in enumerate(drawn)]
    run.rows = replace(run.rows, train=tuple(rows))
    return run
