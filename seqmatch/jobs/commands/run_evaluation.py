"""Measuring a run on its held-out prompts at temperature 1, with backspace and without."""

import argparse
import json
from dataclasses import asdict, dataclass

from seqmatch.batches import held_out_rows
from seqmatch.config import RunConfig
from seqmatch.evaluation import answer_traces, rollout_metrics, sample_answers
from seqmatch.ingest import read_frozen
from seqmatch.jobs.commands.policies import run_policy
from storage import RunStore
from storage.records import RunRecord


@dataclass(frozen=True)
class RunScore:
    """What one run reached on held-out prompts."""

    run_id: str
    name: str
    objective: str
    seed: int
    num_prompts: int
    exact_match_with_backspace: float | None
    """Share of answers equal to the demonstrated ones; None where there is no backspace action."""
    exact_match_without_backspace: float
    backspace_rate: float | None
    """Share of actions that are backspace; None where there is no backspace action."""
    training_seconds: float | None
    """Of the last attempt, evaluations and checkpoints included."""


def score_run(
    store: RunStore,
    run: RunRecord,
    arguments: argparse.Namespace,
    num_prompts: int | None,
    seed: int,
) -> RunScore:
    """Returns the score of a run; all of its held-out prompts where `num_prompts` is None.

    The same seed gives all runs on one dataset the same random numbers on the same prompts.
    """
    config = RunConfig.model_validate_json(run.config_json)
    policy = run_policy(store, run, arguments)
    demonstrations = read_frozen(store.datasets.folder(run.dataset_id))
    rows = held_out_rows(config, demonstrations, policy)
    rows = rows if num_prompts is None else rows.first(num_prompts)
    found = {}
    for backspace in (True, False) if policy.space.has_backspace else (False,):
        rollouts = sample_answers(
            policy, rows, config.evaluation.max_new_tokens, backspace=backspace, seed=seed
        )
        traces = answer_traces(policy, rows, rollouts)
        found[backspace] = rollout_metrics(rollouts, traces, policy.space.backspace_id)
    is_timed = run.started_at is not None and run.ended_at is not None
    return RunScore(
        run_id=run.id,
        name=run.name,
        objective=run.objective,
        seed=run.seed,
        num_prompts=len(rows.tokenized),
        exact_match_with_backspace=found[True]["eval/exact_match"] if True in found else None,
        exact_match_without_backspace=found[False]["eval/exact_match"],
        backspace_rate=found[True]["rollout/backspace_rate"] if True in found else None,
        training_seconds=run.ended_at - run.started_at if is_timed else None,  # type: ignore[operator]
    )


def as_json(scores: list[RunScore]) -> str:
    """Returns the scores as a JSON array."""
    return json.dumps([asdict(score) for score in scores], indent=1)
