"""`train`: queue a run in the store that the pages show, and follow it."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from seqmatch.base_models import BASE_MODELS, check_adapter
from seqmatch.config import RunConfig
from seqmatch.config_flags import (
    add_config_flags,
    default_kind,
    equivalent_command,
    merge_settings,
    run_config,
    settings_given,
)
from seqmatch.examples import EXAMPLES
from seqmatch.jobs.allowed_models import allow_models, model_location
from seqmatch.jobs.commands.demonstration_sets import resolve_dataset
from seqmatch.jobs.commands.follow import follow, outcome
from seqmatch.jobs.commands.store_access import (
    CommandError,
    add_allowed_models,
    add_data_dir,
    opened_store,
)
from seqmatch.jobs.queueing import new_run
from seqmatch.jobs.supervisor import ensure_runner
from storage.records import RunStatus


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments: those of its own, and one for each setting of a run."""
    add_data_dir(parser)
    add_allowed_models(parser)
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="DATA",
        help="an example (arithmetic, instructions), the id or name of a stored set, or files",
    )
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="settings as JSON, as the pages show them; flags go over them",
    )
    parser.add_argument("--detach", action="store_true", help="print the run's id and return")
    parser.add_argument(
        "--no-runner",
        action="store_true",
        help="queue only and print the run's id, for seqmatch.jobs.by_hand; no runner is started, "
        "but one that works already takes it",
    )
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    add_config_flags(parser)


def run(arguments: argparse.Namespace) -> int:
    """Queues the run; 0 where it completed, or was queued with --detach or --no-runner."""
    settings = requested_settings(arguments)
    asked = run_config({**settings, "data": {"dataset": "x", **settings.get("data", {})}})
    check_adapter(asked.base_model, asked.adapter.kind)
    with opened_store(arguments) as store:
        dataset = resolve_dataset(store, arguments.data)
        config = run_config(merge_settings(settings, {"data": {"dataset": dataset.id}}))
        if arguments.print_config:
            print(config.model_dump_json(indent=1))
            return 0
        allow_models(store, arguments.allow_model)
        queued = store.runs.create(new_run(config, dataset))
        if not arguments.no_runner:
            ensure_runner(arguments.data_dir)
        if arguments.detach or arguments.no_runner:
            print(queued.id)
            return 0
        print(
            f"run {queued.id}: {equivalent_command(config, data_dir=store.data_dir)}",
            file=sys.stderr,
        )
        ended = follow(store, [queued.id])[0]
        print(outcome(ended), file=sys.stderr)
        return 0 if ended.status is RunStatus.COMPLETED else 1


def requested_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    """Returns the settings of the flags over those of --config.

    Without --config an example's suggestions for the objective go below, and what a base model
    trains is its default (LoRA, or the whole model for one from scratch).
    """
    given = settings_given(arguments)
    if "base_model" in given:
        given["base_model"] = model_location(given["base_model"])
    if arguments.config is not None:
        return merge_settings(_read_settings(arguments.config), given)
    kind = given.get("objective", {}).get("kind", default_kind())
    suggested: dict[str, Any] = {}
    if len(arguments.data) == 1 and arguments.data[0] in EXAMPLES:
        suggested = EXAMPLES[arguments.data[0]].suggested.get(kind, {})
    merged = merge_settings(suggested, given)
    base_model = merged.get("base_model", RunConfig.model_fields["base_model"].default)
    if base_model in BASE_MODELS:
        adapter = {"kind": BASE_MODELS[base_model].default_adapter}
        merged = merge_settings({"adapter": adapter}, merged)
    return merged


def _read_settings(path: Path) -> dict[str, Any]:
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CommandError(f"--config {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise CommandError(f"--config {path} is no JSON: {error}") from error
    if not isinstance(settings, dict):
        raise CommandError(
            f"--config {path} holds a {type(settings).__name__}; it must be an object"
        )
    return settings
