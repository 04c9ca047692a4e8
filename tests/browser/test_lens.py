"""The Lens tab as a visitor uses it, with no runner: the tests answer as the lane would."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from seqmatch.jobs.lens_types import LensPiece, LensRequest
from storage import RunStore
from storage.records import TaskStatus
from tests.browser.chromium import free_port, serving
from tests.browser.standing_in import claimed
from tests.unit.pages.lens_pieces import PROBE, measured, scored

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
PASTED = "57 <b>\n9"


@pytest.fixture
def lens_store(tmp_path: Path) -> Iterator[tuple[str, RunStore]]:
    """A filled store of its own: other tests claim tasks of theirs."""
    data, port = tmp_path / "data", free_port()
    command = ["-m", "tests.browser.serve_pages", str(data), str(port)]
    with serving(command, port, tmp_path / "server.log") as address:
        store = RunStore.open(data)
        yield address, store
        store.close()


def _open(page: Page) -> None:
    page.get_by_role("tab", name="Lens").click()


def test_tokens_of_a_pasted_text_are_coloured_and_a_measure_is_kept(
    visit: Visit, lens_store: tuple[str, RunStore]
) -> None:
    address, store = lens_store
    run = next(one for one in store.runs.list() if one.name == "SFT on additions")
    page = visit(f"{address}/run?run={run.id}")
    _open(page)
    expect(page.locator("#lens-measure-status")).to_contain_text("Not measured yet")
    page.locator("#lens-score").click()
    expect(page.locator("#lens-score-status")).to_contain_text("Prompt: it is empty")
    page.locator("#lens-prompt textarea").fill("123+456=")
    page.locator("#lens-answer textarea").fill(PASTED)
    page.locator("#lens-score").click()
    expect(page.locator("#lens-score-status")).to_contain_text("Waiting for the worker")
    task = claimed(store, "lens")
    asked = LensRequest.model_validate_json(task.payload_json)
    assert (asked.run_id, asked.prompt, asked.answers) == (run.id, "123+456=", [PASTED])
    store.tasks.append(task.id, LensPiece(text="Fitting the probe").model_dump_json())
    expect(page.locator("#lens-score-status")).to_contain_text("Fitting the probe")
    answer = scored(("57", 1.0), (" <b>", -3.5), ("\n9", 0.1), ("<eos>", 4.0))
    for piece in (LensPiece(judge=PROBE), LensPiece(scored=answer)):
        store.tasks.append(task.id, piece.model_dump_json())
    store.tasks.finish(task.id, TaskStatus.COMPLETED)
    tokens = page.locator(".heat-answer .heat")
    expect(tokens).to_have_count(4)
    expect(tokens.nth(1)).to_have_text(" <b>")
    grounds = [
        tokens.nth(at).evaluate("token => getComputedStyle(token).backgroundColor")
        for at in range(4)
    ]
    assert len(set(grounds[:2])) == 2  # h is 1.0, then −2.5
    expect(tokens.nth(3)).to_have_class("heat heat-above heat-p2")
    page.get_by_label("what each token adds").check()
    expect(tokens.nth(3)).to_have_class("heat heat-above heat-p4")

    page.locator("#lens-measure").click()
    expect(page.locator("#lens-measure-status")).to_contain_text("Waiting for the worker")
    task = claimed(store, "lens")
    store.tasks.append(task.id, LensPiece(measured=measured(0.95, 0.93)).model_dump_json())
    store.tasks.finish(task.id, TaskStatus.COMPLETED)
    expect(page.locator("#lens-words")).to_contain_text("alone reach 0.93 of the probe's 0.95")
    page.reload()
    _open(page)
    expect(page.locator("#lens-words")).to_contain_text("alone reach 0.93 of the probe's 0.95")
    expect(page.locator("#lens-calibration-plot .main-svg").first).to_be_visible()
    expect(tokens).to_have_count(4)


def test_a_run_without_a_policy_says_why_nothing_can_be_asked(
    visit: Visit, lens_store: tuple[str, RunStore]
) -> None:
    address, store = lens_store
    run = next(one for one in store.runs.list() if one.name == "SFT, seed 1")
    page = visit(f"{address}/run?run={run.id}")
    _open(page)
    expect(page.locator("#lens-hint")).to_contain_text("saved no policy yet")
    expect(page.locator("#lens-measure")).to_be_disabled()
    expect(page.locator("#lens-score")).to_be_disabled()
