"""The admin server: health, readiness, metrics, the status page and the API behind it, on its own sockets.

Owns: the server, its bounds and what becomes of errors. Never: inference requests, secrets (it sees only what
`fe.control.status` and `fe.control.metrics` show). It has no credentials: it is bound to loopback by default, listening
elsewhere is the user's decision, and so are changes by hand. Read next: `fe.control.admin_guard` (who may ask),
`fe.control.admin_api` (what lies below /api), fe/control/page (what the browser gets).
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from aiohttp import web

from fe.control.admin_api import Api
from fe.control.admin_guard import HEADERS, Refusal, check_name, code_of, plain, refusal
from fe.control.metrics import TableCollector, build_registry, render
from fe.control.plane import ControlPlane
from fe.control.status import not_ready_reasons
from fe.log import logger

log = logger("control.admin")

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
PAGE: Final = Path(__file__).with_name("page")
PAGE_TYPES: Final = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)
HEAD_BYTES: Final = 8190  # of a request line or header field
BODY_BYTES: Final = 4096
CONNECTIONS: Final = 256
STOP_WITHIN: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves on the sockets that the supervisor has opened."""

    def __init__(self, plane: ControlPlane, sockets: tuple[socket.socket, ...]) -> None:
        self._plane = plane
        self._sockets = sockets
        self._registry = build_registry(TableCollector(plane))
        self._scrape = asyncio.Lock()  # one at a time: a second scraper waits instead of doubling the work
        self._page = {path.name: path.read_bytes() for path in PAGE.iterdir() if path.suffix in PAGE_TYPES}
        self._together = 0
        app = web.Application(middlewares=[self._guard], client_max_size=BODY_BYTES)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/", self._file)
        app.router.add_get("/page/{name}", self._file)
        app.router.add_routes(Api(plane).routes())
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=30, max_line_size=HEAD_BYTES,
            max_field_size=HEAD_BYTES, lingering_time=1.0, shutdown_timeout=STOP_WITHIN,
        )  # fmt: skip

    async def start(self) -> None:
        await self._runner.setup()
        for sock in self._sockets:
            sock.setblocking(False)
            await web.SockSite(self._runner, sock).start()

    async def stop(self) -> None:
        await asyncio.wait_for(self._runner.cleanup(), STOP_WITHIN * 3)
        for sock in self._sockets:
            sock.close()

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if self._together >= CONNECTIONS:
            return refusal(request, 503, "busy", "too many requests at once")
        self._together += 1
        try:
            check_name(request)
            return await handler(request)
        except Refusal as why:
            return refusal(request, why.status, why.code, why.message)
        except web.HTTPException as answer:
            refused = refusal(request, answer.status, code_of(answer), f"{answer.status} {answer.reason}")
            if "Allow" in answer.headers:
                refused.headers["Allow"] = answer.headers["Allow"]
            return refused
        except Exception:
            log.exception("an admin request failed", method=request.method, path=request.path)
            return refusal(request, 500, "internal", "internal error")
        finally:
            self._together -= 1

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return plain("ok\n")

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        reasons = not_ready_reasons(self._plane)
        return plain("".join(f"{reason}\n" for reason in reasons) or "ready\n", 503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        async with self._scrape:
            body = await asyncio.to_thread(render, self._registry)
        return web.Response(body=body, headers={**HEADERS, "Content-Type": METRICS_TYPE})

    async def _file(self, request: web.Request) -> web.StreamResponse:
        """A file of the page. All were read at the start: what a client names is a key, never a path."""
        name = request.match_info.get("name", "index.html")
        if name not in self._page:
            raise web.HTTPNotFound
        headers = {**HEADERS, "Content-Security-Policy": PAGE_POLICY}
        kind = PAGE_TYPES[Path(name).suffix]
        return web.Response(body=self._page[name], headers=headers, content_type=kind, charset="utf-8")
