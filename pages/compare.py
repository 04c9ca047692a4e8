"""The Compare page: the same prompts and random numbers for several policies, side by side.

`?comparison=TASK` shows a comparison again, `?runs=A,B` chooses runs beforehand.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr
from gradio.components import Component

from pages import compare_actions as actions
from pages.components.config_form import build_input
from pages.components.events import FOLLOWING, POLLING, QUIET, held, released
from pages.components.plain import plain
from pages.feedback import handler
from pages.links import KEEP_ADDRESS
from pages.page import AppContext, Page

FORM = "compare-form"


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    task = gr.Textbox(visible=False, elem_id="compare-task")
    address = gr.Textbox(visible=False, elem_id="compare-address")
    gr.Markdown("# Compare\nEvery policy gets the same prompts and the same random numbers.")
    with gr.Column(elem_id=FORM):
        request, held_out = _build_request()
    with gr.Row(elem_classes=["button-row"]):
        compare = gr.Button("Compare", variant="primary", elem_id="compare-start")
        stop = gr.Button("Stop", visible=False, elem_id="compare-stop")
    status = gr.HTML(elem_id="compare-status")
    replay, play, columns, fold, table = _build_results()
    timer = gr.Timer(0.7, active=False)
    player = gr.Timer(0.35, active=False)
    seen = gr.State(actions.NOTHING_SEEN)

    gr.on(
        None,
        handler(actions.from_address, context),
        outputs=[*request, held_out.split, held_out.fold, task],
        js=held(FORM),
        **QUIET,
    ).then(None, js=released(FORM))
    compare.click(
        handler(actions.submit, context),
        [held_out.split, *request],
        [status, task, address],
        **QUIET,
    ).then(None, address, js=KEEP_ADDRESS)
    gr.on(
        [task.change, timer.tick],
        handler(actions.show, context),
        [task, seen],
        [status, columns, table, fold, replay, play, stop, timer, seen],
        **FOLLOWING,
    )
    stop.click(handler(actions.stop, context), task, [status, timer], **QUIET)
    replay.input(handler(actions.replay, context), [task, replay], columns, **FOLLOWING)
    play.click(actions.play, replay, [player, replay, play], **QUIET)
    player.tick(
        handler(actions.play_on, context),
        [task, replay],
        [replay, columns, player, play],
        **POLLING,
    )
    _, policies, *_ = request
    policies.input(handler(actions.follow_policies, context), policies, held_out.split, **QUIET)
    held_out.take.click(
        handler(actions.held_out_prompts, context),
        [held_out.split, held_out.number, policies],
        [request[0], held_out.note],
        **QUIET,
    )


@dataclass(frozen=True)
class HeldOut:
    """The components that take held-out prompts."""

    fold: gr.Accordion
    split: gr.Dropdown
    number: gr.Number
    take: gr.Button
    note: gr.HTML


def _build_request() -> tuple[list[Any], HeldOut]:
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            prompts = gr.Textbox(
                label="Prompts",
                info="One a line; \\n is a line break inside a prompt, \\\\ a backslash.",
                lines=4,
                max_lines=12,
                placeholder="123+456=",
                elem_id="compare-prompts",
            )
            held_out = _build_held_out()
        with gr.Column(scale=2, min_width=320):
            policies = gr.Dropdown(
                choices=[],
                multiselect=True,
                max_choices=actions.MAX_POLICIES,
                label="Policies",
                info="Base models and trained runs, up to four.",
                elem_id="compare-policies",
            )
            backspace = gr.CheckboxGroup(
                choices=[("with backspace", "on"), ("without backspace", "off")],
                value=["on", "off"],
                label="Backspace action",
                info="Off masks the action: the same weights may not take anything back.",
                elem_id="compare-backspace",
            )
    decoding: list[Component] = []
    with gr.Row(elem_classes=["form-grid"]):
        decoding += [
            build_input(one, "compare", {}) for one in actions.FIELDS if one.path in actions.BASIC
        ]
    with gr.Accordion("Advanced", open=False), gr.Row(elem_classes=["form-grid"]):
        rest = [one for one in actions.FIELDS if one.path not in actions.BASIC]
        decoding += [build_input(one, "compare", {}) for one in rest]
    return [prompts, policies, backspace, *decoding], held_out


def _build_held_out() -> HeldOut:
    with gr.Accordion("Take held-out prompts", elem_id="compare-heldout") as fold:
        split = gr.Dropdown(
            choices=[],
            label="Held out by",
            info="These runs never trained on them.",
            elem_id="compare-split",
        )
        number = gr.Number(4, label="How many", info="1 to 32.", elem_id="compare-number")
        take = gr.Button("Take these prompts", size="sm", elem_id="compare-take")
        note = gr.HTML(elem_id="compare-held-note")
    return HeldOut(fold, split, number, take, note)


def _build_results() -> tuple[gr.Slider, gr.Button, gr.HTML, gr.Accordion, gr.HTML]:
    with gr.Row(equal_height=True, elem_classes=["replay-row"]):
        replay = gr.Slider(
            0, 1, 1, step=1, label="Replay: actions shown", visible=False, elem_id="compare-replay"
        )
        play = gr.Button("Play", visible=False, scale=0, min_width=96, elem_id="compare-play")
    columns = gr.HTML(
        plain("Write a prompt, choose policies, and press Compare.", "empty"),
        elem_id="compare-columns",
    )
    with gr.Accordion(
        "All answers as a table", open=False, visible=False, elem_id="compare-table-fold"
    ) as fold:
        table = gr.HTML(elem_id="compare-table")
    return replay, play, columns, fold, table


PAGE = Page("Compare", "/compare", build)
