"""The pictures of the README, from the real application: `python -m scripts.screenshots FOLDER`.

Adds the bundled example, trains SequenceMatch and SFT on it for a short while, compares the two,
asks the Oracle for its first experiment, and takes each page at 1280 and 390 pixels, light and
dark. With --data-dir no run is trained: the newest finished one of each objective in that data
directory is shown.
"""

import argparse
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page, expect

from storage import RunStore
from storage.records import RunRecord, RunStatus
from tests.browser.chromium import app_command, chromium, end_jobs, free_port, serving
from tests.browser.driving import add_example, compare, fill_training, start_training

HEIGHTS = {1280: 1500, 390: 1700}
"""The longest picture by the width of the window."""
SCHEMES = ("light", "dark")
SETTLE_MS = 1500
"""Time for charts to be drawn and transitions to end; pictures are no test."""
NUM_STEPS = 1500
TRAINING_SECONDS = 3600.0
EXPERIMENT_MS = 300_000
SEED = 3
"""With the example's own settings, the first answers take a digit back at this seed."""
PROMPTS = ("123+456=", "407+385=", "738+594=", "866+357=", "509+974=")
TRIES = 12


@dataclass(frozen=True)
class Shown:
    """What of a store is shown."""

    dataset: str
    matching: str
    sft: str


@dataclass(frozen=True)
class View:
    """One page: its picture's name, its address, and what is done there before the picture."""

    name: str
    address: str
    prepare: Callable[[Page], None]
    stretch: float = 1.0
    """How much longer than `HEIGHTS` the picture may be."""


def train(browser: Browser, site: str, store: RunStore, num_steps: int) -> None:
    """Trains both objectives on the bundled example, as a visitor starts them."""
    page = browser.new_page()
    dataset = add_example(page, site, "arithmetic")
    steps = {"optimization.num_steps": num_steps}
    runs = []
    for kind in ("sequence_match", "sft"):
        fill_training(page, site, dataset, kind, steps)
        runs.append(start_training(page))
    page.close()
    deadline = time.monotonic() + TRAINING_SECONDS
    while not all(store.runs.get(run).status.is_final for run in runs):
        if time.monotonic() > deadline:
            raise SystemExit(f"training took more than {TRAINING_SECONDS:.0f} s")
        time.sleep(2.0)


def choose(store: RunStore) -> Shown:
    """Returns the newest finished run of SequenceMatch and of SFT on one set.

    Raises:
        SystemExit: There are no two such runs.
    """
    done = [run for run in store.runs.list() if run.status is RunStatus.COMPLETED]
    matching = [run for run in done if run.objective == "sequence_match"]
    for run in matching:
        rivals = [one for one in done if one.objective == "sft" and _is_like(one, run)]
        if rivals:
            return Shown(run.dataset_id, run.id, rivals[0].id)
    raise SystemExit(
        f"{store.data_dir} has no finished runs of SequenceMatch and of SFT on one set and model; "
        f"finished are {[run.name for run in done]}"
    )


def _is_like(one: RunRecord, other: RunRecord) -> bool:
    return (one.dataset_id, one.base_model, one.seed) == (
        other.dataset_id,
        other.base_model,
        other.seed,
    )


def views(browser: Browser, site: str, shown: Shown) -> Iterator[View]:
    """Yields the pages, having asked for the comparison that one of them shows."""
    both = f"{shown.matching},{shown.sft}"
    yield View("start", "", _start)
    yield View("demonstrations", f"demonstrations?dataset={shown.dataset}", _tokens)
    yield View("train", f"train?dataset={shown.dataset}", _estimate)
    yield View("run", f"run?run={shown.matching}", _charts)
    yield View("runs", f"runs?runs={both}", _charts)
    yield View("compare", _compared(browser, site, [shown.matching, shown.sft]), _replay)
    yield View("oracle", _experiment(browser, site), _charts, stretch=1.75)


