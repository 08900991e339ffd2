"""One client's connection to a simulated replica: requests in, answers or planned failures out.

Owns: HTTP on the wire, the timers of the request that is being answered. Never: what is drawn or counted
(`replica.py`). One request at a time; what a client sends ahead waits. A client that leaves ends its request at once,
as with servers that cancel.

The loop's timers tick in milliseconds and count from the beginning of its turn: one that comes early is set again, and
X-Service-Us has the time that was really taken, by the clock.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus
from typing import Final, cast

import httptools

from loadtest.server.distribution import SpecError, parse_distribution
from loadtest.server.faults import Fault
from loadtest.server.replica import Replica

TICK: Final = 0.0005  # seconds; half of what a timer can tell apart
OVERRIDE: Final = b"x-service-time"
GARBAGE: Final = b"\x16\x03\x01\x02\x00 this is no HTTP\r\n\r\n"
PROBES: Final = ("/", "/health")
JSON: Final = "application/json"
PHRASES: Final = {int(status): status.phrase for status in HTTPStatus}


@dataclass(slots=True)
class Request:
    """A request that has arrived whole. `override`: the distribution that the client asks for."""

    method: str
    path: str
    body_bytes: int
    keep: bool
    chunks: bool  # HTTP/1.1: a body without a length may come in chunks
    override: str | None


class Connection(asyncio.Protocol):
    """The loop calls the upper half, httptools the lower."""

    def __init__(self, loop: asyncio.AbstractEventLoop, replica: Replica, others: set[Connection]) -> None:
        self._loop = loop
        self._replica = replica
        self._others = others
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[Request] = deque()
        self._request: Request | None = None  # being answered
        self._inside = False  # counted as in flight
        self._fault: Fault | None = None
        self._timer: asyncio.Handle | None = None
        self._began = self._due = 0.0
        self._event = 0
        self._ending = False
        self._begin()

    # --- the connection ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is none by class
        self._others.add(self)

    def connection_lost(self, _error: Exception | None) -> None:
        self._others.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self._leave("hang" if self._fault is not None and self._fault.mode == "hang" else "client_left")

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._transport.close()
        except httptools.HttpParserError:
            self._request = None
            self._answer(400, b'{"error":"the request is malformed"}', keep=False)

    def end(self) -> None:
        """The process is ending: close now, or with the answer that is under way."""
        self._ending = True
        if self._request is None:
            self._transport.close()

    # --- what httptools finds ---

    def _begin(self) -> None:
        self._target = b""
        self._body_bytes = 0
        self._override: str | None = None

    def on_message_begin(self) -> None:
        self._begin()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == OVERRIDE:
            self._override = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)

    def on_message_complete(self) -> None:
        self._waiting.append(Request(
            self._parser.get_method().decode("latin-1"), self._target.partition(b"?")[0].decode("latin-1"),
            self._body_bytes, self._parser.should_keep_alive() and not self._replica.settings.close,
            self._parser.get_http_version() == "1.1", self._override,
        ))  # fmt: skip
        if self._request is None:
            self._next()

    # --- one request ---

    def _next(self) -> None:
        while self._waiting and self._request is None and not self._transport.is_closing():
            self._request = request = self._waiting.popleft()
            if request.method == "POST":
                self._score(request)
            else:
                self._tell(request)

    def _tell(self, request: Request) -> None:
        """Probes and statistics."""
        if request.method not in ("GET", "HEAD"):
            self._answer(405, b'{"error":"GET and POST are understood"}', "Allow: GET, HEAD, POST\r\n")
        elif request.path == "/stats":
            self._answer(200, json.dumps(self._replica.stats()).encode())
        elif request.path in PROBES:
            status = 200 if self._replica.ready else 503
            self._answer(status, b'{"ready":true}' if status == 200 else b'{"ready":false}')
        else:
            self._answer(404, b'{"error":"there is GET /, /health, /stats, and POST"}')

    def _score(self, request: Request) -> None:
        """The answer is given later, by `_on_due`; refusals are given at once."""
        replica = self._replica
        within = replica.enter(request.body_bytes)
        self._inside = True
        self._fault = fault = replica.draw_fault()
        seconds = replica.draw_time()
        if not replica.ready:
            self._refuse("not_ready", 503, b'{"error":"the model is being loaded"}')
            return
        if not within and replica.settings.refuse:
            self._refuse("over_capacity", 500, b'{"error":"more requests at once than this server takes"}')
            return
        try:
            seconds = replica.draw_from(parse_distribution(request.override)) if request.override else seconds
        except SpecError as error:
            self._refuse("bad_request", 400, json.dumps({"error": f"X-Service-Time: {error}"}).encode())
            return
        if fault is not None and fault.slow is not None:
            seconds += replica.draw_from(fault.slow)
        self._began = time.perf_counter()
        if fault is None or fault.mode != "hang":
            self._after(seconds, self._on_due)

    def _refuse(self, outcome: str, status: int, body: bytes) -> None:
        self._fault = None
        self._leave(outcome)
        self._answer(status, body)

    def _after(self, seconds: float, call: Callable[[], None]) -> None:
        """`call` when `seconds` have passed since `_began`."""
        self._due = self._began + seconds
        self._wait(call)

    def _wait(self, call: Callable[[], None]) -> None:
        left = self._due - time.perf_counter()
        soon = left < TICK
        self._timer = self._loop.call_soon(call) if soon else self._loop.call_later(left, self._wait, call)

    def _on_due(self) -> None:
        """The service time is over."""
        fault = self._fault
        service = f"X-Service-Us: {round((time.perf_counter() - self._began) * 1e6)}\r\n"
        mode = fault.mode if fault is not None else ""
        if mode in ("reset", "close", "garbage"):
            self._break(mode)
        elif fault is not None and mode == "status":
            self._leave(fault.name)
            self._answer(fault.status, b'{"error":"as told by --fail"}', service)
        elif self._replica.settings.stream:
            self._start_stream(service)
        else:
            self._give(service, cut=mode == "close-mid-answer")

    def _give(self, service: str, cut: bool) -> None:
        """The body, or half of it and the end of the connection."""
        body = _build_body(self._replica.settings.response_bytes)
        self._replica.response_bytes += len(body)
        if not cut:
            self._leave(self._outcome)
            self._answer(200, body, service)
            return
        self._leave(self._outcome)
        self._transport.write(_build_head(200, len(body), service, keep=True) + body[: len(body) // 2])
        self._transport.close()

    def _break(self, mode: str) -> None:
        """The end of the connection in place of an answer."""
        self._leave(mode)
        if mode == "garbage":
            self._transport.write(GARBAGE)
        elif mode == "reset":
            sock = self._transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()
        self._transport.close()

    @property
    def _outcome(self) -> str:
        return "ok" if self._fault is None else self._fault.name

    # --- events ---

    def _start_stream(self, service: str) -> None:
        assert self._request is not None
        keep = self._keeps and self._request.chunks
        framing = "Transfer-Encoding: chunked\r\n" if self._request.chunks else ""
        head = f"Content-Type: text/event-stream\r\nCache-Control: no-store\r\n{framing}{service}"
        self._transport.write(f"HTTP/1.1 200 OK\r\n{head}{_connection(keep)}\r\n".encode())
        self._began = time.perf_counter()
        self._event = 0
        self._due = self._began
        self._on_event()

    def _on_event(self) -> None:
        """Sends the event that is due. The next one is due by the plan, however late this one was."""
        assert self._request is not None
        settings = self._replica.settings
        at_us = round((time.perf_counter() - self._began) * 1e6)
        data = f'{{"n":{self._event},"at_us":{at_us},"pad":"'
        data = f'data: {data}{"x" * (settings.response_bytes - len(data) - 2)}"}}\n\n'
        self._replica.response_bytes += len(data)
        self._event += 1
        piece = data.encode()
        if self._request.chunks:
            piece = f"{len(piece):x}\r\n".encode() + piece + b"\r\n"
        if self._fault is not None and self._fault.mode == "close-mid-answer" and self._event * 2 >= settings.stream:
            self._leave(self._outcome)
            self._transport.write(piece[: len(piece) // 2])
            self._transport.close()
        elif self._event < settings.stream:
            self._transport.write(piece)
            self._due += self._replica.draw_interval()
            self._wait(self._on_event)
        else:
            self._leave(self._outcome)
            self._transport.write(piece + (b"0\r\n\r\n" if self._request.chunks else b""))
            self._finish(self._keeps and self._request.chunks)

    # --- the end of a request ---

    @property
    def _keeps(self) -> bool:
        return self._request is not None and self._request.keep and not self._ending

    def _leave(self, outcome: str) -> None:
        if self._inside:
            self._inside = False
            self._replica.leave(outcome)

    def _answer(self, status: int, body: bytes, fields: str = "", keep: bool = True) -> None:
        keep = keep and self._keeps
        head_only = self._request is not None and self._request.method == "HEAD"
        self._transport.write(_build_head(status, len(body), fields, keep) + (b"" if head_only else body))
        self._finish(keep)

    def _finish(self, keep: bool) -> None:
        self._request = None
        self._fault = None
        if not keep:
            self._transport.close()
        elif self._waiting:
            self._loop.call_soon(self._next)


@lru_cache(maxsize=64)
def _build_body(size: int) -> bytes:
    """JSON of exactly so many bytes."""
    return b'{"pad":"' + b"x" * (size - 10) + b'"}'


def _build_head(status: int, length: int, fields: str, keep: bool) -> bytes:
    return (
        f"HTTP/1.1 {status} {PHRASES.get(status, 'Unknown')}\r\nContent-Type: {JSON}\r\nContent-Length: {length}\r\n"
        f"{fields}{_connection(keep)}\r\n"
    ).encode()


def _connection(keep: bool) -> str:
    return "" if keep else "Connection: close\r\n"
