"""The bundled examples: their sets, and the runs that the first page starts of one."""

import json

from pages.links import link
from pages.page import AppContext
from pages.presenters.training_choices import new_runs
from seqmatch.config import RunConfig
from seqmatch.config_flags import merge_settings
from seqmatch.examples import EXAMPLES, prepare_example
from storage.records import RunRecord

EXAMPLE = "arithmetic"
KINDS = ("sequence_match", "sft")
"""The first one is shown; the second is for comparison."""


def run_example(context: AppContext) -> str:
    """Adds the example's demonstrations, queues its runs, and returns the address of the first.

    Where runs of the example are still active, they are shown instead of started again.
    """
    dataset_id = add_example_set(context, EXAMPLE)
    active = [
        run
        for run in context.store.runs.list()
        if run.dataset_id == dataset_id and not run.status.is_final and run.objective == KINDS[0]
    ]
    shown = active[0] if active else _create(context, dataset_id)
    context.ensure_runner()
    return link("run", run=shown.id)


def add_example_set(context: AppContext, name: str) -> str:
    """Freezes a bundled example into the store, once, and returns the id of the set."""
    example = EXAMPLES[name]
    frozen = prepare_example(name, context.data_dir / "demonstrations")
    summary = {
        "example": name,
        "description": example.description,
        "licence": example.licence,
        "suggested_config": example.suggested,
    }
    context.store.datasets.add(
        frozen.sha256, example.title, frozen.num_rows, 0, json.dumps(summary)
    )
    return frozen.sha256


def example_config(dataset_id: str, kind: str) -> RunConfig:
    """Returns the config that the example suggests for this objective."""
    suggested = EXAMPLES[EXAMPLE].suggested[kind]
    return RunConfig.model_validate(merge_settings(suggested, {"data": {"dataset": dataset_id}}))


def _create(context: AppContext, dataset_id: str) -> RunRecord:
    created = []
    for kind in KINDS:
        config = example_config(dataset_id, kind)
        for new in new_runs(config, [config.seed], EXAMPLES[EXAMPLE].title, "", None):
            created.append(context.store.runs.create(new))
    return created[0]
