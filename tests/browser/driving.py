"""What a visitor does on the pages: add demonstrations, train, compare, download.

The tests, the screenshots and the measurement of the start all go the same way.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from playwright.sync_api import Page, expect

TRAINING_MS = 120_000
_RUN = re.compile(r"[?&]run=([^&]+)")
_MANY_RUNS = re.compile(r"[?&]runs=([^&]+)")


def add_file(page: Page, site: str, path: Path) -> str:
    """Uploads a file, accepts what was read of it, and returns the id of the set."""
    page.goto(f"{site}/demonstrations")
    page.locator("#demonstrations-files input[type=file]").set_input_files(path)
    page.locator("#demonstrations-accept").click()
    return opened_set(page)


def add_example(page: Page, site: str, name: str) -> str:
    """Adds a bundled example and returns the id of its set."""
    page.goto(f"{site}/demonstrations")
    page.locator(f"#demonstrations-example-{name}").click()
    return opened_set(page)


def opened_set(page: Page) -> str:
    """Waits until a set is open, and returns its id."""
    expect(page).to_have_url(re.compile(r"dataset=[0-9a-f]{64}"))
    return page.url.rsplit("dataset=", 1)[1][:64]


def fill_training(
    page: Page, site: str, dataset: str, kind: str, settings: Mapping[str, str | int | float]
) -> None:
    """Fills the Train form; a setting is named by its path, "optimization.num_steps"."""
    page.goto(f"{site}/train?dataset={dataset}")
    expect(page.locator("#train-estimate")).to_contain_text("Memory")
    page.locator(f"#train-objective-kind input[value={kind}]").check()
    if kind == "sft":
        expect(page.locator("#train-objective-divergence")).to_be_hidden()
    page.locator("#train-advanced > button").click()
    for path, value in settings.items():
        field = page.locator(f"#train-{path.replace('.', '-')}").locator("input, textarea").first
        field.fill(str(value))


def start_training(page: Page) -> str:
    """Starts what the Train form says, and returns the id of the run that is then shown."""
    page.locator("#train-start").click()
    expect(page).to_have_url(re.compile(r"/runs?\?runs?="), timeout=TRAINING_MS)
    found = _RUN.search(page.url) or _MANY_RUNS.search(page.url)
    assert found is not None
    return found[1]


def compare(
    page: Page,
    site: str,
    runs: Sequence[str],
    prompts: Sequence[str],
    *,
    has_base: bool = True,
    max_new_tokens: int = 16,
    seed: int = 0,
) -> None:
    """Compares runs, and the small base model, with and without backspace, and waits for it."""
    page.goto(f"{site}/compare?runs={','.join(runs)}")
    expect(page.locator("#compare-policies .token")).to_have_count(len(runs))
    if has_base:
        page.locator("#compare-policies input").click()
        page.get_by_role("option", name=re.compile("Base: .*byte", re.IGNORECASE)).click()
        page.keyboard.press("Escape")
    page.locator("#compare-prompts textarea").fill("\n".join(prompts))
    page.locator("#compare-max_new_tokens input").fill(str(max_new_tokens))
    page.locator("#compare-seed input").fill(str(seed))
    page.locator("#compare-start").click()
    answers = 2 * (len(runs) + has_base) * len(prompts)
    expect(page.locator("#compare-status")).to_contain_text(
        f"{answers} answers. The address", timeout=TRAINING_MS
    )


def run_experiment(page: Page, exact: Sequence[str], objectives: Sequence[str], seeds: str) -> None:
    """Fills the Oracle form, which is open, with these titles and starts the experiment."""
    for index, titles in enumerate((exact, objectives)):
        group = page.locator(f"#oracle-objectives-{index}")
        clear = group.get_by_role("button", name="Clear")
        if clear.count():
            clear.click()
        for title in titles:
            group.locator("input").click()
            page.get_by_role("option", name=title, exact=True).click()
            page.keyboard.press("Escape")
        expect(group.locator(".token")).to_have_count(len(titles))
    page.locator("#oracle-seeds").locator("input, textarea").fill(seeds)
    page.locator("#oracle-start").click()
