"""What the control plane costs while nothing happens: 100 deployments, 1,000 replicas, each probed every 10 s.

CPU time of the controller process over some seconds, as a share of a core; and how long one round of looks at all
deployments takes, which is what the loop is kept from its other work for.
"""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from bench.context import Context, Rounds
from bench.parties import Party, Setup, fast_backends, fe
from bench.processes import cpu_seconds, family
from bench.result import Bar, Measure

DEPLOYMENTS, REPLICAS = 100, 1000
PERIOD = 10
READY_WITHIN = 60.0
DESCRIPTORS = 2 * REPLICAS  # of the back-end: a listener and a connection each


def measure(context: Context) -> Iterator[Measure]:
    """CPU of the controller in percent of a core, and the time of a scrape of everything in ms."""
    context.need("nginx", "taskset", descriptors=DESCRIPTORS)
    share: Rounds = {"fe": []}
    scrape: Rounds = {"fe": []}
    with fast_backends(context, REPLICAS) as ports, fe(context, Setup(ports[:1], fe=_configuration(ports))) as party:
        _wait_ready(party)
        controller = _controller(party)
        for _ in range(context.rounds):
            begun, before = time.monotonic(), cpu_seconds([controller])
            time.sleep(context.seconds if context.quick else max(context.seconds, PERIOD))
            share["fe"].append((cpu_seconds([controller]) - before) / (time.monotonic() - begun) * 100)
        for _ in range(context.rounds):
            begun = time.monotonic()
            _get(party, "/metrics")
            scrape["fe"].append((time.monotonic() - begun) * 1e3)
    yield Measure(
        "controller_cpu", "CPU of the controller, 100 deployments, 1,000 replicas, no load", "% of a core", share,
        [Bar(3.0)], f"Each replica is probed every {PERIOD} s, each deployment is looked at every second.",
    )  # fmt: skip
    yield Measure("scrape", "a scrape of /metrics, 100 deployments", "ms", scrape)


def _configuration(ports: list[int]) -> dict[str, object]:
    """Ten endpoints of ten deployments of ten replicas."""
    each = len(ports) // DEPLOYMENTS
    probe = {"period": PERIOD, "initial_delay": 0, "failure_threshold": 3}
    return {
        "endpoints": [
            {
                "name": f"endpoint-{endpoint}", "auth_mode": "none", "traffic": {"d-0": 100},
                "routes": [{"path_prefix": "/"}] if endpoint == 0 else [],
                "deployments": [
                    {
                        "name": f"d-{number}", "readiness_probe": probe,
                        "replicas": {"static": [f"127.0.0.1:{port}" for port in ports[first : first + each]]},
                    }
                    for number in range(10)
                    for first in [(endpoint * 10 + number) * each]
                ],
            }
            for endpoint in range(DEPLOYMENTS // 10)
        ]
    }  # fmt: skip


def _get(party: Party, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{party.admin}{path}", timeout=20) as answer:
        body: bytes = answer.read()
        return body


def _wait_ready(party: Party) -> None:
    end = time.monotonic() + READY_WITHIN
    while time.monotonic() < end:
        status = json.loads(_get(party, "/api/status"))
        if sum(one["ready"] for endpoint in status["endpoints"] for one in endpoint["deployments"]) == REPLICAS:
            return
        time.sleep(0.2)
    raise RuntimeError(f"not all of {REPLICAS} replicas were ready within {READY_WITHIN:g} s")


def _controller(party: Party) -> int:
    for pid in family(party.pid):
        if Path(f"/proc/{pid}/comm").read_text().strip() == "fe-controller":
            return pid
    raise RuntimeError("there is no controller")
