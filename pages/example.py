"""The example that the first page runs: SequenceMatch and SFT on the bundled arithmetic."""

import json

from pages.links import link
from pages.page import AppContext
from pages.presenters.training_choices import new_runs
from seqmatch.config import RunConfig
from seqmatch.config_flags import merge_settings
from seqmatch.examples import EXAMPLES, prepare_example

EXAMPLE = "arithmetic"
KINDS = ("sequence_match", "sft")
"""The first one is shown; the second is for comparison."""


def run_example(context: AppContext) -> str:
    """Adds the example's demonstrations, queues its runs, and returns the address of the first.

    Where the newest runs of the example are still active, they are shown instead of started again.
    """
    dataset_id = add_example_set(context, EXAMPLE)
    active = [
        run
        for run in context.store.runs.list()
        if run.dataset_id == dataset_id and not run.status.is_final
    ]
    shown = [run for run in active if run.objective == KINDS[0]]
    if shown:
        context.ensure_runner()
        return link("run", run=shown[0].id)
    name = EXAMPLES[EXAMPLE].title
    created = []
    for kind in KINDS:
        config = example_config(dataset_id, kind)
        for new in new_runs(config, [config.seed], name, "", None):
            created.append(context.store.runs.create(new))
    context.ensure_runner()
    return link("run", run=created[0].id)


def add_example_set(context: AppContext, name: str) -> str:
    """Freezes a bundled example into the store, once, and returns the id of the set."""
    example = EXAMPLES[name]
    dataset_id, _, num_rows = prepare_example(name, context.data_dir / "demonstrations")
    summary = {
        "example": name,
        "description": example.description,
        "licence": example.licence,
        "suggested_config": example.suggested_config,
    }
    context.store.datasets.add(dataset_id, example.title, num_rows, 0, json.dumps(summary))
    return dataset_id


def example_config(dataset_id: str, kind: str) -> RunConfig:
    """Returns the config that the example suggests, with this objective."""
    suggested = EXAMPLES[EXAMPLE].suggested[kind]
    settings = merge_settings(
        suggested, {"data": {"dataset": dataset_id}, "objective": {"kind": kind}}
    )
    return RunConfig.model_validate(settings)
