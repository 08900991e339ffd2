"""The controller process and the socket to it.

Owns: its one seat, the messages in both directions, reloads asked for with SIGHUP. Never: trust - a message is checked
before it counts, a controller that dies, floods or does not read costs nothing but its own restart.
Read next: fe/model.py for the messages, replicas.py for what most of them are about, arbiter.py for the loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections import deque
from collections.abc import Callable

import msgspec

from fe.errors import EXIT_CONFIG, EXIT_INTERNAL, EXIT_RESOURCE, EXIT_WORKER, FeError, StartError
from fe.log import logger
from fe.model import Alive, Fatal, ListReplicas, Ready, Reloaded, Running, Spawn, Stop, ToController, ToSupervisor
from fe.supervisor.children import Backoff, describe_exit, is_runnable
from fe.supervisor.notify import Notifier
from fe.supervisor.replicas import Replicas

log = logger("supervisor")

FAILED_STARTS = 3
CLOSED_LIMIT = 5.0  # seconds that a controller may live on without its socket
RELOAD_LIMIT = 600.0  # seconds until a reload is waited for no longer; one that rolls replicas takes its time
_LARGEST_MESSAGE = 1 << 20  # a whole environment fits
_MESSAGES_AT_ONCE = 64  # so that a controller that floods us does not keep us from our own work
_MOST_WAITING = 20_000  # messages it has not read
_HOPELESS = (EXIT_CONFIG, EXIT_RESOURCE, EXIT_WORKER)


class Link:
    """The controller's seat. `spawn` forks one with its end of the socket, told whether it is a successor."""

    def __init__(
        self,
        spawn: Callable[[socket.socket, bool], int],
        notifier: Notifier,
        nofile: int,
        timeouts: tuple[float, float],
    ) -> None:
        self.pid = 0
        self.replicas = Replicas(self.send, nofile)
        self.due: float | None = 0.0  # when to start one; None: runs, or shall not
        self.ready_since: float | None = None  # since when a configuration has been applied: the first Ready of all
        self.reload_wanted = False
        self._spawn = spawn
        self._notifier = notifier
        self._alive_timeout, self._start_timeout = timeouts
        self._started = 0.0
        self._starts = 0
        self._failed_starts = 0
        self._ready = False  # the present process has said Ready
        self._alive: float | None = None  # its last sign of life, if it gives any
        self._reload_since: float | None = None  # a reload is under way
        self._draining = False
        self._murdered = False
        self._closed_at = 0.0
        self._socket: socket.socket | None = None
        self._waiting: deque[bytes] = deque()
        self._backoff = Backoff()
        self._decoder = msgspec.json.Decoder(ToSupervisor)

    def start_due(self, now: float) -> None:
        """Starts the controller when it is due."""
        if self.due is None or self.due > now:
            return
        self.due, self._alive, self._murdered = None, None, False
        self._started = now
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _LARGEST_MESSAGE)
        try:
            self.pid = self._spawn(theirs, self._starts > 0)
        except OSError as error:
            ours.close()
            log.error("the controller could not be forked", reason=error.strerror)
            self.due = now + max(1.0, self._backoff.delay(0.0))
            return
        finally:
            theirs.close()
        self._socket = ours
        self._starts += 1

    def fileno(self) -> int:
        """Of our end; -1 without a controller."""
        return self._socket.fileno() if self._socket is not None else -1

    def forget(self) -> None:
        """In a forked child: none of its business."""
        if self._socket is not None:
            self._socket.close()
        self.replicas.forget()

    @property
    def backed_up(self) -> bool:
        """Messages wait for the controller to read."""
        return bool(self._waiting)

    def send(self, message: ToController) -> None:
        """Passes a message on, or keeps it until there is room; without a controller nobody needs it."""
        if self._socket is None:
            return
        self._waiting.append(msgspec.json.encode(message))
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.clear()
            self.murder("does not read its messages")
            return
        self.flush()

    def flush(self) -> None:
        """Sends what waits, as far as there is room."""
        while self._waiting and self._socket is not None:
            try:
                self._socket.send(self._waiting[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            except OSError as error:
                if not isinstance(error, BrokenPipeError | ConnectionResetError):
                    log.error("a message to the controller was lost", reason=error, bytes=len(self._waiting[0]))
            self._waiting.popleft()

    def on_readable(self, most: int = _MESSAGES_AT_ONCE) -> None:
        """Reads and serves messages."""
        for _ in range(most):
            if self._socket is None:
                return
            try:
                raw, _, flags, _ = self._socket.recvmsg(_LARGEST_MESSAGE)
            except BlockingIOError:
                return
            except OSError:
                raw, flags = b"", 0
            if not raw:
                self._close()  # its end is closed; SIGCHLD tells the rest
                return
            self._on_raw(raw, flags)

    def request_reload(self) -> None:
        """SIGHUP: passed on now, or as soon as a controller can take it."""
        if self._draining:
            return
        self.reload_wanted = True
        self._notifier.reloading()
        self._try_reload(time.monotonic())

    def check(self, now: float, watched_since: float) -> None:
        """Kills a controller that hangs, gives up reloads that do not end, ends replicas that do not."""
        self.replicas.check(now)
        if self._reload_since is not None and now - self._reload_since > RELOAD_LIMIT:
            log.error("the reload has not ended, it is waited for no longer", after_s=RELOAD_LIMIT)
            self._on_reloaded(Reloaded(error="it did not end in time"))
        if not self.pid or self._murdered or self._draining:
            return
        if self._socket is None and now - self._closed_at > CLOSED_LIMIT:
            self.murder("has closed its socket to the supervisor")
        elif not self._ready and now - max(self._started, watched_since) > self._start_timeout:
            self.murder(f"has not applied its configuration within {self._start_timeout:.0f} s")
        elif self._alive is not None and now - max(self._alive, watched_since) > self._alive_timeout:
            self.murder(f"has given no sign of life for {self._alive_timeout:.0f} s")

    def on_exit(self, status: int, now: float) -> None:
        """The controller has ended. FeError when it makes no sense to go on."""
        pid, self.pid = self.pid, 0
        self.on_readable(most=10_000)  # what it said before it died: a Fatal above all
        self._close()
        was_ready, self._ready = self._ready, False
        if self._draining:
            return
        if self._reload_since is not None:
            self._reload_since, self.reload_wanted = None, True  # its successor does it again
        log.error(f"the controller {describe_exit(status)}; workers go on with what it last applied", ended=pid)
        ran = now - self._started
        if not was_ready:
            self._on_failed_start(status)
        self.due = now + self._backoff.delay(ran if was_ready else 0.0)

    def drain(self) -> None:
        """fe-serve is ending: nobody is replaced, no reload begins."""
        self._draining = True
        self.due = None

    def terminate(self) -> None:
        """Asks the controller to end."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """Ends the controller at once."""
        self.drain()
        self._signal(signal.SIGKILL)

    def forward(self, number: signal.Signals) -> None:
        """Sends a signal to a controller that can take it."""
        if self._ready:
            self._signal(number)

    def murder_silent(self, limit: float) -> bool:
        """Kills it when it has been silent for longer than `limit`: it may hold a lock that a repair waits for.

        Not while it only waits for a processor; True then.
        """
        if self._alive is not None and time.monotonic() - self._alive <= limit:
            return False
        if self.pid and is_runnable(self.pid):
            return True
        self.murder("is silent and may hold up the repair of the lease table")
        return False

    def murder(self, why: str) -> None:
        """Kills it; its end is seen like any other."""
        if self.pid and not self._murdered:
            log.error(f"the controller {why}: it is killed and replaced", victim=self.pid)
            self._murdered = True
            self._signal(signal.SIGKILL)

    def _on_raw(self, raw: bytes, flags: int) -> None:
        try:
            if flags & socket.MSG_TRUNC:
                raise msgspec.DecodeError(f"it is longer than {_LARGEST_MESSAGE} bytes")
            message: ToSupervisor = self._decoder.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            log.error("the controller sent a message that makes no sense", reason=error)
            return
        self._on_message(message)

    def _on_message(self, message: ToSupervisor) -> None:
        match message:
            case Spawn():
                if self.pid and not self._draining:  # nobody would hear of it, or it would have to end at once
                    self.replicas.spawn(message)
            case Stop():
                self.replicas.stop(message.id)
            case ListReplicas():
                self.send(Running(self.replicas.running()))
            case Alive():
                self._alive = time.monotonic()
            case Ready():
                self._on_ready()
            case Reloaded():
                self._on_reloaded(message)
            case Fatal():
                self._on_fatal(message)

    def _on_ready(self) -> None:
        now = time.monotonic()
        self._ready = True
        self._failed_starts = 0
        if self.ready_since is None:
            self.ready_since = now
        log.info("the controller is ready", controller=self.pid)
        self._try_reload(now)

    def _on_reloaded(self, message: Reloaded) -> None:
        self._reload_since = None
        if message.error is None:
            log.info("the configuration was reloaded")
        else:
            log.error("the configuration was not reloaded, the last one stays", reason=message.error)
        self._notifier.status("reload failed, see the log" if message.error else "reloaded")
        self._notifier.ready()

    def _on_fatal(self, message: Fatal) -> None:
        if self.ready_since is not None or self._draining:
            log.error("the controller cannot start", reason=message.message)  # it ends now; the workers serve on
            return
        error = FeError(message.message)
        error.exit_code = message.exit_code if 0 < message.exit_code < 126 else EXIT_INTERNAL
        raise error

    def _on_failed_start(self, status: int) -> None:
        self._failed_starts += 1
        code = os.waitstatus_to_exitcode(status)
        hopeless = code in _HOPELESS
        if self.ready_since is not None or (self._failed_starts < FAILED_STARTS and not hopeless):
            return  # workers serve, also without it: try again, ever more rarely
        tries = "" if self._failed_starts < FAILED_STARTS else f" {self._failed_starts} times in a row"
        error = StartError(f"the controller could not start{tries}: it {describe_exit(status)}; its log says why")
        error.exit_code = code if hopeless else EXIT_WORKER
        raise error

    def _try_reload(self, now: float) -> None:
        """Also while one is under way, which may wait for replicas: the controller lets it give way to the newer."""
        if self.reload_wanted and self._ready and not self._draining:
            self.reload_wanted = False
            self._reload_since = now
            self._signal(signal.SIGHUP)

    def _signal(self, number: signal.Signals) -> None:
        if self.pid:
            os.kill(self.pid, number)

    def _close(self) -> None:
        self._waiting.clear()
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None
            self._closed_at = time.monotonic()
