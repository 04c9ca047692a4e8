"""When others may reach the application, and what happens without a tunnel."""

import socket
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from gradio import networking

import app
from pages.sharing import check_port, check_reach, is_loopback, share
from seqmatch.errors import ConfigError


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("127.8.9.1", True),
        ("0.0.0.0", False),
        ("192.168.1.4", False),
        ("example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_others_are_let_in_only_with_users() -> None:
    check_reach("127.0.0.1", False, None)
    check_reach("0.0.0.0", True, Path("users.json"))
    for host, wants_share in (("127.0.0.1", True), ("0.0.0.0", False)):
        with pytest.raises(ConfigError, match="auth add NAME"):
            check_reach(host, wants_share, None)


@pytest.mark.parametrize("option", [["--share"], ["--host", "0.0.0.0"]])
def test_the_entry_refuses_and_says_how(
    option: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    assert app.main([*option, "--data-dir", str(data)]) == 2
    assert "python -m pages.auth add NAME" in capsys.readouterr().err
    assert not data.exists()


def _running() -> Any:
    return SimpleNamespace(
        server_name="127.0.0.1", server_port=1, share_token="t", share=False, share_url=None
    )


def test_a_link_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(networking, "setup_tunnel", lambda *_: "http://abc.gradio.live")
    links: list[str] = []
    running = _running()
    assert share(running, links.append) is None
    assert links == ["https://abc.gradio.live"] == [running.share_url]


def test_a_refused_tunnel_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> str:
        raise RuntimeError("Could not get share link from Gradio API Server.")

    monkeypatch.setattr(networking, "setup_tunnel", refuse)
    problem = share(_running(), lambda _: None)
    assert problem


def test_a_tunnel_that_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()

    def hang(*_: object) -> str:
        released.wait(30)
        raise RuntimeError("too late")

    monkeypatch.setattr(networking, "setup_tunnel", hang)
    problem = share(_running(), lambda _: None, wait_seconds=0.05)
    released.set()
    assert problem is not None
    assert "no answer" in problem


def test_a_port_in_use_is_told_with_what_to_do() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=rf"127\.0\.0\.1:{port} cannot .* --port"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", port)
