"""What fe is doing, as plain data: the JSON of /api/status and /api/config, and why /readyz says no.

Owns: the selection of what is shown; never secrets: no key, no digest, no value of an environment variable. Reads only:
the table, the applied configuration, what the scaler keeps of the last minutes; may run in a thread.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

import msgspec

from fe import __version__
from fe._core import HOLDER_ACTIVE
from fe.config import schema
from fe.control.addresses import display
from fe.control.metrics import REPLICA_STATES, WORKER_STATES

if TYPE_CHECKING:
    from fe.control.deployment import Deployment, Record
    from fe.control.plane import ControlPlane
    from fe.control.scaler import Track


def not_ready_reasons(plane: ControlPlane) -> list[str]:
    """Why requests should not be sent here (now); empty: they may."""
    reasons = []
    if plane.draining:
        reasons.append("draining: fe-serve is ending")
    if plane.config is None:
        reasons.append("no configuration is applied yet")
    if plane.hub is not None and (unknown := plane.hub.unknown):
        reasons.append(unknown)
    table = plane.table
    for index in range(table.limits.workers):
        state = table.holder_state(index).state
        if state != HOLDER_ACTIVE:
            reasons.append(f"worker {index} is {WORKER_STATES.get(state, state)}")
    return reasons


def build_status(plane: ControlPlane, history: bool = False) -> dict[str, Any]:
    """The whole status, JSON-ready. `history`: with the series of the last minutes."""
    table, config = plane.table, plane.config
    not_ready = not_ready_reasons(plane)
    return {
        "version": __version__,
        "time": round(time.time(), 3),
        "config_version": table.snapshot()[0],
        "controller_pid": os.getpid(),
        "ready": not not_ready,
        "not_ready": not_ready,
        "actions": config is not None and config.admin_actions,
        "reloads": {
            "applied": plane.reloads.applied, "refused": plane.reloads.refused, "last_ok": plane.reloads.last_ok,
        },
        "workers": _workers(plane),
        "table": _table(plane),
        "endpoints": [_endpoint(plane, endpoint, history) for endpoint in (config.endpoints if config else ())],
        "kubernetes": None if plane.hub is None else plane.hub.show(),
    }  # fmt: skip


def build_config(plane: ControlPlane) -> dict[str, Any]:
    """The applied configuration, JSON-ready. Of keys it says where they come from, of variables
    which there are, of commands the program: a secret may stand in each."""
    if plane.config is None:
        return {}
    shown: dict[str, Any] = msgspec.to_builtins(plane.config, builtin_types=(bytes,))
    for endpoint in shown["endpoints"]:
        endpoint["keys"] = {name: key and key["origin"] for name, key in endpoint["keys"].items()}
        for deployment in endpoint["deployments"]:
            replicas = deployment["replicas"]
            if "env" in replicas:
                replicas["env"] = dict.fromkeys(replicas["env"])
                program, *arguments = replicas["command"]
                replicas["command"] = [program, f"({len(arguments)} arguments)"] if arguments else [program]
    return shown


def _workers(plane: ControlPlane) -> list[dict[str, Any]]:
    states = [plane.table.holder_state(index) for index in range(plane.table.limits.workers)]
    return [
        {
            "index": index, "pid": one.pid, "state": WORKER_STATES.get(one.state, "?"),
            "starts": one.generation, "slots_in_use": one.slots_in_use,
        }
        for index, one in enumerate(states)
    ]  # fmt: skip


def _table(plane: ControlPlane) -> dict[str, Any]:
    table = plane.table
    deployments = table.deployments()
    replicas = sum(table.deployment(index).replicas for index in deployments)
    return {
        "bytes": table.size,
        "deployments": {"used": len(deployments), "limit": table.limits.deployments},
        "replicas": {"used": replicas, "limit": table.limits.replicas},
        "slots": table.limits.slots,
    }


def _endpoint(plane: ControlPlane, endpoint: schema.Endpoint, history: bool) -> dict[str, Any]:
    live = plane.reconciler.live
    found = [(one.name, live.get(f"{endpoint.name}/{one.name}")) for one in endpoint.deployments]
    return {
        "name": endpoint.name,
        "auth_mode": endpoint.auth_mode,
        "traffic": endpoint.traffic,
        "mirror_traffic": endpoint.mirror_traffic,
        "routes": [{"host": route.host, "path_prefix": route.path_prefix} for route in endpoint.routes],
        "deployments": [_deployment(plane, one, name, history) for name, one in found if one is not None],
    }


def _deployment(plane: ControlPlane, deployment: Deployment, name: str, history: bool) -> dict[str, Any]:
    load = deployment.load
    ready, starting, failing = deployment.counts(load)
    track = plane.scaler.tracks.get(deployment.name)
    used = track and track.utilization(load.capacity, ready + starting)
    rate = track and track.trend.rate()
    shown = {
        "name": name,
        "kind": deployment.kind,
        "capacity_per_replica": load.capacity,
        "max_queue_length": load.max_queue,
        "wanted": deployment.wanted,
        "ready": ready,
        "starting": starting,
        "failing": failing,
        "in_flight": load.in_flight,
        "queue_depth": load.queue_depth,
        "utilization": used and round(used, 4),
        "requests_per_second": rate and round(rate, 3),
        "latency_ms": track and track.trend.latencies_ms(),
        "scaling": _scaling(deployment, track),
        "replicas": [_replica(plane, record) for _, record in deployment.replicas()],
    }
    if history:
        shown["history"] = track and track.trend.series()
    return shown


def _scaling(deployment: Deployment, track: Track | None) -> dict[str, Any] | None:
    policy = deployment.plan.scale
    if policy is None:
        return None
    changed = track and track.changed
    return {
        "min": policy.min_instances,
        "max": policy.max_instances,
        "target": policy.target,
        "polling_interval": deployment.plan.polling_interval,
        "manual": track is not None and track.by_hand is not None,
        "reason": _reason(track),
        "last_decision": track and changed and {
            "time": round(track.decided_at, 3), "desired": changed.desired, "need": changed.need, "rule": changed.rule,
            "reason": changed.reason,
        },
    }  # fmt: skip


def _reason(track: Track | None) -> str | None:
    """Why the number is what it is: what keeps it from being set goes before what would be decided."""
    if track is None or track.decided is None:
        return (track and track.barred) or None
    return f"left alone: {track.barred}" if track.barred else track.decided.reason


def _replica(plane: ControlPlane, record: Record) -> dict[str, Any]:
    one = plane.table.replica(record.index)
    return {
        "address": display(record.sockaddr),
        "state": REPLICA_STATES.get(one.state, "free"),
        "in_flight": one.in_flight,
        "failures": one.failures,
        "last_probe": record.subject.last if record.subject is not None else None,
        "held": record.held,
    }
