"""Added latency: what a request takes longer through fe, nginx and HAProxy than without them, at fixed rates.

Open loop and paired: every tick sends one request to each target in turn - the back-end itself and the proxies - in an
order that is drawn anew, and latency counts from the scheduled time. Within its tick each has its moment: at once they
would queue for the proxies' core, and each be charged with the others' work. At 5,000/s the proxies take turns, and a
tick has the back-end and one of them: 15,000/s are not what their core can carry one by one (at such a distance a
request costs each about 50 us, three times what it costs under load).

The generator (bench/openloop/) is about 1 us late at the median, and for all targets alike. It and the back-end share
the load core: with all four at 5,000/s they take all of it, as they are, and the proxies 85 % of theirs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from bench import openloop
from bench.context import Context
from bench.parties import Setup, fast_backends, parties
from bench.result import Bar, Curve, Measure, Plot

TARGETS = ("direct", "fe", "nginx", "haproxy")
NAMES = TARGETS[1:]
# Requests per second for each target -> those that share a tick with the back-end itself.
RATES = {1000: ((1, 2, 3),), 5000: ((1,), (2,), (3,))}
TURN_SECONDS = 0.05  # shorter than most of what disturbs a shared machine, which so meets them all alike
WARM_UP_SECONDS = 0.3  # in which connections are opened: two turns of each
# Nobody is to be kept waiting for a place at a back-end here, nor refused one (nginx does) when the machine pauses.
CAPACITY = 1024
Floats = NDArray[np.float64]


def measure(context: Context) -> Iterator[Measure]:
    """Per rate: added latency in us, its mean, median and 99th percentile."""
    context.need("nginx", "haproxy", "taskset", "cc")
    with fast_backends(context) as backends, parties(context, NAMES, Setup(backends, CAPACITY)) as running:
        ports = [backends[0], *(running[name].port for name in NAMES)]
        for rate in RATES:
            yield from _measures(rate, [_round(context, ports, rate, seed) for seed in range(context.rounds)])


def _round(context: Context, ports: Sequence[int], rate: int, seed: int) -> Floats:
    """A row per tick: the latency in us of each target, NaN where it had none."""
    step = 10**9 // rate
    records = openloop.send(context, ports, _schedule(rate, context.seconds + WARM_UP_SECONDS, seed))
    ticks = records["scheduled"] // step
    latency = np.full((ticks[-1] + 1, len(ports)), np.nan)
    latency[ticks, records["target"]] = (records["end"] - records["scheduled"]) / 1e3
    return latency[round(WARM_UP_SECONDS * rate) :]


def _schedule(rate: int, seconds: float, seed: int) -> Iterator[tuple[int, int, str]]:
    step = 10**9 // rate
    groups = RATES[rate]
    chance = np.random.default_rng(seed)
    for tick in range(round(seconds * rate)):
        group = groups[int(tick / (rate * TURN_SECONDS)) % len(groups)]
        order = chance.permutation([0, *group])
        for place, target in enumerate(order):
            yield tick * step + place * step // len(order), int(target), "/"


def _measures(rate: int, rounds: Sequence[Floats]) -> Iterator[Measure]:
    added = {name: [_added(latency, target) for latency in rounds] for target, name in enumerate(NAMES, 1)}
    mean, median, high = ({name: [turn[kind] for turn in turns] for name, turns in added.items()} for kind in range(3))
    title = f"added latency at {rate:,}/s"
    note = (
        "Of a target less that of the back-end itself in the same ticks, from the scheduled time. Differences of"
        " percentiles, not percentiles of differences."
    )
    if len(RATES[rate]) > 1:
        note += " The proxies take turns, each alone with the back-end: together they would ask too much of their core."
    yield Measure(
        f"added_latency_mean_{rate}", f"{title}, mean", "us", mean, [Bar(1.1, beside="haproxy"), Bar(3000)], note,
        [_plot(rate, np.concatenate(rounds))],
    )  # fmt: skip
    yield Measure(f"added_latency_p50_{rate}", f"{title}, median", "us", median)
    yield Measure(f"added_latency_p99_{rate}", f"{title}, 99th percentile", "us", high, [Bar(15_000)])


def _added(latency: Floats, target: int) -> tuple[float, float, float]:
    """Mean, median and 99th percentile of this target less those of the back-end itself."""
    direct, mine = latency[~np.isnan(latency[:, target])][:, [0, target]].T
    median, high = np.percentile(mine, [50, 99]) - np.percentile(direct, [50, 99])
    return float(mine.mean() - direct.mean()), float(median), float(high)


def _plot(rate: int, latency: Floats) -> Plot:
    columns = [column[~np.isnan(column)] for column in latency.T]
    curves = [Curve(name, *openloop.percentiles(column)) for name, column in zip(TARGETS, columns, strict=True)]
    return Plot(
        f"latency_{rate}", f"Latency at {rate:,}/s, all rounds", openloop.PERCENTILE_LABEL,
        "us from the scheduled time", curves, x_log=True, y_log=True,
    )  # fmt: skip
