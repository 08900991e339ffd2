"""One line per request: formatted when the request ends, written in batches by a thread of its own.

Owns: the fields and their escaping, a bounded buffer, the writing thread. Never: queries, credentials, bodies; waiting
in the event loop; the sink itself: it comes as a descriptor, behind which its owner puts another file at a rotation.
When the sink is slower than the traffic, lines are dropped and counted, requests are not held up.
Danger: several workers append to one sink; each write has whole lines only, and to a pipe at most PIPE_BUF bytes, which
is what the kernel keeps in one piece.
"""

from __future__ import annotations

import os
import select
import stat
import threading
import time
from typing import Final

import msgspec

LONGEST_PATH: Final = 1024
LONGEST_AGENT: Final = 256
MOST_HELD: Final = 1 << 20  # bytes
WAKE_AT: Final = 64 * 1024
CLOSE_WAIT: Final = 2.0


class AccessLine(msgspec.Struct, omit_defaults=True):
    """A request that has ended. Times in ms; `reason` only where fe answered by itself."""

    time: str
    id: str
    method: str
    path: str
    status: int
    endpoint: str = ""
    deployment: str = ""
    model_status: int = 0
    reason: str = ""
    request_bytes: int = 0
    response_bytes: int = 0
    total_ms: float = 0.0
    queue_ms: float = 0.0
    model_ms: float = 0.0
    peer: str = ""
    replica: str = ""
    client_id: str = ""
    user_agent: str = ""


def clean(raw: bytes, longest: int) -> str:
    """What a client sent, as printable ASCII: nothing that ends a line or speaks to a terminal is left."""
    text = raw[:longest].decode("ascii", "backslashreplace")
    return text if text.isprintable() else "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def ms(nanoseconds: int) -> float:
    return round(nanoseconds / 1e6, 3)


class Clock:
    """The time as lines have it, the costly part of which changes once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        second, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{nanoseconds // 1_000_000:03d}Z"


def human(line: AccessLine) -> bytes:
    """A line for eyes; what a client chose stands in JSON's quotes, so that it cannot pose as another field."""
    where = f"{line.endpoint}/{line.deployment}" if line.endpoint else "-"
    quote = msgspec.json.encode
    parts = [
        f"{line.time} {line.status} {line.method} ".encode(),
        quote(line.path),
        f" {where} total={line.total_ms}ms queue={line.queue_ms}ms model={line.model_ms}ms"
        f" in={line.request_bytes} out={line.response_bytes} id={line.id}".encode(),
    ]
    for key in ("model_status", "reason", "peer", "replica", "client_id"):
        if value := getattr(line, key):
            parts.append(f" {key}={value}".encode())
    if line.user_agent:
        parts += [b" agent=", quote(line.user_agent)]
    return b"".join(parts)


class AccessLog:
    """Takes lines from the event loop and writes them to a descriptor, which stays the caller's.

    `add` and `flush` never wait. The thread starts with the first flush, after the fork. `lost` only grows.
    """

    def __init__(self, fd: int, *, json: bool = True, most_held: int = MOST_HELD) -> None:
        self.lost = 0
        self._fd = fd
        self._most_held = most_held
        self._lines: list[bytes] = []
        self._held = 0  # bytes in _lines and in the hands of the thread
        self._encode = msgspec.json.Encoder().encode if json else human
        self._clock = Clock()
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    def now(self) -> str:
        """The present as `AccessLine.time` has it."""
        return self._clock.now()

    def add(self, line: AccessLine) -> None:
        """Keep a line until the next flush, or drop and count it."""
        raw = self._encode(line)
        if self._held + len(raw) >= self._most_held:
            self.lost += 1
            return
        with self._lock:
            self._lines.append(raw)
            self._held += len(raw) + 1
        if self._held > WAKE_AT:
            self.flush()

    def flush(self) -> None:
        """Let the thread write what is there; to be called several times a second."""
        if not self._lines:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="access-log", daemon=True)
            self._thread.start()
        self._wake.set()

    def close(self, wait: float = CLOSE_WAIT) -> None:
        """Write what is left, for at most `wait` seconds."""
        self.flush()
        self._closing = True
        self._wake.set()
        if self._thread is not None:
            self._thread.join(wait)

    def _run(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            with self._lock:
                lines, self._lines = self._lines, []
            self._write(lines)
            if self._closing and not self._lines:
                return

    def _write(self, lines: list[bytes]) -> None:
        most = select.PIPE_BUF if stat.S_ISFIFO(os.fstat(self._fd).st_mode) else WAKE_AT
        start, size = 0, 0
        for end, line in enumerate(lines):
            if size and size + len(line) + 1 > most:
                self._write_batch(lines[start:end])
                start, size = end, 0
            size += len(line) + 1
        if size:
            self._write_batch(lines[start:])

    def _write_batch(self, lines: list[bytes]) -> None:
        raw = b"\n".join(lines) + b"\n"
        rest = memoryview(raw)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # someone else has made the shared descriptor non-blocking
                poller = select.poll()
                poller.register(self._fd, select.POLLOUT)
                poller.poll()
            except OSError:
                self.lost += len(lines)
                break
        with self._lock:
            self._held -= len(raw)
