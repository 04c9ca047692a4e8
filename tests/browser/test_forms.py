"""Demonstrations, Train and Compare as a visitor uses them, with no runner: nothing is trained."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from playwright.sync_api import Page, expect

from seqmatch.jobs.task_types import (
    LengthSummaryRequest,
    LengthSummaryResult,
    TokenCell,
    TokenViewResult,
)
from storage import RunStore
from storage.records import TaskStatus
from tests.browser.standing_in import Held, claimed

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>"


def _upload(page: Page, path: Path) -> None:
    page.locator("#demonstrations-files input[type=file]").set_input_files(str(path))
    page.locator("#demonstrations-accept").wait_for()


def _write(folder: Path, rows: list[str]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(rows))
    return path


def test_an_upload_is_checked_accepted_and_opened(
    visit: Visit, pages_address: str, store: RunStore, tmp_path: Path
) -> None:
    good = [json.dumps({"prompt": f"p{i}", "completion": f"{HOSTILE} {i}"}) for i in range(12)]
    rows = [*good[:3], '{"prompt": "cut off", "completion": ', *good[3:]]
    page = visit(f"{pages_address}/demonstrations")
    _upload(page, _write(tmp_path, rows))
    findings = page.locator("#demonstrations-findings")
    expect(findings).to_contain_text("12 of 13 rows can be used")
    expect(findings).to_contain_text("E110")
    expect(findings.locator("td[data-label=Line]").first).to_have_text("4")
    expect(page.locator("#demonstrations-preview")).to_contain_text(HOSTILE)
    page.locator("#demonstrations-set-name input, #demonstrations-set-name textarea").fill(HOSTILE)
    page.get_by_role("button", name="Use 12 of 13 rows").click()
    expect(page).to_have_url(re.compile(r"dataset=[0-9a-f]{64}"))
    expect(page.locator("#demonstrations-heading h3")).to_have_text(HOSTILE)
    expect(page.locator("#demonstrations-rows")).to_contain_text(HOSTILE)
    assert page.locator(".gradio-container img[src=x]").count() == 0
    record = next(one for one in store.datasets.list() if one.name == HOSTILE)
    assert (record.num_rows, record.num_refused) == (12, 1)
    page.reload()
    expect(page.locator("#demonstrations-heading h3")).to_have_text(HOSTILE)


def _rows(name: str) -> list[dict[str, str]]:
    return [{"prompt": f"{name} {i}", "completion": f"answer {i}"} for i in range(3)]


def _files(folder: Path) -> dict[str, list[Path]]:
    """A small upload of each format by its name."""
    rows = {name: _rows(name) for name in ("json", "csv", "tsv", "parquet", "both")}
    (folder / "a.json").write_text(json.dumps(rows["json"]))
    for name, mark in (("csv", ","), ("tsv", "\t")):
        lines = [mark.join(row.values()) for row in rows[name]]
        (folder / f"a.{name}").write_text("\n".join([mark.join(rows[name][0]), *lines]))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows["parquet"]), folder / "a.parquet")
    (folder / "a.txt").write_text("text 0\n\ntext 1\n\ntext 2\n")
    (folder / "b.jsonl").write_text("\n".join(map(json.dumps, rows["both"])))
    single = {name: [folder / f"a.{name}"] for name in ("json", "csv", "tsv", "parquet", "txt")}
    return single | {"both": [folder / "b.jsonl", folder / "a.csv"]}


def _choose(page: Page, paths: list[Path]) -> None:
    """Gives files as a visitor does: a click, then the system's dialogue."""
    with page.expect_file_chooser() as chooser:
        page.locator("#demonstrations-files button").first.click()
    chooser.value.set_files(list(map(str, paths)))


def test_every_format_is_taken_by_mouse_and_a_bad_file_is_told_by_its_line(
    visit: Visit, pages_address: str, store: RunStore, tmp_path: Path
) -> None:
    page = visit(f"{pages_address}/demonstrations")
    findings, accept = page.locator("#demonstrations-findings"), "#demonstrations-accept"
    for name, paths in _files(tmp_path).items():
        _choose(page, paths)
        num_rows = 6 if name == "both" else 3
        expect(page.locator(accept)).to_have_text(f"Use all {num_rows} rows")
        first = "text 0" if name == "txt" else "csv 0" if name == "both" else f"{name} 0"
        expect(page.locator("#demonstrations-preview")).to_contain_text(first)
        page.locator("#demonstrations-set-name input, #demonstrations-set-name textarea").fill(name)
        page.locator(accept).click()
        expect(page.locator("#demonstrations-heading h3")).to_have_text(name)
        expect(page.locator("#demonstrations-rows tbody tr")).to_have_count(num_rows)
        expect(page.locator("#demonstrations-report")).to_be_hidden()
    sizes = {one.name: one.num_rows for one in store.datasets.list()}
    assert sizes["both"] == 6
    assert {sizes[name] for name in ("json", "csv", "tsv", "parquet", "txt")} == {3}
    bad = tmp_path / "bad.csv"
    bad.write_text("prompt,completion\np,a\nonly one cell\n")
    _choose(page, [bad])
    expect(findings).to_contain_text("1 of 2 rows can be used")
    row = findings.locator("tr", has_text="bad.csv")
    expect(row.locator("td[data-label=Line]")).to_have_text("3")
    expect(row).to_contain_text("only one cell")


