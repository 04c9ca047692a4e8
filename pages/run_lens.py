"""The Lens tab of the Run page: how far a run's answers are from the demonstrations, and where.

What it shows is the newest look at this run in the store; the address says which run.
"""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from pages import run_lens_actions as actions
from pages.components.events import FOLLOWING, POLLING, QUIET, WITH_THEME
from pages.components.plain import plain
from pages.feedback import handler
from pages.links import from_address
from pages.page import AppContext
from pages.presenters.heat_map import VIEWS
from seqmatch.jobs.lens_types import MAX_ANSWERS, MAX_SAMPLES, MIN_ANSWERS, LensRequest

POLL_SECONDS = 0.7
_FIELDS = LensRequest.model_fields
_MEASURE_LEAD = (
    "### How far are its answers from the demonstrations?\nFresh answers to held-out prompts "
    "against what was demonstrated for them, told apart by a small probe on frozen features of the "
    "base model: the same for every run on it, adversarial or not."
)
_SCORE_LEAD = (
    "### Which tokens give it away?\nh is the log ratio of demonstrations over the run's answers, "
    "here at every token: of the run's own discriminator where it has one, else of a probe."
)


@dataclass(frozen=True)
class _Part:
    """One question: what asks it, and what shows the answer."""

    task: gr.Textbox
    seen: gr.State
    start: gr.Button
    stop: gr.Button
    status: gr.HTML
    timer: gr.Timer
    inputs: list[Any]
    results: list[Any]

    @property
    def asked(self) -> list[Any]:
        return [self.status, self.task, self.timer, self.seen]

    @property
    def shown(self) -> list[Any]:
        return [self.seen, self.status, self.stop, self.timer, *self.results]


@dataclass(frozen=True)
class LensTab:
    """The components of the tab."""

    hint: gr.HTML
    measure: _Part
    score: _Part
    view: gr.Radio


def build_tab() -> LensTab:
    """Builds what is inside the tab."""
    hint = gr.HTML(elem_id="lens-hint")
    gr.Markdown(_MEASURE_LEAD)
    measure = _build_measure()
    gr.Markdown(_SCORE_LEAD)
    score, view = _build_score()
    return LensTab(hint, measure, score, view)


def _build_measure() -> _Part:
    with gr.Row(elem_classes=["form-grid"], elem_id="lens-answers-row"):
        number = gr.Number(
            _FIELDS["num_answers"].default,
            label="Answers",
            info=f"One to each held-out prompt. ({MIN_ANSWERS} to {MAX_ANSWERS:,})",
            step=1,
            elem_id="lens-num-answers",
        )
    part = _ask("measure", "Measure")
    with gr.Column(visible=False, elem_id="lens-measured") as body:
        words = gr.HTML(elem_id="lens-words")
        with gr.Column(elem_classes=["chart"], elem_id="lens-calibration"):
            gr.HTML("<h3>Calibration: is h as sure as it may be?</h3>")
            plot = gr.Plot(show_label=False, container=False, elem_id="lens-calibration-plot")
            summary = gr.HTML(elem_id="lens-calibration-words")
            with gr.Accordion("Table", open=False, elem_id="lens-calibration-fold"):
                numbers = gr.HTML(elem_id="lens-calibration-table")
    return _Part(*part, [number], [body, words, plot, summary, numbers])


def _build_score() -> tuple[_Part, gr.Radio]:
    with gr.Row(equal_height=True, elem_classes=["form-grid"]):
        prompt = gr.Textbox(
            label="Prompt", info="A plain text.", lines=3, max_lines=12, elem_id="lens-prompt"
        )
        answer = gr.Textbox(
            label="Answer",
            info="Paste any text, or leave it empty to let the run answer.",
            lines=3,
            max_lines=12,
            elem_id="lens-answer",
        )
        number = gr.Number(
            _FIELDS["num_samples"].default,
            label="Samples",
            info=f"Where the answer is empty, what stands after backspaces. (1 to {MAX_SAMPLES})",
            step=1,
            elem_id="lens-num-samples",
        )
    part = _ask("score", "Show h")
    view = gr.Radio(
        choices=list(VIEWS),
        value=VIEWS[0][1],
        label="Colour by",
        visible=False,
        elem_id="lens-view",
    )
    heat = gr.HTML(elem_id="lens-heat")
    with gr.Accordion(
        "All tokens as a table", open=False, visible=False, elem_id="lens-tokens-fold"
    ) as fold:
        tokens = gr.HTML(elem_id="lens-tokens")
    return _Part(*part, [prompt, answer, number], [view, heat, fold, tokens]), view


def _ask(
    name: str, title: str
) -> tuple[gr.Textbox, gr.State, gr.Button, gr.Button, gr.HTML, gr.Timer]:
    """Builds the task, what was seen of it, start and stop, the status line and the timer."""
    task = gr.Textbox(visible=False, elem_id=f"lens-{name}-task")
    with gr.Row(elem_classes=["button-row"]):
        start = gr.Button(title, variant="primary", size="sm", elem_id=f"lens-{name}")
        stop = gr.Button("Stop", size="sm", visible=False, elem_id=f"lens-{name}-stop")
    status = gr.HTML(plain(actions.EMPTY[name], "empty"), elem_id=f"lens-{name}-status")
    return task, gr.State({}), start, stop, status, gr.Timer(POLL_SECONDS, active=False)


def wire(context: AppContext, tab: LensTab, run_id: gr.Textbox, timer: gr.Timer) -> None:
    """Wires the tab.

    Args:
        context: The application.
        tab: The components.
        run_id: The run that the page shows.
        timer: The page's own, which goes while the run can still save its first policy.
    """
    can_start = [tab.hint, tab.measure.start, tab.score.start]
    newest = [tab.measure.task, tab.score.task]
    gr.on(
        None,
        handler(actions.open_tab, context),
        run_id,
        [*newest, *can_start],
        js=from_address("run"),
        **QUIET,
    )
    timer.tick(handler(actions.can_start, context), run_id, can_start, **POLLING)
    measure, score = tab.measure, tab.score
    measure.start.click(
        handler(actions.submit_measure, context),
        [run_id, measure.seen, *measure.inputs],
        measure.asked,
        **QUIET,
    )
    score.start.click(
        handler(actions.submit_score, context),
        [run_id, score.task, score.seen, *score.inputs],
        score.asked,
        **QUIET,
    )
    for part in (measure, score):
        part.stop.click(handler(actions.stop, context), part.task, part.timer, **QUIET)
    theme = gr.Textbox(visible=False, elem_id="lens-theme")
    gr.on(
        [measure.task.change, measure.timer.tick],
        handler(actions.show_measure, context),
        [measure.task, measure.seen, theme],
        measure.shown,
        js=WITH_THEME,
        **FOLLOWING,
    )
    gr.on(
        [score.task.change, score.timer.tick, tab.view.change],
        handler(actions.show_score, context),
        [score.task, score.seen, tab.view],
        score.shown,
        **FOLLOWING,
    )
