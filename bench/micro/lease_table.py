"""What a lease costs: acquire and release, by number of replicas, against another process, and through a full queue.

Pairs that need not wait are repeated in C (`Holder.churn`), with the call that the data plane makes for a request, in a
table whose replicas stand in a random order, as they do once requests have ended in another order than they began.
Those that go through the queue are driven from Python, whose calls are part of their figures. The other process runs
without a pause on the last core for as long as a value is taken on the first one, so no part of it is uncontended.
"""

from __future__ import annotations

import os
import random
import select
import time
from collections.abc import Callable, Iterator
from functools import cache

from bench.context import Context
from bench.micro import perf
from bench.result import Bar, Measure
from fe import _core
from fe._core import Holder, Limits, Table

CONTENDED = {
    "10 replicas": "contended_wall_10",
    "10,000 replicas": "contended_wall_10000",
    "10,000, CPU time": "contended_cpu_10000",
}
LEASES = 20_000  # for a value
SLICE = 1_000  # pairs between two looks of the other process at whether it is over
PAIRS_DONE, SPENT_NS = 0, 1  # what the other process says in shared memory
FAR = 2**62  # a deadline that no benchmark lives to see
SIZES = (10, 100, 1_000, 10_000)  # replicas
CAPACITY = 4
BUSY_CAPACITY = 8
BUSY_REQUESTS = 16  # that each of two processes has in flight or waiting at once


def measure(context: Context) -> Iterator[Measure]:
    """Nanoseconds per lease."""
    values = perf.run(context, __name__, 5 if context.quick else 20, cores=2)
    yield Measure(
        "lease", "lease acquired and released by one process", "ns",
        perf.flat(values, {f"{size:,} replicas": f"alone_{size}" for size in SIZES}, 1e9),
        [Bar(200, party="10 replicas"), Bar(1.3, party="10,000 replicas", beside="10 replicas")],
        "Pairs in C, with the call that the data plane makes; replicas stand in the order of earlier releases, "
        "which is a random one.",
    )  # fmt: skip
    yield Measure(
        "lease_contended", "lease acquired and released, two processes contending", "ns",
        perf.flat(values, CONTENDED, 1e9),
        [Bar(600, party="10 replicas"), Bar(600, party="10,000 replicas")],
        "Per pair of one process while the other does the same. Wall time is what a request pays: who finds the lock "
        "taken may sleep until it is free, which CPU time leaves out. Needs two cores with nothing else on them.",
    )  # fmt: skip
    names = {"1 waits": "queue_1", "1,000 wait": "queue_1000", "two processes, 24 wait": "queue_two"}
    yield Measure(
        "lease_queued", "lease through the queue", "ns",
        perf.flat(values, names, 1e9), [Bar(1.3, party="1,000 wait", beside="1 waits")],
        "Released, handed over, collected, asked for again: from Python, whose calls are part of it. Two processes: "
        "wall time per lease of one of them, bells included.",
    )  # fmt: skip


def table_with(replicas: int, capacity: int = CAPACITY) -> tuple[Table, int, int]:
    """A table of its own with one deployment of so many ready replicas; its index and generation."""
    slots = max(2048, replicas * capacity)
    table = Table.create(Limits(deployments=1, replicas=replicas, holders=2, slots=slots, workers=1, config_bytes=1))
    deployment, generation = table.add_deployment("bench", capacity, 2048)
    for _ in range(replicas):
        table.add_replica(deployment, b"nowhere", _core.REPLICA_READY)
    return table, deployment, generation


# --- Without a queue -------------------------------------------------------------------------------------------------


def alone(loops: int, replicas: int) -> float:
    """Seconds for so many pairs."""
    perf.pin(0)
    holder, deployment, generation = _lone_holder(replicas)
    return holder.churn(deployment, generation, loops) / 1e9


@cache
def _lone_holder(replicas: int) -> tuple[Holder, int, int]:
    table, deployment, generation = table_with(replicas)
    holder = table.holder(0)
    mix(holder, deployment, generation, replicas * CAPACITY)
    return holder, deployment, generation


