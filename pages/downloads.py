"""The application's own routes: files by the id of their row, and curves as CSV.

A file is never named by a path that a browser sends. Where users are configured the guard lets
only signed-in visitors come here.
"""

from urllib.parse import quote

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from pages.curve_cache import CurveCache
from pages.presenters.curves import curves_csv
from storage import RunStore
from storage.errors import ArtifactError, NotFoundError

MAX_RUNS = 50


def routes(store: RunStore, curves: CurveCache) -> list[BaseRoute]:
    """Returns the routes `/download/{artifact_id}` and `/curves.csv?runs=ID,ID`."""

    async def download(request: Request) -> Response:
        artifact_id = request.path_params["artifact_id"]
        try:
            record = await run_in_threadpool(store.artifacts.get, artifact_id)
            path = await run_in_threadpool(store.artifacts.path, artifact_id)
        except NotFoundError:
            return PlainTextResponse("There is no such file.", 404)
        except ArtifactError as error:
            return PlainTextResponse(f"The file is damaged or gone: {error}", 410)
        return FileResponse(
            path,
            filename=record.filename,
            media_type="application/octet-stream",
            headers={"X-Content-SHA256": record.sha256, "Cache-Control": "private, no-cache"},
        )

    async def csv(request: Request) -> Response:
        run_ids = [one for one in request.query_params.get("runs", "").split(",") if one]
        if not run_ids or len(run_ids) > MAX_RUNS:
            return PlainTextResponse(f"Name between 1 and {MAX_RUNS} runs: ?runs=ID,ID", 400)
        try:
            runs = await run_in_threadpool(curves.of_runs, run_ids)
        except NotFoundError as error:
            return PlainTextResponse(f"{error}", 404)
        name = quote(f"curves-{run_ids[0] if len(run_ids) == 1 else len(run_ids)}.csv")
        return Response(
            curves_csv(runs),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}"'},
        )

    return [Route("/download/{artifact_id}", download), Route("/curves.csv", csv)]
