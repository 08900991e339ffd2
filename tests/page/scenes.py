"""Statuses and events in the shape of the admin API, for the page to show: quiet, in trouble, hostile, empty, many.

Owns: the JSON, built the same each time. Never: serving it (`tests.page.fixture`), or what the page makes of it.
"""

from __future__ import annotations

import math
from typing import Any

Json = dict[str, Any]
NOW = 1_764_110_000.0
POINTS, PERIOD = 150, 2.0


def replica(port: int, state: str = "ready", in_flight: int = 0, **more: Any) -> Json:
    made = {"address": f"127.0.0.1:{port}", "state": state, "in_flight": in_flight, "failures": 0}
    return {**made, "last_probe": "status 200", "held": False, **more}


def history(level: float = 0.6, replicas: int = 2, queue: float = 0.0, points: int = POINTS) -> Json:
    """A wave around `level`; the queue fills over the last minute; the first point is not known."""
    wave = [level * (1 + 0.35 * math.sin(at / 9)) for at in range(points)]
    late = [max(0, at - points + 30) / 30 for at in range(points)]
    return {
        "period_s": PERIOD,
        "end": NOW,
        "utilization": [None, *wave[1:]] if points else [],
        "in_flight": [4 * replicas * one for one in wave],
        "queue_depth": [queue * one for one in late],
        "ready": [replicas - (at > 70) for at in range(points)],
        "wanted": [replicas for _ in range(points)],
    }


def scaling(desired: int, **more: Any) -> Json:
    decision = {"time": NOW - 12, "desired": desired, "need": desired, "rule": "up"}
    decision["reason"] = f"utilization 0.92 is above its target 0.70, so {desired} replicas are needed"
    made = {"min": 1, "max": 10, "target": 0.7, "polling_interval": 1.0, "manual": False, "last_decision": decision}
    made["reason"] = f"the load needs {desired}"
    return {**made, **more}


def deployment(name: str, replicas: list[Json], **more: Any) -> Json:
    """Figures follow from the replicas unless `more` says otherwise."""
    states = [one["state"] for one in replicas]
    made = {
        "name": name, "kind": "process", "capacity_per_replica": 4, "max_queue_length": 1000,
        "wanted": len(replicas), "ready": states.count("ready"), "starting": states.count("starting"), "failing": 0,
        "in_flight": sum(one["in_flight"] for one in replicas), "queue_depth": 0, "utilization": 0.58,
        "requests_per_second": 41.5, "latency_ms": {"p50": 12.1, "p90": 30.0, "p99": 80.2}, "scaling": None,
        "history": history(), "replicas": replicas,
    }  # fmt: skip
    return {**made, **more}


def endpoint(name: str, deployments: list[Json], **more: Any) -> Json:
    share = 100 // max(1, len(deployments))
    made = {"name": name, "auth_mode": "none", "traffic": {one["name"]: share for one in deployments}}
    made |= {"mirror_traffic": {}, "routes": [{"host": None, "path_prefix": "/"}], "deployments": deployments}
    return {**made, **more}


def status(endpoints: list[Json], **more: Any) -> Json:
    deployments = sum(len(one["deployments"]) for one in endpoints)
    replicas = sum(len(one["replicas"]) for each in endpoints for one in each["deployments"])
    workers = [{"index": at, "pid": 20 + at, "state": "active", "starts": 1, "slots_in_use": 4} for at in range(2)]
    made = {
        "version": "0.3.0", "time": NOW, "config_version": 3, "controller_pid": 7, "ready": True, "not_ready": [],
        "actions": False, "reloads": {"applied": 1, "refused": 0, "last_ok": True}, "workers": workers,
        "table": {
            "bytes": 27_000_000, "deployments": {"used": deployments, "limit": 1024},
            "replicas": {"used": replicas, "limit": 10_000}, "slots": 8192,
        },
        "endpoints": endpoints,
    }  # fmt: skip
    return {**made, **more}


def event(number: int, kind: str = "scale", **more: Any) -> Json:
    made = {"id": number, "time": NOW - 100 + number, "kind": kind, "deployment": "rents/main", "replica": None}
    made |= {"from": None, "to": None, "reason": f"reason {number}", "figures": {}}
    return {**made, **more}


def scale_event(number: int, former: int, desired: int) -> Json:
    figures = {"in_flight": 4.0, "queued": 6.25, "utilization": 1.28125}
    why = f"utilization 1.28 is above its target 0.70: {desired} replicas are needed"
    return {**event(number), "from": former, "to": desired, "reason": why, "figures": figures}


# --- Scenes ---


def quiet() -> Json:
    fleet = [replica(9001, in_flight=2), replica(9002, in_flight=3)]
    return status([endpoint("rents", [deployment("main", fleet, scaling=scaling(2))])])


