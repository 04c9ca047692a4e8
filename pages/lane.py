"""Asking the worker lane: requests and answers go through the store, as JSON that both know."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel

from storage import RunStore
from storage.records import TaskRecord, TaskStatus

Answer = TypeVar("Answer", bound=BaseModel)
_LOOK_BACK = 50


def ask(store: RunStore, kind: str, request: BaseModel) -> str:
    """Submits a task, unless the same question was asked lately, and returns its id.

    A failed or cancelled one is asked again; so is one whose failure may have been mended since.
    """
    payload = request.model_dump_json()
    for task in store.tasks.list(kind, limit=_LOOK_BACK):
        usable = task.status not in (TaskStatus.FAILED, TaskStatus.CANCELLED)
        if task.payload_json == payload and usable:
            return task.id
    return store.tasks.submit(kind, payload).id


def result_of(store: RunStore, task_id: str, answer: type[Answer]) -> Answer:
    """Returns the last piece of a completed task's output."""
    return answer.model_validate_json(store.tasks.output(task_id)[-1].payload_json)


def pieces_of(
    store: RunStore, task_id: str, answer: type[Answer], after: int = 0
) -> Sequence[Answer]:
    """Returns the pieces of a task's output since `after`, in order."""
    outputs = store.tasks.output(task_id, after=after)
    return [answer.model_validate_json(output.payload_json) for output in outputs]


def failure(task: TaskRecord) -> str:
    """Returns why a task has no result, in words."""
    if task.status is TaskStatus.CANCELLED:
        return "It was stopped."
    return task.error_message or "The worker gave no reason; its log has more."


def waiting(task: TaskRecord, doing: str) -> str:
    """Returns what a task that has not ended is doing: waiting for the worker, or `doing`."""
    if task.status is TaskStatus.QUEUED:
        return "Waiting for the worker …"
    return f"{doing} …"


def has_ended(task: TaskRecord) -> bool:
    """True where nothing more will come of a task."""
    return task.ended_at is not None
