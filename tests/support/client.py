"""A client on a raw socket: sends exactly the bytes it is given and reads answers strictly.

Owns: one connection to fe. Every read has a limit (the socket's timeout); an answer that is not perfectly formed raises
`wire.MalformedError`, one that ends early `wire.EndedError`. Never retries, never repairs.
"""

from __future__ import annotations

import json
import socket
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tests.support import wire
from tests.support.wire import EndedError, Head, Stream

TIMEOUT = 60.0  # no answer takes this long; a test that needs it has failed

Address = tuple[str, int] | str


@dataclass
class Response:
    """A complete answer. `interim` holds the 1xx answers before it, `framing` how the end of the body was marked."""

    status: int
    head: Head
    body: bytes
    framing: str  # "none", "length", "chunked" or "close"
    interim: list[Head] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        return self.head.value(name)

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def closes(self) -> bool:
        return (self.header("connection") or "").lower() == "close" or self.framing == "close"


def request(
    target: str = "/",
    method: str = "GET",
    body: bytes | None = None,
    headers: dict[str, str] | None = None,
    host: str = "t",
) -> bytes:
    """A plain valid request, for tests that are about something else."""
    fields = {"Host": host, **(headers or {})}
    if body is not None:
        fields["Content-Length"] = str(len(body))
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")


class Client:
    """One connection. Use it in a `with` block."""

    def __init__(self, address: Address, *, source: str | None = None, rcvbuf: int | None = None) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        if rcvbuf is not None:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        if source is not None:
            self.sock.bind((source, 0))
        self.sock.connect(address)
        if family == socket.AF_INET:
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.stream = Stream(self.sock)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.sock.close()

    def reset(self) -> None:
        wire.reset(self.sock)

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def try_send(self, data: bytes) -> bool:
        """As `send`; False when the other side has closed, which is its right once it has answered."""
        try:
            self.sock.sendall(data)
        except (ConnectionError, BrokenPipeError):
            return False
        return True

    def read_head(self) -> Head:
        return wire.read_head(self.stream, wire.STATUS_LINE)

    def read_response(self, method: str = "POST") -> Response:
        """The next final answer and the 1xx before it. 101 counts as final."""
        interim: list[Head] = []
        while True:
            head = self.read_head()
            status = int(head.start[1])
            if status >= 200 or status == 101:
                break
            interim.append(head)
        body, framing = self._read_body(head, status, method)
        return Response(status, head, body, framing, interim)

    def _read_body(self, head: Head, status: int, method: str) -> tuple[bytes, str]:
        framing = wire.body_framing(head)
        if method == "HEAD" or status in (101, 204, 304):
            if status in (101, 204) and framing is not None:
                raise wire.MalformedError(f"{status} with body framing: {head.raw!r}")
            return b"", "none"
        if framing is None:
            if (head.value("connection") or "").lower() != "close" and head.start[0] != "1.0":
                raise wire.MalformedError(f"a body up to the end of the connection, not announced: {head.raw!r}")
            return self.stream.rest(), "close"
        return wire.read_body(self.stream, framing), "length" if isinstance(framing, int) else framing

    def exchange(self, data: bytes, method: str = "POST") -> Response:
        self.send(data)
        return self.read_response(method)

    def get(self, target: str = "/", **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.exchange(request(target, headers=named), "GET")

    def post(self, target: str, body: bytes, **headers: str) -> Response:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.exchange(request(target, "POST", body, named), "POST")

    def read_chunk(self) -> bytes:
        return wire.read_chunk(self.stream)

    def ended(self) -> str:
        """Waits for the end of the connection, with nothing more before it: "eof" or "reset"."""
        while self.stream.fill():
            pass
        if self.stream.buffer:
            raise wire.MalformedError(f"more bytes before the end: {bytes(self.stream.buffer[:200])!r}")
        return self.stream.ended or "eof"

    def has_ended(self) -> bool:
        """Whether the other side has closed by now; reads nothing, waits for nothing."""
        return self.stream.ended is not None or wire.peer_has_left(self.sock)


__all__ = ["TIMEOUT", "Address", "Client", "EndedError", "Response", "request"]
