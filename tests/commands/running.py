"""The command `fe` as a process, and a stranger that answers in place of an admin server.

Owns: running a command with a limit, on a pipe or on a terminal of its own. What the commands talk to is a real
fe-serve, except where an answer is needed that no fe-serve gives.
"""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from tests.support.backends import Backend, Exchange

LIMIT = 100.0


def fe(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs `fe` with these arguments to its end."""
    return subprocess.run(
        _command(arguments), capture_output=True, text=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip


class OnTerminal:
    """`fe` on a terminal of its own, 40 lines of 160 characters. Use it in a `with` block, which ends it."""

    def __init__(self, *arguments: str) -> None:
        self._ours, theirs = pty.openpty()
        environment = {**os.environ, "COLUMNS": "160", "LINES": "40", "TERM": "xterm-256color"}
        self.process = subprocess.Popen(
            _command(arguments), stdin=theirs, stdout=theirs, stderr=theirs, env=environment, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.seen = ""

    def __enter__(self) -> OnTerminal:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        os.close(self._ours)

    def wait_for(self, condition: Callable[[str], bool], what: str) -> None:
        """Reads until what has been written fulfils the condition."""
        end = time.monotonic() + LIMIT
        while not condition(self.seen):
            ready, _, _ = select.select([self._ours], [], [], max(0.0, end - time.monotonic()))
            assert ready, f"never seen: {what}\n{self.seen}"
            self.seen += os.read(self._ours, 65536).decode(errors="replace")

    def end(self, number: int) -> int:
        """Sends the signal, reads the rest, returns the exit code."""
        self.process.send_signal(number)
        while self._read_rest():
            pass
        return self.process.wait(LIMIT)

    def _read_rest(self) -> bool:
        try:
            part = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.seen += part.decode(errors="replace")
        return bool(part)


def stranger(answer: Any, status: int = 200, raw: bytes | None = None) -> Backend:
    """Answers everything with this JSON, or with these bytes."""
    body = json.dumps(answer).encode()
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.finish(head.encode() + body if raw is None else raw)
        exchange.keep = raw is None

    return Backend(script=script)


def _command(arguments: tuple[str, ...]) -> list[str]:
    return [sys.executable, "-m", "fe.commands.main", *arguments]