def _compared(browser: Browser, site: str, runs: Sequence[str]) -> str:
    page = browser.new_page()
    compare(page, site, runs, PROMPTS, has_base=False, max_new_tokens=8, seed=SEED)
    address = page.url.removeprefix(f"{site}/")
    page.close()
    return address


def _experiment(browser: Browser, site: str) -> str:
    """Asks for what the Oracle form offers first; a data directory that has it shows it again."""
    page = browser.new_page()
    page.goto(f"{site}/oracle")
    expect(page.locator("#oracle-status")).to_contain_text("Nothing is trained yet")
    page.locator("#oracle-start").click()
    expect(page.locator("#oracle-status")).to_contain_text("The address", timeout=EXPERIMENT_MS)
    expect(page).to_have_url(re.compile("task="))
    address = page.url.removeprefix(f"{site}/")
    page.close()
    return address


def _start(page: Page) -> None:
    page.get_by_role("link", name=re.compile("SequenceMatch")).first.wait_for()


def _tokens(page: Page) -> None:
    """Shows a row in which noise was inserted, if one of the first rows has some."""
    page.get_by_role("tab", name=re.compile("tokens", re.IGNORECASE)).click()
    tokens = page.locator("#demonstrations-tokens")
    for row in range(1, TRIES + 1):
        page.locator("#demonstrations-row input").fill(str(row))
        page.locator("#demonstrations-look").click()
        expect(tokens).to_contain_text("stop token")
        page.wait_for_timeout(SETTLE_MS)
        if tokens.locator(".tokens .token-noise").count():
            break


def _estimate(page: Page) -> None:
    expect(page.locator("#train-estimate")).to_contain_text("Memory")


def _charts(page: Page) -> None:
    page.locator(".js-plotly-plot .main-svg").first.wait_for()


def _replay(page: Page) -> None:
    """Stops the replay just before the end, so that what is taken back is seen at work."""
    expect(page.locator("#compare-status")).to_contain_text("The address")
    number = page.locator("#compare-replay input[type=number]")
    end = int(number.input_value())
    number.fill(str(max(end - 1, 1)))
    page.locator("#compare-heldout button").first.click()


def take(browser: Browser, site: str, view: View, path: Path, width: int, scheme: str) -> None:
    """Takes one picture, from the top of the page."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(f"{site}/{view.address}")
    page.get_by_role("button").first.wait_for()
    view.prepare(page)
    page.wait_for_timeout(SETTLE_MS)
    longest = round(HEIGHTS[width] * view.stretch)
    height = min(page.evaluate("document.documentElement.scrollHeight"), longest)
    clip = {"x": 0, "y": 0, "width": width, "height": height}
    picture = page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]
    context.close()
    with Image.open(BytesIO(picture)) as image:
        image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE).save(path, optimize=True)


@contextmanager
def _data_dir(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch:
        path = Path(scratch) / "data"
        try:
            yield path
        finally:
            end_jobs(path)


def main(arguments: Sequence[str] | None = None) -> int:
    """Takes all pictures into the folder that the command line names."""
    parser = argparse.ArgumentParser(prog="python -m scripts.screenshots", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--data-dir", type=Path, help="show this one's runs; train nothing")
    parser.add_argument("--num-steps", type=int, default=NUM_STEPS, help="steps of each training")
    given = parser.parse_args(arguments)
    expect.set_options(timeout=60_000)  # a busy machine takes its time
    given.folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as scratch,
        _data_dir(given.data_dir) as data_dir,
        chromium() as browser,
        serving(app_command(data_dir, port), port, Path(scratch) / "server.log") as site,
    ):
        store = RunStore.open(data_dir)
        if given.data_dir is None:
            train(browser, site, store, given.num_steps)
        shown = choose(store)
        store.close()
        for view in views(browser, site, shown):
            for width in HEIGHTS:
                for scheme in SCHEMES:
                    path = given.folder / f"{view.name}-{width}-{scheme}.png"
                    take(browser, site, view, path, width, scheme)
                    print(path, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
