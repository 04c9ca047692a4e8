"""Users: hashes, the file, and the sign-in that slows down."""

import asyncio
import stat
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from fastapi import HTTPException

from pages import auth
from seqmatch.errors import ConfigError

Value = TypeVar("Value")
PASSWORD = "correct horse battery"


@pytest.fixture(autouse=True)
def cheap_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "_N", 16)


def _result(coroutine: Coroutine[Any, Any, Value]) -> Value:
    # In a thread of its own: another test's browser may keep a loop running in this one.
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(asyncio.run, coroutine).result()


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def _sign_in(users: dict[str, str], clock: Clock) -> auth.SignIn:
    return auth.SignIn(users, clock)


def test_a_hash_knows_its_password_and_is_salted() -> None:
    first, second = auth.hash_password(PASSWORD), auth.hash_password(PASSWORD)
    assert first != second
    assert PASSWORD not in first
    assert auth.is_password(PASSWORD, first)
    assert not auth.is_password(PASSWORD + "!", first)


def test_the_file_is_private_and_read_again(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    auth.add_user(path, "ada", PASSWORD)
    auth.add_user(path, "bob", PASSWORD)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(auth.read_users(path)) == ["ada", "bob"]


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        ("{}", 0o600, "names no users"),
        ("nonsense", 0o600, "not JSON"),
        ('{"a": "scrypt$"}', 0o644, "chmod"),
        ('{"a": "plain"}', 0o600, "names no users"),
    ],
)
def test_a_bad_file_is_refused_in_words(
    tmp_path: Path, content: str, mode: int, words: str
) -> None:
    path = tmp_path / "users.json"
    path.write_text(content)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=words):
        auth.read_users(path)


def test_short_passwords_and_odd_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least"):
        auth.add_user(tmp_path / "u", "ada", "short")
    with pytest.raises(ConfigError, match="letters"):
        auth.add_user(tmp_path / "u", "a b<", PASSWORD)


def test_the_right_password_signs_in() -> None:
    sign_in = _sign_in({"ada": auth.hash_password(PASSWORD)}, Clock())
    assert _result(sign_in.check("ada", PASSWORD))
    assert not _result(sign_in.check("ada", "wrong"))
    assert not _result(sign_in.check("eve", PASSWORD))


def test_failures_make_the_next_attempt_wait_even_with_the_right_password() -> None:
    clock = Clock()
    sign_in = _sign_in({"ada": auth.hash_password(PASSWORD)}, clock)
    for _ in range(5):
        assert not _result(sign_in.check("ada", "wrong"))
    with pytest.raises(HTTPException) as refused:
        _result(sign_in.check("ada", PASSWORD))
    assert refused.value.status_code == 429
    clock.now += 301
    assert _result(sign_in.check("ada", PASSWORD))


def test_failures_on_many_names_slow_their_address_down() -> None:
    sign_in = _sign_in({"ada": auth.hash_password(PASSWORD)}, Clock())
    for number in range(5):
        assert not _result(sign_in.check(f"user{number}", "wrong"))
    with pytest.raises(HTTPException):
        _result(sign_in.check("user9", "wrong"))


def test_the_command_makes_a_password_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "users.json"
    assert auth.main(["add", "ada", "--file", str(path), "--generate"]) == 0
    shown = capsys.readouterr().out
    password = shown.split("shown this once: ")[1].split()[0]
    assert _result(auth.SignIn(auth.read_users(path)).check("ada", password))
    assert auth.main(["add", "a/b", "--file", str(path), "--generate"]) == 2
