"""The Train page: demonstrations, a base model and an objective in; queued runs out.

`?clone=RUN` fills the form with a run's config, `?dataset=SET` chooses the demonstrations.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import gradio as gr
from gradio.components import Component

from pages import model_preparation, train_actions
from pages.components.config_form import build_input, build_section
from pages.components.events import FOLLOWING, QUIET, held, released
from pages.feedback import handler
from pages.links import GO_TO
from pages.page import AppContext, Page
from pages.presenters.form_fields import is_shown, objective_defaults
from pages.presenters.form_rules import OBJECTIVE_GROUPS, Value
from pages.presenters.training_choices import model_choices
from seqmatch.objectives.catalogue import OBJECTIVES

FIRST_VALUES: Mapping[str, Value] = {
    "objective.kind": train_actions.FIRST_OBJECTIVE,
    "adapter.kind": "full",
    "objective.corruption.alphabet": "vocabulary",
    **objective_defaults(train_actions.FIRST_OBJECTIVE),
}
"""What the form shows before the address or a person says otherwise."""

FORM = "train-form"
COSTS = ("optimization.num_steps", "optimization.batch_size", "optimization.learning_rate")


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    parent = gr.Textbox(visible=False, elem_id="train-parent")
    address = gr.Textbox(visible=False, elem_id="train-address")
    gr.Markdown("# Train")
    empty = gr.Markdown(
        "There are no demonstrations yet. [Add some first](demonstrations): a bundled example is "
        "one click.",
        visible=False,
        elem_id="train-empty",
    )
    with gr.Row(equal_height=False, elem_classes=["train-columns"], elem_id=FORM):
        with gr.Column(scale=3, min_width=320):
            controls, note, prepare, prepared = _build_sources(context)
            cards, groups = _build_objective(controls)
            _build_costs(controls)
            sections = _build_advanced(controls)
        with gr.Column(scale=2, min_width=320, elem_classes=["train-aside"]):
            estimate, problems, warnings, start, status, command = _build_start()
    again = gr.Timer(1.0, active=False)
    settled = gr.Timer(0.5, active=False)
    fields = [controls[item.path] for item in train_actions.FIELDS]
    inputs = [*(controls[path] for path in train_actions.FIXED), *fields]
    shown: list[Any] = [controls["seed"], *cards, note, prepare, estimate, command]
    shown += [problems, warnings, *groups, *sections, *fields]
    refresh = handler(train_actions.refresh, context)

    _wire_form(context, controls, inputs, fields, (refresh, shown))
    # At once, in the browser: a late answer to an edit would wipe the answer to a start.
    gr.on(list(map(_edited, controls.values())), None, None, status, js="() => ''")
    filled = gr.on(
        None,
        handler(train_actions.prefill, context),
        outputs=[empty, *inputs, parent],
        js=held(FORM),
        **QUIET,
    )
    filled.then(None, js=released(FORM))
    filled.then(refresh, inputs, shown, **QUIET).then(handler(_timer, True), None, settled, **QUIET)
    # Filling the form fires the change events of its texts, and an answer to half-filled values
    # may come last: once all values stand, the form is read once more.
    settled.tick(handler(_timer, False), None, settled, **QUIET).then(
        refresh, inputs, shown, **QUIET
    )
    gr.on(
        [start.click, again.tick],
        handler(train_actions.start, context),
        [parent, *inputs],
        [status, again, address],
        **QUIET,
    ).then(None, address, js=GO_TO)
    model_preparation.wire(context, prepare, prepared, (refresh, inputs, shown))


def _timer(is_active: bool) -> gr.Timer:
    return gr.Timer(active=is_active)


def _build_sources(
    context: AppContext,
) -> tuple[dict[str, Component], gr.HTML, gr.Button, gr.HTML]:
    gr.Markdown("## Learn from")
    controls: dict[str, Component] = {}
    with gr.Row(elem_classes=["form-grid"]):
        controls["data.dataset"] = gr.Dropdown(
            choices=[], label="Demonstrations", info="A stored set.", elem_id="train-dataset"
        )
        controls["base_model"] = gr.Dropdown(
            choices=model_choices(context.allowed_models),
            value="byte-llama-small",
            label="Base model",
            info="What training starts from.",
            elem_id="train-base-model",
        )
    note = gr.HTML(elem_id="train-model-note")
    prepare = gr.Button("Prepare SmolLM2", visible=False, size="sm", elem_id="train-prepare")
    prepared = gr.HTML(elem_id="train-prepare-status")
    return controls, note, prepare, prepared


def _build_objective(
    controls: dict[str, Component],
) -> tuple[list[Component], list[gr.Row]]:
    gr.Markdown("## Minimise")
    controls["objective.kind"] = gr.Radio(
        choices=[(info.title, kind) for kind, info in OBJECTIVES.items()],
        value=train_actions.FIRST_OBJECTIVE,
        label="Objective",
        elem_id="train-objective-kind",
    )
    objective_card = gr.Markdown(elem_id="train-objective-card", elem_classes=["formula-card"])
    *groups, last = OBJECTIVE_GROUPS
    rows = [_build_group(group, controls) for group in groups]
    divergence_card = gr.Markdown(elem_id="train-divergence-card", elem_classes=["formula-card"])
    rows.append(_build_group(last, controls))
    return [objective_card, divergence_card], rows


def _build_group(paths: Sequence[str], controls: dict[str, Component]) -> gr.Row:
    """One row of fields; hidden as a whole where none of them is shown, or its frame stays."""
    items = [_field(path) for path in paths]
    is_visible = any(is_shown(item, FIRST_VALUES) for item in items)
    with gr.Row(elem_classes=["form-grid"], visible=is_visible) as row:
        for item in items:
            controls[item.path] = build_input(item, "train", FIRST_VALUES)
    return row


def _build_costs(controls: dict[str, Component]) -> None:
    gr.Markdown("## Steps and seeds")
    with gr.Row(elem_classes=["form-grid"]):
        for path in COSTS:
            controls[path] = build_input(_field(path), "train", FIRST_VALUES)
        controls["seed"] = gr.Textbox(value="0", label="Seeds", max_lines=1, elem_id="train-seeds")
        controls["name"] = build_input(_field("name"), "train", FIRST_VALUES)


def _build_advanced(controls: dict[str, Component]) -> list[gr.Column]:
    sections: list[gr.Column] = []
    with gr.Accordion("Advanced", open=False, elem_id="train-advanced"):
        for title, items in train_actions.ADVANCED.items():
            section, inputs = build_section(title, items, "train", FIRST_VALUES)
            sections.append(section)
            controls.update(inputs)
    return sections


def _build_start() -> tuple[gr.HTML, gr.HTML, gr.HTML, gr.Button, gr.HTML, gr.Code]:
    gr.Markdown("## Before the start")
    estimate = gr.HTML(elem_id="train-estimate")
    problems = gr.HTML(elem_id="train-problems")
    warnings = gr.HTML(elem_id="train-warnings")
    start = gr.Button("Start training", variant="primary", elem_id="train-start")
    status = gr.HTML(elem_id="train-status")
    with gr.Accordion("The same as a command", open=False, elem_id="train-command-fold"):
        command = gr.Code(
            language=None,
            interactive=False,
            wrap_lines=True,
            lines=2,
            show_label=False,
            elem_id="train-command",
        )
    return estimate, problems, warnings, start, status, command


def _wire_form(
    context: AppContext,
    controls: Mapping[str, Component],
    inputs: list[Component],
    fields: list[Component],
    follow: tuple[Any, list[Component]],
) -> None:
    refresh, shown = follow
    dataset, kind, model = (
        controls[path] for path in ("data.dataset", "objective.kind", "base_model")
    )
    chosen: dict[str, tuple[Callable[..., Any], list[Component], list[Component]]] = {
        "objective.kind": (train_actions.choose_objective, [dataset, kind], fields),
        "data.dataset": (train_actions.choose_dataset, [dataset, kind], inputs),
        "base_model": (train_actions.choose_model, [model], fields),
    }
    for path, (choose, sources, targets) in chosen.items():
        bound = choose if path == "base_model" else handler(choose, context)
        controls[path].input(bound, sources, targets, **QUIET).then(refresh, inputs, shown, **QUIET)
    # One event for all the others: answers of several could overtake each other.
    gr.on(
        [_edited(control) for path, control in controls.items() if path not in chosen],
        refresh,
        inputs,
        shown,
        **FOLLOWING,
    )


def _edited(control: Component) -> Any:
    # The input event of a text comes with the text before the edit; its change event does not.
    return control.change if isinstance(control, gr.Textbox) else control.input


def _field(path: str) -> Any:
    return next(item for item in train_actions.FIELDS if item.path == path)


PAGE = Page("Train", "/train", build)
