"""Signals of the supervisor: noted, counted and left for the loop.

Owns: the handlers and the wake-up pipe. Never: acts - a handler that runs anywhere may do nothing but write one byte.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Final

HEARD: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)
_IGNORED: Final = (signal.SIGPIPE, signal.SIGUSR2)


class Signals:
    """Turns signals into a readable descriptor; used as a context manager around the supervisor's life."""

    def __init__(self) -> None:
        self._read, self._write = -1, -1

    def __enter__(self) -> Signals:
        self._read, self._write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        # A full pipe loses the number, never the wake-up; 64 KiB of unread signals say enough by themselves.
        self._wakeup_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, _note) for number in HEARD}
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HEARD)  # some launchers leave signals blocked
        self._before |= {number: signal.signal(number, signal.SIG_IGN) for number in _IGNORED}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self.forget()

    def fileno(self) -> int:
        """Readable when signals have been noted."""
        return self._read

    def forget(self) -> None:
        """Closes the pipe; in a forked child: none of its business."""
        os.close(self._read)
        os.close(self._write)

    def take(self) -> list[int]:
        """The signals since the last call, in their order, each as often as it came."""
        try:
            return list(os.read(self._read, 65_536))
        except BlockingIOError:
            return []


def _note(number: int, frame: FrameType | None) -> None:
    """The byte was written by the interpreter itself (set_wakeup_fd); a handler has to exist for that."""