def busy() -> Json:
    """Two endpoints in which much is wrong, with everything that can be shown."""
    fleet = [replica(9001 + at, in_flight=4) for at in range(5)]
    fleet += [replica(9006, "starting"), replica(9007, "ejected", failures=3, last_probe="connection refused")]
    fleet += [replica(9008, "draining", 1, held=True)]
    main = deployment(
        "main", fleet, scaling=scaling(8), utilization=1.28, queue_depth=412, history=history(0.9, 8, 412.0)
    )
    grown = [replica(9100 + at, in_flight=at % 5) for at in range(300)]
    large = deployment("large", grown, utilization=0.51, requests_per_second=1840.2, kind="static")
    large["history"] = history(0.5, 300)
    down = [replica(9500, "starting"), replica(9501, "ejected", last_probe="status 503")]
    canary = deployment("canary", down, failing=1, utilization=None, latency_ms=None, requests_per_second=None)
    canary["history"] = history(points=0)
    rents = endpoint("rents", [main, canary], traffic={"main": 90, "canary": 10}, mirror_traffic={"canary": 5})
    texts = endpoint("sentiment", [large], auth_mode="key", routes=[{"host": "ml.example", "path_prefix": "/v1"}])
    made = status([rents, texts], reloads={"applied": 3, "refused": 1, "last_ok": False})
    made["workers"][1] |= {"state": "starting", "starts": 3}
    return {**made, "ready": False, "not_ready": ["worker 1 is starting"]}


def unknown() -> Json:
    """Nothing known, nothing limited."""
    bare = deployment("main", [replica(9001, in_flight=7, last_probe=None)], capacity_per_replica=0, utilization=None)
    bare |= {"requests_per_second": None, "latency_ms": None, "kind": "static"}
    bare["history"] = {name: ([None] * 3 if isinstance(value, list) else value) for name, value in history().items()}
    return status([endpoint("rents", [bare])])


def many(endpoints: int = 25, deployments: int = 4, replicas: int = 10) -> Json:
    made = []
    for each in range(endpoints):
        parts = [
            deployment(f"model-{part}", [replica(10_000 + each * 400 + part * 50 + at, in_flight=at % 5)
                       for at in range(replicas)], scaling=scaling(replicas))
            for part in range(deployments)
        ]  # fmt: skip
        made.append(endpoint(f"endpoint-{each:02}", parts))
    made[3]["deployments"][1]["replicas"][2] |= {"state": "ejected"}
    return status(made)


def view(kind: str, objects: int, **more: Any) -> Json:
    return {
        "namespace": "models", "kind": kind, "objects": objects, "seconds_since_sync": 0.0, "trouble": None,
        "refused": False, **more,
    }  # fmt: skip


def cluster(**more: Any) -> Json:
    """The status's part about Kubernetes, with three front-ends and nothing wrong."""
    unknown = {"seconds_since_sync": None, "trouble": "404 NotFound: no such kind", "refused": True}
    made = {
        "identity": "fe-0", "namespace": "fe", "reached_by": "kubeconfig, https://k", "leading": True,
        "leader": "fe-0", "election_trouble": None, "conflicts": {}, "problems": [], "waiting": {}, "scale_writes": {},
        "siblings": [
            {"identity": f"fe-{at}", "address": f"10.0.0.{at}", "since": NOW - 7300 + at} for at in range(3)
        ],
        "views": [view("pods", 1200), view("deployments", 2), view("scaledobjects", 0, **unknown)],
    }  # fmt: skip
    return {**made, **more}


def away(seconds: float, why: str = "connection refused") -> Json:
    """No answer from the API server for so long; another front-end led when it was last seen."""
    lost = {"seconds_since_sync": seconds, "trouble": why}
    return cluster(
        leading=False,
        leader=None,
        election_trouble=why,
        views=[view("pods", 3, **lost), view("deployments", 1, **lost)],
    )


HOSTILE = '<img src=x onerror="window.broken=1"><script>window.broken=1</script>\'&amp;'


def hostile() -> Json:
    """Every text of the API is markup, and long."""
    one = replica(9001, in_flight=1, address=HOSTILE + "a" * 200, last_probe=HOSTILE)
    other = replica(9002, "ejected", last_probe=HOSTILE)
    part = deployment(HOSTILE + "n" * 300, [one, other], kind=HOSTILE, failing=1)
    part["scaling"] = scaling(
        2, last_decision={"time": NOW, "desired": 2, "need": 2, "rule": HOSTILE, "reason": HOSTILE}
    )
    whole = endpoint(
        HOSTILE, [part, deployment("b", [])], auth_mode=HOSTILE, routes=[{"host": HOSTILE, "path_prefix": "/"}]
    )
    made = status([whole], version=HOSTILE, ready=False, not_ready=[HOSTILE])
    made["workers"][0]["state"] = HOSTILE
    member = {"identity": HOSTILE, "address": HOSTILE, "since": NOW}
    made["kubernetes"] = {**away(1, HOSTILE), "problems": [HOSTILE, HOSTILE + "p" * 200], "siblings": [member]}
    return made


def hostile_event() -> Json:
    made = event(1, HOSTILE, deployment=HOSTILE, replica=HOSTILE, reason=HOSTILE * 3, figures={HOSTILE: 1.5})
    return {**made, "from": 1, "to": 2}
