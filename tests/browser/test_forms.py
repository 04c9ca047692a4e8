"""Demonstrations, Train and Compare as a visitor uses them, with no runner: nothing is trained."""

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from playwright.sync_api import Browser, Page, Route, expect

from pages.presenters.training_choices import new_runs
from seqmatch.config import DataConfig, RunConfig
from seqmatch.demonstrations import split
from seqmatch.ingest import read_frozen
from seqmatch.jobs.task_types import (
    ActionCell,
    GenerateChunk,
    GenerateRequest,
    LengthSummaryRequest,
    LengthSummaryResult,
    PolicyRef,
    TokenCell,
    TokenViewResult,
)
from storage import RunStore
from storage.records import TaskRecord, TaskStatus
from tests.browser.chromium import free_port, serving

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms") / "data"


@pytest.fixture(scope="module")
def pages_address(data_dir: Path, browser: Browser) -> Iterator[str]:
    """The pages without a runner: these tests answer as the lane would."""
    port = free_port()
    command = ["-m", "tests.browser.serve_pages", str(data_dir), str(port)]
    with serving(command, port, data_dir.with_name("server.log")) as address:
        yield address


@pytest.fixture
def store(pages_address: str, data_dir: Path) -> Iterator[RunStore]:
    opened = RunStore.open(data_dir)
    yield opened
    opened.close()


def _upload(page: Page, path: Path) -> None:
    page.locator("#demonstrations-files input[type=file]").set_input_files(str(path))
    page.locator("#demonstrations-accept").wait_for()


def _write(folder: Path, rows: list[str]) -> Path:
    path = folder / "mine.jsonl"
    path.write_text("\n".join(rows))
    return path


class _Held:
    """Keeps back the first questions of a page to its server, as a busy machine does."""

    def __init__(self, page: Page, number: int) -> None:
        self.number = number
        self.routes: list[Route] = []
        page.route("**/gradio_api/**", self._take)

    def _take(self, route: Route) -> None:
        if route.request.method == "POST" and len(self.routes) < self.number:
            self.routes.append(route)
        else:
            route.continue_()

    def release(self) -> None:
        self.number = 0
        for route in self.routes:
            route.continue_()


def _claimed(store: RunStore, kind: str) -> TaskRecord:
    """The lane's next task, once the page has asked."""
    task = store.tasks.claim("test")
    assert task is not None
    assert task.kind == kind
    return task


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
    task = _claimed(store, "token_view")
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
    held = _Held(page, 1)
    page.goto(f"{pages_address}/demonstrations")
    page.locator("#demonstrations-example-arithmetic").click()
    expect(page.locator("#demonstrations-upload-status")).to_contain_text("is ready")
    held.release()
    page.get_by_role("tab", name="Tokens").click()
    page.locator("#demonstrations-seed input").fill("7")
    page.locator("#demonstrations-look").click()
    expect(page.locator("#demonstrations-tokens")).to_contain_text("Waiting for the worker")
    store.tasks.finish(_claimed(store, "token_view").id, TaskStatus.CANCELLED)
    expect(page.locator("#demonstrations-tokens")).to_contain_text("It was stopped.")


def _answer_length_check(store: RunStore, refusal: str) -> None:
    task = _claimed(store, "length_summary")
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
    expect(page.get_by_role("option", name="Total variation")).to_have_count(0)
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
    assert _claimed(store, "generate").id == task.id
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
    store.tasks.finish(_claimed(store, "generate").id, TaskStatus.CANCELLED)


@pytest.mark.parametrize("path", ["train", "compare"])
def test_a_form_takes_no_edits_before_it_is_filled(
    visit: Visit, pages_address: str, path: str
) -> None:
    page = visit("about:blank")
    held = _Held(page, 9)
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
