"""What a lease costs: acquire and release in C, by number of replicas and of processes at once.

    .venv/bin/python bench/lease_table.py [--rounds 300000] [--repeat 5]

Each process repeats acquire and release on one deployment. Figures are ns of CPU time per pair (the best of several
runs), which other load on the machine disturbs least, and ns of wall time per pair and process.
"""

from __future__ import annotations

import argparse
import os
import struct
import time

from fe import _core
from fe._core import Limits, Table

RESULT = struct.Struct("dd")


def table_with(replicas: int) -> tuple[Table, int, int]:
    table = Table.create(Limits(deployments=1, replicas=replicas, holders=8, slots=64, workers=1, config_bytes=1))
    deployment, generation = table.add_deployment("bench", 4, 100)
    for _ in range(replicas):
        table.add_replica(deployment, b"nowhere", _core.REPLICA_READY)
    return table, deployment, generation


def measure(table: Table, deployment: int, generation: int, processes: int, rounds: int) -> tuple[float, float]:
    """CPU and wall time in ns per pair, the worst of the processes."""
    reader, writer = os.pipe()
    start, starter = os.pipe()
    children = []
    for index in range(processes):
        pid = os.fork()
        if pid == 0:
            holder = table.holder(index)
            os.close(starter)
            os.read(start, 1)  # ends when every copy of the other side is closed
            before = time.process_time_ns()
            wall = holder.churn(deployment, generation, rounds)
            os.write(writer, RESULT.pack((time.process_time_ns() - before) / rounds, wall / rounds))
            os._exit(0)
        children.append(pid)
    os.close(start)
    os.close(starter)
    for pid in children:
        os.waitpid(pid, 0)
    os.close(writer)
    with os.fdopen(reader, "rb") as results:
        figures = list(RESULT.iter_unpack(results.read()))
    return max(cpu for cpu, _ in figures), max(wall for _, wall in figures)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=300_000, help="pairs per process and run (default 300000)")
    parser.add_argument("--repeat", type=int, default=5, help="runs, of which the best counts (default 5)")
    options = parser.parse_args()
    print(f"{'replicas':>8} {'processes':>9} {'CPU ns':>8} {'wall ns':>8}   ({_core.BUILD} build)")
    for replicas, processes in ((1, 1), (10, 1), (100, 1), (1_000, 1), (10_000, 1), (20, 2), (10_000, 2), (20, 4)):
        table, deployment, generation = table_with(replicas)
        runs = [measure(table, deployment, generation, processes, options.rounds) for _ in range(options.repeat)]
        cpu, wall = min(run[0] for run in runs), min(run[1] for run in runs)
        print(f"{replicas:8} {processes:9} {cpu:8.0f} {wall:8.0f}", flush=True)


if __name__ == "__main__":
    main()
