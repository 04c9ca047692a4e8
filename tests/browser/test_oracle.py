"""The Oracle page: the form without a worker, then a real experiment in the real lane."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.chromium import app_command, end_jobs, free_port, serving
from tests.browser.driving import TRAINING_MS, run_experiment

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
Visit = Callable[..., Page]
HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    """The real application, whose runner starts a real lane."""
    port, data_dir = free_port(), tmp_path / "data"
    try:
        with serving(app_command(data_dir, port), port, tmp_path / "server.log") as address:
            yield address
    finally:
        end_jobs(data_dir)


def test_a_pasted_table_is_checked_as_it_is_typed(visit: Visit, filled_pages: str) -> None:
    page = visit(f"{filled_pages}/oracle")
    picture = page.locator("#oracle-picture")
    expect(picture.locator("tr").first).to_contain_text("ok")
    page.get_by_label("Your own table").check()
    table = page.locator("#oracle-table textarea")
    table.fill("ab 5\nba much")
    expect(picture).to_contain_text("line 2: 'much' is not a number")
    page.locator("#oracle-start").click()
    expect(page.locator("#oracle-status")).to_contain_text("line 2")
    assert "task=" not in page.url
    table.fill("ab 3\nb< 1")
    expect(picture.locator("tr").nth(1)).to_contain_text("b<")
    expect(picture.locator("tr").nth(1)).to_contain_text("25 %")
    expect(page.locator("#oracle-status")).to_contain_text("line 2")  # nothing has overwritten it


def test_an_experiment_that_is_not_here_is_said(visit: Visit, filled_pages: str) -> None:
    page = visit(f"{filled_pages}/oracle?task={HOSTILE}")
    expect(page.locator("#oracle-status")).to_contain_text("no longer here")
    expect(page.locator("#oracle-results")).to_be_hidden()


def test_an_experiment_fills_in_stays_over_a_reload_and_stops(visit: Visit, site: str) -> None:
    page = visit(f"{site}/oracle")
    expect(page.locator("#oracle-status")).to_contain_text("Nothing is trained yet")
    run_experiment(page, ["Exact Forward KL"], ["Supervised fine-tuning"], "0, 1")
    status = page.locator("#oracle-status")
    expect(status).to_contain_text("4 of 4 runs on “Two modes” in", timeout=TRAINING_MS)
    expect(page.locator("#oracle-chart-1 .main-svg").first).to_be_visible()
    expect(page.locator("#oracle-summary-0")).to_contain_text("Covers both modes")
    expect(page.locator("#oracle-checks")).to_contain_text(
        re.compile(r"Exact Forward KL\s*matches enumeration to 1e-1\d")
    )
    table = page.locator("#oracle-matrix table")  # around it Gradio keeps a clock that is not shown
    matrix = table.inner_text()
    with page.expect_download() as started:
        page.locator("#oracle-matrix a[download]").click()
    assert len(started.value.path().read_text().splitlines()) > 4 * 5

    page.reload()
    expect(status).to_contain_text("4 of 4 runs on “Two modes” in")
    expect(page.locator("#oracle-seeds input, #oracle-seeds textarea")).to_have_value("0-1")
    expect(table).to_have_text(matrix, use_inner_text=True)

    run_experiment(page, [], ["SequenceMatch, Chi-square mixture"], "0-15")
    expect(status).to_contain_text(re.compile("[1-9] of 16 runs"), timeout=TRAINING_MS)
    page.locator("#oracle-stop").click()
    expect(status).to_contain_text("It was stopped.")
    expect(status).to_contain_text("of 16 runs on “Two modes” were finished and stay.")
    expect(page.locator("#oracle-chart-0 .main-svg").first).to_be_visible()
    expect(page.locator("#oracle-stop")).to_be_hidden()
