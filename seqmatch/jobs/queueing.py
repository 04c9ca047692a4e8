"""From a run's config to the row that queues it."""

from seqmatch.config import RunConfig
from seqmatch.objectives import OBJECTIVES
from seqmatch.objectives.dispatch import divergence_name
from storage.records import DatasetRecord, NewRun


def new_run(config: RunConfig, dataset: DatasetRecord, *, group: str = "") -> NewRun:
    """Returns what the store needs to queue this config; an empty name is filled in."""
    objective = config.objective
    title = OBJECTIVES[objective.kind].short_title
    name = config.name or f"{title} on {dataset.name}"[:100]
    named = config.model_copy(update={"name": name})
    return NewRun(
        name=name,
        config_json=named.model_dump_json(),
        objective=objective.kind,
        divergence=divergence_name(objective),
        base_model=config.base_model,
        dataset_id=dataset.id,
        seed=config.seed,
        num_steps=config.optimization.num_steps,
        device=config.device,
        group=group,
    )
