"""The Run page, `?run=ID`: where a run stands, curves, samples, lens, settings and log, live."""

from dataclasses import dataclass
from typing import Any

import gradio as gr

from pages import run_actions, run_lens, run_view
from pages.components.events import FOLLOWING, QUIET, WITH_THEME
from pages.components.metric_plot import ChartGrid, build_grid, no_updates
from pages.components.plain import plain
from pages.feedback import handler
from pages.links import from_address
from pages.page import AppContext, Page
from pages.presenters.palette import Theme
from storage.records import ControlRequest

POLL_SECONDS = 4.0
_NUM_BUTTONS = 5
_NUM_NOTES = 4


@dataclass(frozen=True)
class _Widgets:
    head: gr.HTML
    links: gr.HTML
    body: gr.Column
    buttons: list[gr.Button]
    said: gr.HTML
    grid: ChartGrid
    paused: gr.Checkbox
    notes: list[Any]
    settings: gr.HTML
    command: gr.Textbox
    name: gr.Textbox
    rename: gr.Button
    lens: run_lens.LensTab
    timer: gr.Timer

    @property
    def live(self) -> list[Any]:
        """What a tick may change, in the order of `refresh`."""
        always = [self.timer, self.body, self.head, self.links]
        return [*always, *self.buttons, *self.grid.outputs, *self.notes]

    @property
    def fixed(self) -> list[Any]:
        """What changes only with the run itself."""
        return [self.settings, self.command, self.name]


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    run_id = gr.Textbox(visible=False, elem_id="run-id")
    theme = gr.Textbox(visible=False, elem_id="run-theme")
    seen = gr.State({})
    widgets = _build_widgets()
    inputs = [run_id, seen, widgets.paused, theme]
    outputs = [seen, *widgets.live]
    show = handler(refresh, context)
    # The name comes before the page is shown: it overwrites nothing that a person typed.
    gr.on(None, None, outputs=[run_id], js=from_address("run")).then(
        handler(describe, context), run_id, widgets.fixed, **QUIET
    ).then(show, inputs, outputs, js=WITH_THEME, **QUIET)
    gr.on(
        [widgets.timer.tick, widgets.paused.change],
        show,
        inputs,
        outputs,
        js=WITH_THEME,
        **FOLLOWING,
    )
    for button, action in zip(widgets.buttons, _ACTIONS, strict=True):
        button.click(handler(action, context), run_id, widgets.said, **QUIET).then(
            show, inputs, outputs, js=WITH_THEME, **QUIET
        )
    gr.on(
        [widgets.rename.click, widgets.name.submit],
        handler(run_actions.rename, context),
        [run_id, widgets.name],
        widgets.said,
        **QUIET,
    ).then(show, inputs, outputs, js=WITH_THEME, **QUIET)
    run_lens.wire(context, widgets.lens, run_id, widgets.timer)
    steps, samples = widgets.notes[2:]
    steps.input(handler(run_view.samples_at, context), [run_id, steps], samples, **QUIET)


def _build_widgets() -> _Widgets:
    gr.HTML('<nav class="way-back" aria-label="back"><a href="runs">‹ All runs</a></nav>')
    head = gr.HTML('<p class="empty" role="status">Loading the run …</p>', elem_id="run-head")
    with gr.Column(visible=False, elem_id="run-body") as body:
        with gr.Row(elem_classes=["button-row"], elem_id="run-actions"):
            links = gr.HTML(elem_id="run-links")
            buttons = [
                gr.Button(title, size="sm", visible=False, elem_id=f"run-{key}")
                for key, title in (
                    ("stop", "Stop"),
                    ("stop-and-save", "Stop and save"),
                    ("resume", "Resume"),
                    ("delete", "Delete"),
                    ("restore", "Undo: bring it back"),
                )
            ]
        said = gr.HTML(elem_id="run-said")
        with gr.Tab("Curves", elem_id="run-tab-curves"):
            paused = gr.Checkbox(
                label="Pause live updates",
                info="Charts stay as they are, and so does a zoom.",
                elem_id="run-paused",
            )
            grid = build_grid("run")
        with gr.Tab("Samples", elem_id="run-tab-samples"):
            steps = gr.Dropdown(
                label="Sampled at", visible=False, filterable=False, elem_id="run-steps"
            )
            samples = gr.HTML(elem_id="run-samples")
        with gr.Tab("Lens", elem_id="run-tab-lens"):
            lens = run_lens.build_tab()
        with gr.Tab("Settings", elem_id="run-tab-settings"):
            with gr.Row(elem_classes=["rename-row"]):
                name = gr.Textbox(label="Name", max_lines=1, max_length=120, elem_id="run-name")
                rename = gr.Button("Rename", size="sm", scale=0, elem_id="run-rename")
            settings = gr.HTML(elem_id="run-settings")
            command = gr.Textbox(
                label="The same from a command line",
                lines=2,
                max_lines=12,
                interactive=False,
                buttons=["copy"],
                elem_id="run-command",
            )
        with gr.Tab("Events and log", elem_id="run-tab-log"):
            events = gr.HTML(elem_id="run-events")
            gr.HTML("<h3>End of the log</h3>")
            log = gr.HTML(elem_id="run-log")
    timer = gr.Timer(POLL_SECONDS, active=False)
    notes = [events, log, steps, samples]
    return _Widgets(
        head,
        links,
        body,
        buttons,
        said,
        grid,
        paused,
        notes,
        settings,
        command,
        name,
        rename,
        lens,
        timer,
    )


def refresh(
    context: AppContext, run_id: str, seen: run_view.Seen, is_paused: bool, theme: Theme
) -> list[Any]:
    """Returns what is new of a run; the timer goes on only while something can still happen."""
    run = run_view.find(context, run_id)
    if run is None:
        shown = run_view.missing_html(run_id)
        rest = [gr.skip()] * (1 + _NUM_BUTTONS)
        stopped = [gr.Timer(active=False), gr.update(visible=False), shown]
        return [{}, *stopped, *rest, *no_updates(), *([gr.skip()] * _NUM_NOTES)]
    curves = run_view.curve_parts(
        context, run, "dark" if theme == "dark" else "light", seen, is_paused
    )
    notes = run_view.note_parts(context, run, curves.seen)
    return [
        notes.seen,
        gr.Timer(active=not run.status.is_final),
        gr.update(visible=True),
        run_view.head_html(context, run),
        run_view.links_html(context, run),
        *run_view.button_updates(run),
        *curves.updates,
        *notes.updates,
    ]


def describe(context: AppContext, run_id: str) -> list[Any]:
    """Returns what of a run does not change while it trains: settings, command line, name."""
    run = run_view.find(context, run_id)
    if run is None:
        return [gr.skip()] * 3
    settings, command = run_view.settings_html(context, run)
    return [settings, gr.update(value=command, visible=bool(command)), run.name]


def _stop(context: AppContext, run_id: str) -> str:
    return plain(run_actions.stop(context, [run_id], ControlRequest.STOP), "good")


def _stop_and_save(context: AppContext, run_id: str) -> str:
    return plain(run_actions.stop(context, [run_id], ControlRequest.STOP_AND_SAVE), "good")


def _resume(context: AppContext, run_id: str) -> str:
    return plain(run_actions.resume(context, [run_id]), "good")


def _delete(context: AppContext, run_id: str) -> str:
    return plain(run_actions.delete(context, [run_id]), "good")


def _restore(context: AppContext, run_id: str) -> str:
    return plain(run_actions.restore(context, [run_id]), "good")


_ACTIONS = (_stop, _stop_and_save, _resume, _delete, _restore)

PAGE = Page("Run", "/run", build)
