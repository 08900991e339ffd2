"""Access lines on their way out: held in a bounded buffer, written in batches by a thread of its own.

Owns: the buffer, the thread, the count of lines lost. Never: what a line says (`_access.pyx`); waiting in the event
loop; the sink itself: it comes as a descriptor, behind which its owner puts another file at a rotation.
When the sink is slower than the traffic, lines are dropped and counted, requests are not held up.
Danger: several workers append to one sink; each write has whole lines only, and to a pipe at most PIPE_BUF bytes, which
is what the kernel keeps in one piece.
"""

from __future__ import annotations

import os
import select
import stat
import threading
from typing import Final

MOST_HELD: Final = 1 << 20  # bytes
WAKE_AT: Final = 64 * 1024
CLOSE_WAIT: Final = 2.0


class AccessLog:
    """Takes lines from the event loop and writes them to a descriptor, which stays the caller's.

    `add` and `flush` never wait. The thread starts with the first flush, after the fork. `lost` only grows.
    """

    def __init__(self, fd: int, *, most_held: int = MOST_HELD) -> None:
        self.lost = 0
        self._fd = fd
        self._most_held = most_held
        self._lines: list[bytes] = []
        self._held = 0  # bytes in _lines and in the hands of the thread
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False

    def add(self, line: bytes) -> None:
        """Keep a line (without its end) until the next flush, or drop and count it."""
        if self._held + len(line) >= self._most_held:
            self._lose(1)
            return
        with self._lock:
            self._lines.append(line)
            self._held += len(line) + 1
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

    def _lose(self, count: int) -> None:
        with self._lock:
            self.lost += count

    def _is_pipe(self) -> bool:
        try:
            return stat.S_ISFIFO(os.fstat(self._fd).st_mode)
        except OSError:
            return False

    def _write(self, lines: list[bytes]) -> None:
        most = select.PIPE_BUF if self._is_pipe() else WAKE_AT
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
                self._lose(len(lines))
                break
        with self._lock:
            self._held -= len(raw)
