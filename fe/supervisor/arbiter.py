"""The supervisor's life: open, fork, then one loop that reaps, murders, restarts and passes on, and the end in order.

Owns: what all processes share (table, sockets, eventfds, the state memfd), the phases of the end, the exit code. Never:
a thread, an event loop, a client; nor does it import either plane: it is given the mains of its children.

    SERVING --SIGTERM/SIGINT--> DRAINING: workers finish, at most drain_timeout
                                --none is left--> ENDING: controller and local replicas end, each with its grace
                                                  --none is left--> over
    any --second SIGTERM/SIGINT, or a failure--> everything is killed at once

Read next: workers.py and link.py (the two kinds of children), replicas.py, children.py (the fork itself).
"""

from __future__ import annotations

import contextlib
import enum
import os
import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from fe import _keeper
from fe._core import Limits, Table
from fe.errors import FeError, ResourceError
from fe.log import logger
from fe.model import ControllerRuntime, Drain, WorkerRuntime
from fe.supervisor import children, repair
from fe.supervisor.limits import raise_descriptor_limit, require_descriptors
from fe.supervisor.link import Link
from fe.supervisor.notify import Notifier
from fe.supervisor.repair import repair_apart
from fe.supervisor.signals import Signals
from fe.supervisor.sockets import Sockets, describe
from fe.supervisor.workers import Workers

log = logger("supervisor")

TICK = 1.0  # seconds between rounds when nothing happens; a quarter of worker_timeout when that is less
STARTING_TICK = 0.02  # while somebody starts: that they serve is read from the table
KILL_MARGIN = 1.0  # beyond drain_timeout: workers end what is left by themselves and say so
CONTROLLER_GRACE = 5.0  # seconds between SIGTERM and SIGKILL
END_LIMIT = 20.0  # seconds that killed children may take; more is a process stuck in the kernel
LATE = 1.0  # a round that comes this much later than planned: we were suspended, and so were the others


@dataclass(frozen=True)
class Settings:
    """What the supervisor needs of the configuration; times in seconds."""

    config_path: str
    listen: tuple[str, ...]
    admin: tuple[str, ...]
    workers: int
    limits: Limits
    drain_timeout: float = 30.0
    worker_timeout: float = 10.0
    controller_timeout: float = 30.0  # without a sign of life, from a controller that gives them
    start_timeout: float = 60.0  # a worker has to serve, a controller to have applied its configuration
    log_fd: int = 2  # where access lines go
    log_json: bool = False  # as JSON objects, else for people
    reopen_logs: Callable[[], None] | None = None  # SIGUSR1, called in every process


class Phase(enum.Enum):
    """See the picture in the head of this file."""

    SERVING = enum.auto()
    DRAINING = enum.auto()
    ENDING = enum.auto()


