"""The worker processes: spawned, reaped, murdered when they hang, replaced.

Owns: one seat per worker with its restarts, and giving back what a dead worker held - at once, before its successor
starts. Never: a worker's work. A seat's state is in the table: HOLDER_ACTIVE says that its worker has started, its
beat that it lives.
Read next: arbiter.py, which calls this in its loop; children.py for the fork.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from fe._core import HOLDER_ACTIVE, Table
from fe.errors import EXIT_CONFIG, EXIT_CUT_OFF, EXIT_OK, EXIT_RESOURCE, EXIT_WORKER, StartError
from fe.log import logger
from fe.supervisor.children import Backoff, describe_exit, is_runnable

log = logger("supervisor")

Repair = Callable[[Callable[[], int]], int]

FAILED_STARTS = 3  # in a row, with no other worker serving: there is nothing to hope for
_HOPELESS = (EXIT_CONFIG, EXIT_RESOURCE, EXIT_WORKER)  # exit codes that say: trying again changes nothing


@dataclass
class Seat:
    """A worker's place; its index is also its holder and its row of statistics."""

    index: int
    pid: int = 0  # 0: nobody
    started: float = 0.0  # time.monotonic()
    served: bool = False  # its present process has been ACTIVE
    due: float | None = 0.0  # when to start one; None: runs, or shall not
    failed_starts: int = 0  # in a row
    murdered: bool = False
    backoff: Backoff = field(default_factory=Backoff)


