"""The Oracle page: objectives trained to their optimum in small languages, measured exactly.

`?task=ID` shows an experiment again, with the form as it was.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from pages import oracle_actions as actions
from pages.components.events import FOLLOWING, QUIET, WITH_THEME, held, released
from pages.components.oracle_results import build_results
from pages.components.plain import plain
from pages.feedback import handler
from pages.links import KEEP_ADDRESS
from pages.page import AppContext, Page
from pages.presenters import oracle_form as form
from seqmatch.exact.choices import DEFAULT_OBJECTIVES
from seqmatch.exact.results import OracleRequest

FORM = "oracle-form"
POLL_SECONDS = 0.7
_LEAD = (
    "# Oracle\nIn a language small enough to enumerate, every divergence is a number and not an "
    "estimate. Train some objectives to their optimum and see where each puts its mass."
)
_FIELDS = OracleRequest.model_fields
_FIRST_SEEDS = "0-4"
_FIRST_SIZE = actions.follow_size(_FIRST_SEEDS, list(DEFAULT_OBJECTIVES))


@dataclass(frozen=True)
class _Form:
    language: gr.Radio
    table: gr.Textbox
    picture: gr.HTML
    groups: list[gr.Dropdown]
    numbers: list[Any]
    """Alpha, seeds, level, policy, backspace, order of the alpha divergence, simulated decodes."""

    @property
    def inputs(self) -> list[Any]:
        return [self.language, self.table, *self.numbers, *self.groups]


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    task = gr.Textbox(visible=False, elem_id="oracle-task")
    address = gr.Textbox(visible=False, elem_id="oracle-address")
    theme = gr.Textbox(visible=False, elem_id="oracle-theme")
    seen = gr.State({})
    gr.Markdown(_LEAD)
    with gr.Column(elem_id=FORM):
        fields = _build_form()
    with gr.Row(elem_classes=["button-row"]):
        start = gr.Button("Train and compare", variant="primary", elem_id="oracle-start")
        stop = gr.Button("Stop", visible=False, elem_id="oracle-stop")
        again = gr.Button("Run again", visible=False, elem_id="oracle-again")
        size = gr.HTML(_FIRST_SIZE, elem_id="oracle-size")
    status = gr.HTML(plain(actions.EMPTY, "empty"), elem_id="oracle-status")
    shown: list[Any] = [seen, status, stop, again]
    timer = gr.Timer(POLL_SECONDS, active=False)
    shown += [timer, *build_results().outputs]

    gr.on(
        None,
        handler(actions.from_address, context),
        None,
        [*fields.inputs, task],
        js=held(FORM),
        **QUIET,
    ).then(
        handler(actions.follow_language), fields.inputs[:2], [fields.table, fields.picture], **QUIET
    ).then(None, js=released(FORM))
    for button, action in ((start, actions.submit), (again, actions.submit_again)):
        button.click(
            handler(action, context),
            [seen, *fields.inputs],
            [status, task, address, timer, seen],
            **QUIET,
        ).then(None, address, js=KEEP_ADDRESS)
    gr.on(
        [task.change, timer.tick],
        handler(actions.show, context),
        [task, seen, theme],
        shown,
        js=WITH_THEME,
        **FOLLOWING,
    )
    stop.click(handler(actions.stop, context), task, timer, **QUIET)
    gr.on(
        [fields.language.input, fields.table.change],
        handler(actions.follow_language),
        fields.inputs[:2],
        [fields.table, fields.picture],
        **FOLLOWING,
    )
    seeds = fields.numbers[1]
    gr.on(
        [*(group.change for group in fields.groups), seeds.change],
        handler(actions.follow_size),
        [seeds, *fields.groups],
        size,
        **FOLLOWING,
    )


def _build_form() -> _Form:
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            language = gr.Radio(
                choices=form.language_choices(),
                value=_FIELDS["language"].default,
                label="Language",
                info="What the data is drawn from.",
                elem_id="oracle-language",
            )
            table = gr.Textbox(
                label="Table of probabilities",
                info="One answer and its probability or count a line.",
                placeholder=form.TABLE_EXAMPLE,
                lines=5,
                max_lines=14,
                visible=False,
                elem_id="oracle-table",
            )
            groups = [_build_group(*group) for group in enumerate(form.objective_groups())]
            basic = _build_basic()
        with gr.Column(scale=2, min_width=320):
            picture = gr.HTML(elem_id="oracle-picture")
            with gr.Accordion("What each objective does", open=False, elem_id="oracle-meanings"):
                gr.HTML(form.objectives_html())
            advanced = _build_advanced()
    return _Form(language, table, picture, groups, basic + advanced)


def _build_group(index: int, group: form.ObjectiveGroupChoices) -> gr.Dropdown:
    keys = [key for _, key in group.choices]
    return gr.Dropdown(
        choices=list(group.choices),
        value=[key for key in DEFAULT_OBJECTIVES if key in keys],
        multiselect=True,
        max_choices=form.MAX_OBJECTIVES,
        label=group.heading,
        info=group.hint,
        elem_id=f"oracle-objectives-{index}",
    )


def _build_basic() -> list[Any]:
    with gr.Row(elem_classes=["form-grid"]):
        alpha = gr.Number(
            _FIELDS["alpha"].default,
            label="Entropy weight alpha",
            info="Of SequenceMatch; small is near likelihood.",
            step=0.01,
            elem_id="oracle-alpha",
        )
        seeds = gr.Textbox(
            _FIRST_SEEDS,
            label="Seeds",
            info='Random starts of the policy: "0", "0, 1, 2" or "0-4".',
            max_lines=1,
            elem_id="oracle-seeds",
        )
    return [alpha, seeds]


def _build_advanced() -> list[Any]:
    with (
        gr.Accordion("Advanced", open=False, elem_id="oracle-advanced"),
        gr.Row(elem_classes=["form-grid"]),
    ):
        level = gr.Radio(
            choices=[("whole answers", "answers"), ("occupancies", "occupancy")],
            value="answers",
            label="Measure between",
            info="Laws of whole answers, or how often each state and action is visited.",
            elem_id="oracle-level",
        )
        policy = gr.Radio(
            choices=list(form.POLICY_CHOICES),
            value=form.AS_LANGUAGE,
            label="What the policy can represent",
            info="A limit is what makes divergences differ: without one, each reaches the data.",
            elem_id="oracle-policy",
        )
        backspace = gr.Radio(
            choices=list(form.BACKSPACE_CHOICES),
            value=form.AS_LANGUAGE,
            label="Backspace action",
            elem_id="oracle-backspace",
        )
        order = gr.Number(
            _FIELDS["divergence_order"].default,
            label="Order of the alpha divergence",
            info="0 is forward KL, 1 reverse KL. (-1 to 2)",
            step=0.1,
            elem_id="oracle-order",
        )
        simulated = gr.Number(
            _FIELDS["num_simulated"].default,
            label="Simulated decodes",
            info="Counted beside the exact law with backspace; 0 for none. (to 1,000,000)",
            step=1000,
            elem_id="oracle-simulated",
        )
    return [level, policy, backspace, order, simulated]


PAGE = Page("Oracle", "/oracle", build)
