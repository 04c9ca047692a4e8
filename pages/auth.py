"""Users of a shared application: a file of password hashes, and a sign-in that slows down.

Make one with `python -m pages.auth add NAME --file users.json`. The file holds scrypt hashes (RFC
7914) and is readable by its owner alone.
"""

import argparse
import asyncio
import base64
import getpass
import hashlib
import hmac
import json
import os
import re
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path

from fastapi import HTTPException

from seqmatch.errors import ConfigError

VISITOR_ADDRESS: ContextVar[str] = ContextVar("visitor_address", default="")
"""The address of the request that is being answered; the guard sets it."""
MIN_PASSWORD = 10
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_N, _R, _P = 2**15, 8, 1
_FREE_FAILURES = 4
_MAX_DELAY = 300.0
_FORGET_SECONDS = 3600.0


def hash_password(password: str, salt: bytes | None = None) -> str:
    """Returns `scrypt$N$r$p$salt$hash` of a password."""
    salt = salt or secrets.token_bytes(16)
    digest = _scrypt(password, salt, _N, _R, _P)
    encoded = [base64.b64encode(part).decode() for part in (salt, digest)]
    return "$".join(["scrypt", str(_N), str(_R), str(_P), *encoded])


def is_password(password: str, stored: str) -> bool:
    """Compares a password with a stored hash in constant time."""
    _, n, r, p, salt, digest = stored.split("$")
    found = _scrypt(password, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(found, base64.b64decode(digest))


def _scrypt(password: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def read_users(path: Path) -> dict[str, str]:
    """Reads a file of users.

    Raises:
        ConfigError: there is no such file, others may read it, or it is not one of ours.
    """
    try:
        mode = path.stat().st_mode & 0o077
        users: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"the users file {path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"the users file {path} is not JSON: {error}") from error
    if mode and os.name == "posix":
        raise ConfigError(f"the users file {path} can be read by others; run: chmod 600 {path}")
    is_ours = isinstance(users, dict) and all(
        isinstance(value, str) and value.startswith("scrypt$") for value in users.values()
    )
    if not is_ours or not users:
        raise ConfigError(
            f"{path} names no users; add one: python -m pages.auth add NAME --file {path}"
        )
    return users


def add_user(path: Path, name: str, password: str) -> None:
    """Adds a user, or gives one another password; the file is replaced in one step.

    Raises:
        ConfigError: the name or the password may not be.
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"user name {name!r}: 1 to 64 letters, digits, dots, hyphens, underscores"
        )
    if len(password) < MIN_PASSWORD:
        raise ConfigError(
            f"the password has {len(password)} characters; use at least {MIN_PASSWORD}"
        )
    users = read_users(path) if path.exists() else {}
    users[name] = hash_password(password)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(users, file, indent=1)
    temporary.replace(path)


@dataclass
class _Failures:
    count: int = 0
    last: float = 0.0


@dataclass
class SignIn:
    """Checks names and passwords for Gradio's sign-in page.

    After four failures each further one doubles the wait, for the account and for the address, up
    to five minutes; during the wait no password is looked at.
    """

    users: dict[str, str]
    clock: Callable[[], float] = time.monotonic
    _failures: dict[str, _Failures] = field(default_factory=dict)
    _nobody: str = field(default_factory=lambda: hash_password(secrets.token_hex(8)))

    async def check(self, name: str, password: str) -> bool:
        """Returns whether this is the user's password.

        A method and not `__call__`: Gradio awaits what `inspect.iscoroutinefunction` knows, and
        takes the coroutine of a callable object for a yes.

        Raises:
            HTTPException: 429, there were too many failures lately.
        """
        keys = [f"name {name[:64]}", f"address {VISITOR_ADDRESS.get()}"]
        wait = max(map(self._wait, keys))
        if wait > 0:
            seconds = str(int(wait) + 1)
            text = f"Too many failed attempts; try again in {seconds} s."
            raise HTTPException(429, detail=text, headers={"Retry-After": seconds})
        # Counted before the check, so that parallel attempts do not slip through together.
        for key in keys:
            self._count(key)
        stored = self.users.get(name, self._nobody)
        is_right = await asyncio.to_thread(is_password, password[:1024], stored)
        if is_right and name in self.users:
            for key in keys:
                self._failures.pop(key, None)
            return True
        return False

    def _wait(self, key: str) -> float:
        failures = self._failures.get(key)
        if failures is None or failures.count <= _FREE_FAILURES:
            return 0.0
        delay = min(2.0 ** (failures.count - _FREE_FAILURES), _MAX_DELAY)
        return failures.last + delay - self.clock()

    def _count(self, key: str) -> None:
        now = self.clock()
        if len(self._failures) > 10_000:
            recent = {k: f for k, f in self._failures.items() if now - f.last < _FORGET_SECONDS}
            self._failures = recent if len(recent) <= 10_000 else {}
        failures = self._failures.setdefault(key, _Failures())
        if now - failures.last > _FORGET_SECONDS:
            failures.count = 0
        failures.count += 1
        failures.last = now


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line: add a user to a file."""
    parser = argparse.ArgumentParser(
        prog="python -m pages.auth", description="Users of the application."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    add = commands.add_parser("add", help="add a user, or give one another password")
    add.add_argument("name")
    add.add_argument("--file", type=Path, default=Path("users.json"), help="default: users.json")
    add.add_argument("--generate", action="store_true", help="make a password and print it once")
    options = parser.parse_args(arguments)
    try:
        password = secrets.token_urlsafe(15) if options.generate else _ask_password()
        add_user(options.file, options.name, password)
    except ConfigError as error:
        print(error, file=sys.stderr)
        return 2
    if options.generate:
        print(f"The password of {options.name}, shown this once: {password}")
    print(f"{options.name} may sign in. Start with: python app.py --auth {options.file}")
    return 0


def _ask_password() -> str:
    password = getpass.getpass("Password: ")
    if getpass.getpass("The same again: ") != password:
        raise ConfigError("the two passwords differ; nothing was changed")
    return password


if __name__ == "__main__":
    sys.exit(main())
