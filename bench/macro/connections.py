"""Connections that serve one request: those of clients, and those to back-ends that close after each answer.

fe, nginx and HAProxy in turn, under wrk with 64 requests at a time. `bench.macro.cpu` is the other case, where both
sides keep their connections.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

from bench.context import Context, Rounds
from bench.macro.cpu import NAMES, wrk
from bench.parties import SHORT_ANSWER, Party, Setup, fast_backends, nginx_backends, parties
from bench.result import Measure

CLOSE = ("-H", "Connection: close")


def measure(context: Context) -> Iterator[Measure]:
    """New client connections per second and CPU time for each, then CPU time per request on new ones to back-ends."""
    context.need("nginx", "haproxy", "wrk", "taskset")
    with fast_backends(context) as backends:
        rate, cost = _turns(context, backends, *CLOSE)
    yield Measure("connections_rate", "new client connections, one request on each", "1/s", rate)
    yield Measure("connections_cpu", "CPU time per new client connection and its request", "us", cost)
    closing = f"keepalive_timeout 0; {SHORT_ANSWER}"
    with nginx_backends(context, closing, [context.load_core]) as backends:
        _, cost = _turns(context, backends)
    yield Measure(
        "upstream_close_cpu", "CPU time per request, back-ends close after each answer", "us", cost,
        note="Clients keep their connections; each request needs a new one to its back-end.",
    )  # fmt: skip


def _turns(context: Context, backends: list[int], *options: str) -> tuple[Rounds, Rounds]:
    """Requests per second and CPU time per request in us, of all parties in all rounds."""
    rate: Rounds = {name: [] for name in NAMES}
    cost: Rounds = {name: [] for name in NAMES}
    with parties(context, NAMES, Setup(backends)) as running:
        for _, (name, party) in product(range(context.rounds), running.items()):
            per_second, micros = _load(context, party, *options)
            rate[name].append(per_second)
            cost[name].append(micros)
    return rate, cost


def _load(context: Context, party: Party, *options: str) -> tuple[float, float]:
    before = party.cpu_seconds()
    count, per_second = wrk(context, party, str(context.load_core), context.seconds / 3, *options)
    return per_second, (party.cpu_seconds() - before) / count * 1e6
