"""The whole path with nothing left out: the real application, runner, trainer and worker lane."""

import hashlib
import json
import random
import re
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from storage import RunStore
from storage.records import RunStatus
from tests.browser.chromium import Server, app_command, end_jobs, free_port
from tests.browser.driving import (
    TRAINING_MS,
    add_file,
    compare,
    fill_training,
    start_training,
)

pytestmark = [pytest.mark.browser, pytest.mark.slow, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
SMALL = {
    "optimization.batch_size": 8,
    "data.max_tokens": 24,
    "evaluation.every": 20,
    "evaluation.num_prompts": 6,
    "evaluation.max_new_tokens": 6,
    "evaluation.num_samples": 2,
    "checkpoints.every": 10,
    "objective.rollouts.every": 10,
    "objective.rollouts.batch_size": 8,
    "objective.rollouts.max_new_tokens": 6,
}


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "data"
    end_jobs(tmp_path / "data")


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """Additions as a file of JSON lines."""
    numbers = random.Random(3)
    pairs = [(numbers.randint(10, 99), numbers.randint(10, 99)) for _ in range(80)]
    rows = [{"prompt": f"{a}+{b}=", "completion": str(a + b)} for a, b in dict.fromkeys(pairs)]
    path = tmp_path / "sums.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _curve(store: RunStore, run_id: str, name: str = "train/loss") -> list[int]:
    return [point.step for point in store.metrics.read(run_id, names=[name]).points]


def test_from_a_file_to_an_adapter_and_through_a_crash_of_the_application(
    visit: Visit, data_dir: Path, sums: Path, tmp_path: Path
) -> None:
    port = free_port()
    server = Server(app_command(data_dir, port), port, tmp_path / "server.log")
    site = server.wait()
    store = RunStore.open(data_dir)
    try:
        page = visit(site)
        dataset = add_file(page, site, sums)
        fill_training(
            page, site, dataset, "sequence_match", {**SMALL, "optimization.num_steps": 40}
        )
        run_id = start_training(page)
        _expect_a_finished_run(page, site, run_id)
        _expect_the_stored_adapter(page, store, run_id, tmp_path)
        _expect_answers_that_a_reload_shows_again(page, site, run_id)

        page.goto(f"{site}/train?clone={run_id}")
        expect(page.get_by_label("Batch size")).to_have_value("8")
        page.get_by_label("Steps", exact=True).fill("20000")  # it is stopped long before
        second = start_training(page)
        _wait_for_step(store, second, 12)
        page.goto("about:blank")  # a page that is open would tell of the lost connection
        server.kill()
        killed_at = store.runs.get(second)
        assert killed_at.status is RunStatus.RUNNING
        _wait_for_step(store, second, killed_at.step + 10)
        server = Server(app_command(data_dir, port), port, tmp_path / "server.log")
        again = visit(f"{server.wait()}/run?run={second}")
        expect(again.locator("#run-head .status-line")).to_contain_text("Running: ")
        expect(again.locator("#run-summary-objective")).to_contain_text("Training loss")
        again.locator("#run-stop-and-save").click()
        expect(again.locator("#run-head .badge")).to_have_text("stopped", timeout=TRAINING_MS)
        assert store.runs.get(second).attempt == 1
        steps = _curve(store, second)
        assert steps == sorted(set(steps))
        again.goto("about:blank")
    finally:
        store.close()
        server.close()


def _expect_a_finished_run(page: Page, site: str, run_id: str) -> None:
    page.goto(f"{site}/run?run={run_id}")
    badge = page.locator("#run-head .badge")
    expect(badge).to_have_text(re.compile("done|failed"), timeout=TRAINING_MS)
    expect(badge).to_have_text("done", timeout=1000)
    expect(page.locator("#run-head .status-line")).to_contain_text("Done: 40 steps")
    for chart in ("heldout_nll", "divergence", "backspace", "length", "exact_match", "values"):
        expect(page.locator(f"#run-summary-{chart}")).to_contain_text("at step 40.")
        expect(page.locator(f"#run-plot-{chart} .main-svg").first).to_be_visible()
    page.get_by_role("tab", name="Samples").click()
    expect(page.locator("#run-samples .sample")).to_have_count(2)


def _expect_the_stored_adapter(page: Page, store: RunStore, run_id: str, folder: Path) -> None:
    with page.expect_download() as started:
        page.get_by_role("link", name="Download adapter").click()
    path = folder / "adapter.zip"
    started.value.save_as(path)
    record = next(one for one in store.artifacts.list(run_id) if one.kind == "adapter_zip")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == record.sha256
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        names = {name.rsplit("/", 1)[-1] for name in archive.namelist()}
    needed = {"config.json", "backspace.safetensors", "metrics.csv", "README.md", "generate.py"}
    assert needed <= names


def _expect_answers_that_a_reload_shows_again(page: Page, site: str, run_id: str) -> None:
    compare(page, site, [run_id], ["12+34=", "55+66="])
    answers = page.locator("#compare-columns section")
    shown = answers.all_inner_texts()
    page.reload()
    expect(page.locator("#compare-status")).to_contain_text("8 answers. The address")
    assert len(shown) == 2
    expect(answers).to_have_text(shown, use_inner_text=True)
    assert re.search(r"comparison=\w+", page.url)


def _wait_for_step(store: RunStore, run_id: str, step: int) -> None:
    deadline = time.monotonic() + TRAINING_MS / 1000
    while store.runs.get(run_id).step < step:
        assert time.monotonic() < deadline, f"run {run_id} does not come to step {step}"
        time.sleep(0.05)
