"""The view of one stored set: rows, lengths, tokens, and what can be done with it."""

from dataclasses import dataclass

import gradio as gr
from gradio.components import Component

from pages import dataset_actions
from pages.components.events import FOLLOWING, QUIET
from pages.feedback import handler
from pages.page import AppContext
from pages.presenters.training_choices import model_choices
from seqmatch.objectives.catalogue import OBJECTIVES


@dataclass(frozen=True)
class DatasetView:
    """The components of the view."""

    group: gr.Column
    heading: gr.HTML
    name: gr.Textbox
    rename: gr.Button
    delete: gr.Button
    sure: gr.Row
    really_delete: gr.Button
    keep: gr.Button
    status: gr.HTML
    page: gr.Slider
    rows: gr.HTML
    model: gr.Dropdown
    max_tokens: gr.Number
    measure: gr.Button
    lengths: gr.HTML
    row: gr.Number
    objective: gr.Radio
    seed: gr.Number
    look: gr.Button
    tokens: gr.HTML

    @property
    def outputs(self) -> list[Component]:
        """What changes when another set is opened."""
        return [
            self.group,
            self.heading,
            self.name,
            self.page,
            self.rows,
            self.row,
            self.lengths,
            self.tokens,
            self.status,
        ]


def build_view(context: AppContext) -> DatasetView:
    """Builds the view, hidden until a set is opened."""
    with gr.Column(visible=False, elem_id="demonstrations-view") as group:
        heading = gr.HTML(elem_id="demonstrations-heading")
        with gr.Tab("Rows"):
            page = gr.Slider(1, 2, 1, step=1, label="Page", elem_id="demonstrations-page")
            rows = gr.HTML(elem_id="demonstrations-rows")
        with gr.Tab("Tokens"):
            model, max_tokens, measure, lengths = _build_lengths(context)
            row, objective, seed, look, tokens = _build_tokens()
        with gr.Tab("Manage"):
            name, rename, delete, sure, really_delete, keep = _build_changes()
        status = gr.HTML(elem_id="demonstrations-status")
    return DatasetView(
        group, heading, name, rename, delete, sure, really_delete, keep, status, page, rows,
        model, max_tokens, measure, lengths, row, objective, seed, look, tokens,
    )  # fmt: skip


def wire(context: AppContext, view: DatasetView, chosen: gr.Textbox, sets: gr.HTML) -> None:
    """Wires the view."""
    view.page.release(
        handler(dataset_actions.rows_page, context), [chosen, view.page], view.rows, **QUIET
    )
    view.rename.click(
        handler(dataset_actions.rename, context),
        [chosen, view.name],
        [view.status, sets, view.heading],
        **QUIET,
    )
    view.delete.click(dataset_actions.ask_delete, None, [view.delete, view.sure], **QUIET)
    view.keep.click(dataset_actions.keep, None, [view.delete, view.sure], **QUIET)
    view.really_delete.click(
        handler(dataset_actions.delete, context),
        chosen,
        [view.status, chosen, view.group],
        **QUIET,
    ).then(dataset_actions.keep, None, [view.delete, view.sure], **QUIET)
    _wire_task(
        context,
        (view.measure, view.lengths),
        [chosen, view.model, view.max_tokens],
        dataset_actions.ask_lengths,
    )
    _wire_task(
        context,
        (view.look, view.tokens),
        [chosen, view.row, view.model, view.objective, view.max_tokens, view.seed],
        dataset_actions.ask_tokens,
    )


def _wire_task(
    context: AppContext,
    controls: tuple[gr.Button, gr.HTML],
    inputs: list[Component],
    asked: dataset_actions.Ask,
) -> None:
    button, target = controls
    task = gr.State("")
    timer = gr.Timer(1.0, active=False)
    button.click(handler(asked, context), inputs, [task, target, timer], **QUIET)
    gr.on(
        [task.change, timer.tick],
        handler(dataset_actions.show_answer, context),
        task,
        [target, timer],
        **FOLLOWING,
    )


def _build_lengths(
    context: AppContext,
) -> tuple[gr.Dropdown, gr.Number, gr.Button, gr.HTML]:
    with gr.Row(elem_classes=["form-grid"]):
        model = gr.Dropdown(
            choices=model_choices(context.allowed_models),
            value="byte-llama-small",
            label="Base model",
            info="Its tokenizer decides what a token is.",
            elem_id="demonstrations-model",
        )
        max_tokens = gr.Number(
            256,
            label="Longest row",
            info="Limit on prompt and answer together (8 to 8,192 tokens).",
            elem_id="demonstrations-max-tokens",
        )
    with gr.Row(elem_classes=["button-row"]):
        measure = gr.Button("Measure lengths", elem_id="demonstrations-measure")
    lengths = gr.HTML(elem_id="demonstrations-lengths")
    return model, max_tokens, measure, lengths


def _build_tokens() -> tuple[gr.Number, gr.Radio, gr.Number, gr.Button, gr.HTML]:
    gr.Markdown("### One row, token by token")
    with gr.Row(elem_classes=["form-grid"]):
        row = gr.Number(1, label="Row", step=1, elem_id="demonstrations-row")
        objective = gr.Radio(
            choices=[(info.title, kind) for kind, info in OBJECTIVES.items()],
            value="sequence_match",
            label="Objective",
            info="SequenceMatch inserts mistakes and the backspaces that undo them.",
            elem_id="demonstrations-objective",
        )
        seed = gr.Number(
            0,
            label="Noise seed",
            info="Another seed inserts other mistakes.",
            elem_id="demonstrations-seed",
        )
    with gr.Row(elem_classes=["button-row"]):
        look = gr.Button("Show tokens", elem_id="demonstrations-look")
    tokens = gr.HTML(elem_id="demonstrations-tokens")
    return row, objective, seed, look, tokens


def _build_changes() -> tuple[gr.Textbox, gr.Button, gr.Button, gr.Row, gr.Button, gr.Button]:
    with gr.Row(elem_classes=["form-grid"]):
        name = gr.Textbox(label="Name", max_lines=1, elem_id="demonstrations-name")
    with gr.Row(elem_classes=["button-row"]):
        rename = gr.Button("Rename", elem_id="demonstrations-rename")
    with gr.Row(elem_classes=["button-row"]):
        delete = gr.Button("Delete this set", elem_id="demonstrations-delete")
    with gr.Row(visible=False, elem_classes=["button-row"]) as sure:
        really_delete = gr.Button(
            "Delete for good", variant="stop", elem_id="demonstrations-really-delete"
        )
        keep = gr.Button("Keep it", elem_id="demonstrations-keep")
    return name, rename, delete, sure, really_delete, keep
