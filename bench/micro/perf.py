"""How the micro benchmarks use pyperf: one run of a script a round, a fresh process for each benchmark of it.

Owns: the arguments of those runs, and the values that come back, by benchmark and round. Never: what is measured.
A round runs all benchmarks of a script one after the other, so their ratios are those of one moment. How many times
an operation is repeated for one value is fixed in each script, so nothing has to be calibrated: some milliseconds a
value, which is far above the clock's grain and short beside what else goes on on a machine.
"""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pyperf

from bench.context import Context

ROOT = Path(__file__).resolve().parents[2]
ROUND_LIMIT = 300.0  # seconds that one run of a script may take
PATIENCE = 10.0  # seconds for another process to do its part; beyond, the benchmark fails

Values = dict[str, list[tuple[float, ...]]]


def run(context: Context, module: str, values: int, cores: int = 1) -> Values:
    """Benchmark -> for each round so many values, in seconds per operation. RuntimeError with what the script said.

    It runs on the core of the proxies, and has that of the load as well where it asks for two.
    """
    found: Values = {}
    for turn in range(context.rounds):
        file = context.folder / f"{module}-{turn}.json"
        options = ["--quiet", "--processes=1", f"--values={values}", f"--output={file}"]
        affinity = "--affinity=" + ",".join(map(str, (context.proxy_core, context.load_core)[:cores]))
        done = subprocess.run(
            [sys.executable, "-m", module, *options, affinity], cwd=ROOT, capture_output=True, text=True,
            stdin=subprocess.DEVNULL, timeout=ROUND_LIMIT,
        )  # fmt: skip
        if done.returncode:
            raise RuntimeError(f"{module} ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        for benchmark in pyperf.BenchmarkSuite.load(str(file)):
            found.setdefault(benchmark.get_name(), []).append(benchmark.get_values())
    return found


def flat(values: Values, names: dict[str, str], scale: float) -> dict[str, list[float]]:
    """Samples for a `Measure`: variant -> every value times `scale`, round after round; `names` has the benchmarks'."""
    return {variant: [one * scale for turn in values[name] for one in turn] for variant, name in names.items()}


# --- In the scripts --------------------------------------------------------------------------------------------------


def runner(loops: int) -> pyperf.Runner:
    """The Runner of the script that is running as `python -m`, with so many operations to a value."""
    spec = sys.modules["__main__"].__spec__
    assert spec is not None
    return pyperf.Runner(loops=loops, program_args=("-m", spec.name))


@cache
def _cores() -> list[int]:
    """Those that pyperf was told; asked for before `pin` narrows them down."""
    return sorted(os.sched_getaffinity(0))


def pin(which: int) -> None:
    """This process to the first (0) or the last (-1) of its cores."""
    os.sched_setaffinity(0, {_cores()[which]})


class Shared:
    """A few numbers that a process and its fork share. One writes each, the other reads it."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)

    def __getitem__(self, index: int) -> int:
        return int(struct.unpack_from("=q", self._memory, index * 64)[0])  # a cache line each

    def __setitem__(self, index: int, value: int) -> None:
        struct.pack_into("=q", self._memory, index * 64, value)

    def await_change(self, index: int, value: int) -> None:
        """Spins for as long as the number is `value`: a process that slept would not be on its core afterwards."""
        end = time.monotonic() + PATIENCE
        while self[index] == value:
            if time.monotonic() > end:
                raise RuntimeError("the other process does not answer")


@contextmanager
def neighbour(work: Callable[[Callable[[], bool]], None]) -> Iterator[int]:
    """A fork that does `work(ended)` on the last core, this process being on the first; gives its process id.

    `work` returns when `ended()`, which is true as well when this process dies first: nothing is left running.
    """
    pin(0)
    parent, shared = os.getpid(), Shared()
    pid = os.fork()
    if pid == 0:
        try:
            pin(-1)
            work(lambda: shared[0] == 1 or os.getppid() != parent)
        finally:
            os._exit(0)
    try:
        yield pid
    finally:
        shared[0] = 1
        os.waitpid(pid, 0)
