"""`evaluate`: exact match of runs on their held-out prompts, with backspace and without."""

import argparse
import sys

from seqmatch.jobs.commands.run_evaluation import RunScore, as_json, score_run
from seqmatch.jobs.commands.store_access import find_run, opened_store


def run(arguments: argparse.Namespace) -> int:
    """Prints one line for each run."""
    with opened_store(arguments) as store:
        runs = [find_run(store, text) for text in arguments.run]
        scores = []
        for each in runs:
            scores.append(
                score_run(store, each, arguments, arguments.num_prompts, arguments.sampling_seed)
            )
            print(_line(scores[-1]), flush=True)
    if arguments.output is not None:
        arguments.output.write_text(as_json(scores) + "\n", encoding="utf-8")
        print(f"written to {arguments.output}", file=sys.stderr)
    return 0


def _line(score: RunScore) -> str:
    parts = [f"{score.run_id} ({score.name}), {score.num_prompts} prompts: exact match"]
    if score.exact_match_with_backspace is not None:
        parts.append(f"{score.exact_match_with_backspace:.3f} with backspace,")
    parts.append(f"{score.exact_match_without_backspace:.3f} without")
    if score.backspace_rate is not None:
        parts.append(f"(backspace rate {score.backspace_rate:.4f})")
    return " ".join(parts)
