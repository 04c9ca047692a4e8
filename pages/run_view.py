"""What the Run page shows of a run: the store in, updates out."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from pydantic import ValidationError

from pages.components.metric_plot import grid_updates, no_updates
from pages.components.plain import plain
from pages.links import link
from pages.log_tail import log_tail
from pages.page import AppContext
from pages.presenters.configs import config_html
from pages.presenters.html_parts import pre
from pages.presenters.palette import Theme, run_looks
from pages.presenters.runs import events_html, run_html
from pages.presenters.samples import samples_html
from pages.presenters.wording import size
from pages.run_actions import possible
from seqmatch.config import RunConfig
from seqmatch.config_flags import equivalent_command
from seqmatch.reporting import COMPUTING
from storage.errors import NotFoundError
from storage.records import DatasetRecord, RunRecord, RunStatus

Seen = Mapping[str, Any]
"""What a browser has been sent already: the run, and cursors of its parts."""
ADAPTER = "adapter_zip"
MAX_RIVALS = 2


@dataclass(frozen=True)
class Parts:
    """Updates of a page in the order of its outputs."""

    updates: list[Any]
    seen: Seen


def find(context: AppContext, run_id: str) -> RunRecord | None:
    """Returns the run; None where there is none of this id."""
    try:
        return context.store.runs.get(run_id)
    except NotFoundError:
        return None


def missing_html(run_id: str) -> str:
    """Says that there is no such run, and what to do."""
    if not run_id:
        return '<p class="empty">Choose a run on <a href="runs">Runs</a>.</p>'
    return (
        f"<h2>There is no run {escape(run_id)}</h2>"
        '<p class="empty">The link may be cut off, or belong to another data folder. '
        '<a href="runs">All runs</a></p>'
    )


def head_html(context: AppContext, run: RunRecord) -> str:
    """Returns the head of the page."""
    everything = context.store.runs.list(include_deleted=True)
    ahead = [
        one
        for one in everything
        if one.status is RunStatus.RUNNING
        or (one.status is RunStatus.QUEUED and one.queued_at < run.queued_at)
    ]
    looks = run_looks(everything)
    dataset, events = dataset_of(context, run), context.store.notes.events(run.id)
    return run_html(run, dataset, looks[run.id], time.time(), len(ahead), events)


def links_html(context: AppContext, run: RunRecord) -> str:
    """Returns the ways on from here: compare, download, clone, CSV."""
    found = [one for one in context.store.artifacts.list(run.id) if one.kind == ADAPTER]
    parts = []
    is_done = run.status is RunStatus.COMPLETED
    if found:
        newest = found[-1]
        title = f"Download adapter ({size(newest.size_bytes)})"
        parts.append(_button(f"download/{newest.id}", title, is_primary=False, is_download=True))
    if is_done or found:
        runs = ",".join([run.id, *_rivals(context, run)])
        parts.insert(0, _button(link("compare", runs=runs), "Compare", is_primary=is_done))
    parts.append(_button(link("train", clone=run.id), "Clone"))
    parts.append(_button(link("curves.csv", runs=run.id), "Curves as CSV", is_download=True))
    return f'<div class="link-row">{"".join(parts)}</div>'


def _rivals(context: AppContext, run: RunRecord) -> list[str]:
    """Returns finished runs on the same model and data, one for each other objective."""
    rivals: dict[str, str] = {}
    for one in context.store.runs.list(limit=200):
        is_like = (one.base_model, one.dataset_id) == (run.base_model, run.dataset_id)
        if is_like and one.status is RunStatus.COMPLETED and one.objective != run.objective:
            rivals.setdefault(one.objective, one.id)
    return list(rivals.values())[:MAX_RIVALS]


def _button(
    address: str, title: str, *, is_primary: bool = False, is_download: bool = False
) -> str:
    kind = "button-link primary" if is_primary else "button-link"
    download = " download" if is_download else ""
    return f'<a class="{kind}" href="{escape(address)}"{download}>{escape(title)}</a>'


def dataset_of(context: AppContext, run: RunRecord) -> DatasetRecord | None:
    """Returns the demonstrations of a run; None where they were deleted."""
    try:
        return context.store.datasets.get(run.dataset_id)
    except NotFoundError:
        return None


def button_updates(run: RunRecord) -> list[Any]:
    """Returns the updates of stop, stop and save, resume, and delete."""
    can = possible([run])
    is_running = run.status is RunStatus.RUNNING
    is_deleted = run.deleted_at is not None
    return [
        gr.update(visible=can.stop),
        gr.update(visible=can.stop and is_running),
        gr.update(visible=can.resume),
        gr.update(visible=can.delete and not is_deleted),
        gr.update(visible=is_deleted),
    ]


def settings_html(context: AppContext, run: RunRecord) -> tuple[str, str]:
    """Returns the settings of a run as lists, and the command line that does the same."""
    dataset = dataset_of(context, run)
    try:
        config = RunConfig.model_validate_json(run.config_json)
    except ValidationError:
        words = "These settings were written by another version and cannot be shown as a list."
        return plain(words, "problem") + pre(run.config_json, "settings"), ""
    command = equivalent_command(config, data_dir=context.data_dir)
    told = [one.message for one in context.store.notes.events(run.id) if one.code == COMPUTING]
    name = dataset.name if dataset else "gone"
    return config_html(config, name, told[-1] if told else ""), command


def sample_steps(context: AppContext, run: RunRecord) -> list[int]:
    """Returns the steps at which answers were sampled, in order."""
    return sorted({sample.step for sample in context.store.notes.samples(run.id)})


def samples_at(context: AppContext, run_id: str, step: int | None) -> str:
    """Returns the samples of one step."""
    if not run_id or step is None:
        return samples_html(())
    return samples_html(context.store.notes.samples(run_id, step=step))


def curve_parts(
    context: AppContext, run: RunRecord, theme: Theme, seen: Seen, is_paused: bool
) -> Parts:
    """Returns the charts where there is something new to draw, and nothing while paused."""
    if is_paused:
        return Parts(no_updates(), seen)
    looks = run_looks(context.store.runs.list(include_deleted=True))
    curves, cursor = context.curves.of_run(run, looks[run.id])
    key = [run.id, run.name, run.attempt, cursor, theme]
    if seen.get("curves") == key:
        return Parts(no_updates(), seen)
    return Parts(grid_updates([curves], theme), {**seen, "curves": key})


def note_parts(context: AppContext, run: RunRecord, seen: Seen) -> Parts:
    """Returns events, log and the choice of samples, each where it changed."""
    now = time.time()
    texts = {
        "events": events_html(context.store.notes.events(run.id), now),
        "log": _log_html(context, run),
    }
    updates: list[Any] = [
        gr.skip() if seen.get(name) == hash(text) else text for name, text in texts.items()
    ]
    steps = sample_steps(context, run)
    if seen.get("steps") == steps and seen.get("run") == run.id:
        updates += [gr.skip(), gr.skip()]
    else:
        last = steps[-1] if steps else None
        choices = [(f"step {step:,}", step) for step in reversed(steps)]
        updates += [
            gr.update(choices=choices, value=last, visible=bool(steps)),
            samples_at(context, run.id, last),
        ]
    hashes = {name: hash(text) for name, text in texts.items()}
    return Parts(updates, {**seen, **hashes, "steps": steps, "run": run.id})


def _log_html(context: AppContext, run: RunRecord) -> str:
    text = log_tail(context.store.run_dir(run.id))
    if not text:
        return '<p class="empty">Nothing was logged yet.</p>'
    return pre(text, "end of the log")