def test_a_changed_mapping_is_checked_before_it_is_accepted(
    visit: Visit, pages_address: str, tmp_path: Path
) -> None:
    rows = [json.dumps({"prompt": f"q{i}", "completion": "a", "note": "n"}) for i in range(10)]
    page = visit(f"{pages_address}/demonstrations")
    _upload(page, _write(tmp_path, rows))
    page.get_by_role("button", name="Format and columns").click()
    page.locator("#demonstrations-column-completion input").click()
    page.get_by_role("option", name="note", exact=True).click()
    expect(page.locator("#demonstrations-accept")).to_be_disabled()
    page.locator("#demonstrations-check").click()
    expect(page.locator("#demonstrations-accept")).to_be_enabled()
    expect(page.locator("#demonstrations-preview td.cell-text").nth(1)).to_have_text("n")
    page.locator("#demonstrations-discard").click()
    expect(page.locator("#demonstrations-report")).to_be_hidden()


def test_the_tokens_of_a_row_are_asked_of_the_lane(
    visit: Visit, pages_address: str, store: RunStore
) -> None:
    page = visit(f"{pages_address}/demonstrations")
    page.locator("#demonstrations-example-arithmetic").click()
    page.get_by_role("tab", name="Tokens").click()
    page.locator("#demonstrations-look").click()
    expect(page.locator("#demonstrations-tokens")).to_contain_text("Waiting for the worker")
    task = claimed(store, "token_view")
    expect(page.locator("#demonstrations-tokens")).to_contain_text("Loading the tokenizer")
    cells = [
        TokenCell(text="<b>", id=7, part="answer", is_supervised=True, label_text="x"),
        TokenCell(text="", id=258, part="stop", is_supervised=True),
    ]
    store.tasks.append(task.id, TokenViewResult(tokens=cells).model_dump_json())
    store.tasks.finish(task.id, TaskStatus.COMPLETED)
    expect(page.locator("#demonstrations-tokens .tokens")).to_contain_text("<b>")
    expect(page.locator("#demonstrations-tokens")).to_contain_text("The stop token is trained.")


def test_a_late_answer_to_the_loading_closes_no_set_that_was_opened_meanwhile(
    visit: Visit, pages_address: str, store: RunStore
) -> None:
    page = visit("about:blank")
    held = Held(page, 1)
    page.goto(f"{pages_address}/demonstrations")
    page.locator("#demonstrations-example-arithmetic").click()
    expect(page.locator("#demonstrations-upload-status")).to_contain_text("is ready")
    held.release()
    page.get_by_role("tab", name="Tokens").click()
    page.locator("#demonstrations-seed input").fill("7")
    page.locator("#demonstrations-look").click()
    expect(page.locator("#demonstrations-tokens")).to_contain_text("Waiting for the worker")
    store.tasks.finish(claimed(store, "token_view").id, TaskStatus.CANCELLED)
    expect(page.locator("#demonstrations-tokens")).to_contain_text("It was stopped.")


def _answer_length_check(store: RunStore, refusal: str) -> None:
    task = claimed(store, "length_summary")
    assert LengthSummaryRequest.model_validate_json(task.payload_json)
    result = LengthSummaryResult(
        bins=[(13, 14, 10)],
        num_rows=10,
        num_too_long=0,
        num_unsupervised=0,
        num_stop_trained=10,
        refusal=refusal,
    )
    store.tasks.append(task.id, result.model_dump_json())
    store.tasks.finish(task.id, TaskStatus.COMPLETED)


