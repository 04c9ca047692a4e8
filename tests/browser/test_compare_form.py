"""Compare as a visitor uses it, with no runner: the tests answer as the lane would."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from pages.presenters.training_choices import new_runs
from seqmatch.config import DataConfig, RunConfig
from seqmatch.demonstrations import split
from seqmatch.ingest import read_frozen
from seqmatch.jobs.task_types import (
    ActionCell,
    GenerateChunk,
    GenerateRequest,
    PolicyRef,
)
from storage import RunStore
from storage.records import TaskStatus
from tests.browser.standing_in import Held, claimed

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>"


def test_a_comparison_streams_and_is_shown_again(
    visit: Visit, pages_address: str, store: RunStore
) -> None:
    request = GenerateRequest(
        prompts=["123+456="],
        policies=[PolicyRef(kind="base", base_model="byte-llama-small", label=HOSTILE)],
        backspace=[True, False],
    )
    task = store.tasks.submit("generate", request.model_dump_json())
    page = visit(f"{pages_address}/compare?comparison={task.id}")
    expect(page.locator("#compare-status")).to_contain_text("Waiting for the worker")
    assert claimed(store, "generate").id == task.id
    typed = [("5", False), ("8", False), ("", True), ("7", False)]
    cells = [ActionCell(id=i, text=text, is_backspace=back) for i, (text, back) in enumerate(typed)]
    part = {"policy_index": 0, "backspace": True, "prompt_index": 0}
    first = GenerateChunk.model_validate(part | {"actions": cells[:2]})
    store.tasks.append(task.id, first.model_dump_json())
    expect(page.locator(".compare-column .trace").first).to_have_text("58")
    last = GenerateChunk.model_validate(
        part | {"actions": cells[2:], "is_done": True, "text": "57", "is_finished": True}
    )
    store.tasks.append(task.id, last.model_dump_json())
    store.tasks.finish(task.id, TaskStatus.COMPLETED)
    expect(page.locator("#compare-status")).to_contain_text("2 answers")
    expect(page.locator(".compare-column del")).to_have_text("8")
    expect(page.locator(".compare-column ins")).to_have_text("7")
    expect(page.locator(".compare-column strong").first).to_have_text(HOSTILE)
    page.locator("#compare-replay input[type=number]").fill("2")
    expect(page.locator(".compare-column del")).to_have_count(0)
    page.reload()
    expect(page.locator(".compare-column del")).to_have_text("8")
    expect(page.locator("#compare-prompts textarea")).to_have_value("123+456=")


def test_held_out_prompts_are_those_of_the_run(
    visit: Visit, pages_address: str, store: RunStore
) -> None:
    page = visit(f"{pages_address}/demonstrations")
    page.locator("#demonstrations-example-arithmetic").click()
    expect(page).to_have_url(re.compile(r"dataset=[0-9a-f]{64}"))
    dataset_id = page.url.rsplit("=", 1)[1]
    data = DataConfig(dataset=dataset_id, heldout_fraction=0.2, split_seed=7)
    config = RunConfig(name="mine", data=data)
    store.runs.create(new_runs(config, [0], "set", "", None)[0])
    rows = read_frozen(store.datasets.folder(dataset_id))
    _, held_out = split(rows, 0.2, 7)
    page.goto(f"{pages_address}/compare")
    page.locator("#compare-policies input").click()
    page.get_by_role("option", name=re.compile("Base: .*byte", re.IGNORECASE)).click()
    page.keyboard.press("Escape")
    page.locator("#compare-split input").click()
    page.get_by_role("option", name="“mine” (Arithmetic)").click()
    page.locator("#compare-take").click()
    expect(page.locator("#compare-held-note")).to_contain_text("4 of 1,100 held-out prompts")
    expected = "\n".join(str(rows[index].prompt) for index in held_out[:4])
    expect(page.locator("#compare-prompts textarea")).to_have_value(expected)
    page.locator("#compare-start").click()
    answers = page.locator(".compare-reference .compare-text")
    expect(answers).to_have_text([rows[index].completion for index in held_out[:4]])
    store.tasks.finish(claimed(store, "generate").id, TaskStatus.CANCELLED)


@pytest.mark.parametrize("path", ["train", "compare"])
def test_a_form_takes_no_edits_before_it_is_filled(
    visit: Visit, pages_address: str, path: str
) -> None:
    page = visit("about:blank")
    held = Held(page, 9)
    page.goto(f"{pages_address}/{path}")
    form = page.locator(f"#{path}-form")
    expect(form).to_have_js_property("inert", True)
    held.release()
    expect(form).to_have_js_property("inert", False)


def test_a_comparison_that_is_gone_is_said(visit: Visit, pages_address: str) -> None:
    page = visit(f"{pages_address}/compare?comparison=gone")
    expect(page.locator("#compare-status")).to_contain_text("no longer here")
    expect(page.locator("#compare-columns")).to_contain_text("press Compare")


def test_a_comparison_says_what_is_missing(visit: Visit, pages_address: str) -> None:
    page = visit(f"{pages_address}/compare")
    expect(page.locator("#compare-columns")).to_contain_text("press Compare")
    page.locator("#compare-start").click()
    expect(page.locator("#compare-status")).to_contain_text("0 prompts")
