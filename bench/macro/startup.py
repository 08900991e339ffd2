"""How long a start takes, how long a reload of 1,000 deployments, and what clients feel of the reload.

A start lasts from the exec of the program to its first answer. A reload lasts from SIGHUP to the first answer by the
new configuration, which sends the traffic of one endpoint to another deployment. All of fe runs on one core, so its
controller and its worker compete. Requests come at a fixed rate on kept connections, and their latency counts from when
they were due: one that is slow makes those behind it late, as it should.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import cycle
from typing import Any

from bench.context import Context, Rounds
from bench.parties import ANSWER, START, Party, Setup, fast_backends, fe
from bench.processes import on_core
from bench.result import Bar, Measure

ENDPOINTS, DEPLOYMENTS = 100, 10  # of each endpoint
RATE = 400  # requests per second
CONNECTIONS = 8
WINDOW = 0.6  # seconds
RELOADS = 4  # of a round
BEFORE = 0.1  # of them, before the reload
WAIT_LIMIT = 10.0
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"
DEPLOYMENT_FIELD = b"\r\nazureml-model-deployment: "

Act = Callable[[], None]


def measure(context: Context) -> Iterator[Measure]:
    """Seconds to the first answer, ms until a reload takes effect, ms of the slowest request with and without one."""
    context.need("nginx", "haproxy", "taskset")
    with fast_backends(context) as backends:
        yield _starts(context, Setup(backends))
        yield from _reloads(context, backends)


def _starts(context: Context, setup: Setup) -> Measure:
    took: Rounds = {name: [] for name in START}
    for _ in range(context.rounds):
        for name, start in START.items():
            began = time.monotonic()
            with start(context, setup):
                took[name].append(time.monotonic() - began)
    return Measure(
        "start_time", "start, until the first answer", "s", took, [Bar(1.0)],
        "One worker, replicas that run already; an answer is asked for every 2 ms.",
    )  # fmt: skip


def _reloads(context: Context, backends: list[int]) -> Iterator[Measure]:
    took: Rounds = {"fe": []}
    slowest: Rounds = {"fe": [], "fe without reload": []}
    with fe(context, Setup(backends, fe={"endpoints": _endpoints(backends)})) as party, ExitStack() as stack:
        clients = [stack.enter_context(_connect(party)) for _ in range(CONNECTIONS)]
        load = cycle(clients)
        targets = cycle(("d1", "d0"))
        for _ in range(context.rounds * (1 if context.quick else RELOADS)):
            slowest["fe without reload"].append(_window(context, load, None)[0] * 1e3)
            worst, changed = _reload(context, party, load, next(targets))
            slowest["fe"].append(worst * 1e3)
            took["fe"].append(changed * 1e3)
    what = f"reload of {ENDPOINTS * DEPLOYMENTS} deployments"
    yield Measure("reload_time", f"{what}, until it takes effect", "ms", took, [Bar(300)])
    yield Measure(
        "reload_slowest", f"slowest request in {WINDOW} s with a {what}", "ms", slowest, [Bar(20, of="most")],
        f"At {RATE} requests per second: {len(took['fe'])} reloads, as many spans between them, the slowest of each.",
    )  # fmt: skip


def _endpoints(backends: list[int]) -> list[dict[str, Any]]:
    ports = cycle(backends)
    endpoints: list[dict[str, Any]] = [
        {
            "name": f"endpoint-{number}", "auth_mode": "none", "traffic": {"d0": 100},
            "deployments": [
                {
                    "name": f"d{place}", "request_settings": {"max_concurrent_requests_per_instance": 32},
                    "replicas": {"static": [f"127.0.0.1:{next(ports)}"]},
                }
                for place in range(DEPLOYMENTS)
            ],
        }
        for number in range(ENDPOINTS)
    ]  # fmt: skip
    endpoints[0]["routes"] = [{"path_prefix": "/"}]
    return endpoints


def _connect(party: Party) -> socket.socket:
    return socket.create_connection(("127.0.0.1", party.port), WAIT_LIMIT)


def _reload(context: Context, party: Party, load: Iterator[socket.socket], target: str) -> tuple[float, float]:
    """A reload that moves the first endpoint's traffic: the slowest request, and when the first one came there."""
    assert party.config is not None
    config = json.loads(party.config.read_text())
    config["endpoints"][0]["traffic"] = {target: 100}
    party.config.write_text(json.dumps(config))
    return _window(context, load, target, lambda: os.kill(party.pid, signal.SIGHUP))


def _window(
    context: Context, load: Iterator[socket.socket], target: str | None, act: Act = lambda: None
) -> tuple[float, float]:
    """Requests at a fixed rate: the slowest in s, and how long after `act` the first came to `target`."""
    wanted = DEPLOYMENT_FIELD + target.encode() + b"\r\n" if target else b""
    acted = changed = 0.0
    slowest, number = 0.0, 0
    with on_core(context.load_core):
        start = time.monotonic()
        while number < WINDOW * RATE or not changed:
            due = start + number / RATE
            time.sleep(max(0.0, due - time.monotonic()))
            if not acted and due >= start + BEFORE:
                act()
                acted = time.monotonic()
            answer = _ask(next(load))
            now = time.monotonic()
            slowest = max(slowest, now - due)
            if acted and not changed and wanted in answer:
                changed = now
            if now > start + WAIT_LIMIT:
                raise RuntimeError(f"no request came to {target} within {WAIT_LIMIT} s of the reload")
            number += 1
    return slowest, changed - acted


def _ask(client: socket.socket) -> bytes:
    client.sendall(REQUEST)
    answer = b""
    while not answer.endswith(ANSWER.encode()):
        piece = client.recv(4096)
        answer += piece
        if not piece or not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError(f"a request was answered with {answer[:200]!r}")
    return answer
