"""A bounded storm, run in the debug build by test_interleaving.py: workers and a controller do random things and die at
random points, recovery included, until the deaths are used up; then they finish.

Owns: what each process does and the proof that no replica ever serves more than it may. That proof stands outside the
table: a replica's places are byte ranges of a file, and whoever holds a lease must be able to lock one of them (fcntl;
the kernel frees the locks of the dead). Whoever sleeps is woken by its bell or fails. Never: judges by time.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import select
import sys
import tempfile
import traceback
from collections.abc import Callable
from typing import BinaryIO

from fe import _core
from fe._core import Holder, Limits, Table
from tests.core.tables import FAR, PAST, Bench

WORKERS = 3
OPERATIONS = 1200  # of one worker's life
CAPACITY = 2
REPLICAS = 3
SLEEP_MS = 30_000  # with a busy machine in mind: somebody else always has something to give back
LIMITS = Limits(deployments=2, replicas=REPLICAS + 1, holders=WORKERS, slots=6, workers=1, config_bytes=64)


class Places:
    """One process's view of every replica's places."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._taken: dict[int, int] = {}  # slot -> byte

    def enter(self, slot: int, replica: int) -> None:
        for byte in range(replica * CAPACITY, (replica + 1) * CAPACITY):
            if byte in self._taken.values():
                continue
            try:
                fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
            except BlockingIOError:
                continue
            self._taken[slot] = byte
            return
        raise AssertionError(f"replica {replica} serves more than {CAPACITY}")

    def leave(self, slot: int) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._taken.pop(slot))


class Worker:
    """Random operations within the contract: collect before sleeping, sleep only with nothing to give back."""

    def __init__(self, holder: Holder, bell: int, places: Places, dice: random.Random) -> None:
        self._holder, self._bell, self._places, self._dice = holder, bell, places, dice
        self._waiting: list[int] = []
        self._held: list[int] = []

    def live(self) -> None:
        for _ in range(OPERATIONS):
            act = self._dice.choice(
                [self._acquire, self._acquire, self._release, self._retry, self._cancel, self._rest]
            )
            act()
        while self._held or self._waiting:
            self._rest()
            self._release()

    def _hold(self, slot: int, replica: int) -> None:
        self._places.enter(slot, replica)
        self._held.append(slot)

    def _acquire(self) -> None:
        deadline = PAST if self._dice.random() < 0.1 else FAR
        ask = self._dice.choice([self._holder.acquire, self._holder.await_])
        result, slot, replica = ask(0, 1, deadline)
        if result == _core.HELD:
            self._hold(slot, replica)
        elif result == _core.WAITING:
            self._waiting.append(slot)
        else:
            assert result in (_core.NO_SLOT, _core.QUEUE_FULL, _core.NO_REPLICA), result

    def _release(self) -> None:
        if self._held:
            slot = self._held.pop(self._dice.randrange(len(self._held)))
            self._places.leave(slot)
            self._holder.release(slot)

    def _retry(self) -> None:
        if self._held:
            slot = self._held.pop(self._dice.randrange(len(self._held)))
            self._places.leave(slot)
            result, replica = self._holder.retry(slot, FAR, self._dice.random() < 0.5)
            if result == _core.HELD:
                self._hold(slot, replica)
            elif result == _core.WAITING:
                self._waiting.append(slot)
            else:
                assert result == _core.NO_REPLICA, result

    def _cancel(self) -> None:
        if self._waiting:
            slot = self._waiting.pop(self._dice.randrange(len(self._waiting)))
            result, replica = self._holder.cancel(slot)
            if result == _core.HELD:
                self._hold(slot, replica)

    def _collect(self) -> None:
        while self._holder.mail():
            for slot, replica, result in self._holder.collect(self._dice.randint(1, 4)):
                self._waiting.remove(slot)
                if result == _core.HELD:
                    self._hold(slot, replica)

    def _rest(self) -> None:
        """Back to the event loop: with only waiters left, nothing but the bell goes on from here."""
        self._collect()
        if self._waiting and not self._held:
            assert select.select([self._bell], [], [], SLEEP_MS / 1000)[0], f"nobody rang for {self._waiting}"
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        self._collect()


