"""The API over HTTP: sockets, TLS, answers and streams, and the faults in front of them.

Owns connections and the record of calls. Never decides an answer: api.py does, unless a fault of faults.py comes first.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import ssl
import struct
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from tests.kubernetes.emulator.api import Answer, Api, Call, target_of, verb_of
from tests.kubernetes.emulator.errors import NoSuchPath, Refused
from tests.kubernetes.emulator.faults import REASONS, Fault, Faults
from tests.kubernetes.emulator.watches import Watch, error

Json = dict[str, Any]
LOOPBACK = "127.0.0.1"
NOTHING = Fault("none")
OF_STREAMS = ("reset", "truncate", "garble", "silent", "expire")


@dataclass
class Record:
    """One call as it was seen: `at` by the loop's clock, `status` 0 while (or if never) answered."""

    at: float
    user: str
    verb: str
    path: str
    query: Mapping[str, str]
    body: bytes
    status: int = 0
    fault: str = ""


class Front:
    """The listening side. `counts` has calls by (verb, path without query); `records` has each of them."""

    def __init__(self, api: Api, faults: Faults, tls: ssl.SSLContext | None) -> None:
        self.api, self.faults, self.tls = api, faults, tls
        self.counts: Counter[tuple[str, str]] = Counter()
        self.records: list[Record] = []
        self.port = 0
        self._runner: web.ServerRunner | None = None
        self._placeholder: socket.socket | None = None

    async def start(self) -> None:
        """Listen; after `stop(keep=True)`, on the same port."""
        sock, self._placeholder = self._placeholder or _bound(0), None
        self.port = sock.getsockname()[1]
        server = web.Server(self._on_request, handler_cancellation=True, access_log=None)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.01)  # 0 would be: for ever
        await self._runner.setup()
        await web.SockSite(self._runner, sock, ssl_context=self.tls).start()

    async def stop(self, keep: bool = False) -> None:
        """Reset every connection and refuse new ones; `keep` holds the port for a return."""
        if self._runner is not None:
            for site in list(self._runner.sites):
                await site.stop()
            self.cut()
            await self._runner.cleanup()
            self._runner = None
        if self._placeholder is not None:
            self._placeholder.close()
        self._placeholder = _bound(self.port) if keep else None

    def cut(self) -> None:
        """Reset every open connection, those of watches included."""
        server = self._runner.server if self._runner else None
        for connection in server.connections if server else ():
            _reset(getattr(connection, "transport", None))

    async def _on_request(self, request: web.BaseRequest) -> web.StreamResponse:
        call = Call(
            request.method, request.path, dict(request.query), await request.read(),
            request.headers.get("Content-Type", ""), request.headers.get("Accept", ""),
            request.headers.get("Authorization"), request.headers.get("User-Agent", "unknown"),
        )  # fmt: skip
        record = self._recorded(call)
        fault = NOTHING
        for met in self.faults.pick(record.verb, request.path_qs, record.user):
            if met.kind == "slow":
                await asyncio.sleep(met.value)
            else:
                fault = met
        record.fault = fault.kind if fault is not NOTHING else ""
        if fault.kind == "hang" or (fault.kind == "reset" and record.verb != "watch"):
            return await self._broken(request, fault)
        if fault.kind == "status":
            record.status = fault.value
            return _answered(_made_up(fault))
        outcome = _outcome(self.api, call)
        if fault.kind == "lose":
            return await self._broken(request, fault)
        if isinstance(outcome, Watch):
            record.status = 200
            return await self._streamed(request, outcome, fault)
        record.status = outcome.status
        return _given(outcome, fault)

    def _recorded(self, call: Call) -> Record:
        target = target_of(call.path)
        verb = verb_of(call, target) if target else call.method.lower()
        try:
            user = self.api.access.user(call.authorization).name
        except Refused:
            user = ""
        now = asyncio.get_running_loop().time()
        record = Record(now, user, verb, call.path, call.query, call.body)
        self.counts[verb, call.path] += 1
        self.records.append(record)
        return record

    async def _broken(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        """No answer: at once, or (hang, lose) when the fault is taken back."""
        if fault.kind in ("hang", "lose"):
            await fault.free.wait()
        _reset(request.transport)
        return web.Response()

    async def _streamed(self, request: web.BaseRequest, watch: Watch, fault: Fault) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={"Content-Type": "application/json", "Cache-Control": "no-cache, private"}
        )
        response.enable_chunked_encoding()
        await response.prepare(request)
        left = fault.value if fault.kind in OF_STREAMS else -1
        with contextlib.suppress(ConnectionError):
            async with contextlib.aclosing(watch.events()) as events:
                while left != 0 and (event := await anext(events, None)):
                    await response.write(_line(event))
                    left -= 1
                if left == 0:
                    await _spoil(request, response, events, fault)
        return response


async def _spoil(
    request: web.BaseRequest, response: web.StreamResponse, events: AsyncGenerator[Json, None], fault: Fault
) -> None:
    """End a watch as its fault says."""
    if fault.kind == "expire":
        await response.write(_line(error(_gone())))
    elif fault.kind in ("truncate", "garble"):
        if event := await anext(events, None):
            line = _line(event)
            await response.write(line[: len(line) // 2] if fault.kind == "truncate" else b"<html>\n" + line)
    else:
        if fault.kind == "silent":
            await fault.free.wait()
        _reset(request.transport)


def _outcome(api: Api, call: Call) -> Answer | Watch:
    try:
        return api.call(call)
    except Refused as refused:
        return Answer(refused.status, refused.body())
    except NoSuchPath:
        return Answer(404, "404 page not found\n")


def _given(answer: Answer, fault: Fault) -> web.Response:
    """The answer, or what the fault leaves of it."""
    if fault.kind == "empty" and isinstance(answer.body, dict) and "items" in answer.body:
        meta = {key: value for key, value in answer.body["metadata"].items() if key == "resourceVersion"}
        return _answered(Answer(200, {**answer.body, "metadata": meta, "items": []}))
    response = _answered(answer)
    text = response.body if isinstance(response.body, bytes) else b""
    if fault.kind == "truncate":
        text = text[: len(text) // 2]
    elif fault.kind == "garble":
        text = b"<html>" + text
    else:
        return response
    return web.Response(status=response.status, body=text, content_type=response.content_type)


def _answered(answer: Answer) -> web.Response:
    if isinstance(answer.body, str):
        return web.Response(status=answer.status, text=answer.body)
    seconds = answer.body.get("details", {}).get("retryAfterSeconds") if answer.status >= 400 else None
    headers = {"Retry-After": str(seconds)} if seconds is not None else {}
    return web.Response(status=answer.status, body=_line(answer.body), content_type="application/json", headers=headers)


def _made_up(fault: Fault) -> Answer:
    reason = REASONS.get(fault.value, "Unknown")
    details = {} if fault.retry_after is None else {"retryAfterSeconds": fault.retry_after}
    return Answer(fault.value, Refused(fault.value, reason, "a fault that a test has set", details).body())


def _gone() -> Refused:
    return Refused(410, "Expired", "too old resource version: a fault that a test has set")


def _line(body: Json) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"


def _bound(port: int) -> socket.socket:
    """A socket that has the port and refuses connections: it does not listen yet."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((LOOPBACK, port))
    return sock


def _reset(transport: asyncio.BaseTransport | None) -> None:
    """End a connection with a RST. Over TLS the socket below has to be set to it as well."""
    if transport is None:
        return
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    abort: Callable[[], None] = getattr(transport, "abort", transport.close)  # uvloop's are of no common class
    abort()
