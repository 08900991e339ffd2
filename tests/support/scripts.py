"""Ready-made behaviour of back-ends: how replicas answer, well and badly.

Owns: functions that make a `Script` for `backends.Backend`. Everything that waits does so for an event of the test.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Sequence

from tests.support import wire
from tests.support.backends import Exchange, Script


def answer(
    body: bytes = b"ok",
    status: str = "200 OK",
    headers: Sequence[str] = (),
    *,
    close: bool = False,
    chunked: bool = False,
) -> Script:
    """A well-formed answer after the whole request."""
    lines = [f"HTTP/1.1 {status}", *headers]
    lines += ["Transfer-Encoding: chunked"] if chunked else [f"Content-Length: {len(body)}"]
    lines += ["Connection: close"] if close else []
    payload = (b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n") if chunked else body
    return raw("\r\n".join(lines).encode() + b"\r\n\r\n" + payload, then="close" if close else "keep")


def raw(data: bytes, then: str = "keep") -> Script:
    """Exactly these bytes after the whole request; `then` "keep", "close" or "reset"."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        if then == "keep":
            exchange.finish(data)
            return
        exchange.send(data)
        exchange.reset() if then == "reset" else exchange.close()

    return script


def held(gate: threading.Event, script: Script) -> Script:
    """`script`, but not before the test opens the gate. The body is read first."""

    def wait_then(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.wait(gate)
        script(exchange)

    return wait_then


def pieces(parts: Sequence[bytes], gates: Sequence[threading.Event], then: str = "keep") -> Script:
    """parts[0] after the whole request, each further part when its gate opens."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        for part, gate in zip(parts[:-1], gates, strict=True):
            exchange.send(part)
            exchange.wait(gate)
        raw(parts[-1], then)(exchange)

    return script


def events(gates: Sequence[threading.Event], *, chunked: bool = True) -> Script:
    """Server-sent events: number n when gate n opens; the body ends after the last."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        framing = b"Transfer-Encoding: chunked" if chunked else b"Connection: close"
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n" + framing + b"\r\n\r\n")
        for number, gate in enumerate(gates):
            exchange.wait(gate)
            event = b"data: %d\n\n" % number
            exchange.send(b"%x\r\n%s\r\n" % (len(event), event) if chunked else event)
        if chunked:
            exchange.finish(b"0\r\n\r\n")
        else:
            exchange.close()

    return script


def silent(gate: threading.Event) -> Script:
    """Reads the request and never answers; lets go of the connection when the gate opens."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.wait(gate)
        exchange.close()

    return script


def vanish(*, reset: bool = False) -> Script:
    """Closes without a byte of an answer."""
    return raw(b"", then="reset" if reset else "close")


def source(size: int, block: bytes = b"\0" * (1 << 20)) -> Script:
    """An answer of `size` bytes with Content-Length, a multiple of the block."""

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(block) - 1):
            exchange.send(block)
        exchange.finish(block)

    return script


def sink(exchange: Exchange) -> None:
    """Reads a body of any size without keeping it and answers with the number of bytes."""
    framing = wire.body_framing(exchange.request.head)
    total = 0
    exchange.stream.record = False
    if isinstance(framing, int):
        total = _discard(exchange, framing)
    else:
        while chunk := wire.read_chunk(exchange.stream):
            total += len(chunk)
    exchange.request.body = b""
    answer(str(total).encode())(exchange)


def _discard(exchange: Exchange, size: int) -> int:
    left = size - len(exchange.stream.take(size))
    scratch = bytearray(1 << 20)
    while left:
        got = exchange.sock.recv_into(scratch, min(left, len(scratch)))
        if not got:
            raise wire.EndedError("eof", b"")
        left -= got
    return size


def websocket_echo(exchange: Exchange) -> None:
    """101 with the right accept key, then every byte comes back."""
    key = exchange.request.header("sec-websocket-key") or ""
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest())  # noqa: S324
    exchange.send(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    exchange.sock.settimeout(None)
    while exchange.stream.buffer or exchange.stream.fill():
        exchange.send(exchange.stream.take(len(exchange.stream.buffer)))
    exchange.close()
