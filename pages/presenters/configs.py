"""Configs as readable lists, and as the differences between runs."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from pages.components.plain import table
from pages.presenters.form_fields import FormField, config_values, is_shown, run_fields
from pages.presenters.form_rules import SECTIONS, Value
from pages.presenters.html_parts import pairs
from pages.presenters.wording import number
from seqmatch.config import RunConfig
from seqmatch.objectives.catalogue import OBJECTIVES

_IN_GENERAL = ("device", "precision")
"""Fields that are shown beside the model and the seed."""


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


def config_html(config: RunConfig, dataset_name: str, computing: str = "") -> str:
    """Returns a config section by section, in the words of the form.

    Settings that change nothing beside the others are left out, as the form hides them.

    Args:
        config: The config.
        dataset_name: Of its demonstrations.
        computing: What the run said it computes on, and how; empty where it has not started.
    """
    values = config_values(config)
    items = {item.path: item for item in run_fields()}
    sections: dict[str, list[tuple[str, str]]] = {
        "General": [
            ("Base model", config.base_model),
            ("Demonstrations", dataset_name),
            ("Seed", str(config.seed)),
            *((items[path].title, _in_words(items[path], values[path])) for path in _IN_GENERAL),
            *([("Computes", computing)] if computing else []),
        ],
        "Objective": [("Kind", OBJECTIVES[config.objective.kind].title)],
    }
    for path, item in items.items():
        is_further = path in values and path not in ("name", *_IN_GENERAL)
        if is_further and is_shown(item, values):
            line = (item.title, _in_words(item, values[path]))
            sections.setdefault(item.section, []).append(line)
    parts = [
        f"<section><h4>{title}</h4>{pairs(sections[title])}</section>"
        for title in ("General", *dict.fromkeys(SECTIONS.values()))
        if title in sections
    ]
    return f'<div class="config">{"".join(parts)}</div>'


def _in_words(item: FormField, value: Value) -> str:
    titles = {choice: title for title, choice in item.choices}
    unit = "" if item.unit.startswith("share") else item.unit
    return titles.get(str(value), f"{shown(value)} {unit}".strip())


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
