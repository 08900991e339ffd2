"""One probe of one replica: connect, ask, judge the answer, over a raw non-blocking socket.

Owns: a single attempt with its time limit and its bound on what it reads. Never: when to probe and what follows from
the outcome (that is `fe.control.health`). Raw sockets under loop readers, because an HTTP client library costs six
times the CPU at a thousand replicas; the answer is parsed by httptools (llhttp), strictly.
"""

from __future__ import annotations

import asyncio
import enum
import errno
import os
import socket
from collections.abc import Callable
from typing import Final

import httptools

from fe.control.addresses import display, unpack

HEAD_BYTES: Final = 16 * 1024  # a response head up to this is read
LINGER_BYTES: Final = 64 * 1024  # of a body that comes after the verdict, so that the server sees no reset


class Ask(enum.Enum):
    """What is asked of a replica, and which answer is a good one."""

    CONNECT = "connect"  # a connection is accepted
    SERVES = "serves"  # GET is answered with anything but 503: it is an HTTP server that has started
    HEALTHY = "healthy"  # GET is answered with 200-399


class Outcome(enum.Enum):
    """What came of an attempt."""

    OK = "ok"
    FAILED = "failed"
    TIMEOUT = "timeout"


Done = Callable[[Outcome, str], None]


class Attempt:
    """One attempt. Calls `done(outcome, reason)` once, never from inside the constructor, and not after `cancel`."""

    __slots__ = ("_ask", "_done", "_loop", "_parser", "_path", "_read", "_sockaddr", "_socket", "_timer", "status")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockaddr: bytes,
        ask: Ask,
        timeout: float,
        done: Done,
        path: str = "/",
    ) -> None:
        self._loop = loop
        self._sockaddr = sockaddr
        self._ask = ask
        self._path = path
        self._done: Done | None = done
        self._read = 0
        self._parser: httptools.HttpResponseParser | None = None
        self._socket: socket.socket | None = None
        self.status = 0
        self._timer = loop.call_later(timeout, self._on_timeout)
        try:
            self._connect()
        except OSError as error:
            loop.call_soon(self._finish, Outcome.FAILED, _reason(error))

    def cancel(self) -> None:
        """Ends the attempt without a verdict."""
        self._done = None
        self._close()

    def _connect(self) -> None:
        family, address = unpack(self._sockaddr)
        self._socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        code = self._socket.connect_ex(address)
        if code == errno.EAGAIN:  # AF_UNIX: its accept queue is full; as busy as a replica that does not answer
            return
        if code not in (0, errno.EINPROGRESS):
            raise OSError(code, os.strerror(code))
        self._loop.add_writer(self._socket.fileno(), self._on_connected)

    def _on_connected(self) -> None:
        assert self._socket is not None
        self._loop.remove_writer(self._socket.fileno())
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self._finish(Outcome.FAILED, _reason(OSError(code, os.strerror(code))))
            return
        if self._ask is Ask.CONNECT:
            self._judge_connection()
            return
        self._parser = httptools.HttpResponseParser(self)
        try:
            self._socket.send(_request(self._sockaddr, self._path), socket.MSG_NOSIGNAL)
        except OSError as error:
            self._finish(Outcome.FAILED, _reason(error))
            return
        self._loop.add_reader(self._socket.fileno(), self._on_readable)

    def _judge_connection(self) -> None:
        # Connecting to a free local port can meet itself (simultaneous open): nobody serves there.
        assert self._socket is not None
        if self._socket.family != socket.AF_UNIX and self._socket.getsockname() == self._socket.getpeername():
            self._finish(Outcome.FAILED, "connection refused")
        else:
            self._finish(Outcome.OK, "connected")

    def _on_readable(self) -> None:
        assert self._socket is not None
        assert self._parser is not None
        try:
            data = self._socket.recv(HEAD_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(Outcome.FAILED, _reason(error))
            return
        self._read += len(data)
        if not data:
            self._finish(Outcome.FAILED, "closed the connection before replying")
            return
        if self._done is not None:
            self._parse(data)
        if self._done is None and self._read >= LINGER_BYTES:
            self._close()

    def _parse(self, data: bytes) -> None:
        assert self._parser is not None
        invalid = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            invalid = str(error)
        if self.status:  # what follows a complete head does not change the verdict
            good = 200 <= self.status < 400 if self._ask is Ask.HEALTHY else self.status != 503
            self._verdict(Outcome.OK if good else Outcome.FAILED, f"status {self.status}")
        elif invalid:
            self._finish(Outcome.FAILED, f"invalid HTTP response: {invalid}")
        elif self._read >= HEAD_BYTES:
            self._finish(Outcome.FAILED, f"response head above {HEAD_BYTES} bytes")

    def on_headers_complete(self) -> None:
        """httptools: a response head has ended, perhaps an interim one."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if not self.status and not 100 <= status < 200:
            self.status = status

    def _verdict(self, outcome: Outcome, why: str) -> None:
        # The connection stays until the server has closed it (asked by Connection: close), within the time limit.
        done, self._done = self._done, None
        if done is not None:
            done(outcome, why)

    def _on_timeout(self) -> None:
        self._finish(Outcome.TIMEOUT, "no answer in time")

    def _finish(self, outcome: Outcome, why: str) -> None:
        self._close()
        self._verdict(outcome, why)

    def _close(self) -> None:
        self._timer.cancel()
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._loop.remove_writer(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _request(sockaddr: bytes, path: str) -> bytes:
    host = display(sockaddr)
    if host.startswith("unix:"):
        host = "localhost"
    return (
        f"GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: fe-probe\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    ).encode("ascii", "replace")


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
