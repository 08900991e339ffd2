"""CPU time per proxied request, and requests per second on one core: fe beside nginx and HAProxy, in turn.

The proxy runs on one core; wrk and the back-ends (one nginx worker on four ports, 132 bytes of JSON) on the other;
64 connections, POST with 260 bytes of JSON and 7 header fields. Counted is user and system time of *all* processes of
a party over the requests it served.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Iterator

from bench.context import Context, Rounds
from bench.parties import Party, Setup, fast_backends, parties
from bench.processes import die_with_parent
from bench.result import Bar, Measure

REQUEST = '{"data": [' + ", ".join(["0.1234567"] * 22) + ', "abcd"]}'
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
WAIT_LIMIT = 60.0


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
    """One turn of wrk: CPU time per request in us, and requests per second."""
    before = party.cpu_seconds()
    count, per_second = wrk(context, party, str(context.load_core), context.seconds)
    return (party.cpu_seconds() - before) / count * 1e6, per_second


def wrk(context: Context, party: Party, cores: str, seconds: float, *options: str) -> tuple[int, float]:
    """A turn of wrk with the usual POST: how many requests were answered, and how many a second. No error passes.

    cores: "1" or "1,3". Without options that say otherwise it has one thread and 64 connections.
    """
    script = context.folder / "wrk.lua"
    script.write_text(WRK)
    command = ["taskset", "-c", cores, "wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds + WAIT_LIMIT:.0f}s"]
    with subprocess.Popen(
        [*command, "-s", str(script), *options, f"http://127.0.0.1:{party.port}/"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, preexec_fn=die_with_parent,
    ) as running:  # fmt: skip
        try:
            time.sleep(seconds)
            running.send_signal(signal.SIGINT)  # it says what it has done by then; -d knows whole seconds only
            said, _ = running.communicate(timeout=WAIT_LIMIT)
        finally:
            running.kill()
    count, rate = re.search(r"(\d+) requests in ", said), re.search(r"Requests/sec: +([\d.]+)", said)
    if count is None or rate is None or "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{party.name} had errors:\n{said}")
    return int(count[1]), float(rate[1])