class Workers:
    """All seats. `spawn` forks a worker for an index and returns its pid."""

    def __init__(
        self, table: Table, count: int, timeouts: tuple[float, float], spawn: Callable[[int], int], repair: Repair
    ) -> None:
        self.seats = [Seat(index) for index in range(count)]
        self.exit_code = EXIT_OK  # the worst that a drain has brought
        self._table = table
        self._worker_timeout, self._start_timeout = timeouts
        self._spawn = spawn
        self._repair = repair
        self._draining = False

    def start_due(self, now: float) -> None:
        """Starts whoever is due."""
        for seat in self.seats:
            if seat.due is not None and seat.due <= now:
                self._start(seat)

    def look(self) -> int:
        """Notes who has become ACTIVE; returns how many serve now."""
        serving = 0
        for seat in self.seats:
            if not seat.pid or self._table.holder_state(seat.index).state != HOLDER_ACTIVE:
                continue
            serving += 1
            if not seat.served:
                seat.served = True
                seat.failed_starts = 0
                log.info(f"worker {seat.index} serves", worker=seat.pid)
        return serving

    def starting(self) -> bool:
        """Whether the table has to be watched for somebody who becomes ACTIVE."""
        return any(seat.pid and not seat.served for seat in self.seats)

    def alive(self) -> int:
        """How many processes there are."""
        return sum(1 for seat in self.seats if seat.pid)

    def next_due(self) -> float | None:
        """When the next restart is due."""
        return min((seat.due for seat in self.seats if seat.due is not None), default=None)

    def beating(self, now: float) -> bool:
        """Whether anybody serves: has become ACTIVE and shown a sign of life within worker_timeout."""
        return any(s.pid and s.served and self._silence(s, now) < self._worker_timeout for s in self.seats)

    def murder(self, now: float, watched_since: float, may_start_since: float | None) -> None:
        """Kills those that hang. Nothing before `watched_since` is held against them (we were suspended ourselves).

        Being slow to become ACTIVE counts from `may_start_since` on, the first configuration (None: not yet there).
        """
        for seat in self.seats:
            if not seat.pid or seat.murdered:
                continue
            silent = min(self._silence(seat, now), now - watched_since)
            starting = 0.0
            if not seat.served and may_start_since is not None:
                starting = now - max(seat.started, may_start_since, watched_since)
            if seat.served and silent > self._worker_timeout:
                self._murder(seat, f"has given no sign of life for {silent:.1f} s")
            elif starting > self._start_timeout:
                self._murder(seat, f"has not started to serve within {starting:.1f} s")

    def murder_silent(self, limit: float) -> bool:
        """Kills those silent for longer than `limit`: they may hold a lock that a repair waits for.

        Who only waits for a processor gets the usual time; True while there is one.
        """
        now, spared = time.monotonic(), False
        for seat in self.seats:
            silence = self._silence(seat, now) if seat.pid and not seat.murdered else 0.0
            if silence <= limit:
                continue
            if silence <= self._worker_timeout and is_runnable(seat.pid):
                spared = True
            else:
                self._murder(seat, "is silent and may hold up the repair of the lease table")
        return spared

    def on_exit(self, pid: int, status: int, now: float) -> bool:
        """A child has ended; True when it was a worker. StartError when it makes no sense to go on."""
        seat = next((seat for seat in self.seats if seat.pid == pid), None)
        if seat is None:
            return False
        self.look()  # it may have become ACTIVE and died since we looked last
        seat.pid = 0
        held = self._recover(seat.index)
        code = os.waitstatus_to_exitcode(status)
        ran = now - seat.started
        if self._draining:
            self._note_drained(seat, status, held)
            return True
        what = f"worker {seat.index} {describe_exit(status)}; what it held is given back"
        log.error(what, ended=pid, ran_s=round(ran, 1), held=held)
        if not seat.served:
            self._on_failed_start(seat, status, hopeless=code in _HOPELESS)
        seat.due = now + seat.backoff.delay(ran if seat.served else 0.0)
        return True

    def terminate(self) -> None:
        """The drain begins: SIGTERM, and nobody is replaced any more."""
        self._draining = True
        for seat in self.seats:
            seat.due = None
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends them at once."""
        self._draining = True
        for seat in self.seats:
            seat.due = None
            seat.murdered = True
        self._signal(signal.SIGKILL)

    def forward(self, number: signal.Signals) -> None:
        """Sends a signal to those that serve (one that starts may not have its handlers yet)."""
        for seat in self.seats:
            if seat.pid and seat.served:
                os.kill(seat.pid, number)

    def _start(self, seat: Seat) -> None:
        seat.due, seat.served, seat.murdered, seat.started = None, False, False, time.monotonic()
        try:
            seat.pid = self._spawn(seat.index)
        except OSError as error:  # EAGAIN, ENOMEM: the machine may have room again later
            log.error(f"worker {seat.index} could not be forked", reason=error.strerror)
            seat.due = seat.started + max(1.0, seat.backoff.delay(0.0))

    def _on_failed_start(self, seat: Seat, status: int, hopeless: bool) -> None:
        seat.failed_starts += 1
        if self.look() or (seat.failed_starts < FAILED_STARTS and not hopeless):
            return  # while others serve a restart loop with back-off is better than the end of them all
        code = os.waitstatus_to_exitcode(status)
        tries = "" if seat.failed_starts < FAILED_STARTS else f" {seat.failed_starts} times in a row"
        error = StartError(f"worker {seat.index} could not start{tries}: it {describe_exit(status)}; its log says why")
        error.exit_code = code if hopeless else EXIT_WORKER
        raise error

    def _note_drained(self, seat: Seat, status: int, held: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        # One that ended by itself knows better: what it still held were exchanges whose clients have their answer.
        if code == EXIT_CUT_OFF or (held and code != EXIT_OK):
            self.exit_code = EXIT_CUT_OFF
            log.warning(f"worker {seat.index} {describe_exit(status)}; requests were cut off", held=held)
        elif code != EXIT_OK and not seat.murdered and code != -signal.SIGTERM:
            self.exit_code = self.exit_code or EXIT_WORKER
            log.error(f"worker {seat.index} {describe_exit(status)} while draining")

    def _recover(self, index: int) -> int:
        self._table.mark_absent(index)
        return self._repair(lambda: self._table.recover(index))

    def _silence(self, seat: Seat, now: float) -> float:
        return now - max(self._table.holder_state(seat.index).beat_ns / 1e9, seat.started)

    def _murder(self, seat: Seat, why: str) -> None:
        log.error(f"worker {seat.index} {why}: it is killed and replaced", victim=seat.pid)
        seat.murdered = True
        os.kill(seat.pid, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        for seat in self.seats:
            if seat.pid:
                os.kill(seat.pid, number)
