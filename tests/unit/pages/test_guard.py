"""The guard in front of every request."""

from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from pages.curve_cache import CurveCache
from pages.downloads import routes
from pages.guard import CONTENT_SECURITY_POLICY, Guard, Rules
from storage import RunStore
from tests.browser.filled_store import fill


async def _echo(request: Request) -> PlainTextResponse:
    return PlainTextResponse(f"{len(await request.body())}")


def _client(
    rules: Rules, host: str = "http://localhost:7860", extra: list[Route] | None = None
) -> TestClient:
    anything = Route("/{path:path}", _echo, methods=["GET", "POST"])
    app = Starlette(routes=[*(extra or []), anything], middleware=[Middleware(Guard, rules=rules)])
    app.cookie_id, app.tokens = "abc", {"token": "ada"}  # type: ignore[attr-defined]
    return TestClient(app, base_url=host)


def test_every_answer_tells_browsers_what_they_may_do() -> None:
    answer = _client(Rules(False, 1000)).get("/")
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["http://evil.example", "http://localhost.evil.example:7860"])
def test_without_users_only_this_machine_is_answered(host: str) -> None:
    assert _client(Rules(False, 1000), host).get("/").status_code == 403
    assert _client(Rules(True, 1000), host).get("/").status_code == 200


@pytest.mark.parametrize(
    "host", ["http://localhost:1", "http://127.0.0.1:7860", "http://[::1]:7860"]
)
def test_this_machine_has_these_names(host: str) -> None:
    assert _client(Rules(False, 1000), host).get("/").status_code == 200


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://localhost:9999"])
def test_other_sites_may_not_send(origin: str) -> None:
    client = _client(Rules(False, 1000))
    assert client.post("/x", headers={"Origin": origin}).status_code == 403
    assert client.post("/x", headers={"Origin": "http://localhost:7860"}).status_code == 200
    assert client.post("/x", headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    assert client.post("/x").status_code == 200


def test_the_share_link_may_send() -> None:
    rules = Rules(True, 1000)
    rules.origins.add("https://abc.gradio.live")
    client = _client(rules, "http://127.0.0.1:7860")
    assert client.post("/x", headers={"Origin": "https://abc.gradio.live"}).status_code == 200


def test_large_requests_are_refused() -> None:
    client = _client(Rules(False, 1000))
    assert client.post("/x", content=b"a" * 1000).text == "1000"
    assert client.post("/x", content=b"a" * 1001).status_code == 413


@pytest.mark.parametrize(
    "path", ["/gradio_api/cancel", "/gradio_api/heartbeat/x", "/download/abc", "/curves.csv"]
)
def test_with_users_these_need_a_sign_in(path: str) -> None:
    client = _client(Rules(True, 1000))
    assert client.get(path).status_code == 401
    assert client.get(path, headers={"Cookie": "access-token-abc=nonsense"}).status_code == 401
    assert (
        client.get(path, headers={"Cookie": "access-token-unsecure-abc=token"}).status_code == 200
    )


def test_downloads_go_by_id_and_curves_by_run(tmp_path: Path) -> None:
    store = RunStore.open(tmp_path / "data")
    ids = fill(store)
    client = _client(Rules(False, 1000), extra=routes(store, CurveCache(store)))  # type: ignore[arg-type]
    record = store.artifacts.list(ids["sft"])[0]
    answer = client.get(f"/download/{record.id}")
    assert answer.status_code == 200
    assert answer.headers["x-content-sha256"] == record.sha256
    assert "attachment" in answer.headers["content-disposition"]
    for wrong in ("nothing", "..%2F..%2Fetc%2Fpasswd", "%2e%2e"):
        assert client.get(f"/download/{wrong}").status_code in (404, 200)
        assert b"root:" not in client.get(f"/download/{wrong}").content
    store.artifacts.path(record.id).unlink()
    assert client.get(f"/download/{record.id}").status_code == 410
    text = client.get(f"/curves.csv?runs={ids['sft']},{ids['matching']}").text
    assert text.count("eval/nll") == 2 * 12
    assert client.get("/curves.csv?runs=").status_code == 400
    assert client.get("/curves.csv?runs=nothing").status_code == 404
    store.close()
