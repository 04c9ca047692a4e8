"""The Runs page: all runs, what can be done with them, and several on the same axes.

`?runs=ID,ID` chooses runs, so that an overlay can be shared as a link.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr

from pages import run_actions
from pages.components.events import FOLLOWING, QUIET, WITH_THEME
from pages.components.metric_plot import ChartGrid, build_grid, grid_updates, no_updates
from pages.components.plain import plain
from pages.feedback import handler
from pages.links import GO_TO, KEEP_ADDRESS, link
from pages.page import AppContext, Page
from pages.presenters.configs import config_diff
from pages.presenters.palette import Theme, run_looks
from pages.presenters.runs import STATUS_WORDS, runs_table
from seqmatch.errors import ConfigError
from seqmatch.jobs.runs_at_once import MAX_AT_ONCE, runs_at_once, set_runs_at_once
from storage.errors import NotFoundError
from storage.records import ControlRequest, RunRecord

POLL_SECONDS = 5.0
MAX_SHOWN = 200
MAX_OVERLAY = 12
_NUM_BUTTONS = 5


@dataclass(frozen=True)
class _Widgets:
    table: gr.HTML
    chosen: gr.Dropdown
    buttons: list[gr.Button]
    name: gr.Textbox
    rename: gr.Button
    restore: gr.Button
    said: gr.HTML
    address: gr.Textbox
    deleted: gr.State
    listed_state: gr.State
    body: gr.Column
    csv: gr.HTML
    grid: ChartGrid
    diff: gr.HTML
    paused: gr.Checkbox
    at_once: gr.Number
    at_once_said: gr.HTML

    @property
    def listed(self) -> list[Any]:
        """The table, the picker and the buttons."""
        return [self.listed_state, self.table, self.chosen, *self.buttons, self.name, self.rename]

    @property
    def asked(self) -> list[Any]:
        """What the list is made from."""
        return [self.chosen, self.listed_state]

    @property
    def overlaid(self) -> list[Any]:
        """What shows the chosen runs."""
        return [self.body, self.csv, self.diff, *self.grid.outputs]


def build(context: AppContext) -> None:
    """Builds the page and wires it."""
    theme = gr.Textbox(visible=False, elem_id="runs-theme")
    seen = gr.State("")
    widgets = _build_widgets()
    timer = gr.Timer(POLL_SECONDS)
    show_list = handler(list_runs, context)
    show_curves = handler(overlay, context)
    curve_inputs = [widgets.chosen, seen, widgets.paused, theme]
    curve_outputs = [seen, *widgets.overlaid]
    gr.on(
        None,
        handler(from_address, context),
        None,
        [widgets.chosen, widgets.at_once],
        **QUIET,
    ).then(show_list, widgets.asked, widgets.listed, **QUIET).then(
        show_curves, curve_inputs, curve_outputs, js=WITH_THEME, **QUIET
    )
    gr.on(
        [widgets.chosen.input, timer.tick],
        show_list,
        widgets.asked,
        widgets.listed,
        **FOLLOWING,
    ).then(show_curves, curve_inputs, curve_outputs, js=WITH_THEME, **FOLLOWING)
    widgets.chosen.input(handler(address_of), widgets.chosen, widgets.address, **QUIET).then(
        None, widgets.address, js=KEEP_ADDRESS
    )
    _wire_actions(context, widgets, show_list)


def _build_widgets() -> _Widgets:
    gr.Markdown("# Runs")
    table = gr.HTML('<p class="empty" role="status">Loading the runs …</p>', elem_id="runs-table")
    chosen = gr.Dropdown(
        label="Chosen runs",
        info="To act on them, or to see several on the same axes.",
        multiselect=True,
        choices=[],
        elem_id="runs-chosen",
    )
    with gr.Row(elem_classes=["button-row"], elem_id="runs-actions"):
        buttons = [
            gr.Button(title, size="sm", interactive=False, elem_id=f"runs-{key}")
            for key, title in (
                ("stop", "Stop"),
                ("stop-and-save", "Stop and save"),
                ("resume", "Resume"),
                ("clone", "Clone"),
                ("delete", "Delete"),
            )
        ]
        restore = gr.Button("Undo delete", size="sm", visible=False, elem_id="runs-restore")
    with gr.Row(elem_classes=["rename-row"]):
        name = gr.Textbox(
            label="New name", max_lines=1, max_length=120, visible=False, elem_id="runs-name"
        )
        rename = gr.Button("Rename", size="sm", scale=0, visible=False, elem_id="runs-rename")
    said = gr.HTML(elem_id="runs-said")
    with gr.Row(elem_id="runs-at-once-row"):
        at_once = gr.Number(
            1,
            label="Runs that a device trains at once",
            info=f"1 to {MAX_AT_ONCE}; the others wait. They share its memory and its cores.",
            precision=0,
            elem_id="runs-at-once",
        )
    at_once_said = gr.HTML(elem_id="runs-at-once-said")
    address = gr.Textbox(visible=False, elem_id="runs-address")
    deleted = gr.State([])
    listed_state = gr.State("")
    with gr.Column(visible=False, elem_id="runs-overlay") as body:
        gr.Markdown("## Side by side")
        csv = gr.HTML(elem_id="runs-csv")
        paused = gr.Checkbox(
            label="Pause live updates",
            info="Charts stay as they are, and so does a zoom.",
            elem_id="runs-paused",
        )
        grid = build_grid("runs")
        gr.Markdown("### Settings that differ")
        diff = gr.HTML(elem_id="runs-diff")
    return _Widgets(
        table,
        chosen,
        buttons,
        name,
        rename,
        restore,
        said,
        address,
        deleted,
        listed_state,
        body,
        csv,
        grid,
        diff,
        paused,
        at_once,
        at_once_said,
    )


def _wire_actions(context: AppContext, widgets: _Widgets, show_list: Callable[..., Any]) -> None:
    listing = (show_list, widgets.asked, widgets.listed)
    stop, stop_and_save, resume, clone, delete = widgets.buttons
    for button, action in ((stop, _stop), (stop_and_save, _stop_and_save), (resume, _resume)):
        button.click(handler(action, context), widgets.chosen, widgets.said, **QUIET).then(
            *listing, **QUIET
        )
    clone.click(handler(_clone), widgets.chosen, widgets.address, **QUIET).then(
        None, widgets.address, js=GO_TO
    )
    undo = [widgets.said, widgets.restore, widgets.deleted, widgets.chosen]
    delete.click(handler(_delete, context), widgets.chosen, undo, **QUIET).then(*listing, **QUIET)
    widgets.restore.click(handler(_restore, context), widgets.deleted, undo, **QUIET).then(
        *listing, **QUIET
    )
    gr.on(
        [widgets.rename.click, widgets.name.submit],
        handler(_rename, context),
        [widgets.chosen, widgets.name],
        [widgets.said, widgets.name],
        **QUIET,
    ).then(*listing, **QUIET)
    gr.on(
        [widgets.at_once.submit, widgets.at_once.blur],
        handler(_set_at_once, context),
        widgets.at_once,
        [widgets.at_once_said, widgets.at_once],
        **QUIET,
    )


def from_address(context: AppContext, request: gr.Request) -> list[Any]:
    """Chooses the runs that the address names, and shows how many train at once."""
    shown = context.store.runs.list(limit=MAX_SHOWN)
    wanted = str(request.query_params.get("runs", "")).split(",")
    known = [run.id for run in shown]
    chosen = [one for one in wanted if one in known]
    return [
        gr.update(choices=_choices(shown), value=chosen),
        gr.update(value=runs_at_once(context.store)),
    ]


def address_of(chosen: Sequence[str] | None) -> str:
    """Returns the address that shows these runs again."""
    return link("runs", runs=",".join(chosen)) if chosen else link("runs")


def list_runs(context: AppContext, chosen: Sequence[str] | None, seen: str) -> list[Any]:
    """Returns the table, the picker's choices, and which buttons work, where anything changed."""
    shown = context.store.runs.list(limit=MAX_SHOWN)
    datasets = {one.id: one for one in context.store.datasets.list()}
    looks = run_looks(context.store.runs.list(include_deleted=True))
    picked = [run for run in shown if run.id in (chosen or ())]
    can = run_actions.possible(picked)
    table = runs_table(shown, datasets, looks, time.time())
    key = repr((table, chosen))
    if key == seen:
        return [gr.skip()] * (5 + _NUM_BUTTONS)
    allowed = (can.stop, can.stop, can.resume, can.one, can.delete)
    return [
        key,
        table,
        gr.update(choices=_choices(shown), visible=bool(shown)),
        *(gr.update(interactive=one, visible=bool(shown)) for one in allowed),
        gr.update(visible=can.one),
        gr.update(visible=can.one),
    ]


