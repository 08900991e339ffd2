"""How long a freed place is on its way to a request that waits in another process.

From just before `release` in one process, on the first core, to the first thing the other does when its poll on its
eventfd returns, on the last core. The other is asleep each time: /proc says so before the place is given up. Beside it
stands the same with nothing but the eventfd written, which is what the kernel's own wake-up takes.
"""

from __future__ import annotations

import itertools
import os
import select
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from statistics import median, quantiles

import numpy as np

from bench.context import Context
from bench.micro import perf
from bench.openloop import PERCENTILE_LABEL, percentiles
from bench.result import Bar, Curve, Measure, Plot
from fe import _core
from fe._core import Holder, Limits, Table

FAR = 2**62  # a deadline that no benchmark lives to see
REST = 200e-6  # seconds asleep before the place is given up
NAMES = {"fe": "hand_over", "eventfd alone": "eventfd"}


def measure(context: Context) -> Iterator[Measure]:
    """Median and p99 in us, a figure per round."""
    values = perf.run(context, __name__, 300 if context.quick else 3_000, cores=2)
    micros = {party: [[one * 1e6 for one in turn] for turn in values[name]] for party, name in NAMES.items()}
    curves = [Curve(party, *percentiles(np.concatenate(turns))) for party, turns in micros.items()]
    plot = Plot("hand_over", "Hand-over to a waiting process", PERCENTILE_LABEL, "us", curves, x_log=True, y_log=True)
    note = "A virtual machine's sleeping core wakes slowly; what the kernel needs for that is in both parties' figures."
    yield Measure(
        "hand_over", "hand-over to a waiting process, median", "us",
        {party: [median(turn) for turn in turns] for party, turns in micros.items()}, [Bar(60)], note, [plot],
    )  # fmt: skip
    yield Measure(
        "hand_over_p99", "hand-over to a waiting process, p99", "us",
        {party: [quantiles(turn, n=100)[98] for turn in turns] for party, turns in micros.items()},
    )  # fmt: skip


# --- One hand-over after the other -----------------------------------------------------------------------------------

WANTED, ASLEEP, WOKEN_NS, DONE = range(4)  # the shared numbers: of the turn, but for the time at which it ended


class Place:
    """The only place of a deployment; holder 0 has it, holder 1 waits for it."""

    def __init__(self, bell: int) -> None:
        self.table = Table.create(Limits(deployments=1, replicas=1, holders=2, slots=64, workers=1, config_bytes=1))
        self.table.name_eventfd(1, bell)
        self.deployment, self.generation = self.table.add_deployment("bench", 1, 100)
        self.table.add_replica(self.deployment, b"nowhere", _core.REPLICA_READY)
        self.giver, self.taker = self.table.holder(0), self.table.holder(1)
        self.slot = 0

    def _acquire(self, holder: Holder, expected: int) -> int:
        result, slot, _ = holder.acquire(self.deployment, self.generation, FAR)
        assert result == expected
        return slot

    def hold(self) -> None:
        self.slot = self._acquire(self.giver, _core.HELD)

    def wait(self) -> None:
        self._acquire(self.taker, _core.WAITING)

    def give(self) -> None:
        self.giver.release(self.slot)

    def take(self) -> None:
        [(slot, _, _)] = self.taker.collect()
        self.taker.release(slot)


class Nothing:
    """What is handed over when only the bell is rung."""

    def __init__(self, bell: int) -> None:
        self.bell = bell

    def hold(self) -> None: ...
    def wait(self) -> None: ...
    def take(self) -> None: ...

    def give(self) -> None:
        os.eventfd_write(self.bell, 1)


@cache
def hand_overs(kind: type[Place] | type[Nothing]) -> Iterator[float]:
    """Seconds of one hand-over after the other; the waiting process ends with this one."""
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    place, shared = kind(bell), perf.Shared()
    with perf.neighbour(lambda ended: _take_turns(place, bell, shared, ended)) as other:
        for turn in itertools.count(1):
            place.hold()
            shared[WANTED] = turn
            shared.await_change(ASLEEP, turn - 1)
            _await_sleep(other)
            began = time.monotonic_ns()
            place.give()
            shared.await_change(DONE, turn - 1)
            yield (shared[WOKEN_NS] - began) / 1e9


def _take_turns(place: Place | Nothing, bell: int, shared: perf.Shared, ended: Callable[[], bool]) -> None:
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    for turn in itertools.count(1):
        while shared[WANTED] != turn:
            if ended():
                return
        place.wait()
        shared[ASLEEP] = turn
        while not poll.poll(100):
            if ended():
                return
        shared[WOKEN_NS] = time.monotonic_ns()
        os.eventfd_read(bell)
        place.take()
        shared[DONE] = turn


def _await_sleep(pid: int) -> None:
    """Until the process sleeps, and a while more, for its core to come to rest as it would between two requests."""
    end = time.monotonic() + perf.PATIENCE
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        if time.monotonic() > end:
            raise RuntimeError("the other process does not sleep")
    rested = time.monotonic() + REST
    while time.monotonic() < rested:
        pass


def timed(loops: int, kind: type[Place] | type[Nothing]) -> float:
    return sum(next(hand_overs(kind)) for _ in range(loops))


def main() -> None:
    runner = perf.runner(loops=1)
    runner.bench_time_func("hand_over", timed, Place)
    runner.bench_time_func("eventfd", timed, Nothing)


if __name__ == "__main__":
    main()