class Supervisor:
    """Runs fe-serve. `worker_main` and `controller_main` are called in forked children and return exit codes."""

    def __init__(
        self,
        settings: Settings,
        worker_main: Callable[[WorkerRuntime], int],
        controller_main: Callable[[ControllerRuntime], int],
    ) -> None:
        self._settings = settings
        self._worker_main = worker_main
        self._controller_main = controller_main
        self._notifier = Notifier(os.environ)
        self._signals = Signals()
        self._sockets = Sockets()
        self._phase = Phase.SERVING
        self._announced = False  # READY=1 has been said
        self._deadline: float | None = None  # of the phase
        self._watched_since = self._planned = time.monotonic()
        self._next_watchdog = 0.0
        self._sweep_until = 0.0
        self._serving = 0
        self._opened = False

    def run(self) -> int:
        """Serves until told to end; returns the exit code. FeError when it cannot start or go on."""
        with self._signals:
            try:
                self._open()
                while not self._is_over():
                    self._wait()
                    self._on_signals()
                    self._reap()
                    self._hear()
                    self._look_after()
            finally:
                self._end_all()
        return self._workers.exit_code

    # --- start -------------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        settings = self._settings
        nofile, raised = raise_descriptor_limit()
        require_descriptors(settings.workers)
        if settings.workers > settings.limits.holders:
            raise ResourceError(f"{settings.workers} workers need as many holders; raise limits.holders")
        self._sockets.open(settings.listen, settings.admin, settings.workers)
        self._table = _create_table(settings.limits._replace(workers=settings.workers))
        self._eventfds = tuple(_eventfd() for _ in range(settings.workers))
        self._control_eventfd = _eventfd()
        for index, fd in enumerate(self._eventfds):
            self._table.name_eventfd(index, fd)
        self._table.name_control_eventfd(self._control_eventfd)
        self._state_fd = os.memfd_create("fe-state", os.MFD_CLOEXEC)
        timeouts = (settings.worker_timeout, settings.start_timeout)
        self._workers = Workers(self._table, settings.workers, timeouts, self._fork_worker, self._repair)
        timeouts = (settings.controller_timeout, settings.start_timeout)
        self._link = Link(self._fork_controller, self._notifier, nofile, timeouts)
        self._opened = True
        self._others = children.present()  # of whoever called exec on us; none of ours
        _keeper.become_subreaper()
        _keeper.set_process_name("fe-serve")
        for where in self._sockets.addresses():
            log.info(f"listening on {where}")
        for admin in self._sockets.admin:
            log.info(f"admin on {describe(admin)}")
        log.info("starting", workers=settings.workers, descriptors=raised)
        self._notifier.status("starting")
        children.freeze_memory()

    def _fork_worker(self, index: int) -> int:
        settings = self._settings
        runtime = WorkerRuntime(
            self._table,
            index,
            self._eventfds,
            tuple(self._sockets.listeners),
            settings.drain_timeout,
            settings.log_fd,
            settings.log_json,
        )
        return self._fork(f"fe-worker-{index}", partial(self._worker_main, runtime), self._forget_in_worker)

    def _fork_controller(self, theirs: socket.socket, restarted: bool) -> int:
        settings = self._settings
        admin = tuple(self._sockets.admin)
        runtime = ControllerRuntime(
            self._table, settings.workers, self._control_eventfd, theirs, admin, settings.config_path,
            self._state_fd, restarted,
        )  # fmt: skip
        return self._fork("fe-controller", partial(self._controller_main, runtime), self._forget_in_controller)

    def _fork(self, name: str, main: Callable[[], int], forget: Callable[[], None]) -> int:
        return children.fork(name, partial(_with_log_reopening, main, self._settings.reopen_logs), forget)

    def _forget_in_worker(self) -> None:
        for admin in self._sockets.admin:
            admin.close()
        os.close(self._state_fd)
        self._forget()

    def _forget_in_controller(self) -> None:
        for listener in self._sockets.listeners:
            listener.socket.close()
        self._forget()

    def _forget(self) -> None:
        self._signals.forget()
        self._link.forget()
        self._notifier.close()

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _wait(self) -> None:
        poll = select.poll()
        poll.register(self._signals, select.POLLIN)
        poll.register(self._link.replicas, select.POLLIN)
        if self._link.fileno() >= 0:
            poll.register(self._link, select.POLLIN | (select.POLLOUT if self._link.backed_up else 0))
        patience = self._patience()
        self._planned = time.monotonic() + patience
        poll.poll(patience * 1000)

    def _patience(self) -> float:
        tick = min(TICK, self._settings.worker_timeout / 4)
        if self._phase is Phase.SERVING and self._workers.starting():
            tick = STARTING_TICK
        dues = [self._workers.next_due(), self._link.due, self._link.replicas.next_deadline(), self._deadline]
        if self._notifier.watchdog_interval is not None:
            dues.append(self._next_watchdog)
        now = time.monotonic()
        return max(0.0, min([tick, *(due - now for due in dues if due is not None)]))

    def _on_signals(self) -> None:
        for number in self._signals.take():
            if number in (signal.SIGTERM, signal.SIGINT):
                self._on_stop(signal.Signals(number).name)
            elif number == signal.SIGHUP:
                log.info("reload asked for")
                self._link.request_reload()
            elif number == signal.SIGUSR1:
                self._reopen_logs()

    def _reap(self) -> None:
        """Takes every child that has ended, ours and, as subreaper or PID 1, orphans of theirs."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            now = time.monotonic()
            if self._workers.on_exit(pid, status, now):
                continue
            if pid == self._link.pid:
                self._link.on_exit(status, now)
                self._repair(self._repair_table)  # before its successor starts
                continue
            keeper_was_killed = os.WIFSIGNALED(status)
            if self._link.replicas.on_exit(pid, status) and keeper_was_killed:
                self._sweep_until = now + END_LIMIT

    def _hear(self) -> None:
        self._link.replicas.on_reports()
        self._link.on_readable()
        self._link.flush()

    def _look_after(self) -> None:
        now = time.monotonic()
        if now > self._planned + LATE:
            self._watched_since = now
        self._serving = self._workers.look()
        if now < self._sweep_until:
            self._sweep(now)
        self._link.check(now, self._watched_since)
        if self._phase is Phase.SERVING:
            self._workers.murder(now, self._watched_since, self._link.ready_since)
            self._link.start_due(now)
            self._workers.start_due(now)
        else:
            self._go_on_ending(now)
        self._tell(now)

    def _tell(self, now: float) -> None:
        if self._phase is Phase.SERVING:
            workers = self._settings.workers
            if not self._announced and self._serving == workers and self._link.ready_since is not None:
                self._announced = True
                log.info("ready", workers=workers)
                self._notifier.ready()
            self._notifier.status(f"{self._serving} of {workers} workers serve" if self._announced else "starting")
        interval = self._notifier.watchdog_interval
        if interval is not None and now >= self._next_watchdog:
            self._next_watchdog = now + interval
            # Without a worker that beats nobody is served: let systemd start us afresh. A drain has its own limits.
            if self._phase is not Phase.SERVING or not self._announced or self._workers.beating(now):
                self._notifier.watchdog()

    def _sweep(self, now: float) -> None:
        """A keeper was killed, so that the replica's descendants are our children now: they have to go as well."""
        if os.getpid() == 1:
            return  # there, strangers may become our children too, and the kernel ends everybody with us
        known = {self._link.pid, *self._link.replicas.keepers(), *(seat.pid for seat in self._workers.seats)}
        for pid in children.present() - known - self._others:
            log.warning("killed a process that a killed keeper left behind", pid=pid)
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
            self._sweep_until = now + 1.0

    def _repair(self, work: Callable[[], int]) -> int:
        return repair_apart(work, self._on_late_repair)

    def _repair_table(self) -> int:
        self._table.repair()
        return 0

    def _on_late_repair(self) -> bool:
        self._link.on_readable()  # signs of life that wait to be read
        spared = self._workers.murder_silent(repair.PATIENCE)
        return self._link.murder_silent(3 * repair.PATIENCE) or spared

    def _reopen_logs(self) -> None:
        if self._settings.reopen_logs is not None:
            self._settings.reopen_logs()
            self._workers.forward(signal.SIGUSR1)
            self._link.forward(signal.SIGUSR1)

    # --- the end -----------------------------------------------------------------------------------------------------

    def _is_over(self) -> bool:
        if self._phase is not Phase.ENDING:
            return False
        return not self._workers.alive() and not self._link.pid and not len(self._link.replicas)

    def _on_stop(self, name: str) -> None:
        if self._phase is Phase.SERVING:
            self._drain(name)
            return
        log.warning("told to end again: everything ends at once", signal=name)
        self._phase = Phase.ENDING
        self._deadline = time.monotonic() + END_LIMIT
        self._kill_all()

    def _drain(self, name: str) -> None:
        log.info("draining", signal=name, at_most_s=self._settings.drain_timeout)
        self._phase = Phase.DRAINING
        self._deadline = time.monotonic() + self._settings.drain_timeout + KILL_MARGIN
        self._notifier.stopping()
        self._notifier.status("draining")
        self._link.send(Drain())
        self._link.drain()
        self._sockets.end_intake()
        self._sockets.close_listeners()
        self._workers.terminate()

    def _go_on_ending(self, now: float) -> None:
        late = self._deadline is not None and now >= self._deadline
        if self._phase is Phase.DRAINING:
            if not self._workers.alive():
                self._end_controller(now)
            elif late:
                log.error("drain_timeout is over: what is left of the workers is killed", workers=self._workers.alive())
                self._deadline = now + END_LIMIT
                self._workers.kill()
        elif late:
            if self._link.pid:
                log.error("the controller does not end and is killed")
                self._link.kill()
            self._deadline = None  # replicas have deadlines of their own

    def _end_controller(self, now: float) -> None:
        log.info("workers have ended, controller and local replicas follow", replicas=len(self._link.replicas))
        self._phase = Phase.ENDING
        self._deadline = now + CONTROLLER_GRACE
        self._link.terminate()
        self._link.replicas.stop_all()

    def _kill_all(self) -> None:
        self._workers.kill()
        self._link.kill()
        self._link.replicas.kill_all()

    def _end_all(self) -> None:
        """Whatever happened: no child outlives us, no socket file stays."""
        self._sockets.close()
        if not self._opened:
            self._notifier.close()
            return
        self._phase = Phase.ENDING
        limit = time.monotonic() + END_LIMIT
        if not self._is_over():
            self._notifier.stopping()
            self._kill_all()
        while not self._is_over() and time.monotonic() < limit:
            self._signals.take()
            with contextlib.suppress(FeError):  # the first failure is the one to tell
                self._reap()
            if not self._is_over():
                select.select([self._signals], [], [], 0.1)
        self._notifier.close()


def _with_log_reopening(main: Callable[[], int], reopen: Callable[[], None] | None) -> int:
    if reopen is not None:
        signal.signal(signal.SIGUSR1, lambda _number, _frame: reopen())
    return main()


def _create_table(limits: Limits) -> Table:
    # Said first: every page is touched, which takes a while where the limits are very large.
    log.info("making the shared table", table_mb=round(Table.size_of(limits) / 1e6, 1))
    try:
        return Table.create(limits)
    except MemoryError as error:
        raise ResourceError(f"too little memory for the table: {error}") from error


def _eventfd() -> int:
    return os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
