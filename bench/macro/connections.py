"""Connections that serve one request: those of clients, and those to back-ends that close after each answer.

fe, nginx and HAProxy in turn, under wrk with 64 requests at a time. `bench.macro.cpu` is the other case, where both
sides keep their connections.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from itertools import product

from bench.context import Context, Rounds
from bench.macro.cpu import CONNECTIONS, NAMES, WRK
from bench.parties import SHORT_ANSWER, Party, Setup, fast_backends, nginx_backends, parties
from bench.result import Measure

CLOSE = ("-H", "Connection: close")
WAIT_LIMIT = 60.0


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
    rounds = 1 if context.quick else context.rounds  # wrk knows whole seconds only
    with parties(context, NAMES, Setup(backends)) as running:
        for _, (name, party) in product(range(rounds), running.items()):
            per_second, micros = _load(context, party, *options)
            rate[name].append(per_second)
            cost[name].append(micros)
    return rate, cost


def _load(context: Context, party: Party, *options: str) -> tuple[float, float]:
    before = party.cpu_seconds()
    requests, seconds = wrk(context, party, str(context.load_core), context.seconds / 3, *options)
    return requests / seconds, (party.cpu_seconds() - before) / requests * 1e6


def wrk(context: Context, party: Party, cores: str, seconds: float, *options: str) -> tuple[int, float]:
    """A turn of wrk with the usual POST: how many requests were answered, in how many seconds. No error passes.

    cores: "1" or "1,3". Without options that say otherwise it has one thread and 64 connections.
    """
    script = context.folder / "wrk.lua"
    script.write_text(WRK)
    said = subprocess.run(
        ["taskset", "-c", cores, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s",
         "-s", str(script), *options, f"http://127.0.0.1:{party.port}/"],
        capture_output=True, text=True, check=True, timeout=seconds + WAIT_LIMIT,
    ).stdout  # fmt: skip
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{party.name} had errors:\n{said}")
    return int(found[1]), float(found[2])
