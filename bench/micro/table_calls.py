"""What the lease table's rarer calls take: recovery of a dead worker, the snapshot, the statistics.

Recovery is what stands between a worker's death and the leases it held being given to those that wait. Snapshots are
taken by every worker after a change of the configuration, statistics are read whenever somebody asks for /metrics.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import cache

from bench.context import Context
from bench.micro import perf
from bench.micro.snapshots import encoded
from bench.result import Measure
from fe import _core
from fe._core import Limits, Table
from fe.control.numeric import np

CALLS = 20  # for a value
LEASES = 10_000
REPLICAS = 100
DEPLOYMENTS = 1_000
WORKERS = 8
FAR = 2**62  # a deadline that no benchmark lives to see


def measure(context: Context) -> Iterator[Measure]:
    """Microseconds per call."""
    values = perf.run(context, __name__, 5 if context.quick else 10)
    yield Measure(
        "recover", "recovery of a dead worker", "us", perf.flat(values, {"10,000 leases held": "recover"}, 1e6),
        note=f"All leases given back and the deployment counted anew ({REPLICAS} replicas).",
    )  # fmt: skip
    sizes = {"1 endpoint": 1, f"{DEPLOYMENTS:,} endpoints": DEPLOYMENTS}
    raw = {text: len(encoded(count)) for text, count in sizes.items()}
    described = ", ".join(f"{text}: {length:,} bytes" for text, length in raw.items())
    for call, title in (
        ("snapshot", "snapshot copied out"),
        ("publish", f"snapshot published, {WORKERS} workers rung"),
    ):
        names = {text: f"{call}_{count}" for text, count in sizes.items()}
        yield Measure(call, title, "us", perf.flat(values, names, 1e6), note=f"{described}.")
    yield Measure(
        "statistics", "statistics summed up over workers", "us",
        perf.flat(values, {f"{DEPLOYMENTS:,} deployments, {WORKERS} workers": "statistics"}, 1e6),
        note="By numpy straight from shared memory, as /metrics does.",
    )  # fmt: skip


def recover(loops: int) -> float:
    """Seconds for so many recoveries; taking the leases before each is not counted."""
    table = Table.create(Limits(deployments=1, replicas=REPLICAS, holders=1, slots=LEASES, workers=1, config_bytes=1))
    deployment, generation = table.add_deployment("bench", LEASES // REPLICAS, 100)
    for _ in range(REPLICAS):
        table.add_replica(deployment, b"nowhere", _core.REPLICA_READY)
    spent = 0.0
    for _ in range(loops):
        holder = table.holder(0)
        for _ in range(LEASES):
            holder.acquire(deployment, generation, FAR)
        began = time.perf_counter()
        given_back = table.recover(0)
        spent += time.perf_counter() - began
        assert given_back == LEASES
    return spent


@cache
def _table() -> Table:
    """With the default limits but for the workers, who are all there and have eventfds."""
    table = Table.create(Limits(holders=WORKERS, workers=WORKERS))
    for index in range(WORKERS):
        table.holder(index).set_active()
        table.name_eventfd(index, os.eventfd(0, os.EFD_NONBLOCK))
    return table


def publish(loops: int, endpoints: int) -> float:
    """Seconds for so many changes of the configuration."""
    return _timed(loops, _table().publish, encoded(endpoints))


def snapshot(loops: int, endpoints: int) -> float:
    """Seconds for so many copies of it."""
    _table().publish(encoded(endpoints))
    return _timed(loops, _table().snapshot)


def statistics(loops: int) -> float:
    """Seconds for so many sums, taken as `fe.control.metrics` takes them."""
    table = _table()
    places = [*range(DEPLOYMENTS), table.unrouted]
    return _timed(loops, lambda: np.asarray(table.statistics())[:, places].sum(axis=0, dtype=np.uint64))


def _timed(loops: int, call: Callable[..., object], *arguments: object) -> float:
    began = time.perf_counter()
    for _ in range(loops):
        call(*arguments)
    return time.perf_counter() - began


def main() -> None:
    runner = perf.runner(CALLS)
    runner.bench_time_func("recover", recover)
    for endpoints in (1, DEPLOYMENTS):
        runner.bench_time_func(f"publish_{endpoints}", publish, endpoints)
        runner.bench_time_func(f"snapshot_{endpoints}", snapshot, endpoints)
    runner.bench_time_func("statistics", statistics)


if __name__ == "__main__":
    main()
