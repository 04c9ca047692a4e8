"""The handlers of the stored sets: what a set's id and the store say, as updates."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

import gradio as gr
from pydantic import BaseModel, TypeAdapter

from pages.components.plain import plain
from pages.lane import ask, failure, has_ended, result_of, waiting
from pages.links import link
from pages.page import AppContext
from pages.presenters.datasets import rows_html, sets_html
from pages.presenters.form_fields import sentence
from pages.presenters.token_lengths import lengths_html
from pages.presenters.token_view import token_view_html
from seqmatch.errors import ConfigError, SeqMatchError
from seqmatch.ingest import preview
from seqmatch.ingest.frozen import ROWS
from seqmatch.jobs.task_types import (
    LengthSummaryRequest,
    LengthSummaryResult,
    TokenViewRequest,
    TokenViewResult,
)
from seqmatch.objectives import ObjectiveConfig
from storage.errors import DatasetInUseError, InvalidValueError, NotFoundError
from storage.records import DatasetRecord, TaskRecord, TaskStatus

Ask = Callable[..., list[Any]]
PAGE_ROWS = 10


def address_of(dataset_id: str) -> str:
    """Returns the address that shows this set again."""
    return link("demonstrations", dataset=dataset_id) if dataset_id else link("demonstrations")


def show(context: AppContext, dataset_id: str) -> list[Any]:
    """Shows the sets, and the chosen one opened.

    Where none is chosen, nothing is closed: on loading the answer may come after a person's click.
    """
    record = _record(context, dataset_id)
    if record is None:
        missing = plain("This set is no longer here.", "problem") if dataset_id else ""
        closed = gr.update(visible=False) if dataset_id else gr.skip()
        return [missing + sets(context, ""), closed, *([gr.skip()] * 8)]
    pages = max(1, -(-record.num_rows // PAGE_ROWS))
    return [
        sets(context, dataset_id),
        gr.update(visible=True),
        heading(record),
        record.name,
        gr.update(maximum=max(pages, 2), value=1, visible=pages > 1),
        rows_page(context, dataset_id, 1),
        gr.update(value=1),
        "",
        "",
        "",
    ]


def sets(context: AppContext, chosen: str) -> str:
    """Returns the table of sets; the chosen one is marked."""
    used_by: dict[str, int] = {}
    for run in context.store.runs.list():
        used_by[run.dataset_id] = used_by.get(run.dataset_id, 0) + 1
    return sets_html(context.store.datasets.list(), used_by, chosen, time.time())


def heading(record: DatasetRecord) -> str:
    """Returns the name of the set, what is known of it, and the way to training on it."""
    summary = json.loads(record.summary_json or "{}")
    facts = [f"{record.num_rows:,} rows"]
    if record.num_refused:
        facts.append(f"{record.num_refused:,} left out")
    if summary.get("description"):
        facts.append(str(summary["description"]).rstrip("."))
    if summary.get("licence"):
        facts.append(f"licence: {summary['licence']}")
    return (
        f'<div class="set-heading"><div><h3>{escape(record.name)}</h3>'
        f"{plain(' · '.join(facts))}</div>"
        f'<a class="button-link primary" href="{link("train", dataset=record.id)}">'
        "Train on this set</a></div>"
    )


def rows_page(context: AppContext, dataset_id: str, page: float) -> str:
    """Returns one page of rows."""
    record = _record(context, dataset_id)
    if record is None:
        return plain("This set is no longer here.", "problem")
    first = (max(1, int(page)) - 1) * PAGE_ROWS
    path = context.store.datasets.folder(dataset_id) / ROWS
    rows = preview(path, first, PAGE_ROWS)
    return rows_html(rows, first, record.num_rows)


def rename(context: AppContext, dataset_id: str, name: str) -> list[Any]:
    """Gives the set another name."""
    try:
        record = context.store.datasets.rename(dataset_id, name.strip())
    except (NotFoundError, InvalidValueError) as error:
        return [plain(f"⚠ {error}", "problem"), gr.skip(), gr.skip()]
    return [plain("Renamed.", "good"), sets(context, dataset_id), heading(record)]


def ask_delete() -> list[Any]:
    """Asks once more before a set is deleted."""
    return [gr.update(visible=False), gr.update(visible=True)]


def keep() -> list[Any]:
    """Puts the question away."""
    return [gr.update(visible=True), gr.update(visible=False)]


def delete(context: AppContext, dataset_id: str) -> list[Any]:
    """Deletes the set and closes its view, unless runs use it."""
    try:
        context.store.datasets.delete(dataset_id)
    except (DatasetInUseError, NotFoundError) as error:
        return [plain(f"⚠ Not deleted: {error}", "problem"), gr.skip(), gr.skip()]
    return ["", "", gr.update(visible=False)]


def ask_lengths(
    context: AppContext, dataset_id: str, base_model: str, max_tokens: float | None
) -> list[Any]:
    """Asks the lane how long the rows are for this model."""

    def request() -> LengthSummaryRequest:
        limit = _whole("max tokens", max_tokens)
        return LengthSummaryRequest(dataset_id=dataset_id, base_model=base_model, max_tokens=limit)

    return _asked(context, "length_summary", request)


def ask_tokens(
    context: AppContext,
    dataset_id: str,
    row: float | None,
    base_model: str,
    objective: str,
    max_tokens: float | None,
    seed: float | None,
) -> list[Any]:
    """Asks the lane for one row as the model sees it."""

    def request() -> TokenViewRequest:
        num_rows = context.store.datasets.get(dataset_id).num_rows
        index = _whole("row", row) - 1
        if not 0 <= index < num_rows:
            raise ConfigError(f"row {index + 1:,} is not here; 1 to {num_rows:,} are")
        return TokenViewRequest(
            dataset_id=dataset_id,
            row_index=index,
            base_model=base_model,
            objective=_objective(objective),
            max_tokens=_whole("max tokens", max_tokens),
            seed=_whole("seed", seed),
        )

    return _asked(context, "token_view", request)


def show_answer(context: AppContext, task_id: str) -> list[Any]:
    """Shows what the lane has answered, or what it does; the timer goes on until it has ended."""
    if not task_id:
        return [gr.skip(), gr.skip()]
    task = context.store.tasks.get(task_id)
    view = _VIEWS[task.kind]
    if not has_ended(task):
        words = waiting(context.store, task, view.doing)
        return [plain(words, "waiting"), gr.Timer(active=True)]
    if task.status is not TaskStatus.COMPLETED:
        return [plain(f"⚠ {view.failed} {failure(task)}", "problem"), gr.Timer(active=False)]
    return [view.html(context, task), gr.Timer(active=False)]


@dataclass(frozen=True)
class _View:
    """How a task of the lane is shown."""

    doing: str
    failed: str
    html: Callable[[AppContext, TaskRecord], str]


def _lengths(context: AppContext, task: TaskRecord) -> str:
    request = LengthSummaryRequest.model_validate_json(task.payload_json)
    result = result_of(context.store, task.id, LengthSummaryResult)
    return lengths_html(result, request.max_tokens)


def _tokens(context: AppContext, task: TaskRecord) -> str:
    return token_view_html(result_of(context.store, task.id, TokenViewResult))


_VIEWS = {
    "length_summary": _View("Loading the tokenizer and counting", "Not measured.", _lengths),
    "token_view": _View("Loading the tokenizer", "No tokens.", _tokens),
}


def _asked(context: AppContext, kind: str, request: Callable[[], BaseModel]) -> list[Any]:
    try:
        task_id = ask(context.store, kind, request())
    except NotFoundError:
        return ["", plain("This set is no longer here.", "problem"), gr.Timer(active=False)]
    except (ValueError, SeqMatchError) as error:
        return ["", plain(f"⚠ {sentence(error)}", "problem"), gr.Timer(active=False)]
    context.ensure_runner()
    return [task_id, plain("Waiting for the worker …", "waiting"), gr.Timer(active=True)]


def _objective(kind: str) -> ObjectiveConfig:
    return TypeAdapter[ObjectiveConfig](ObjectiveConfig).validate_python({"kind": kind})


def _whole(what: str, value: float | None) -> int:
    if value is None or not float(value).is_integer():
        raise ConfigError(f"{what}: {value} is not a whole number")
    return int(value)


def _record(context: AppContext, dataset_id: str) -> DatasetRecord | None:
    try:
        return context.store.datasets.get(dataset_id) if dataset_id else None
    except NotFoundError:
        return None
