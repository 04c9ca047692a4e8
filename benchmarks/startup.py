"""Seconds from `python app.py` to a usable page, and from a click to the first training step.

`python -m benchmarks.startup`: the real application on an empty data directory, in Chromium.
Usable means that the navigation has finished and the first page's button can be pressed. The first
step is the first one that the store knows of: what comes before it is reading the example, starting
the trainer, loading torch, and the evaluation before training.
"""

import os
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import Browser, expect

from storage import RunStore
from storage.records import ControlRequest
from tests.browser.chromium import Server, app_command, chromium, end_jobs, free_port

LIMIT_MS = 120_000


def measure(browser: Browser, data_dir: Path) -> tuple[float, float]:
    """Returns both times in seconds, on a data directory that is new."""
    port = free_port()
    page = browser.new_page()
    began = time.monotonic()
    server = Server(app_command(data_dir, port), port, data_dir.with_name("server.log"))
    try:
        page.goto(server.wait(), timeout=LIMIT_MS)
        button = page.locator("#start-example")
        expect(button).to_be_enabled(timeout=LIMIT_MS)
        # The list of runs comes from a handler: the page is connected, a click would be answered.
        expect(page.locator("#start-recent")).to_contain_text("No runs yet", timeout=LIMIT_MS)
        usable = time.monotonic() - began
        store = RunStore.open(data_dir)
        clicked = time.monotonic()
        button.click()
        first = _first_step(store) - clicked
        for run in store.runs.list():
            if not run.status.is_final:
                store.runs.request(run.id, ControlRequest.KILL)
        store.close()
    finally:
        page.close()
        server.close()
        end_jobs(data_dir)
    return usable, first


def _first_step(store: RunStore) -> float:
    deadline = time.monotonic() + LIMIT_MS / 1000
    while not any(run.step for run in store.runs.list()):
        if time.monotonic() > deadline:
            raise SystemExit(f"no step after {LIMIT_MS / 1000:.0f} s")
        time.sleep(0.02)
    return time.monotonic()


def main() -> int:
    """Prints both times, and what else the machine was doing."""
    print(f"load before: {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch, chromium() as browser:
        usable, first = measure(browser, Path(scratch) / "data")
    print(f"from python app.py to a usable page: {usable:.1f} s")
    print(f"from a click on Run the example to the first training step: {first:.1f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