def _choices(runs: Sequence[RunRecord]) -> list[tuple[str, str]]:
    counts: dict[str, int] = {}
    for run in runs:
        counts[run.name] = counts.get(run.name, 0) + 1
    return [(_choice(run, counts[run.name] > 1), run.id) for run in runs]


def _choice(run: RunRecord, is_ambiguous: bool) -> str:
    short = f" ({run.id[:6]})" if is_ambiguous else ""
    return f"{run.name}{short} · {STATUS_WORDS[run.status]}"


def overlay(
    context: AppContext, chosen: Sequence[str] | None, seen: str, is_paused: bool, theme: Theme
) -> list[Any]:
    """Returns the curves of the chosen runs where there is something new, and their differences."""
    runs = _existing(context, chosen or ())[:MAX_OVERLAY]
    if not runs:
        return ["", gr.update(visible=False), gr.skip(), gr.skip(), *no_updates()]
    looks = run_looks(context.store.runs.list(include_deleted=True))
    found = [context.curves.of_run(run, looks[run.id]) for run in runs]
    key = repr(
        [(run.id, run.name, cursor, theme) for run, (_, cursor) in zip(runs, found, strict=True)]
    )
    if key == seen or (is_paused and seen):
        return [seen, gr.skip(), gr.skip(), gr.skip(), *no_updates()]
    curves = [one for one, _ in found]
    return [
        key,
        gr.update(visible=True),
        _legend_and_csv(runs, context, len(chosen or ())),
        config_diff([(run.name, run.config_json) for run in runs]) if len(runs) > 1 else "",
        *grid_updates(curves, "dark" if theme == "dark" else "light"),
    ]


