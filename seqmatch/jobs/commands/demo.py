"""`demo`: the main job without a page, on the bundled arithmetic, over seeds, with its table."""

import argparse
import sys
from collections.abc import Callable, Sequence

from seqmatch.config_flags import merge_settings, run_config
from seqmatch.examples import EXAMPLES
from seqmatch.intervals import mean_with_interval
from seqmatch.jobs.allowed_models import allow_models
from seqmatch.jobs.commands.demonstration_sets import resolve_dataset
from seqmatch.jobs.commands.follow import follow, outcome
from seqmatch.jobs.commands.run_evaluation import RunScore, as_json, score_run
from seqmatch.jobs.commands.store_access import opened_store
from seqmatch.jobs.queueing import new_run
from seqmatch.jobs.supervisor import ensure_runner
from seqmatch.objectives import OBJECTIVES
from storage import RunStore
from storage.records import RunRecord, RunStatus

_EXAMPLE = "arithmetic"
_KINDS = ("sft", "sequence_match")
"""What is compared."""


def run(arguments: argparse.Namespace) -> int:
    """Trains, measures and prints; 1 where a run did not complete."""
    with opened_store(arguments) as store:
        queued = _queue(store, arguments)
        print(f"{len(queued)} runs queued in {arguments.data_dir}", file=sys.stderr)
        allow_models(store, arguments.allow_model)
        ensure_runner(arguments.data_dir)
        ended = follow(store, [run.id for run in queued])
        completed = [run for run in ended if run.status is RunStatus.COMPLETED]
        for each in ended:
            print(outcome(each), file=sys.stderr)
        scores = _measured(store, completed, arguments)
    if scores:
        table = markdown_table(scores)
        print(table)
        if arguments.output is not None:
            is_json = arguments.output.suffix == ".json"
            text = as_json(scores) + "\n" if is_json else table + "\n"
            arguments.output.write_text(text, encoding="utf-8")
    return 0 if len(completed) == len(ended) else 1


def _measured(
    store: RunStore, runs: Sequence[RunRecord], arguments: argparse.Namespace
) -> list[RunScore]:
    scores = []
    for number, run in enumerate(runs, start=1):
        print(f"measuring {number} of {len(runs)}: {run.name}", file=sys.stderr)
        # A seed's runs share random numbers; seeds do not, or the intervals would be too narrow.
        scores.append(score_run(store, run, arguments, None, run.seed))
    return scores


def markdown_table(scores: Sequence[RunScore]) -> str:
    """Returns one row for each objective: means over seeds with 95 % intervals."""
    lines = [
        "| objective | seeds | exact match, with backspace | exact match, without backspace "
        "| backspace rate | minutes |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for objective in _KINDS:
        title = OBJECTIVES[objective].short_title
        own = [score for score in scores if score.objective == objective]
        if own:
            cells = [
                _cell(own, lambda score: score.exact_match_with_backspace, 3),
                _cell(own, lambda score: score.exact_match_without_backspace, 3),
                _cell(own, lambda score: score.backspace_rate, 4),
                _cell(own, lambda score: _minutes(score.training_seconds), 1),
            ]
            lines.append(f"| {title} | {len(own)} | {' | '.join(cells)} |")
    num_prompts = max(score.num_prompts for score in scores)
    lines += ["", f"{num_prompts} held-out prompts, temperature 1; ± is the 95 % interval (t)."]
    return "\n".join(lines)


def _queue(store: RunStore, arguments: argparse.Namespace) -> list[RunRecord]:
    dataset = resolve_dataset(store, [_EXAMPLE])
    changes = {} if arguments.num_steps is None else {"num_steps": arguments.num_steps}
    queued = []
    for seed in range(arguments.seeds):
        for objective in _KINDS:
            title = OBJECTIVES[objective].short_title
            settings = merge_settings(
                EXAMPLES[_EXAMPLE].suggested[objective],
                {
                    "name": f"demo {title}, seed {seed}",
                    "seed": seed,
                    "data": {"dataset": dataset.id},
                    "optimization": changes,
                },
            )
            config = run_config(settings)
            queued.append(store.runs.create(new_run(config, dataset, group=f"demo {title}")))
    return queued


def _cell(
    scores: Sequence[RunScore], value_of: Callable[[RunScore], float | None], digits: int
) -> str:
    values = [value for score in scores if (value := value_of(score)) is not None]
    if not values:
        return "no such action" if digits != 1 else "-"
    mean, half_width = mean_with_interval(values)
    interval = "" if half_width is None else f" ± {half_width:.{digits}f}"
    return f"{mean:.{digits}f}{interval}"


def _minutes(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / 60.0
