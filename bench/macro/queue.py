"""Queue quality: latency where requests have to wait, over that of an ideal queue given the very same requests.

16 replicas with a place for one request each, at 90 % load: Poisson arrivals, log-normal service times with a mean of
20 ms. The ideal is one queue, first come first served, whose head goes to a free replica in no time: it is simulated
with the moments at which requests were really sent and the times for which replicas really held them, as they said in
their answers. What is above 1 is the proxy's: its order, and each moment in which a replica is free while somebody
waits. Such moments weigh much at this load: 100 us are half a percent of a service time, but a twentieth of the time
that replicas have left, and by about as much the whole queue is longer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray

from bench import openloop
from bench.context import Context, Rounds
from bench.parties import Setup, fe, haproxy
from bench.result import Bar, Curve, Measure, Plot

REPLICAS = 16
LOAD = 0.9
MEAN_US = 20_000
SIGMA = 0.8
SECONDS = 5.0  # 3,600 requests: their 99th percentile is that of 36
QUICK_SECONDS = 0.5
ALONE = "fe, 1 worker"
NOTE = (
    "1 is an ideal queue with the arrivals and service times of that very run. Included is all that lies between a"
    " replica's answer and its next request: both ways over the loopback interface too, and the waking of replica and"
    " client on the core they share. fe has two workers, so that requests and free replicas have to find each other"
    " across processes; both share the one core that HAProxy's one thread has."
)
Floats = NDArray[np.float64]


def measure(context: Context) -> Iterator[Measure]:
    """99th percentile and mean of latency over the ideal's."""
    context.need("haproxy", "taskset", "cc")
    with ExitStack() as stack:
        setup = Setup(stack.enter_context(openloop.replicas(context, REPLICAS)), capacity=1)
        ports = {
            "fe": stack.enter_context(fe(context, setup, workers=2)).port,
            ALONE: stack.enter_context(fe(context, setup)).port,
            "haproxy": stack.enter_context(haproxy(context, setup)).port,
        }
        seen = {name: [] for name in ports}  # type: dict[str, list[Floats]]
        for seed in range(context.rounds):
            for name, port in ports.items():
                seen[name].append(_turn(context, name, port, seed))
    yield from _measures(seen)


def _turn(context: Context, name: str, port: int, seed: int) -> Floats:
    """Latencies in us of one party's requests, in a column, and beside them the ideal's."""
    records = openloop.send(context, [port], _schedule(QUICK_SECONDS if context.quick else SECONDS, seed))
    if records["in_flight"].max() != 1:
        raise RuntimeError(f"{name} sent a replica {records['in_flight'].max()} requests at once")
    sent = records["sent"] / 1e3
    ideal = simulate(sent, records["service_us"].astype(float))
    return np.column_stack([records["end"] / 1e3 - sent, ideal])


def _schedule(seconds: float, seed: int) -> Iterator[tuple[int, int, str]]:
    chance = np.random.default_rng(seed)
    per_second = LOAD * REPLICAS / MEAN_US * 1e6
    count = round(seconds * per_second)
    arrivals = np.cumsum(chance.exponential(1e9 / per_second, count))
    services = chance.lognormal(np.log(MEAN_US) - SIGMA**2 / 2, SIGMA, count)
    for at, us in zip(arrivals, services, strict=True):
        yield int(at), 0, f"/?us={max(1, round(us))}"


def simulate(arrivals: Floats, services: Floats) -> Floats:
    """Latencies of one queue, first come first served, before REPLICAS servers; all in the same unit."""
    free = [0.0] * REPLICAS
    latencies = np.empty_like(arrivals)
    for i, (arrival, service) in enumerate(zip(arrivals, services, strict=True)):
        end = max(arrival, free[0]) + service
        heapq.heapreplace(free, end)
        latencies[i] = end - arrival
    return latencies


def _measures(seen: Mapping[str, Sequence[Floats]]) -> Iterator[Measure]:
    high: Rounds = {name: [_over(np.percentile(turn, 99, axis=0)) for turn in turns] for name, turns in seen.items()}
    mean: Rounds = {name: [_over(turn.mean(axis=0)) for turn in turns] for name, turns in seen.items()}
    yield Measure(
        "queue_p99", "99th percentile of latency over an ideal queue's, 90 % load", "", high,
        [Bar(1.05), Bar(1.0, beside="haproxy")], NOTE, [_plot(seen)],
    )  # fmt: skip
    yield Measure("queue_mean", "mean latency over an ideal queue's, 90 % load", "", mean)


def _over(pair: Floats) -> float:
    return float(pair[0] / pair[1])


def _plot(seen: Mapping[str, Sequence[Floats]]) -> Plot:
    pooled = {name: np.concatenate(turns) / 1e3 for name, turns in seen.items()}
    curves = [Curve("ideal, for fe", *openloop.percentiles(pooled["fe"][:, 1]))]
    curves += [Curve(name, *openloop.percentiles(latency[:, 0])) for name, latency in pooled.items()]
    return Plot(
        "queue", "Latency at 90 % load, all rounds", openloop.PERCENTILE_LABEL, "ms from sending", curves, x_log=True
    )
