"""Start, Runs and Run as a visitor sees them, over a store that is filled with runs."""

import re
from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from seqmatch.jobs.runs_at_once import runs_at_once, set_runs_at_once
from storage import RunStore
from storage.records import Progress
from tests.browser.filled_store import HOSTILE_NAME

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
ONE_ROW = """width => {
    const boxes = [...document.querySelectorAll("nav.fillable a")]
        .map(link => link.getBoundingClientRect());
    const rows = new Set(boxes.map(box => Math.round(box.y)));
    return rows.size === 1 && boxes[0].x >= 0 && boxes[boxes.length - 1].right <= width;
}"""
"""True where all links of the navigation stand in one row within the width."""
PAGES = ("", "demonstrations", "train", "runs", "compare", "oracle")


def _run_id(store: RunStore, name: str) -> str:
    return next(run.id for run in store.runs.list() if run.name == name)


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_fits_its_window_without_errors(
    visit: Visit, filled_pages: str, width: int, scheme: str
) -> None:
    for path in PAGES:
        page = visit(f"{filled_pages}/{path}", width=width, scheme=scheme)
        page.get_by_role("button").first.wait_for()
        expect(page.get_by_text("Loading")).to_have_count(0)
        widths = page.evaluate("[document.documentElement.scrollWidth, window.innerWidth]")
        assert widths[0] <= widths[1], path


@pytest.mark.parametrize("width", [1280, 390])
def test_the_navigation_is_one_row_that_shows_every_page(
    visit: Visit, filled_pages: str, width: int
) -> None:
    page = visit(f"{filled_pages}/runs", width=width)
    links = page.locator("nav.fillable a")
    links.first.wait_for()
    # All at one moment, once styles have arrived: one by one they may be read across a change.
    page.wait_for_function(ONE_ROW, arg=width)
    assert links.count() >= 5


def test_the_first_page_says_what_can_be_done(visit: Visit, filled_pages: str) -> None:
    page = visit(filled_pages)
    expect(page.get_by_role("button", name="Run the example", exact=True)).to_be_visible()
    expect(page.locator("#start-recent a", has_text="SFT on additions")).to_be_visible()
    page.locator("#start-recent a", has_text="SFT on additions").click()
    expect(page).to_have_url(re.compile(r"/run\?run="))
    expect(page.locator("#run-head h2")).to_contain_text("SFT on additions")


def test_names_are_shown_as_text(visit: Visit, filled_pages: str, filled_store: RunStore) -> None:
    page = visit(f"{filled_pages}/run?run={_run_id(filled_store, HOSTILE_NAME)}")
    expect(page.locator("#run-head h2")).to_contain_text(HOSTILE_NAME)
    expect(page.locator("#run-head .error")).to_contain_text("23.8 GB")
    assert page.locator("#run-head img").count() == 0


def test_a_run_shows_curves_samples_settings_and_log(
    visit: Visit, filled_pages: str, filled_store: RunStore
) -> None:
    page = visit(f"{filled_pages}/run?run={_run_id(filled_store, 'SequenceMatch on additions')}")
    expect(page.locator("#run-plot-heldout_nll .main-svg").first).to_be_visible()
    expect(page.locator("#run-summary-heldout_nll")).to_contain_text("at step 3,000")
    page.get_by_role("tab", name="Samples").click()
    expect(page.locator("#run-samples del").first).to_have_text("8")
    page.get_by_role("tab", name="Settings").click()
    expect(page.locator("#run-settings")).to_contain_text("Entropy weight alpha")
    expect(page.locator("#run-command textarea")).to_have_value(re.compile("-m seqmatch train"))
    page.get_by_role("tab", name="Events and log").click()
    expect(page.locator("#run-log pre")).to_contain_text("<b>bold</b>")


def test_the_adapter_is_downloaded_as_it_was_stored(
    visit: Visit, filled_pages: str, filled_store: RunStore
) -> None:
    run_id = _run_id(filled_store, "SequenceMatch on additions")
    page = visit(f"{filled_pages}/run?run={run_id}")
    with page.expect_download() as started:
        page.get_by_role("link", name="Download adapter").click()
    record = filled_store.artifacts.list(run_id)[0]
    assert started.value.suggested_filename == record.filename
    assert started.value.path().stat().st_size == record.size_bytes


def test_an_unknown_run_is_said(visit: Visit, filled_pages: str) -> None:
    page = visit(f"{filled_pages}/run?run=nothing")
    expect(page.locator("#run-head")).to_contain_text("There is no run nothing")


def test_an_overlay_is_in_the_address(
    visit: Visit, filled_pages: str, filled_store: RunStore
) -> None:
    ids = [_run_id(filled_store, f"{kind} on additions") for kind in ("SFT", "SequenceMatch")]
    page = visit(f"{filled_pages}/runs?runs={','.join(ids)}")
    expect(page.locator("#runs-plot-heldout_nll .main-svg").first).to_be_visible()
    expect(page.locator("#runs-diff")).to_contain_text("objective.kind")
    page.locator("#runs-chosen input").click()
    page.get_by_role("option", name=re.compile("smaller alpha")).click()
    expect(page).to_have_url(re.compile("%2C.*%2C"))
    expect(page.locator("#runs-summary-heldout_nll")).to_contain_text("smaller alpha")


def test_a_run_is_deleted_and_brought_back(
    visit: Visit, filled_pages: str, filled_store: RunStore
) -> None:
    page = visit(f"{filled_pages}/runs?runs={_run_id(filled_store, 'SFT on additions')}")
    page.locator("#runs-delete").click()
    expect(page.locator("#runs-table a", has_text="SFT on additions")).to_have_count(0)
    page.locator("#runs-restore").click()
    expect(page.locator("#runs-table a", has_text="SFT on additions")).to_be_visible()


def test_how_many_runs_train_at_once_is_set_on_the_page(
    visit: Visit, filled_pages: str, filled_store: RunStore
) -> None:
    page = visit(f"{filled_pages}/runs")
    field = page.locator("#runs-at-once input")
    expect(field).to_have_value("1")
    field.fill("65")
    field.press("Enter")
    expect(page.locator("#runs-at-once-said")).to_contain_text("1 to 64 are allowed")
    expect(field).to_have_value("1")
    field.fill("3")
    field.press("Enter")
    expect(page.locator("#runs-at-once-said")).to_contain_text("3 runs at once")
    assert runs_at_once(filled_store) == 3
    page.reload()
    expect(field).to_have_value("3")
    set_runs_at_once(filled_store, 1)


def test_live_views_follow_the_store_and_pause(
    visit: Visit, filled_pages: str, filled_store: RunStore
) -> None:
    run = filled_store.runs.get(_run_id(filled_store, "SequenceMatch, smaller alpha"))
    page = visit(f"{filled_pages}/run?run={run.id}")
    expect(page.locator("#run-head .status-line")).to_contain_text("step 1,200")
    filled_store.runs.progress(run.id, run.attempt, Progress(1300, 10.0))
    expect(page.locator("#run-head .status-line")).to_contain_text("step 1,300")
    filled_store.runs.progress(run.id, run.attempt, Progress(run.step, 12.5))
