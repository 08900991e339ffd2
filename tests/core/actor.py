"""One operation in a forked child of the debug build, which ends or stops at a chosen point of it.

Owns: the child from fork to waitpid, and looking whether it waits for a lock. Never: knows what the operation is about.
SIGKILL at the point makes a death, SIGSTOP holds the child there until `resume` or `kill`.
"""

from __future__ import annotations

import json
import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from fe import _core

PATIENCE_S = 60.0  # nothing here takes longer unless it hangs


class ActorError(AssertionError):
    """A child failed in another way than by dying where it was told to."""


class Actor:
    """`points` has the names passed, in order, once it has ended by itself."""

    def __init__(self, act: Callable[[], object], at: int = 0, by: int = signal.SIGKILL) -> None:
        self.stopped = False
        self.dead = False  # killed, at its point or by `kill`
        self.ended = False  # either way
        self.points: list[str] = []
        self._read, write = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._play(act, at, by, write)
        os.close(write)

    def _play(self, act: Callable[[], object], at: int, by: int, write: int) -> None:
        status, said = 1, ""
        try:
            _core.crash_arm(at, by)
            act()
            points = _core.crash_passed()
            _core.crash_arm(0)
            status, said = 0, json.dumps(points)
        except BaseException:
            _core.crash_arm(0)
            said = traceback.format_exc()
        finally:
            with open(write, "w") as pipe:
                pipe.write(said)
            os._exit(status)

    def wait(self) -> Actor:
        """Until it has stopped or ended."""
        if not self.ended:
            self._note(os.waitpid(self._pid, os.WUNTRACED)[1])
        return self

    def wait_until_blocked(self) -> bool:
        """Whether it has ended; if not, it sleeps, and all it ever sleeps for is a lock."""
        limit = time.monotonic() + PATIENCE_S
        while not self.ended:
            pid, status = os.waitpid(self._pid, os.WNOHANG | os.WUNTRACED)
            if pid:
                self._note(status)
            elif Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0] == "S":
                return False
            else:
                assert time.monotonic() < limit, "neither ends nor sleeps"
                os.sched_yield()
        return True

    def resume(self) -> Actor:
        self.stopped = False
        os.kill(self._pid, signal.SIGCONT)
        return self

    def kill(self) -> Actor:
        if not self.ended:
            self.stopped = False
            os.kill(self._pid, signal.SIGKILL)
        return self.wait()

    def _note(self, status: int) -> None:
        if os.WIFSTOPPED(status):
            self.stopped = True
            return
        self.ended = True
        with open(self._read) as pipe:
            said = pipe.read()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
            self.dead = True
        elif status != 0:
            raise ActorError(said or f"status {status}")
        else:
            self.points = list(json.loads(said))
