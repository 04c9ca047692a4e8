"""Configs as readable lists, and as the differences between runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from pages.components.plain import table
from pages.presenters.html_parts import pairs
from pages.presenters.wording import number
from seqmatch.config import RunConfig


def flat(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Returns the values of nested settings by their dotted path."""
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = value
    return values


def shown(value: Any) -> str:
    """Returns a setting's value as people read it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return str(value) if isinstance(value, int) else number(value)
    return str(value) if value not in (None, "") else "–"


def config_html(config: RunConfig, dataset_name: str) -> str:
    """Returns a config section by section, with the titles of the form."""
    sections: list[tuple[str, BaseModel]] = [("Objective", config.objective)]
    sections += [(title, value) for title, value in _sections(config)]
    general = [
        ("Base model", config.base_model),
        ("Demonstrations", dataset_name),
        ("Seed", str(config.seed)),
        ("Device", config.device),
    ]
    parts = [f"<section><h4>General</h4>{pairs(general)}</section>"]
    for title, section in sections:
        parts.append(f"<section><h4>{title}</h4>{pairs(_items(section))}</section>")
    return f'<div class="config">{"".join(parts)}</div>'


def _sections(config: RunConfig) -> list[tuple[str, BaseModel]]:
    return [
        ("Data", config.data),
        ("Trained weights", config.adapter),
        ("Optimisation", config.optimization),
        ("Evaluation", config.evaluation),
        ("Checkpoints", config.checkpoints),
    ]


def _items(section: BaseModel, prefix: str = "") -> list[tuple[str, str]]:
    items: list[tuple[str, str]] = []
    for name, info in type(section).model_fields.items():
        value = getattr(section, name)
        title = info.title or name.replace("_", " ").capitalize()
        if isinstance(value, BaseModel):
            items += _items(value, f"{title}: ")
        elif name != "dataset":
            extra = info.json_schema_extra
            unit = str(extra.get("unit", "")) if isinstance(extra, dict) else ""
            items.append((prefix + title, f"{shown(value)} {unit}".strip()))
    return items


def config_diff(configs: Sequence[tuple[str, str]]) -> str:
    """Returns the settings in which runs differ, as a table.

    Args:
        configs: The name and the config JSON of each run.
    """
    flats = [(name, flat(json.loads(config_json))) for name, config_json in configs]
    paths = sorted({path for _, values in flats for path in values} - {"name"})
    rows = []
    for path in paths:
        values = [shown(flat_values.get(path)) for _, flat_values in flats]
        if len(set(values)) > 1:
            rows.append([path, *values])
    if not rows:
        return '<p class="empty">These runs have the same settings.</p>'
    head = ["Setting", *(name for name, _ in flats)]
    return table(head, rows, "Settings in which the runs differ")
