"""From a run's config to the row that queues it."""

from seqmatch.config import RunConfig
from seqmatch.objectives import SequenceMatchConfig
from storage.records import DatasetRecord, NewRun

_TITLES = {"sft": "SFT", "sequence_match": "SequenceMatch"}


def new_run(config: RunConfig, dataset: DatasetRecord, *, group: str = "") -> NewRun:
    """Returns what the store needs to queue this config; an empty name is filled in."""
    objective = config.objective
    name = config.name or f"{_TITLES.get(objective.kind, objective.kind)} on {dataset.name}"[:100]
    named = config.model_copy(update={"name": name})
    return NewRun(
        name=name,
        config_json=named.model_dump_json(),
        objective=objective.kind,
        divergence=objective.divergence if isinstance(objective, SequenceMatchConfig) else "",
        base_model=config.base_model,
        dataset_id=dataset.id,
        seed=config.seed,
        num_steps=config.optimization.num_steps,
        device=config.device,
        group=group,
    )
