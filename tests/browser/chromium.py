"""A Chromium for the tests and the screenshots, and the application in a process of its own."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import psutil
from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[2]
CHROMIUM = "SEQMATCH_CHROMIUM"
"""Environment variable with the path of the browser to use."""
START_SECONDS = 90.0
_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-quic",
)


def chromium_path() -> str | None:
    """Returns the browser to use; None leaves it to Playwright's own."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get(CHROMIUM) or next(filter(None, map(shutil.which, names)), None)


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser that reaches for nothing by itself."""
    with sync_playwright() as playwright:
        path = chromium_path()
        browser = playwright.chromium.launch(executable_path=path, args=list(_OPTIONS))
        try:
            yield browser
        finally:
            browser.close()


class Server:
    """A server in a process of its own."""

    def __init__(self, command: Sequence[str], port: int, log: Path) -> None:
        self.address = f"http://127.0.0.1:{port}"
        self._log = log
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "NO_PROXY": "localhost,127.0.0.1"}
        # A killed server leaves its scratch files; they lie beside its log.
        environment["TMPDIR"] = str(log.parent)
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *command], cwd=ROOT, stdout=out, stderr=out, env=environment
            )

    def wait(self) -> str:
        """Waits until it answers; returns its address."""
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                code = self.process.returncode
                raise RuntimeError(f"the server ended with {code}:\n{self._log.read_text()}")
            try:
                urllib.request.urlopen(self.address, timeout=2).close()
            except (urllib.error.URLError, TimeoutError, ConnectionError):
                time.sleep(0.05)
            else:
                return self.address
        raise RuntimeError(f"no answer after {START_SECONDS} s:\n{self._log.read_text()}")

    def kill(self) -> None:
        """Ends it as a crash does, by SIGKILL."""
        self.process.kill()
        self.process.wait()

    def close(self) -> None:
        """Asks it to end, and makes it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()


@contextmanager
def serving(command: Sequence[str], port: int, log: Path) -> Iterator[str]:
    """Runs a server until the block ends; gives its address once it answers."""
    server = Server(command, port, log)
    try:
        yield server.wait()
    finally:
        server.close()


def app_command(data_dir: Path, port: int) -> list[str]:
    """Returns what starts the application on a data directory."""
    return ["app.py", "--data-dir", str(data_dir), "--port", str(port)]


def end_jobs(data_dir: Path, seconds: float = 60.0) -> None:
    """Ends all processes that work on a data directory: the runner first, that it starts no more.

    Raises:
        RuntimeError: One of them lives on.
    """
    known: list[psutil.Process] = []
    for module in ("seqmatch.jobs.runner", ""):
        found = [
            process
            for process in psutil.process_iter(["cmdline"])
            if str(data_dir) in (process.info["cmdline"] or ())
            and module in ("", *(process.info["cmdline"] or ()))
            and process.pid != os.getpid()
        ]
        for process in found:
            with suppress(psutil.NoSuchProcess):
                process.terminate()
        known += found
        _, alive = psutil.wait_procs(found, seconds)
        if alive:
            raise RuntimeError(f"these live on: {[process.info['cmdline'] for process in alive]}")


def free_port() -> int:
    """Returns a port that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Watch:
    """What goes wrong on a page: errors on the console, and requests to other hosts."""

    def __init__(self, page: Page) -> None:
        self.problems: list[str] = []
        self._aborts: list[str] = []
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"script error: {error}"))
        page.on("request", lambda request: self._request(request.url))
        page.on("framenavigated", lambda frame: self._aborts.clear())

    def end(self) -> list[str]:
        """Returns the problems; what was aborted without leaving a page is one of them."""
        return [*self.problems, *self._aborts]

    def _console(self, kind: str, text: str) -> None:
        if kind != "error":
            return
        # A page that is left while it asks for something aborts that request, and says so, or that
        # the connection failed: either is a problem only where no other page follows.
        is_abort = "AbortError" in text or "Connection errored out" in text
        (self._aborts if is_abort else self.problems).append(f"console: {text}")

    def _request(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme in ("http", "https", "ws", "wss") and parts.hostname != "127.0.0.1":
            self.problems.append(f"request to another host: {url}")
