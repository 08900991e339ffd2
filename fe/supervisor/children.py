"""How a child process is made, and when one that died may start again.

Owns: the fork, what a child has to forget of the supervisor before its main runs, the back-off. Never: which children
there are (that is workers.py and link.py), nor what they do (they are callables).
Read next: workers.py.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import random
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from fe import _keeper
from fe.errors import EXIT_INTERNAL
from fe.log import logger, set_process

log = logger("supervisor")

# In a child: a terminal sends SIGINT and SIGHUP to the whole group, but only the supervisor decides what they mean.
# A main that wants SIGHUP (the controller) sets its own handler; the supervisor sends none before it said Ready.
_IGNORED: Final = (signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPIPE, signal.SIGXFSZ)


@dataclass
class Backoff:
    """Delays between restarts: none after a long run, then doubling, with jitter lest children march in step."""

    first: float = 0.1  # seconds
    longest: float = 30.0
    steady: float = 10.0  # a run of this length was no failure to start
    short_runs: int = 0

    def delay(self, ran: float) -> float:
        """How long to wait before the next start, given how long the last run lasted; both in seconds."""
        if ran >= self.steady:
            self.short_runs = 0
            return 0.0
        delay = min(self.longest, self.first * 2.0**self.short_runs)
        self.short_runs = min(self.short_runs + 1, 30)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - spreads load, hides nothing


def fork(name: str, main: Callable[[], int], forget: Callable[[], None]) -> int:
    """Starts `main` in a child and returns its pid. `forget` closes there what only the supervisor may have open."""
    supervisor = os.getpid()
    # Blocked until the child has its own handlers: the supervisor's would write into the supervisor's wake-up pipe.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(name, supervisor, main, forget, before)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return pid


def describe_exit(status: int) -> str:
    """A wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def present() -> set[int]:
    """Our children, also those that others left to us."""
    pid = os.getpid()
    with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{pid}/children") as listed:
        return {int(child) for child in listed.read().split()}
    return set()


def is_runnable(pid: int) -> bool:
    """Whether it runs, or waits for a processor or a disk: not for a lock, an event or the leave to go on."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat") as line:
        return line.read().rpartition(")")[2].split()[0] in "RD"
    return False


def freeze_memory() -> None:
    """Before the first fork: what is there now is never looked at by a collector again, so its pages stay shared."""
    gc.collect()
    gc.freeze()


def _be_child(
    name: str, supervisor: int, main: Callable[[], int], forget: Callable[[], None], mask: set[int | signal.Signals]
) -> NoReturn:
    code = EXIT_INTERNAL
    try:
        if not _keeper.die_with_parent(signal.SIGKILL, supervisor):
            os._exit(EXIT_INTERNAL)  # it died between the fork and now, so its death signals nothing any more
        _keeper.set_process_name(name)
        set_process(name.removeprefix("fe-"))
        signal.set_wakeup_fd(-1)
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_IGN if number in _IGNORED else signal.SIG_DFL)
        forget()
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        code = int(main() or 0)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else EXIT_INTERNAL
    except BaseException:
        _log_crash()
    finally:
        try:
            _flush()
        finally:  # whatever happens: this process must not go on as a second supervisor
            os._exit(code & 0xFF)


def _log_crash() -> None:
    try:
        log.exception("unhandled exception")
    except BaseException:
        traceback.print_exc()


def _flush() -> None:
    """os._exit flushes nothing."""
    streams = [stream for stream in (sys.stdout, sys.stderr) if stream is not None]  # None: was closed at the start
    for flush in (logging.shutdown, *(stream.flush for stream in streams)):
        try:
            flush()
        except BaseException:  # noqa: S112 - the child ends here; there is nobody left to tell
            continue
