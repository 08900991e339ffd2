"""Scaling on real local replicas: how soon a step of load is answered, and whether `fe simulate` foretells a real run.

A replica is replica.c behind a shell that waits as long as a model takes to load. The step: 0 to 20 requests at once on
one replica of capacity 1. The trace: arrivals whose rate rises and falls, with the time of each in its path, sent to
fe-serve by openloop.c and, as a file, to `fe simulate` with the same settings; compared are the mean number of ready
replicas and the mean wait of a request.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from prometheus_client.parser import text_string_to_metric_families

from bench import openloop
from bench.context import Context, Rounds
from bench.native import build
from bench.parties import Party, Setup, fe
from bench.processes import die_with_parent
from bench.result import Bar, Measure

PROBE = 0.25  # seconds: at most that much later than a replica has started it is found ready
MOST = 20
STEP_CLIENTS = 20
WITHIN = 20.0
PHASES = ((0.2, 10.0), (0.5, 40.0), (0.3, 10.0))  # share of the trace, requests per second
SERVICE_MEAN, SERVICE_SIGMA = 0.2, 0.8
SCALE = {"min_instances": 1, "max_instances": MOST, "scale_down_delay": 5}
NAMES = {"endpoint": "bench", "deployment": "main"}
Trace = list[tuple[float, float]]  # arrival and service time, in seconds


def measure(context: Context) -> Iterator[Measure]:
    """Time to decision and replica in s; replicas and waits, real and simulated."""
    context.need("taskset", "cc", "wrk")
    decided: Rounds = {"fe": []}
    served: Rounds = {"fe": []}
    for _ in range(context.rounds):
        with _scaled(context) as party:
            times = _step(context, party)
        decided["fe"].append(times[0])
        served["fe"].append(times[1])
    yield Measure("step_to_decision", "step from 0 to 20 requests, until the decision", "s", decided, [Bar(1.1)])
    note = f"A replica takes {_start_up(context):g} s to start, and is found ready up to {PROBE:g} s later."
    yield Measure("step_to_replica", "the same, until the first new replica is ready", "s", served, note=note)
    yield from _foretold(context)


def _foretold(context: Context) -> Iterator[Measure]:
    replicas: Rounds = {"real": [], "simulated": []}
    waits: Rounds = {"real": [], "simulated": []}
    for seed in range(min(3, context.rounds)):
        trace = _trace(1.0 if context.quick else 40.0, seed)
        for party, (count, wait) in (("real", _real(context, trace)), ("simulated", _simulated(context, trace))):
            replicas[party].append(count)
            waits[party].append(wait * 1e3)
    for key, title, unit, rounds in (
        ("foretold_replicas", "mean of ready replicas over a trace", "", replicas),
        ("foretold_wait", "mean wait over a trace", "ms", waits),
    ):
        # A quick trace is too short to be compared: it is little more than the start of the first replicas.
        within = [] if context.quick else [Bar(1.1, "simulated", "real"), Bar(0.9, "simulated", "real", "more")]
        yield Measure(key, title, unit, rounds, within, f"{len(trace)} requests in the last trace.")


def _start_up(context: Context) -> float:
    """Seconds that a replica takes to start."""
    return 0.1 if context.quick else 1.0


# --- the real run ----------------------------------------------------------------------------------------------------


@contextmanager
def _scaled(context: Context) -> Iterator[Party]:
    """fe-serve with one replica that is ready."""
    program = build(context, openloop.FOLDER / "replica.c")
    command = ["taskset", "-c", str(context.load_core), "sh", "-c", f"sleep {_start_up(context)}; exec {program} $PORT"]
    replicas = {"process": {"command": command, "output": "/dev/null"}}
    with fe(context, Setup((), 1, fe_deployment={"scale_settings": SCALE, "replicas": replicas})) as party:
        _wait(lambda: _deployment(party)["ready"] == 1, "the first replica is ready")
        yield party


def _step(context: Context, party: Party) -> tuple[float, float]:
    """Seconds from the step to the decision and to the first new replica."""
    url, turn = f"http://127.0.0.1:{party.port}/?us=100000", f"-d{WITHIN:g}s"
    command = ["taskset", "-c", str(context.load_core), "wrk", "-t1", f"-c{STEP_CLIENTS}", turn, url]
    before = _get(party, "/api/events")["last"]
    first: dict[str, float] = {}  # kind of event -> when there was the first one

    def both() -> bool:
        events = _get(party, f"/api/events?after={before}")["events"]
        first.update((one["kind"], one["time"]) for one in reversed(events))
        return {"scale", "ready"} <= first.keys()

    begun = time.time()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, preexec_fn=die_with_parent) as wrk:
        try:
            _wait(both, "a decision, and a replica that is ready")
        finally:
            wrk.kill()
    return first["scale"] - begun, first["ready"] - begun


def _real(context: Context, trace: Trace) -> tuple[float, float]:
    """Mean of ready replicas, and mean wait in seconds, from the metrics before and after."""
    schedule = [(round(at * 1e9), 0, f"/?us={round(seconds * 1e6)}") for at, seconds in trace]
    with _scaled(context) as party:
        before, begun = _samples(party), time.monotonic()
        openloop.send(context, [party.port], schedule)
        passed, after = time.monotonic() - begun, _samples(party)
    ready, waits, count = (
        after[name] - before[name]
        for name in ("fe_replicas_ready_seconds_total", *(f"fe_queue_duration_seconds_{of}" for of in ("sum", "count")))
    )
    return ready / passed, waits / count


def _samples(party: Party) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{party.admin}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {one.name: one.value for family in families for one in family.samples if one.labels == NAMES}


# --- the simulated one -----------------------------------------------------------------------------------------------


def _simulated(context: Context, trace: Trace) -> tuple[float, float]:
    file = context.folder / "arrivals.txt"
    file.write_text("".join(f"{at:.9f} {seconds:.6f}\n" for at, seconds in trace))
    options = {
        "--trace": str(file), "--concurrency": "1", "--min-instances": "1", "--max-instances": str(MOST),
        "--scale-down-delay": f"{SCALE['scale_down_delay']}s", "--max-queue-wait": "60s",
        "--start-up": f"uniform:{_start_up(context):g}-{_start_up(context) + PROBE:g}s",
    }  # fmt: skip
    command = [sys.executable, "-m", "fe.commands.main", "simulate", "--json"]
    command += [word for pair in options.items() for word in pair]
    ran = subprocess.run(command, capture_output=True, text=True)
    if ran.returncode:
        raise RuntimeError(ran.stderr)
    total = json.loads(ran.stdout)["total"]
    return total["replica_hours"] * 3600 / total["seconds"], total["wait"]["mean"]


def _trace(seconds: float, seed: int) -> Trace:
    """Poisson arrivals in phases, log-normal service times."""
    chance = np.random.default_rng(seed)
    trace: Trace = []
    begun = 0.0
    for share, rate in PHASES:
        count = chance.poisson(rate * share * seconds)
        arrivals: Sequence[float] = np.sort(chance.uniform(begun, begun + share * seconds, count)).tolist()
        mu = np.log(SERVICE_MEAN) - SERVICE_SIGMA**2 / 2
        trace += zip(arrivals, chance.lognormal(mu, SERVICE_SIGMA, count).tolist(), strict=True)
        begun += share * seconds
    return trace


# --- asking fe -------------------------------------------------------------------------------------------------------


def _get(party: Party, path: str) -> Any:
    with urllib.request.urlopen(f"http://127.0.0.1:{party.admin}{path}", timeout=10) as answer:
        return json.loads(answer.read())


def _deployment(party: Party) -> Any:
    return _get(party, "/api/status")["endpoints"][0]["deployments"][0]


def _wait(condition: Any, what: str) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        if time.monotonic() > end:
            raise RuntimeError(f"never within {WITHIN:g} s: {what}")
        time.sleep(0.02)