def control(table: Table, dice: random.Random) -> None:
    """Capacity, drain and removal, at random; at the end everything as it was."""
    for _ in range(OPERATIONS // 4):
        replicas = [r for r in table.replicas(0) if table.replica(r).state != _core.REPLICA_REMOVING]
        replica = dice.choice(replicas)
        act = dice.randrange(5)
        if act == 0:
            table.configure_deployment(0, dice.randint(1, CAPACITY), 50)
        elif act == 1:
            table.set_replica_state(replica, dice.choice([_core.REPLICA_DRAINING, _core.REPLICA_STARTING]))
        elif act == 2:
            table.set_replica_state(replica, _core.REPLICA_READY)
        elif act == 3 and len(replicas) == REPLICAS + 1:
            table.remove_replica(replica)
        elif act == 4 and len(table.replicas(0)) <= REPLICAS:
            table.add_replica(0, b"another", _core.REPLICA_READY)
        table.publish(b"%d" % dice.randrange(1000))
    table.configure_deployment(0, CAPACITY, 50)
    for replica in table.replicas(0):
        table.set_replica_state(replica, _core.REPLICA_READY)


class Storm:
    """The supervisor of the storm: forks, reaps, mends, starts again."""

    def __init__(self, seed: int, deaths: int) -> None:
        self._dice, self._deaths = random.Random(seed), deaths  # noqa: S311 (repeatable, not secret)
        self.bench = Bench(LIMITS)
        self.bench.deployment(CAPACITY, 50, REPLICAS)
        self._roles: dict[int, int] = {}  # pid -> holder, or -1 for the controller
        self.killed = 0

    def run(self, path: str) -> None:
        for role in range(-1, WORKERS):
            self._start(role, path)
        while self._roles:
            pid, status = os.wait()
            if pid not in self._roles:
                continue
            role = self._roles.pop(pid)
            if os.WIFSIGNALED(status):
                self.killed += 1
                self._mend(role)
                self._start(role, path)
            else:
                assert os.WEXITSTATUS(status) == 0, f"process {role} failed"

    def _arm(self, most: int) -> int:
        """At which point the next process dies; 0 never."""
        return self._dice.randint(1, most) if self.killed < self._deaths else 0

    def _start(self, role: int, path: str) -> None:
        at, seed = self._arm(3000), self._dice.random()
        self._roles[self._fork(at, lambda: self._play(role, seed, path))] = role

    def _play(self, role: int, seed: float, path: str) -> None:
        dice = random.Random(seed)  # noqa: S311
        if role < 0:
            control(self.bench.table, dice)
            return
        with open(path, "r+b") as file:
            holder = self.bench.table.holder(role)
            Worker(holder, self.bench.bell(role), Places(file), dice).live()

    def _mend(self, role: int) -> None:
        """Recovery is killed at random as well, and begun anew until it is through."""

        def work() -> None:
            if role < 0:
                self.bench.table.repair()
            else:
                self.bench.table.recover(role)

        if role >= 0:
            self.bench.table.mark_absent(role)
        status = 1
        while status != 0:
            status = os.waitpid(self._fork(self._arm(400), work), 0)[1]
            self.killed += status != 0

    def _fork(self, at: int, act: Callable[[], None]) -> int:
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            _core.crash_arm(at)
            act()
            _core.crash_arm(0)
            status = 0
        except BaseException:
            _core.crash_arm(0)
            traceback.print_exc()
        finally:
            os._exit(status)


def storm(seed: int) -> dict[str, object]:
    """Runs it and judges what it leaves: nothing in use, nothing lost."""
    with tempfile.NamedTemporaryFile() as file:
        made = Storm(seed, deaths=60)
        made.run(file.name)
    table = made.bench.table
    problems = table.check()
    load = table.deployment(0)
    assert (load.in_flight, load.queue_depth, problems) == (0, 0, []), (load, problems)
    holder = table.holder(0)
    places = 0
    while holder.try_acquire(0, load.generation)[0] == _core.HELD:
        places += 1
    assert places == min(load.ready * CAPACITY, LIMITS.slots)
    return {"killed": made.killed}


def main() -> None:
    for line in sys.stdin:
        try:
            said = storm(int(line))
        except AssertionError:
            said = {"failure": traceback.format_exc()}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
