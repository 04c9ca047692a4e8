"""The sign-in of the served application: nothing but the right password opens it."""

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from pages import load_pages
from pages.application import build_app, server_settings
from pages.auth import hash_password
from pages.page import AppContext
from storage import RunStore
from tests.browser.chromium import free_port

PASSWORD = "correct horse battery"
CLOSED = (
    "/config",
    "/gradio_api/info",
    "/gradio_api/heartbeat/x",
    "/gradio_api/queue/data?session_hash=x",
    "/download/x",
    "/curves.csv?runs=x",
)


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    store = RunStore.open(tmp_path / "data")
    context = AppContext(store, store.data_dir, lambda: None, lambda _: False)
    app = build_app(context, load_pages()[:1])
    settings, _ = server_settings(context, {"ada": hash_password(PASSWORD)})
    port = free_port()
    app.launch(server_name="127.0.0.1", server_port=port, prevent_thread_lock=True, **settings)
    yield f"http://127.0.0.1:{port}"
    app.close(verbose=False)
    store.close()


def _sign_in(client: httpx.Client, name: str, password: str) -> int:
    return client.post("/login", data={"username": name, "password": password}).status_code


def test_only_the_right_password_opens_the_application(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        assert {path: client.get(path).status_code for path in CLOSED} == dict.fromkeys(CLOSED, 401)
        assert _sign_in(client, "ada", "wrong password") == 400
        assert _sign_in(client, "eve", PASSWORD) == 400
        assert client.get("/config").status_code == 401
        assert _sign_in(client, "ada", PASSWORD) == 200
        assert client.get("/config").status_code == 200
        assert client.get("/download/x").status_code == 404


def test_guessing_is_slowed_down(address: str) -> None:
    with httpx.Client(base_url=address, trust_env=False, timeout=30) as client:
        answers = [_sign_in(client, "ada", f"guess {number}") for number in range(6)]
        assert answers == [400] * 5 + [429]
        assert _sign_in(client, "ada", PASSWORD) == 429