def mix(holder: Holder, deployment: int, generation: int, places: int) -> None:
    """Takes every place and gives them back in a random order, which is the replicas' order from then on."""
    slots = [holder.acquire(deployment, generation, FAR)[1] for _ in range(places)]
    random.Random(1).shuffle(slots)  # noqa: S311 - the same order in every run
    for slot in slots:
        holder.release(slot)


def contended(loops: int, replicas: int, clock: Callable[[], float]) -> float:
    """Seconds by this clock for as many pairs of one process, while another does the same.

    Mutexes are not fair, and now one, now the other gets ahead: counted is what both did.
    """
    table, deployment, generation = table_with(replicas)
    holder = table.holder(0)
    mix(holder, deployment, generation, replicas * CAPACITY)
    shared = perf.Shared()

    def other(ended: Callable[[], bool]) -> None:
        mine = table.holder(1)
        began = clock()
        while not ended():
            mine.churn(deployment, generation, SLICE)
            shared[SPENT_NS] = round((clock() - began) * 1e9)
            shared[PAIRS_DONE] += SLICE

    with perf.neighbour(other):
        shared.await_change(PAIRS_DONE, 0)
        done, spent, began = shared[PAIRS_DONE], shared[SPENT_NS], clock()
        holder.churn(deployment, generation, loops)
        seconds = clock() - began + (shared[SPENT_NS] - spent) / 1e9
        return seconds / (loops + shared[PAIRS_DONE] - done) * loops


# --- Through the queue -----------------------------------------------------------------------------------------------


def queued(loops: int, waiting: int) -> float:
    """Seconds for leases that are each given to the first of so many waiting requests of the same process."""
    perf.pin(0)
    table, deployment, generation = table_with(1, capacity=1)
    holder = table.holder(0)
    _, slot, _ = holder.acquire(deployment, generation, FAR)
    for _ in range(waiting):
        holder.acquire(deployment, generation, FAR)
    began = time.perf_counter()
    for _ in range(loops):
        holder.release(slot)
        [(slot, _, _)] = holder.collect()
        holder.acquire(deployment, generation, FAR)
    return time.perf_counter() - began


def queued_by_two(loops: int) -> float:
    """Seconds for leases of this process, while it and another keep a queue between them that is never empty."""
    table, deployment, generation = table_with(1, capacity=BUSY_CAPACITY)
    bells = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(2)]
    for index, bell in enumerate(bells):
        table.name_eventfd(index, bell)
    shared = perf.Shared()

    def other(ended: Callable[[], bool]) -> None:
        shared[0] = 1
        serve(table.holder(1), bells[1], deployment, generation, lambda _: ended())

    try:
        with perf.neighbour(other):
            shared.await_change(0, 0)
            began = time.perf_counter()
            serve(table.holder(0), bells[0], deployment, generation, lambda leases: leases >= loops)
            return time.perf_counter() - began
    finally:
        for bell in bells:
            os.close(bell)


def serve(holder: Holder, bell: int, deployment: int, generation: int, ended: Callable[[int], bool]) -> None:
    """Gives back every lease that comes and asks for another, until `ended(leases so far)`.

    Blocks on the bell while the other process has all the leases, as a worker does.
    """
    poll = select.poll()
    poll.register(bell, select.POLLIN)
    mine = [holder.acquire(deployment, generation, FAR) for _ in range(BUSY_REQUESTS)]
    held = [slot for result, slot, _ in mine if result == _core.HELD]
    count = 0
    while not ended(count):
        for slot in held:
            holder.release(slot)
            holder.acquire(deployment, generation, FAR)
        count += len(held)
        held = [slot for slot, _, _ in holder.collect()]
        if not held and poll.poll(100):
            os.eventfd_read(bell)


def main() -> None:
    runner = perf.runner(LEASES)
    for replicas in SIZES:
        runner.bench_time_func(f"alone_{replicas}", alone, replicas)
    for replicas in (SIZES[0], SIZES[-1]):
        runner.bench_time_func(f"contended_wall_{replicas}", contended, replicas, time.perf_counter)
    runner.bench_time_func(f"contended_cpu_{SIZES[-1]}", contended, SIZES[-1], time.process_time)
    for waiting in (1, 1_000):
        runner.bench_time_func(f"queue_{waiting}", queued, waiting)
    runner.bench_time_func("queue_two", queued_by_two)


if __name__ == "__main__":
    main()
