"""The admin server: health, readiness, metrics and a JSON status, on its own sockets.

Owns: what is asked of fe itself over HTTP. Never: inference requests, secrets (it sees only what `fe.control.status`
and `fe.control.metrics` show), changes: everything here is GET or HEAD. It has no credentials: it is bound to loopback
by default, and listening elsewhere is the user's decision.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from fe.control.metrics import TableCollector, build_registry, render
from fe.control.plane import ControlPlane
from fe.control.status import build_status, not_ready_reasons
from fe.log import logger

log = logger("control.admin")

METRICS_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECURITY_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Server": "fe",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
HEAD_BYTES: Final = 8190  # of a request line or header field
CONNECTIONS: Final = 256
STOP_WITHIN: Final = 1.0

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AdminServer:
    """Serves on the sockets that the supervisor has opened."""

    def __init__(self, plane: ControlPlane, sockets: tuple[socket.socket, ...]) -> None:
        self._plane = plane
        self._sockets = sockets
        self._registry = build_registry(TableCollector(plane.table, plane.reloads, plane.wanted))
        self._scrape = asyncio.Lock()  # one at a time: a second scraper waits instead of doubling the work
        self._together = 0
        app = web.Application(middlewares=[self._guard], client_max_size=0)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/api/status", self._status)
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
            return _plain("too many requests at once\n", 503)
        self._together += 1
        try:
            return await handler(request)
        except web.HTTPException as answer:
            headers = {"Allow": answer.headers["Allow"]} if "Allow" in answer.headers else {}
            return _plain(f"{answer.status} {answer.reason}\n", answer.status, headers)
        except Exception:
            log.exception("an admin request failed", method=request.method, path=request.path)
            return _plain("internal error\n", 500)
        finally:
            self._together -= 1

    async def _healthz(self, _request: web.Request) -> web.StreamResponse:
        return _plain("ok\n")

    async def _readyz(self, _request: web.Request) -> web.StreamResponse:
        reasons = not_ready_reasons(self._plane)
        return _plain("".join(f"{reason}\n" for reason in reasons) or "ready\n", 503 if reasons else 200)

    async def _metrics(self, _request: web.Request) -> web.StreamResponse:
        async with self._scrape:
            body = await asyncio.to_thread(render, self._registry)
        return web.Response(body=body, headers={**SECURITY_HEADERS, "Content-Type": METRICS_TYPE})

    async def _status(self, _request: web.Request) -> web.StreamResponse:
        status = await asyncio.to_thread(build_status, self._plane)
        return web.Response(
            text=json.dumps(status, indent=2) + "\n", content_type="application/json", headers=SECURITY_HEADERS
        )


def _plain(text: str, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    return web.Response(text=text, status=status, headers={**SECURITY_HEADERS, **(headers or {})})
