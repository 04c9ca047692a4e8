"""Asking the worker lane: requests and answers go through the store, as JSON that both know."""

import time
from collections.abc import Mapping, Sequence
from typing import TypeVar

from pydantic import BaseModel

from storage import RunStore
from storage.records import TaskRecord, TaskStatus

Answer = TypeVar("Answer", bound=BaseModel)
_LOOK_BACK = 50
_PATIENCE_SECONDS = 30.0
"""After so long without a worker, a person is told where to look."""
_WORK: Mapping[str, str] = {
    "generate": "a comparison",
    "oracle": "an experiment of the Oracle page",
    "prepare_model": "the preparation of a model",
    "token_view": "a look at demonstrations",
    "length_summary": "the lengths of a set",
    "lens": "the lens of a run",
}
"""Each kind of task, as those who wait for it read it."""


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


def waiting(store: RunStore, task: TaskRecord, doing: str) -> str:
    """Returns what a task that has not ended is doing: `doing`, or for whom it waits."""
    if task.status is not TaskStatus.QUEUED:
        return f"{doing} …"
    for other in store.tasks.list(limit=_LOOK_BACK):
        if other.status is TaskStatus.RUNNING:
            return f"Waiting for the worker, busy with {_WORK.get(other.kind, 'another task')} …"
    waited = time.time() - task.created_at
    if waited < _PATIENCE_SECONDS:
        return "Waiting for the worker …"
    return (
        f"Waiting for the worker for {waited:.0f} s. The application starts it by itself; where it "
        "does not come, logs/lane.log in the data folder says why."
    )


def has_ended(task: TaskRecord) -> bool:
    """True where nothing more will come of a task."""
    return task.ended_at is not None