def test_a_run_is_started_for_each_seed_once_the_set_is_checked(
    visit: Visit, pages_address: str, store: RunStore
) -> None:
    page = visit(f"{pages_address}/demonstrations")
    page.locator("#demonstrations-example-arithmetic").click()
    page.get_by_text("Train on this set").click()
    expect(page.locator("#train-estimate")).to_contain_text("Memory")
    page.get_by_label("Batch size").fill("0")
    expect(page.locator("#train-optimization-batch_size")).to_contain_text("1 to 4,096")
    page.locator("#train-start").click()
    expect(page.locator("#train-status")).to_contain_text("1 field needs another value")
    page.get_by_label("Batch size").fill("16")
    page.get_by_label("Seeds").fill("4, 5")
    expect(page.locator("#train-estimate")).to_contain_text("2, one for each seed")
    before = {run.id for run in store.runs.list()}
    page.locator("#train-start").click()
    expect(page.locator("#train-status")).to_contain_text("Checking the demonstrations")
    _answer_length_check(store, "")
    expect(page).to_have_url(re.compile("/runs"))
    started = [run for run in store.runs.list() if run.id not in before]
    assert sorted(run.seed for run in started) == [4, 5]
    assert len({run.group for run in started}) == 1
    configs = [json.loads(run.config_json) for run in started]
    assert {config["optimization"]["batch_size"] for config in configs} == {16}


def test_a_set_that_cannot_be_trained_on_starts_nothing(
    visit: Visit, pages_address: str, store: RunStore, tmp_path: Path
) -> None:
    page = visit(f"{pages_address}/demonstrations")
    rows = [json.dumps({"prompt": f"r{i}", "completion": "a"}) for i in range(11)]
    _upload(page, _write(tmp_path, rows))
    page.locator("#demonstrations-accept").click()
    page.get_by_text("Train on this set").click()
    expect(page.locator("#train-estimate")).to_contain_text("Memory")
    before = len(store.runs.list())
    page.locator("#train-start").click()
    expect(page.locator("#train-status")).to_contain_text("Checking the demonstrations")
    _answer_length_check(store, "the stop token is never trained")
    expect(page.locator("#train-status")).to_contain_text("the stop token is never trained")
    assert len(store.runs.list()) == before


def test_a_clone_has_the_settings_of_its_run(
    visit: Visit, pages_address: str, store: RunStore
) -> None:
    run = next(one for one in store.runs.list() if one.name == "SFT on additions")
    page = visit(f"{pages_address}/train?clone={run.id}")
    expect(page.get_by_label("Name")).to_have_value("SFT on additions")
    expect(page.get_by_label("Supervised fine-tuning")).to_be_checked()
    expect(page.locator("#train-objective-divergence")).to_be_hidden()


def test_each_objective_shows_its_own_fields_and_says_what_is_wrong(
    visit: Visit, pages_address: str
) -> None:
    page = visit(f"{pages_address}/train")
    expect(page.locator("#train-divergence-card")).to_contain_text("close to discounted likelihood")
    page.locator("#train-objective-divergence input").click()
    page.get_by_role("option", name="Total variation").click()
    expect(page.locator("#train-objective-divergence")).to_contain_text("not for SequenceMatch")
    page.locator("#train-objective-divergence input").click()
    page.get_by_role("option", name="Alpha family").click()
    order = page.locator("#train-objective-divergence_order")
    order.locator("input").fill("7")
    expect(order).to_contain_text("allowed: -1 to 2")
    order.locator("input").fill("1")
    expect(page.locator("#train-divergence-card")).to_contain_text("(order 1)")

    page.locator("#train-objective-kind input[value=forward_kl_occupancy]").check()
    expect(order).to_be_hidden()
    page.locator("#train-objective-weights input").click()
    page.get_by_role("option", name="As printed in the paper").click()
    expect(page.locator("#train-objective-weights")).to_contain_text("never taught to stop")
    expect(page.locator("#train-warnings")).to_contain_text("never taught to stop")

    page.locator("#train-advanced > button").click()
    page.locator("#train-adapter-kind").get_by_label("LoRA adapter").check()
    expect(page.locator("#train-adapter-kind")).to_contain_text("starts from random weights")
    expect(page.locator("#train-problems")).to_contain_text("starts from random weights")


def test_an_adversarial_run_says_what_it_needs_and_what_has_no_meaning(
    visit: Visit, pages_address: str
) -> None:
    page = visit(f"{pages_address}/train")
    page.locator("#train-objective-kind input[value=adversarial]").check()
    expect(page.locator("#train-divergence-card")).to_contain_text("AIRL")
    estimate, problems = page.locator("#train-estimate"), page.locator("#train-problems")
    expect(estimate).to_contain_text("256 answers every 4 steps")
    expect(estimate).to_contain_text("a few percent of the step")
    page.locator("#train-advanced button").first.click()
    page.locator("#train-objective-policy_step-baseline input[value=grpo]").check()
    expect(problems).to_contain_text("each action has a return of its own")
    page.locator("#train-objective-level input[value=trajectory]").check()
    expect(problems).not_to_contain_text("return of its own")
    expect(page.locator("#train-objective-discount")).to_be_hidden()
    page.locator("#train-objective-discriminator-backbone input[value=adapter]").check()
    expect(problems).to_contain_text("nothing is frozen")
