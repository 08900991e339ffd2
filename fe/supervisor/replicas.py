"""Local replicas: commands that run under keepers at the controller's request, and outlive it.

Owns: the keepers, their report pipe, the checks of what the controller asks for. Never: how many replicas there should
be, or whether they answer. A keeper's end means that its command and everything below it is gone.
Read next: fe/keeper.h (what a keeper does), link.py (where the requests come from).
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass

from fe import _keeper
from fe.log import logger
from fe.model import Exited, Spawn, Spawned, ToController

log = logger("supervisor")

MOST_REPLICAS = 10_000
MOST_GRACE = 3600.0  # seconds
_ID_LENGTH = 200
_START_LIMIT = 10.0  # seconds until a command has been executed; a file system that hangs must not look like a start
_KEEPER_LIMIT = 15.0  # seconds beyond the grace after which a keeper itself is stuck
_REPORT = struct.Struct(_keeper.REPORT)


@dataclass
class Replica:
    """A replica from the fork of its keeper to its end."""

    id: str
    keeper: int  # pid
    grace: float
    pid: int = 0  # of the command, once it has been executed
    deadline: float | None = None  # time.monotonic(): until when it must have started, or ended
    stopping: bool = False
    failed: bool = False  # could not be executed; the controller knows
    status: int | None = None  # wait status of the command


class Replicas:
    """The local replicas. `send` passes a message to the controller, if there is one."""

    def __init__(self, send: Callable[[ToController], None], nofile: int) -> None:
        self._send = send
        self._nofile = nofile  # the limit that commands get: the one fe-serve was started with
        self._by_id: dict[str, Replica] = {}
        self._by_keeper: dict[int, Replica] = {}
        self._reports, self._reporter = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def __len__(self) -> int:
        return len(self._by_keeper)

    def fileno(self) -> int:
        """Readable when keepers have reported."""
        return self._reports

    def forget(self) -> None:
        """In a forked child: none of its business."""
        os.close(self._reports)
        os.close(self._reporter)

    def running(self) -> dict[str, int]:
        """By id: those that run or are about to, without those that are being ended."""
        return {id: found.pid or found.keeper for id, found in self._by_id.items() if not found.stopping}

    def spawn(self, wanted: Spawn) -> None:
        """Starts a replica; the controller hears Spawned when the command has been executed, or why it was not."""
        error = self._objection(wanted)
        if error is None:
            try:
                self._start(wanted)
            except (OSError, ValueError) as failure:
                error = f"{wanted.output or 'the keeper'}: {failure}"
        if error is not None:
            log.error("a replica was not started", replica=wanted.id[:_ID_LENGTH], reason=error)
            self._send(Spawned(wanted.id, 0, error))

    def stop(self, id: str) -> None:
        """Ends a replica: SIGTERM, its grace, SIGKILL. Unknown ids are over already."""
        replica = self._by_id.get(id)
        if replica is not None and not replica.stopping:
            self._stop(replica)

    def stop_all(self) -> None:
        """Ends all, each with its grace."""
        for id in list(self._by_id):
            self.stop(id)

    def kill_all(self) -> None:
        """Ends all at once: what SIGHUP means to a keeper."""
        for replica in self._by_keeper.values():
            replica.stopping = True
            replica.deadline = time.monotonic() + _KEEPER_LIMIT
            os.kill(replica.keeper, signal.SIGHUP)

    def on_reports(self) -> None:
        """Reads what keepers have told."""
        while True:
            try:
                raw = os.read(self._reports, _REPORT.size * 256)
            except BlockingIOError:
                return
            for keeper, kind, value, stage in _REPORT.iter_unpack(raw):
                replica = self._by_keeper.get(keeper)
                if replica is not None:
                    self._on_report(replica, kind, value, stage)

    def on_exit(self, keeper: int, status: int) -> bool:
        """A child has ended; True when it was a keeper."""
        self.on_reports()  # written before its end, so it is here
        replica = self._by_keeper.pop(keeper, None)
        if replica is None:
            return False
        if replica.failed:
            return True
        del self._by_id[replica.id]
        if replica.status is None:
            log.error("the keeper of a replica was killed", replica=replica.id)
            self._end_group(replica)
        code = os.waitstatus_to_exitcode(status if replica.status is None else replica.status)
        log.info("a replica has ended", replica=replica.id, status=code)
        if not replica.pid:
            self._send(Spawned(replica.id, 0, "its keeper ended before it was executed"))
        else:
            self._send(Exited(replica.id, code))
        return True

    def check(self, now: float) -> None:
        """Ends keepers and starts that exceed their limits."""
        for replica in self._by_keeper.values():
            if replica.deadline is None or now < replica.deadline:
                continue
            if replica.stopping:
                log.error("the keeper of a replica does not end and is killed", replica=replica.id)
                os.kill(replica.keeper, signal.SIGKILL)
            else:
                log.error("a replica was not executed in time", replica=replica.id, after_s=_START_LIMIT)
                self._stop(replica)
            replica.deadline = now + _KEEPER_LIMIT

    def next_deadline(self) -> float | None:
        """When `check` has something to do."""
        return min((r.deadline for r in self._by_keeper.values() if r.deadline is not None), default=None)

    def keepers(self) -> set[int]:
        """Their pids."""
        return set(self._by_keeper)

    def longest_grace(self) -> float:
        """How long ending them may take, in seconds."""
        return max((replica.grace for replica in self._by_keeper.values()), default=0.0)

    def _start(self, wanted: Spawn) -> None:
        output = 2
        if wanted.output is not None:
            path = os.path.join(wanted.cwd, wanted.output)
            # Non-blocking for the open alone (a FIFO may have no reader); the command expects it blocking.
            output = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)
            os.set_blocking(output, True)
        try:
            grace = round(wanted.stop_grace * 1000)
            keeper = _keeper.spawn_keeper(
                wanted.argv, wanted.env, wanted.cwd, output, self._reporter, grace, self._nofile
            )
        finally:
            if output != 2:
                os.close(output)
        replica = Replica(wanted.id, keeper, wanted.stop_grace, deadline=time.monotonic() + _START_LIMIT)
        self._by_id[replica.id] = self._by_keeper[keeper] = replica

    def _stop(self, replica: Replica) -> None:
        replica.stopping = True
        replica.deadline = time.monotonic() + replica.grace + _KEEPER_LIMIT
        os.kill(replica.keeper, signal.SIGTERM)

    def _on_report(self, replica: Replica, kind: int, value: int, stage: int) -> None:
        if kind == _keeper.STARTED:
            replica.pid = value
            if not replica.stopping:
                replica.deadline = None
            self._send(Spawned(replica.id, value, None))
        elif kind == _keeper.EXITED:
            replica.status = value
        elif kind == _keeper.FAILED:
            what = {_keeper.STAGE_CWD: "its working directory", _keeper.STAGE_EXEC: "its command"}.get(stage, "set-up")
            replica.failed = True
            del self._by_id[replica.id]
            log.error("a replica was not started", replica=replica.id, reason=f"{what}: {os.strerror(value)}")
            self._send(Spawned(replica.id, 0, f"{what}: {os.strerror(value)}"))

    def _end_group(self, replica: Replica) -> None:
        """The command itself died with its keeper (PR_SET_PDEATHSIG); its group did not."""
        if replica.pid:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(replica.pid, signal.SIGKILL)

    def _objection(self, wanted: Spawn) -> str | None:
        if not wanted.id or len(wanted.id) > _ID_LENGTH or wanted.id in self._by_id:
            return "its id is empty, too long or in use"
        if not wanted.argv or not wanted.argv[0]:
            return "its command is empty"
        if any("=" in key or not key for key in wanted.env):
            return "a name in its environment is empty or has a '='"
        if not math.isfinite(wanted.stop_grace) or not 0 <= wanted.stop_grace <= MOST_GRACE:
            return f"stop_grace is not between 0 and {MOST_GRACE:.0f} s"
        if not os.path.isabs(wanted.cwd):
            return "its working directory is not absolute"
        if len(self._by_keeper) >= MOST_REPLICAS:
            return f"there are {MOST_REPLICAS} local replicas already"
        return None
