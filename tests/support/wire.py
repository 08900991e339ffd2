"""HTTP/1.1 as the tests understand it: a buffered socket and strict parsers for heads and bodies.

Owns: the judgement whether bytes are well-formed. It is deliberately narrower than the standard: what fe sends has one
canonical form, and anything else is a fault (`MalformedError`). Never lenient, never shared with fe. Clients build
on it in client.py, back-ends in backends.py.
"""

from __future__ import annotations

import re
import select
import socket
import struct
from dataclasses import dataclass, field

CRLF = b"\r\n"
TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
REQUEST_LINE = re.compile(rb"([A-Z]+) ([!-~\x80-\xff]+) HTTP/(1\.[01])")
STATUS_LINE = re.compile(rb"HTTP/(1\.[01]) ([1-5][0-9][0-9]) ([\t -~\x80-\xff]*)")
FIELD = re.compile(rb"(" + TOKEN + rb"):[ \t]*([\x21-\x7e\x80-\xff](?:[\t -~\x80-\xff]*[\x21-\x7e\x80-\xff])?)?[ \t]*")
CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,15}")
LENGTH = re.compile(r"0|[1-9][0-9]{0,17}")

Headers = list[tuple[str, str]]


class MalformedError(AssertionError):
    """Bytes that a strict parser refuses."""


class EndedError(AssertionError):
    """The connection ended (`how`: "eof" or "reset") where more was due; `got` is what came of the unfinished part."""

    def __init__(self, how: str, got: bytes) -> None:
        super().__init__(f"connection ended by {how} after {got[-200:]!r}")
        self.how = how
        self.got = got


@dataclass
class Head:
    """A request or response head: `start` is its first line, split; `raw` all its bytes."""

    start: tuple[str, str, str]
    headers: Headers
    raw: bytes

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name.lower()]

    def value(self, name: str) -> str | None:
        found = self.values(name)
        if len(found) > 1:
            raise MalformedError(f"{name} stands {len(found)} times in {self.raw!r}")
        return found[0] if found else None


@dataclass
class Stream:
    """A connected socket and what was read from it but not yet used; `seen` is everything received, if recorded."""

    sock: socket.socket
    record: bool = True
    buffer: bytearray = field(default_factory=bytearray)
    seen: bytearray = field(default_factory=bytearray)
    ended: str | None = None

    def fill(self, size: int = 65536) -> bool:
        """Waits for more bytes, at most the socket's timeout. False: the other side has ended."""
        if self.ended:
            return False
        try:
            data = self.sock.recv(size)
        except (ConnectionError, BrokenPipeError):
            self.ended = "reset"
            return False
        if not data:
            self.ended = "eof"
            return False
        self.buffer += data
        if self.record:
            self.seen += data
        return True

    def _must_fill(self) -> None:
        if not self.fill():
            raise EndedError(self.ended or "eof", bytes(self.buffer))

    def take(self, size: int) -> bytes:
        data = bytes(self.buffer[:size])
        del self.buffer[:size]
        return data

    def exactly(self, size: int) -> bytes:
        while len(self.buffer) < size:
            self._must_fill()
        return self.take(size)

    def until(self, mark: bytes, most: int) -> bytes:
        """Everything up to and with `mark`, which has to come within `most` bytes."""
        start = 0
        while (at := self.buffer.find(mark, start)) < 0:
            if len(self.buffer) > most:
                raise MalformedError(f"no {mark!r} within {most} bytes: {bytes(self.buffer[:200])!r}")
            start = max(0, len(self.buffer) - len(mark))
            self._must_fill()
        return self.take(at + len(mark))

    def rest(self) -> bytes:
        """Everything up to a clean end of the connection; `EndedError` after a reset."""
        while self.fill():
            pass
        data = self.take(len(self.buffer))
        if self.ended != "eof":
            raise EndedError(self.ended or "reset", data)
        return data


def parse_head(raw: bytes, line: re.Pattern[bytes]) -> Head:
    """A complete head, with its empty line. Raises MalformedError on anything but the canonical form."""
    if not raw.endswith(b"\r\n\r\n"):
        raise MalformedError(f"head without an end: {raw[-200:]!r}")
    first, *rows = raw[:-4].split(CRLF)
    start = line.fullmatch(first)
    if start is None:
        raise MalformedError(f"first line {first[:200]!r}")
    headers = []
    for row in rows:
        match = FIELD.fullmatch(row)
        if match is None:
            raise MalformedError(f"header {row[:200]!r}")
        headers.append((match[1].decode("ascii"), (match[2] or b"").decode("latin-1")))
    one, two, three = (part.decode("latin-1") for part in start.groups())
    return Head((one, two, three), headers, raw)


def read_head(stream: Stream, line: re.Pattern[bytes], most: int = 128 * 1024) -> Head:
    return parse_head(stream.until(b"\r\n\r\n", most), line)


def body_framing(head: Head) -> str | int | None:
    """ "chunked", a length, or None where the head announces no body. Both at once, or either twice, is a fault."""
    length, coding = head.value("content-length"), head.value("transfer-encoding")
    if length is not None and coding is not None:
        raise MalformedError(f"Content-Length and Transfer-Encoding: {head.raw!r}")
    if coding is not None:
        if coding != "chunked":
            raise MalformedError(f"Transfer-Encoding {coding!r}")
        return "chunked"
    if length is None:
        return None
    if not LENGTH.fullmatch(length):
        raise MalformedError(f"Content-Length {length!r}")
    return int(length)


def read_chunk(stream: Stream) -> bytes:
    """The data of one chunk, b"" for the last one. Extensions and trailers are faults: fe drops both."""
    size = stream.until(CRLF, 64)[:-2]
    if not CHUNK_SIZE.fullmatch(size):
        raise MalformedError(f"chunk size {size!r}")
    data = stream.exactly(int(size, 16))
    if stream.exactly(2) != CRLF:
        raise MalformedError(f"no line end after a chunk of {len(data)} bytes")
    return data


def read_chunked(stream: Stream) -> bytes:
    body = bytearray()
    while data := read_chunk(stream):
        body += data
    return bytes(body)


def read_body(stream: Stream, framing: str | int | None) -> bytes:
    if framing is None:
        return b""
    return stream.exactly(framing) if isinstance(framing, int) else read_chunked(stream)


def reset(sock: socket.socket) -> None:
    """Closes with RST instead of FIN."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def peer_has_left(sock: socket.socket) -> bool:
    """Whether the other side has closed or reset, without reading anything."""
    try:
        poller = select.poll()
        poller.register(sock, select.POLLRDHUP)
        return bool(poller.poll(0))
    except (OSError, ValueError):
        return True
