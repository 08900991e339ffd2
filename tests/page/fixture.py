"""A server that speaks the admin API's shape, so that the page can be shown states which fe is rarely in.

Owns: the page's own files with the very headers the admin server sends, whatever status and events a test has set, and
a record of what was posted. It can vanish and come back on its port. Never: a judgement; `tests.page.test_live` looks
at the page of a real fe-serve.
"""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from aiohttp import web

from tests.page.scenes import Json, quiet
from tests.support.fe_process import free_port

PAGE = Path(__file__).resolve().parents[2] / "fe" / "control" / "page"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
    "X-Content-Type-Options": "nosniff",
}
LIMIT = 60.0


class Fixture:
    """Use it in a `with` block; set `status` and `events` at any time."""

    def __init__(self) -> None:
        self.port = free_port()
        self.status: Json = quiet()
        self.events: list[Json] = []
        self.refusal: Json | None = None  # answered with 409 to what is posted
        self.posted: list[tuple[str, str, Any]] = []  # path, content type, body
        self.asked = self.together = self.most_together = 0  # requests of /api: ever, under way, most of these
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"

    def __enter__(self) -> Fixture:
        self._thread.start()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LIMIT)
        self._loop.close()

    def start(self) -> None:
        self._run(self._start())

    def stop(self) -> None:
        self._run(self._runner.cleanup())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT)

    async def _start(self) -> None:
        app = web.Application(middlewares=[self._count])
        app.router.add_get("/", self._file)
        app.router.add_get("/page/{name}", self._file)
        app.router.add_get("/api/status", self._status)
        app.router.add_get("/api/events", self._events)
        app.router.add_post("/api/deployments/{endpoint}/{deployment}/{verb}", self._post)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    @web.middleware
    async def _count(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if not request.path.startswith("/api/"):
            return await handler(request)
        self.asked += 1
        self.together += 1
        self.most_together = max(self.most_together, self.together)
        try:
            await asyncio.sleep(0.02)  # long enough for a second one to overlap, if the page sent one
            return await handler(request)
        finally:
            self.together -= 1

    async def _file(self, request: web.Request) -> web.StreamResponse:
        path = PAGE / request.match_info.get("name", "index.html")
        return web.Response(body=path.read_bytes(), headers={**HEADERS, "Content-Type": TYPES[path.suffix]})

    async def _status(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("history") == "1":
            return web.json_response(self.status, headers=HEADERS)
        return web.json_response(_without_history(self.status), headers=HEADERS)

    async def _events(self, request: web.Request) -> web.StreamResponse:
        after, limit = int(request.query.get("after", 0)), int(request.query.get("limit", 100))
        wanted = request.query.get("deployment")
        found = [one for one in self.events if one["id"] > after and wanted in (None, one["deployment"])]
        last = self.events[-1]["id"] if self.events else 0
        return web.json_response({"last": last, "events": found[-limit:]}, headers=HEADERS)

    async def _post(self, request: web.Request) -> web.StreamResponse:
        self.posted.append((request.path, request.content_type, await request.json()))
        if self.refusal is not None:
            return web.json_response({"error": self.refusal}, status=409, headers=HEADERS)
        return web.json_response({}, headers=HEADERS)


def _without_history(status: Json) -> Json:
    def stripped(deployment: Json) -> Json:
        return {name: value for name, value in deployment.items() if name != "history"}

    endpoints = [
        {**each, "deployments": [stripped(one) for one in each["deployments"]]} for each in status["endpoints"]
    ]
    return {**status, "endpoints": endpoints}
