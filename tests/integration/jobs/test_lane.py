"""Tasks, worked on by a real lane with a real model; one lane for all of them."""

import signal

import psutil
import pytest

from seqmatch.jobs.lane import Lane
from seqmatch.jobs.task_types import (
    GenerateChunk,
    GenerateRequest,
    LengthSummaryRequest,
    LengthSummaryResult,
    PolicyRef,
    TokenViewRequest,
    TokenViewResult,
)
from seqmatch.objectives import SequenceMatchConfig
from storage.records import TaskStatus
from tests.integration.jobs.shop import Shop, until

BASE = PolicyRef(kind="base", base_model="byte-llama-small", label="base")
DECODING = {"max_new_tokens": 6, "max_actions": 12}


def generate(shop: Shop, **changes: object) -> str:
    request = {"prompts": ["1+1=", "2+2="], "policies": [BASE], "backspace": [True, False]}
    asked = GenerateRequest.model_validate(request | {"decoding": DECODING} | changes)
    return shop.store.tasks.submit("generate", asked.model_dump_json()).id


def chunks(shop: Shop, task_id: str) -> list[GenerateChunk]:
    outputs = shop.store.tasks.output(task_id)
    return [GenerateChunk.model_validate_json(output.payload_json) for output in outputs]


def test_answers_are_streamed_and_a_missing_policy_is_told_in_its_place(shop: Shop) -> None:
    missing = PolicyRef(kind="base", base_model="no-such-model", label="gone")
    task_id = generate(shop, policies=[missing, BASE])
    assert Lane(shop.store).work_on_next()
    assert shop.store.tasks.get(task_id).status is TaskStatus.COMPLETED
    last = [chunk for chunk in chunks(shop, task_id) if chunk.is_done]
    assert len(last) == 2 * 2 * 2
    for chunk in last:
        if chunk.policy_index == 0:
            assert chunk.error
            assert "no-such-model" in chunk.error
        else:
            assert chunk.error is None
            assert chunk.num_actions == sum(
                len(each.actions)
                for each in chunks(shop, task_id)
                if (each.policy_index, each.prompt_index, each.backspace)
                == (1, chunk.prompt_index, chunk.backspace)
            )
    # A base model has no backspace: with the same random numbers both modes answer the same.
    texts = {(c.prompt_index, c.backspace): c.text for c in last if c.policy_index == 1}
    assert texts[0, True] == texts[0, False]
    assert {c.policy_index: c.has_backspace for c in last} == {0: None, 1: False}


def test_rows_are_shown_and_measured(shop: Shop) -> None:
    request = TokenViewRequest(
        dataset_id=shop.dataset.id,
        row_index=3,
        base_model="byte-llama-small",
        objective=SequenceMatchConfig(),
        max_tokens=64,
        seed=0,
    )
    view = shop.store.tasks.submit("token_view", request.model_dump_json())
    asked = LengthSummaryRequest(
        dataset_id=shop.dataset.id, base_model="byte-llama-small", max_tokens=64
    )
    lengths = shop.store.tasks.submit("length_summary", asked.model_dump_json())
    lane = Lane(shop.store)
    while lane.work_on_next():
        pass
    output = shop.store.tasks.output(view.id)[-1]
    cells = TokenViewResult.model_validate_json(output.payload_json).tokens
    assert "".join(cell.text for cell in cells if cell.part == "answer") == "6"
    output = shop.store.tasks.output(lengths.id)[-1]
    summary = LengthSummaryResult.model_validate_json(output.payload_json)
    assert (summary.num_rows, summary.num_stop_trained, summary.refusal) == (40, 40, "")


@pytest.mark.parametrize(
    ("kind", "payload", "words"),
    [
        ("dance", "{}", "unknown kind of task 'dance'"),
        ("generate", '{"prompts": []}', "ValidationError"),
        ("prepare_model", '{"name": "gpt-9"}', "unknown packaged model"),
    ],
)
def test_a_task_that_cannot_be_done_says_why(
    shop: Shop, kind: str, payload: str, words: str
) -> None:
    task = shop.store.tasks.submit(kind, payload)
    assert Lane(shop.store).work_on_next()
    ended = shop.store.tasks.get(task.id)
    assert ended.status is TaskStatus.FAILED
    assert words in ended.error_message


def test_the_runner_starts_a_lane_and_another_when_that_is_killed(shop: Shop) -> None:
    decoding = {"max_new_tokens": 4096, "max_actions": 16384}
    long = generate(shop, prompts=["x"] * 64, decoding=decoding)
    runner = shop.start_runner()
    until(lambda: chunks(shop, long), "the first chunks are there")
    (lane,) = (p for p in shop.processes() if "seqmatch.jobs.lane" in p.cmdline())
    lane.send_signal(signal.SIGKILL)
    psutil.wait_procs([lane], timeout=30)
    until(lambda: len(shop.processes()) >= 2, "another lane is there")
    until(lambda: shop.store.tasks.get(long).status is TaskStatus.RUNNING, "it goes on")
    until(lambda: chunks(shop, long), "the task began again")
    shop.store.tasks.cancel(long)
    until(lambda: shop.store.tasks.get(long).status is TaskStatus.CANCELLED, "it was stopped")
    assert runner.wait(timeout=30) == 0
    until(lambda: shop.processes() == [], "the lane went when the runner had gone")