def _legend_and_csv(runs: Sequence[RunRecord], context: AppContext, num_chosen: int) -> str:
    looks = run_looks(context.store.runs.list(include_deleted=True))
    names = " &nbsp; ".join(f"{looks[run.id].html()} {escape(run.name)}" for run in runs)
    ids = ",".join(run.id for run in runs)
    more = f"Only the first {MAX_OVERLAY} are drawn. " if num_chosen > MAX_OVERLAY else ""
    return (
        f"<p>{names}</p>{plain(more)}"
        f'<div class="link-row"><a class="button-link" href="{escape(link("compare", runs=ids))}">'
        f'Compare answers</a><a class="button-link" href="{escape(link("curves.csv", runs=ids))}" '
        "download>Curves as CSV</a></div>"
    )


def _existing(context: AppContext, run_ids: Sequence[str]) -> list[RunRecord]:
    found = []
    for run_id in run_ids:
        try:
            found.append(context.store.runs.get(run_id))
        except NotFoundError:
            continue
    return found


def _stop(context: AppContext, chosen: Sequence[str]) -> str:
    return plain(run_actions.stop(context, chosen, ControlRequest.STOP), "good")


def _stop_and_save(context: AppContext, chosen: Sequence[str]) -> str:
    return plain(run_actions.stop(context, chosen, ControlRequest.STOP_AND_SAVE), "good")


def _resume(context: AppContext, chosen: Sequence[str]) -> str:
    return plain(run_actions.resume(context, chosen), "good")


def _clone(chosen: Sequence[str]) -> str:
    return link("train", clone=chosen[0])


def _delete(context: AppContext, chosen: Sequence[str]) -> list[Any]:
    said = plain(run_actions.delete(context, chosen), "good")
    return [said, gr.update(visible=True), list(chosen), gr.update(value=[])]


def _restore(context: AppContext, deleted: Sequence[str]) -> list[Any]:
    said = plain(run_actions.restore(context, deleted), "good")
    return [said, gr.update(visible=False), [], gr.skip()]


def _rename(context: AppContext, chosen: Sequence[str], name: str) -> list[Any]:
    return [plain(run_actions.rename(context, chosen[0], name), "good"), ""]


def _set_at_once(context: AppContext, count: int | None) -> list[Any]:
    before = runs_at_once(context.store)
    if count == before:
        return [gr.skip(), gr.skip()]
    try:
        now = set_runs_at_once(context.store, count)
    except ConfigError as error:
        return [plain(f"⚠ Not changed: {error}.", "problem"), before]
    context.ensure_runner()
    runs = "run" if now == 1 else "runs"
    return [plain(f"A device trains {now} {runs} at once from now on.", "good"), gr.skip()]


PAGE = Page("Runs", "/runs", build)
