"""Requests per second with one, two, four and eight workers, as far as the machine has cores for them.

fe has the first cores, one for each worker (its controller sleeps meanwhile); wrk and the back-ends, an nginx worker on
each core, share all others. One worker needs about one core of load, so where fewer are left the load is the limit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace

from bench.context import Context, Rounds
from bench.macro.cpu import CONNECTIONS, wrk
from bench.parties import SHORT_ANSWER, Setup, fe, nginx_backends
from bench.result import Curve, Measure, Plot

WORKERS = (1, 2, 4, 8)
CAPACITY = 256  # of each back-end


def measure(context: Context) -> Iterator[Measure]:
    """Requests per second by number of workers, with a plot where there are several."""
    context.need("nginx", "wrk", "taskset")
    cores = sorted(os.sched_getaffinity(0))
    counts = [count for count in WORKERS if count == 1 or count < len(cores)]
    rates: Rounds = {_label(count): [] for count in counts}
    for _ in range(context.rounds):
        for count in counts:
            rates[_label(count)].append(_rate(context, cores[:count], cores[count:] or cores))
    measured = Measure("scaling", "requests with several workers", "1/s", rates, note=_note(len(cores), counts))
    yield measured if len(counts) == 1 else _with_plot(measured, counts)


def _label(count: int) -> str:
    return "1 worker" if count == 1 else f"{count} workers"


def _rate(context: Context, mine: Sequence[int], others: Sequence[int]) -> float:
    """Requests per second of an fe that has just been started on these cores."""
    with (
        nginx_backends(context, SHORT_ANSWER, others) as backends,
        fe(context, Setup(backends, CAPACITY), len(mine), _listed(mine)) as party,
    ):
        _, per_second = wrk(
            context, party, _listed(others), context.seconds / 3,
            f"-t{len(others)}", f"-c{max(CONNECTIONS * len(mine), len(others))}",
        )  # fmt: skip
    return per_second


def _listed(cores: Sequence[int]) -> str:
    return ",".join(map(str, cores))


def _note(cores: int, counts: Sequence[int]) -> str:
    short = [_label(count) for count in counts if cores - count < count]
    lacking = f" The load had fewer cores than {' and '.join(short)}, and may be the limit there." if short else ""
    return f"This machine has {cores} usable cores: {_label(counts[-1])} at most.{lacking}"


def _with_plot(measured: Measure, counts: Sequence[int]) -> Measure:
    medians = [measured.median(_label(count)) for count in counts]
    curves = [
        Curve("fe", counts, medians),
        Curve("in proportion to one worker", counts, [medians[0] * count for count in counts]),
    ]
    return replace(measured, plots=[Plot("scaling", measured.title, "workers", "requests per second", curves)])
