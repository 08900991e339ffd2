"""Large bodies, up and down: bytes per second and CPU time per MB through fe, nginx and HAProxy, in turn.

One nginx worker is the back-end: it sends files, and takes an upload whole before it answers with how much it read.
Four connections, each with one request after the other; clients and back-end share a core, so the CPU time of the
proxy says more than the rate. No party writes a body to disk; buffers are as each has them by default.
"""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

from bench.context import Context, Rounds
from bench.parties import Party, Setup, nginx_backends, parties
from bench.processes import on_core
from bench.result import Measure

NAMES = ("fe", "nginx", "haproxy")
MEGABYTE = 1_000_000
SIZES, QUICK_SIZES = (1, 64), (1, 16)  # MB
CONNECTIONS = 4
WAIT_LIMIT = 20.0
PIECE = 1 << 18

# What is read is counted by the server that reads it, and its request to itself brings the count back.
SERVER = f"""
sendfile on; tcp_nopush on;
location / {{ return 200 $http_x_read; }}
location /up {{
  client_body_buffer_size {max(SIZES)}m; proxy_pass_request_body off; proxy_set_header Content-Length "";
  proxy_set_header X-Read $request_length; proxy_pass http://127.0.0.1:$server_port/;
}}
location /down/ {{ alias %s/; }}
"""


def measure(context: Context) -> Iterator[Measure]:
    """For each direction and size: MB per second, and CPU time per MB in us."""
    context.need("nginx", "haproxy", "taskset")
    sizes = QUICK_SIZES if context.quick else SIZES
    cases = list(product(("up", "down"), sizes))
    rates: dict[tuple[str, int], Rounds] = {case: {name: [] for name in NAMES} for case in cases}
    costs: dict[tuple[str, int], Rounds] = {case: {name: [] for name in NAMES} for case in cases}
    for size in sizes:
        (context.folder / f"body-{size}").write_bytes(bytes(size * MEGABYTE))
    with (
        nginx_backends(context, SERVER % context.folder, [context.load_core]) as backends,
        parties(context, NAMES, Setup(backends)) as running,
    ):
        for _, case, (name, party) in product(range(context.rounds), cases, running.items()):
            rate, cost = _load(context, party, *case)
            rates[case][name].append(rate)
            costs[case][name].append(cost)
    for direction, size in cases:
        key, title = f"body_{direction}_{size}mb", f"bodies of {size} MB, {direction}"
        yield Measure(f"{key}_rate", title, "MB/s", rates[direction, size])
        yield Measure(f"{key}_cpu", f"CPU time, {title}", "us/MB", costs[direction, size])


def _load(context: Context, party: Party, direction: str, size: int) -> tuple[float, float]:
    """One turn: MB per second, and CPU time per MB in us. Each connection moves at least one body."""
    body = bytes(size * MEGABYTE) if direction == "up" else None
    before, started = party.cpu_seconds(), time.monotonic()
    end = started + context.seconds / 6
    with on_core(context.load_core), ThreadPoolExecutor(CONNECTIONS) as pool:
        tasks = [pool.submit(_repeat, party.port, size, body, end) for _ in range(CONNECTIONS)]
    moved = sum(task.result() for task in tasks) * size
    return moved / (time.monotonic() - started), (party.cpu_seconds() - before) / moved * 1e6


def _repeat(port: int, size: int, body: bytes | None, end: float) -> int:
    """Moves bodies over one connection until `end`, and says how many."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_LIMIT)
    count = 0
    try:
        while count == 0 or time.monotonic() < end:
            if body is None:
                _download(client, size * MEGABYTE, f"/down/body-{size}")
            else:
                _upload(client, body)
            count += 1
    finally:
        client.close()
    return count


def _upload(client: http.client.HTTPConnection, body: bytes) -> None:
    client.request("POST", "/up", body, {"Content-Type": "application/octet-stream"})
    answer = client.getresponse()
    text = answer.read()
    if answer.status != 200 or int(text) < len(body):
        raise RuntimeError(f"of {len(body)} bytes up the back-end read {text[:200]!r}, status {answer.status}")


def _download(client: http.client.HTTPConnection, size: int, path: str) -> None:
    client.request("GET", path)
    answer = client.getresponse()
    piece = bytearray(PIECE)
    left = size
    while count := answer.readinto(piece):
        left -= count
    if answer.status != 200 or left:
        raise RuntimeError(f"{left} of {size} bytes down are lacking, status {answer.status}")
