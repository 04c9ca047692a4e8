"""The pictures of the README, from the running pages: `python -m scripts.screenshots FOLDER`.

Each page of a store that is filled with runs, at 1280 and 390 pixels, light and dark.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page

from storage import RunStore
from tests.browser.chromium import chromium, free_port, serving
from tests.browser.filled_store import HOSTILE_NAME

WIDTHS = (1280, 390)
SCHEMES = ("light", "dark")
SETTLE_MS = 1500
"""Time for charts to be drawn and transitions to end; pictures are no test."""


def addresses(data_dir: Path) -> dict[str, str]:
    """Returns the pages to take, by the name of their picture."""
    store = RunStore.open(data_dir)
    try:
        ids = {run.name: run.id for run in store.runs.list()}
        store.runs.rename(ids[HOSTILE_NAME], "SequenceMatch, batch of 512")
    finally:
        store.close()
    both = f"{ids['SFT on additions']},{ids['SequenceMatch on additions']}"
    return {
        "start": "",
        "demonstrations": "demonstrations",
        "train": "train",
        "runs": f"runs?runs={both}",
        "run": f"run?run={ids['SequenceMatch on additions']}",
        "compare": f"compare?runs={both}",
    }


def take(browser: Browser, address: str, path: Path, *, width: int, scheme: str) -> None:
    """Takes one picture of the whole page."""
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme="dark" if scheme == "dark" else "light",
    )
    page = context.new_page()
    page.goto(address)
    _settle(page)
    page.screenshot(path=path, full_page=width == WIDTHS[0])
    context.close()


def _settle(page: Page) -> None:
    page.get_by_role("button").first.wait_for()
    if "run" in page.url.rsplit("/", 1)[-1] and "?" in page.url and "compare" not in page.url:
        page.locator(".js-plotly-plot .main-svg").first.wait_for()
    page.wait_for_timeout(SETTLE_MS)


def main() -> int:
    """Takes all pictures into the folder that the command line names."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        data, port = Path(scratch) / "data", free_port()
        command = ["-m", "tests.browser.serve_pages", str(data), str(port)]
        with serving(command, port, Path(scratch) / "server.log") as site:
            for name, address in addresses(data).items():
                for width in WIDTHS:
                    for scheme in SCHEMES:
                        path = folder / f"{name}-{width}-{scheme}.png"
                        take(browser, f"{site}/{address}", path, width=width, scheme=scheme)
                        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
