"""The guard in front of every request: who may ask, from which site, and what browsers may do.

Gradio's own routes answer some requests without a sign-in, let other sites call with the visitor's
cookie over a share link, and limit each file but not the request; this middleware closes the three.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pages.auth import VISITOR_ADDRESS

CONTENT_SECURITY_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; media-src 'self' data: blob:; "
    "font-src 'self' data:; connect-src 'self'; worker-src 'self' blob:; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'self'; object-src 'none'"
)
_HEADERS = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_NEEDS_SIGN_IN = re.compile(
    r"/(gradio_api/(cancel|reset|heartbeat|stream|proxy)|download|curves)\b"
)
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


@dataclass
class Rules:
    """What the guard holds requests to; one object for the life of the application."""

    needs_sign_in: bool
    """True where users are configured."""
    max_request_bytes: int
    origins: set[str] = field(default_factory=set)
    """Sites beside the request's own host that may send: the share link."""


def signed_in_user(app: Any, cookies: Mapping[str, str]) -> str | None:
    """Returns the name of the visitor, by the cookies of Gradio's own sign-in."""
    for kind in ("access-token", "access-token-unsecure"):
        token = cookies.get(f"{kind}-{app.cookie_id}")
        if token is not None and token in app.tokens:
            return str(app.tokens[token])
    return None


class Guard:
    """An ASGI middleware that applies the rules to every HTTP request."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it with a status and a sentence."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        VISITOR_ADDRESS.set(_address(scope, headers))
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await PlainTextResponse(refusal[1], refusal[0])(scope, receive, _with_headers(send))
            return
        limited = _Limited(receive, self._rules.max_request_bytes)
        await self._app(scope, limited, _with_headers(send))

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not self._rules.needs_sign_in and _name(host) not in _LOOPBACK_NAMES:
            # Without users only this machine may ask: a foreign name that points here may not.
            return 403, "this application answers to localhost only"
        if not self._is_own_site(headers, host) and scope["method"] not in _SAFE_METHODS:
            return 403, "requests from other sites are refused"
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._rules.max_request_bytes:
            return 413, f"a request may have at most {self._rules.max_request_bytes // 10**6} MB"
        is_open = not self._rules.needs_sign_in or not _NEEDS_SIGN_IN.search(scope["path"])
        if not is_open and signed_in_user(scope["app"], _cookies(headers)) is None:
            return 401, "sign in first"
        return None

    def _is_own_site(self, headers: Headers, host: str) -> bool:
        origin = headers.get("origin")
        if origin is None:
            return headers.get("sec-fetch-site", "same-origin") in ("same-origin", "none")
        return urlsplit(origin).netloc == host or origin in self._rules.origins


class _Limited:
    """Counts the bytes of a request that does not say its length."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._left = limit

    async def __call__(self) -> Message:
        message = await self._receive()
        self._left -= len(message.get("body", b""))
        if self._left < 0:
            return {"type": "http.disconnect"}
        return message


def _with_headers(send: Send) -> Send:
    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await send(message)

    return send_with_headers


def _name(host: str) -> str:
    return host if host.endswith("]") else host.rsplit(":", 1)[0]


def _cookies(headers: Headers) -> dict[str, str]:
    try:
        parsed = SimpleCookie(headers.get("cookie", ""))
    except CookieError:
        return {}
    return {name: morsel.value for name, morsel in parsed.items()}


def _address(scope: Scope, headers: Headers) -> str:
    client = scope["client"][0] if scope.get("client") else ""
    if client not in ("127.0.0.1", "::1"):
        return str(client)
    # The tunnel of a share link connects from this machine and names the visitor in a header.
    return headers.get("x-forwarded-for", client).split(",")[-1].strip()
