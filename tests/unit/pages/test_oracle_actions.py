"""The handlers of the Oracle page over a real store; nothing works on the tasks here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages.components.oracle_results import num_outputs
from pages.oracle_actions import show, stop, submit, submit_again
from pages.page import AppContext
from seqmatch.exact.choices import DEFAULT_OBJECTIVES
from storage import RunStore
from storage.records import TaskStatus
from tests.unit.pages.oracle_pieces import FORWARD, pieces, request

VALUES: tuple[Any, ...] = (
    *("two_modes", "", 0.01, "0-4", "answers", "language", "language", 0.5, 0),
    *([], list(DEFAULT_OBJECTIVES)),
)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    store = RunStore.open(tmp_path)
    yield AppContext(store, tmp_path, lambda: None, lambda _: False)
    store.close()


def _status(context: AppContext, task_id: str) -> str:
    shown = show(context, task_id, {}, "light")
    assert len(shown) == 5 + num_outputs()
    return str(shown[1])


def test_the_same_experiment_is_trained_once_unless_asked_again(context: AppContext) -> None:
    seen = {"task": "before", "status": "said"}
    _, first, address, timer, is_sent = submit(context, seen, *VALUES)
    assert address == f"oracle?task={first}"
    assert timer.active
    assert is_sent == {"task": "before"}  # the status line was overwritten
    assert submit(context, seen, *VALUES)[1] == first
    assert submit_again(context, seen, *VALUES)[1] != first


def test_a_form_that_cannot_be_read_queues_nothing(context: AppContext) -> None:
    said, _, address, *_ = submit(context, {}, "two_modes", None, None, "0", *VALUES[4:])
    assert "Entropy weight alpha" in said
    assert address == ""
    assert context.store.tasks.list("oracle") == ()


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [("generate", "{}", "no longer here"), ("oracle", '{"alpha": 0.1, "x": 1}', "another version")],
)
def test_what_cannot_be_shown_is_said(
    context: AppContext, kind: str, payload: str, words: str
) -> None:
    task = context.store.tasks.submit(kind, payload)
    assert words in _status(context, task.id)


def test_results_are_sent_once_and_stay_after_a_stop(context: AppContext) -> None:
    tasks = context.store.tasks
    task = tasks.submit("oracle", request().model_dump_json())
    assert "Waiting for the worker" in _status(context, task.id)
    tasks.claim("lane")
    for piece in pieces():
        tasks.append(task.id, piece.model_dump_json())
    seen, status, *_ = show(context, task.id, {}, "light")
    assert "4 of 6 runs · SequenceMatch, seed 0" in status
    panel = 5 + 2  # after the body and the words
    again = show(context, task.id, seen, "light")
    assert all(update.get("__type__") == "update" and len(update) == 1 for update in again[5:])
    dark = show(context, task.id, seen, "dark")
    assert "layout" in dark[panel + 2].to_plotly_json()

    assert stop(context, task.id).active
    assert "Stopping" in _status(context, task.id)
    tasks.finish(task.id, TaskStatus.CANCELLED)
    assert "It was stopped. 4 of 6 runs on “Two modes” were finished and stay." in _status(
        context, task.id
    )


def test_a_failure_is_said_with_what_could_not_be_trained(context: AppContext) -> None:
    tasks = context.store.tasks
    task = tasks.submit("oracle", request(objectives=[FORWARD]).model_dump_json())
    tasks.claim("lane")
    tasks.append(task.id, pieces()[5].model_dump_json())
    tasks.finish(task.id, TaskStatus.FAILED, "line 3: nothing")
    status = _status(context, task.id)
    assert "Line 3: nothing. Nothing was finished." in status
    assert "is not trained" in status
