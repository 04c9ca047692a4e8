"""Inputs made from the fields of a config, and the updates that show what is wrong with them."""

from collections.abc import Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from pages.presenters.form_fields import FormField, hint, is_shown
from pages.presenters.form_rules import Value


def build_input(item: FormField, page: str, values: Mapping[str, Value]) -> Component:
    """Returns the input of one field; its elem_id is `page-path`, dots as hyphens."""
    options: dict[str, Any] = {
        "label": item.title,
        "info": hint(item, values.get(item.path, item.default)),
        "value": values.get(item.path, item.default),
        "elem_id": f"{page}-{item.path.replace('.', '-')}",
        "visible": is_shown(item, values),
    }
    if item.kind == "bool":
        return gr.Checkbox(**options)
    if item.kind == "choice":
        choices = [(shown, value) for shown, value in item.choices]
        if len(choices) <= 3:
            return gr.Radio(choices=choices, **options)
        return gr.Dropdown(choices=choices, filterable=False, **options)
    if item.kind == "text":
        return gr.Textbox(max_lines=1, **options)
    # Bounds are left to the config: it says at the field what is allowed, the component would only
    # refuse in a corner of the window, and rounding would change a number silently.
    return gr.Number(step=_step(item), **options)


def build_section(
    title: str, items: Sequence[FormField], page: str, values: Mapping[str, Value]
) -> tuple[gr.Column, dict[str, Component]]:
    """Returns one section and its inputs, beside each other where there is room."""
    with gr.Column(visible=any(is_shown(item, values) for item in items)) as section:
        gr.Markdown(f"### {title}")
        with gr.Row(equal_height=False, elem_classes=["form-grid"]):
            inputs = {item.path: build_input(item, page, values) for item in items}
    return section, inputs


def field_updates(
    items: Sequence[FormField], values: Mapping[str, Value], problems: Mapping[str, str]
) -> list[Any]:
    """Returns one update for each field: whether it is shown, and its hint or its problem."""
    updates = []
    for item in items:
        problem = problems.get(item.path)
        updates.append(
            gr.update(
                visible=is_shown(item, values),
                info=f"⚠ {problem}" if problem else hint(item, values.get(item.path)),
                elem_classes=["field-problem"] if problem else [],
            )
        )
    return updates


def _step(item: FormField) -> float:
    if item.kind == "int":
        return 1
    return 0.001 if (item.maximum or 1.0) <= 10 else 0.1
