"""A browser, the pages of a filled store, and the real application on an empty one."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from storage import RunStore
from tests.browser.chromium import Watch, chromium, free_port, serving

Visit = Callable[..., Page]
expect.set_options(timeout=30_000)  # a busy machine of two cores takes its time


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with chromium() as started:
        yield started


@pytest.fixture(scope="session")
def filled_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("filled") / "data"


@pytest.fixture(scope="session")
def filled_pages(filled_data: Path) -> Iterator[str]:
    """The address of the pages of a filled store in which nothing moves by itself."""
    port = free_port()
    command = ["-m", "tests.browser.serve_pages", str(filled_data), str(port)]
    with serving(command, port, filled_data.with_name("server.log")) as address:
        yield address


@pytest.fixture
def filled_store(filled_pages: str, filled_data: Path) -> Iterator[RunStore]:
    store = RunStore.open(filled_data)
    yield store
    store.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """Opens pages; the test fails on a console error or a request to another host."""
    opened: list[tuple[Page, Watch]] = []

    def go(address: str, *, width: int = 1280, scheme: str = "light") -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        page = context.new_page()
        page.set_default_timeout(30_000)
        opened.append((page, Watch(page)))
        page.goto(address)
        return page

    yield go
    problems = [problem for _, watch in opened for problem in watch.end()]
    for page, _ in opened:
        page.context.close()
    assert problems == []


@pytest.fixture(scope="module")
def forms_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("forms") / "data"


@pytest.fixture(scope="module")
def pages_address(forms_data: Path, browser: Browser) -> Iterator[str]:
    """The pages without a runner: these tests answer as the lane would."""
    port = free_port()
    command = ["-m", "tests.browser.serve_pages", str(forms_data), str(port)]
    with serving(command, port, forms_data.with_name("server.log")) as address:
        yield address


@pytest.fixture
def store(pages_address: str, forms_data: Path) -> Iterator[RunStore]:
    opened = RunStore.open(forms_data)
    yield opened
    opened.close()
