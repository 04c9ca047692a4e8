"""The handlers of the Lens tab over a real store; nothing works on the tasks here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pages import run_lens_actions as actions
from pages.page import AppContext
from seqmatch.jobs.lens_types import LensPiece, LensRequest
from storage import RunStore
from storage.records import TaskStatus
from tests.unit.pages.lens_pieces import PROBE, measured, scored

RUN = "a" * 16


@pytest.fixture
def context(tmp_path: Path) -> Iterator[AppContext]:
    store = RunStore.open(tmp_path)
    yield AppContext(store, tmp_path, lambda: None, lambda _: False)
    store.close()


def _answer(context: AppContext, *pieces: LensPiece) -> None:
    task = context.store.tasks.claim("lane")
    assert task is not None
    for piece in pieces:
        context.store.tasks.append(task.id, piece.model_dump_json())
    context.store.tasks.finish(task.id, TaskStatus.COMPLETED)


def _is_skip(update: Any) -> bool:
    return isinstance(update, dict) and set(update) == {"__type__"}


def test_nothing_can_be_asked_before_the_first_policy(context: AppContext) -> None:
    hint, *buttons = actions.can_start(context, RUN)
    assert "no policy yet" in hint
    assert [button["interactive"] for button in buttons] == [False, False]
    (context.store.run_dir(RUN) / "policy").mkdir(parents=True)
    hint, *buttons = actions.can_start(context, RUN)
    assert hint == ""
    assert [button["interactive"] for button in buttons] == [True, True]


def test_two_clicks_measure_once_and_a_reload_finds_it(context: AppContext) -> None:
    _, first, timer, seen = actions.submit_measure(context, RUN, {"status": "x"}, 16)
    assert timer.active
    assert seen == {}
    assert actions.submit_measure(context, RUN, {}, 32)[1] == first
    assert actions.open_tab(context, RUN)[:2] == [first, ""]
    assert actions.open_tab(context, "no run's id")[:2] == ["", ""]
    _answer(context, LensPiece(text="Writing", done=1, total=16), LensPiece(measured=measured()))
    again = actions.submit_measure(context, RUN, {}, 32)[1]
    assert again != first
    context.store.tasks.cancel(again)
    assert actions.open_tab(context, RUN)[0] == first


def test_a_measurement_is_drawn_once_and_stays_while_another_is_made(context: AppContext) -> None:
    task = actions.submit_measure(context, RUN, {}, 16)[1]
    assert "Waiting for the worker" in actions.show_measure(context, task, {}, "light")[1]
    _answer(context, LensPiece(measured=measured()))
    seen, status, stop, timer, body, words, *_ = actions.show_measure(context, task, {}, "light")
    assert "128 answers of the policy of step 400" in status
    assert (stop["visible"], timer.active, body["visible"]) == (False, False, True)
    assert "Length and white space alone" in words
    again = actions.show_measure(context, task, seen, "light")
    assert all(map(_is_skip, again[4:]))
    assert not any(map(_is_skip, actions.show_measure(context, task, seen, "dark")[4:]))
    other = actions.submit_measure(context, RUN, seen, 16)[1]
    assert all(map(_is_skip, actions.show_measure(context, other, seen, "light")[4:]))


def test_a_second_question_gives_the_first_one_up(context: AppContext) -> None:
    first = actions.submit_score(context, RUN, "", {}, "1+1=", "2", 1)[1]
    second = actions.submit_score(context, RUN, first, {}, "1+1=", "", 3)[1]
    assert context.store.tasks.get(first).status is TaskStatus.CANCELLED
    asked = LensRequest.model_validate_json(context.store.tasks.get(second).payload_json)
    assert (asked.answers, asked.num_samples) == ([], 3)
    answer = scored(("2", 1.0), ("<eos>", -2.0))
    _answer(context, LensPiece(judge=PROBE), LensPiece(scored=answer))
    seen, status, *_, heat, _fold, tokens = actions.show_score(context, second, {}, "h")
    assert "1 answer" in status
    assert "heat-p2" in heat
    assert "What it adds" in tokens
    other = actions.show_score(context, second, seen, "increment")
    assert "One token, given the text before it" in other[5]


@pytest.mark.parametrize(
    ("prompt", "answer", "number", "words"),
    [
        ("", "2", 1, "Prompt: it is empty"),
        ("x" * 20_001, "2", 1, "Prompt: 20,001 characters; allowed: up to 20,000"),
        ("x", "2", None, "Samples: nothing; allowed: a whole number from 1 to 8"),
        ("x", "2", 9, "Samples: 9; allowed"),
    ],
)
def test_what_cannot_be_asked_is_said(
    context: AppContext, prompt: str, answer: str, number: float | None, words: str
) -> None:
    assert words in actions.submit_score(context, RUN, "", {}, prompt, answer, number)[0]
    assert "allowed" in actions.submit_measure(context, RUN, {}, 7.5)[0]
    assert context.store.tasks.list() == ()


def test_failures_and_what_is_gone_are_said(context: AppContext) -> None:
    assert "Not measured yet" in actions.show_measure(context, "gone", {}, "light")[1]
    task = actions.submit_score(context, RUN, "", {}, "x", "y", 1)[1]
    context.store.tasks.claim("lane")
    context.store.tasks.finish(task, TaskStatus.FAILED, "no <such> run")
    status = actions.show_score(context, task, {}, "h")[1]
    assert "No &lt;such&gt; run" in status
    assert not actions.stop(context, "gone").active
