"""What fe is doing, as plain data: the JSON of /api/status, and why /readyz says no.

Owns: the selection of what is shown; never secrets: no key, no digest, no environment, no command line. Reads the table
and the applied configuration only; may run in a thread.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from fe import __version__
from fe._core import HOLDER_ACTIVE
from fe.control.addresses import display
from fe.control.metrics import REPLICA_STATES, WORKER_STATES

if TYPE_CHECKING:
    from fe.control.deployment import Deployment
    from fe.control.plane import ControlPlane


def not_ready_reasons(plane: ControlPlane) -> list[str]:
    """Why requests should not be sent here (now); empty: they may."""
    reasons = []
    if plane.draining:
        reasons.append("draining: fe-serve is ending")
    if plane.config is None:
        reasons.append("no configuration is applied yet")
    table = plane.table
    for index in range(table.limits.workers):
        state = table.holder_state(index).state
        if state != HOLDER_ACTIVE:
            reasons.append(f"worker {index} is {WORKER_STATES.get(state, state)}")
    return reasons


def build_status(plane: ControlPlane) -> dict[str, Any]:
    """The whole status, JSON-ready."""
    table, config = plane.table, plane.config
    workers = [table.holder_state(index) for index in range(table.limits.workers)]
    live = dict(plane.reconciler.live)
    return {
        "version": __version__,
        "config_version": table.snapshot()[0],
        "controller_pid": os.getpid(),
        "ready": not not_ready_reasons(plane),
        "not_ready": not_ready_reasons(plane),
        "reloads": {
            "applied": plane.reloads.applied, "refused": plane.reloads.refused, "last_ok": plane.reloads.last_ok,
        },
        "workers": [
            {
                "index": index, "pid": one.pid, "state": WORKER_STATES.get(one.state, "?"),
                "starts": one.generation, "slots_in_use": one.slots_in_use,
            }
            for index, one in enumerate(workers)
        ],
        "endpoints": [
            {
                "name": endpoint.name,
                "auth_mode": endpoint.auth_mode,
                "traffic": endpoint.traffic,
                "mirror_traffic": endpoint.mirror_traffic,
                "routes": [{"host": route.host, "path_prefix": route.path_prefix} for route in endpoint.routes],
                "deployments": [
                    _deployment(plane, live[f"{endpoint.name}/{deployment.name}"], deployment.name)
                    for deployment in endpoint.deployments
                    if f"{endpoint.name}/{deployment.name}" in live
                ],
            }
            for endpoint in (config.endpoints if config is not None else ())
        ],
    }  # fmt: skip


def _deployment(plane: ControlPlane, deployment: Deployment, name: str) -> dict[str, Any]:
    load = deployment.load
    replicas = []
    for _, record in deployment.replicas():
        one = plane.table.replica(record.index)
        replicas.append({
            "address": display(record.sockaddr),
            "state": REPLICA_STATES.get(one.state, "?"),
            "in_flight": one.in_flight,
            "failures": one.failures,
            "last_probe": record.subject.last if record.subject is not None else None,
        })  # fmt: skip
    return {
        "name": name,
        "kind": deployment.kind,
        "capacity_per_replica": load.capacity,
        "max_queue_length": load.max_queue,
        "wanted": deployment.wanted,
        "ready": load.ready,
        "in_flight": load.in_flight,
        "queue_depth": load.queue_depth,
        "replicas": replicas,
    }
