"""CPU time per proxied request, and requests per second on one core: fe beside nginx and HAProxy, in turn.

The proxy runs on one core; wrk and the back-ends (one nginx worker on four ports, 132 bytes of JSON) on the other;
64 connections, POST with 260 bytes of JSON and 7 header fields. Counted is user and system time of *all* processes of
a party over the requests it served.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

from bench.context import Context, Rounds
from bench.parties import Party, Setup, fast_backends, parties
from bench.result import Bar, Measure

REQUEST = '{"data": [' + ", ".join(["0.1234567"] * 22) + ', "a", "b"]}'
WRK = f"""
wrk.method = "POST"
wrk.body = '{REQUEST}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["User-Agent"] = "bench/1"
wrk.headers["Accept-Encoding"] = "identity"
wrk.headers["X-Trace"] = "0123456789abcdef"
"""
NAMES = ("fe", "nginx", "haproxy")
CONNECTIONS = 64


def measure(context: Context) -> Iterator[Measure]:
    """CPU per request in us, and requests per second."""
    context.need("nginx", "haproxy", "wrk", "taskset")
    cost: Rounds = {name: [] for name in NAMES}
    rate: Rounds = {name: [] for name in NAMES}
    with fast_backends(context) as backends, parties(context, NAMES, Setup(backends)) as running:
        for _ in range(context.rounds):
            for name, party in running.items():
                micros, per_second = load(context, party)
                cost[name].append(micros)
                rate[name].append(per_second)
    yield Measure(
        "cpu_per_request", "CPU time per request, all processes", "us", cost,
        [Bar(1.00, beside="nginx"), Bar(1.15, beside="haproxy")],
    )  # fmt: skip
    yield Measure(
        "throughput_per_core", "requests on one core", "1/s", rate,
        [Bar(1.0, beside="nginx", better="more")],
        "Limited by the core that clients and back-ends share where a proxy leaves some of its own idle.",
    )  # fmt: skip


def load(context: Context, party: Party) -> tuple[float, float]:
    """One turn of wrk: CPU time per request in us, and requests per second. Any error is one of the run."""
    script = context.folder / "post.lua"
    script.write_text(WRK)
    turn = f"-d{max(1, round(context.seconds))}s"
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", turn, "-s", str(script), f"http://127.0.0.1:{party.port}/"]
    before = party.cpu_seconds()
    said = subprocess.run(
        ["taskset", "-c", str(context.load_core), *command], capture_output=True, text=True, check=True
    ).stdout
    used = party.cpu_seconds() - before
    found = re.search(r"(\d+) requests in ([\d.]+)s", said)
    if found is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{party.name} had errors:\n{said}")
    return used / int(found[1]) * 1e6, int(found[1]) / float(found[2])
