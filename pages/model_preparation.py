"""The button that prepares the packaged model: one task of the lane, its progress in words."""

from typing import Any

import gradio as gr
from gradio.components import Component

from pages.components.events import POLLING, QUIET
from pages.components.plain import plain
from pages.feedback import handler
from pages.lane import ask, failure, has_ended, pieces_of, waiting
from pages.page import AppContext
from seqmatch.jobs.task_types import PrepareModelProgress, PrepareModelRequest
from storage.records import TaskStatus

KIND = "prepare_model"
PACKAGED = "smollm2-135m-instruct"


def wire(
    context: AppContext,
    button: gr.Button,
    status: gr.HTML,
    follow: tuple[Any, list[Component], list[Component]],
) -> None:
    """Wires the button: it starts, or joins, the preparation and then follows it."""
    refresh, inputs, shown = follow
    task = gr.State("")
    ready = gr.Textbox(visible=False, elem_id="train-prepared")
    timer = gr.Timer(1.0, active=False)
    button.click(handler(begin, context), None, [task, status, timer], **QUIET)
    timer.tick(handler(follow_task, context), task, [status, timer, ready], **POLLING)
    ready.change(refresh, inputs, shown, **QUIET)


def begin(context: AppContext) -> list[Any]:
    """Starts the preparation, or joins the one that runs."""
    task_id = ask(context.store, KIND, PrepareModelRequest(name=PACKAGED))
    context.ensure_runner()
    return [task_id, plain("Waiting for the worker …", "waiting"), gr.Timer(active=True)]


def follow_task(context: AppContext, task_id: str) -> list[Any]:
    """Says how far the preparation is; the timer ends with it."""
    task = context.store.tasks.get(task_id)
    if task.status is TaskStatus.COMPLETED:
        return [plain("SmolLM2 is ready.", "good"), gr.Timer(active=False), task_id]
    if has_ended(task):
        words = f"⚠ SmolLM2 could not be prepared. {failure(task)}"
        return [plain(words, "problem"), gr.Timer(active=False), gr.skip()]
    lines = pieces_of(context.store, task_id, PrepareModelProgress)
    start = waiting(context.store, task, "Preparing SmolLM2")
    words = _sentence(lines[-1].line) if lines else start
    return [plain(words, "waiting"), gr.skip(), gr.skip()]


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]} …"
