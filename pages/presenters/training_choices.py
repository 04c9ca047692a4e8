"""What the Train page offers and says: choices, seeds, groups of runs. Pure: no Gradio."""

import json
from collections.abc import Mapping, Sequence

from pages.presenters.configs import flat
from pages.presenters.form_rules import Value
from seqmatch.base_models import BASE_MODELS
from seqmatch.config import RunConfig
from seqmatch.errors import ConfigError
from seqmatch.objectives import OBJECTIVES
from seqmatch.objectives.dispatch import divergence_name
from storage.placing import is_gpu, place
from storage.records import DatasetRecord, DeviceSlot, NewRun

MAX_SEEDS = 16
MAX_SEED = 2**31 - 1


def dataset_choices(datasets: Sequence[DatasetRecord]) -> list[tuple[str, str]]:
    """Returns (shown, id) of each set: its name and its number of rows."""
    return [(f"{one.name} ({one.num_rows:,} rows)", one.id) for one in datasets]


def model_choices(allowed: Sequence[str]) -> list[tuple[str, str]]:
    """Returns (shown, name) of the built-in models and of those that the operator allowed."""
    built_in = [(model.title, name) for name, model in BASE_MODELS.items()]
    return built_in + [(name, name) for name in allowed if name not in BASE_MODELS]


def model_note(name: str, is_prepared: bool) -> str:
    """Returns what a person should know about a base model, as one line of plain text."""
    model = BASE_MODELS.get(name)
    if model is None:
        return "Allowed by the operator of this server; loaded when the run starts."
    size = model.num_parameters
    shown = f"{size / 1e6:.0f} million" if size >= 1_000_000 else f"{round(size, -3):,}"
    missing = "" if is_prepared else " Not prepared on this machine yet."
    description = model.description.split(": `make model`")[0].rstrip(".")
    return f"{description}. {shown} parameters; licence: {model.licence}.{missing}"


def parse_seeds(text: str) -> tuple[int, ...]:
    """Reads seeds: "0", "0, 1, 2" or "0-4".

    Raises:
        ConfigError: something else, a seed twice, or more than `MAX_SEEDS`.
    """
    seeds: list[int] = []
    for part in text.replace(";", ",").replace(" ", ",").split(","):
        if part:
            seeds.extend(_seed_range(part))
    if not seeds:
        raise ConfigError('is empty; give one seed or several, for example "0" or "0, 1, 2"')
    if len(set(seeds)) != len(seeds):
        raise ConfigError("names a seed twice; each seed makes one run")
    if len(seeds) > MAX_SEEDS:
        raise ConfigError(f"names {len(seeds)} seeds; at most {MAX_SEEDS} runs start at once")
    return tuple(seeds)


def new_runs(
    config: RunConfig, seeds: Sequence[int], dataset_name: str, group: str, parent_id: str | None
) -> list[NewRun]:
    """Returns one run for each seed; runs that differ by seed alone share a group."""
    name = config.name or default_name(config, dataset_name)
    runs = []
    for seed in seeds:
        full_name = f"{name}, seed {seed}" if len(seeds) > 1 else name
        one = config.model_copy(update={"seed": seed, "name": full_name[:120]})
        runs.append(
            NewRun(
                name=full_name[:120],
                config_json=one.model_dump_json(),
                objective=one.objective.kind,
                divergence=divergence_name(one.objective),
                base_model=one.base_model,
                dataset_id=one.data.dataset,
                seed=seed,
                num_steps=one.optimization.num_steps,
                device=one.device,
                parent_id=parent_id,
                group=group if len(seeds) > 1 else "",
            )
        )
    return runs


def default_name(config: RunConfig, dataset_name: str) -> str:
    """Returns the name of a run that got none: the objective and the data."""
    return f"{OBJECTIVES[config.objective.kind].short_title} on {dataset_name}"[:100]


def suggested_settings(summary_json: str, kind: str) -> Mapping[str, Value]:
    """Returns the settings that a bundled example suggests for an objective, by path.

    There are none for an upload.
    """
    summary = json.loads(summary_json or "{}")
    return flat((summary.get("suggested_config") or {}).get(kind, {}))


def _seed_range(part: str) -> range:
    first, dash, last = part.partition("-")
    if not first.isascii() or not first.isdigit() or (dash and not last.isdigit()):
        raise ConfigError(
            f"{part[:20]!r} is not a seed; whole numbers from 0 to {MAX_SEED:,} are allowed"
        )
    start, end = int(first), int(last) if dash else int(first)
    if end < start or end > MAX_SEED or end - start > MAX_SEEDS:
        raise ConfigError(
            f"{part[:40]!r}: seeds go from 0 to {MAX_SEED:,}, at most {MAX_SEEDS} of them"
        )
    return range(start, end + 1)


def missing_devices(device: str, slots: Sequence[DeviceSlot]) -> str:
    """Returns why a run on these devices can never start here; empty where it can, or who knows.

    Args:
        device: What the config names.
        slots: Those of the store; none before its runner has looked for the first time.
    """
    names = [slot.name for slot in slots]
    has_gpu = any(map(is_gpu, names))
    if not names or place(device, names, has_gpu) is not None:
        return ""
    here = list(dict.fromkeys(":".join(name.split(":")[:2]) for name in names))
    return f"This machine has {', '.join(here)}, and Device asks for {device}."
