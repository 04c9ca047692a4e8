"""The application as one object: all pages, no public names, every error shown."""

from collections.abc import Iterator
from pathlib import Path

import gradio as gr
import pytest

from pages import PAGES, load_pages
from pages.application import build_app
from pages.page import AppContext
from storage import RunStore


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[gr.Blocks]:
    store = RunStore.open(tmp_path_factory.mktemp("app") / "data")
    context = AppContext(store, Path(store.data_dir), lambda: None, lambda _: False)
    yield build_app(context, load_pages())
    store.close()


def test_every_page_has_its_address(app: gr.Blocks) -> None:
    assert [path for path, _, _ in app.pages] == [page.path.strip("/") for page in load_pages()]
    assert len(app.pages) == len(PAGES)


def test_no_event_is_a_public_interface(app: gr.Blocks) -> None:
    assert {wired.api_visibility for wired in app.fns.values()} == {"private"}
    assert app.get_api_info()["named_endpoints"] == {}


def test_every_handler_shows_its_errors(app: gr.Blocks) -> None:
    handlers = [wired.fn for wired in app.fns.values() if wired.fn is not None]
    assert handlers
    assert all(getattr(one, "_shows_errors", False) for one in handlers)


def test_every_event_says_how_many_may_run_at_once(app: gr.Blocks) -> None:
    limits = {wired.concurrency_limit for wired in app.fns.values() if wired.fn is not None}
    assert limits <= {1, 2, 4, 8, 16}


def test_the_mark_of_a_prepared_model_is_the_one_that_is_written() -> None:
    from pages.prepared_models import MARK
    from seqmatch import packaged_model

    assert packaged_model._COMPLETE == MARK
