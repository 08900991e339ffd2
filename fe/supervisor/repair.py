"""Mending the lease table after a death, in a short-lived process of its own.

Owns: the wait for it, and its limit. Never: what is mended (fe._core knows). A repair takes the locks of all
deployments. A process that was stopped inside one (a debugger, a signal) would stop the supervisor too, if that waited
for the lock itself; so a child waits, and the supervisor stays able to kill whoever holds it up. On a busy machine
everybody is late: whoever merely waits for a processor, the child first of all, is nobody to blame.
Read next: docs/shared-memory.md, "Recovery".
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

from fe.errors import FeError
from fe.log import logger
from fe.supervisor import children

log = logger("supervisor")

PATIENCE = 1.0  # seconds until whoever may hold a lock is looked for; a repair takes milliseconds
TRIES = 8
TURNS = 120  # of PATIENCE, as long as somebody may go on by himself


def repair_apart(work: Callable[[], int], on_late: Callable[[], bool]) -> int:
    """The result of `work`, done in a child.

    `on_late` is called after each PATIENCE that the child has spent waiting: it kills whoever hangs, and says whether
    somebody is silent who may still go on.
    """
    for _ in range(TRIES):
        result = _try(work, on_late)
        if result is not None:
            return result
        log.error("the repair of the lease table was killed: once more")
    raise FeError("the lease table cannot be repaired: every process that tries ends before it is done")


def _try(work: Callable[[], int], on_late: Callable[[], bool]) -> int | None:
    """None when the child died before it was done."""
    read, write = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            pid = children.fork("fe-repair", lambda: _work(work, write), lambda: os.close(read))
        except OSError:  # no process to be had: better to wait for the locks than to leave leases behind
            return work()
        finally:
            os.close(write)
        try:
            return _await(pid, read, on_late)
        finally:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    finally:
        os.close(read)


def _work(work: Callable[[], int], write: int) -> int:
    os.write(write, work().to_bytes(8, "little"))
    return 0


def _await(pid: int, read: int, on_late: Callable[[], bool]) -> int | None:
    tries = 0
    for _ in range(TURNS):
        if select.select([read], [], [], PATIENCE)[0]:
            raw = os.read(read, 8)
            return int.from_bytes(raw, "little") if raw else None
        if not children.is_runnable(pid) and not on_late():
            tries += 1
        if tries == TRIES:
            break
    raise FeError("the lease table cannot be repaired: a lock in it stays taken, though nobody is left to hold it")
