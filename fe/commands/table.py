"""A status as the rows of a table, in words and rounded figures.

Owns: which figures are shown, how they are written, what is marked as bad. Never: output (`fe.commands.status`). Every
text is made fit for a terminal here, so that whoever prints cells need not think of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from fe.commands.text import printable
from fe.control.admin_types import Deployment, Endpoint, Replica, Status

UNKNOWN: Final = "-"
FULL: Final = 1.0  # utilization from which requests wait


class Column(NamedTuple):
    title: str
    right: bool = True
    wide: bool = False  # takes the room that is left


COLUMNS: Final = (
    Column("DEPLOYMENT", right=False),
    Column("TRAFFIC"),
    Column("READY"),
    Column("UTILIZATION"),
    Column("IN FLIGHT"),
    Column("QUEUE"),
    Column("REQ/S"),
    Column("P50 MS"),
    Column("P99 MS"),
    Column("LAST DECISION", right=False, wide=True),
)


class Row(NamedTuple):
    """`mood`: "good", "busy" (requests wait), "bad" (no replica is ready) or "detail"."""

    cells: tuple[str, ...]
    mood: str


def headline(status: Status) -> str:
    """One line about fe itself."""
    active = sum(worker.state == "active" for worker in status.workers)
    slots = sum(worker.slots_in_use for worker in status.workers)
    parts = [
        f"fe {status.version}",
        "ready" if status.ready else f"not ready: {', '.join(status.not_ready)}",
        f"configuration {status.config_version}" + ("" if status.reloads.last_ok else " (the last reload was refused)"),
        f"workers {active}/{len(status.workers)}",
        f"slots {slots}/{status.table.slots * len(status.workers)}",
        time.strftime("%H:%M:%S", time.localtime(status.time)),
    ]
    return printable(" | ".join(parts))


def rows(status: Status) -> Iterator[Row]:
    """One for each deployment, and one for each of its replicas that gets no requests."""
    for endpoint in status.endpoints:
        for deployment in endpoint.deployments:
            yield _row(endpoint, deployment, status.time)
            for replica in deployment.replicas:
                if replica.state != "ready" or replica.held:
                    yield _replica_row(replica)


def _row(endpoint: Endpoint, deployment: Deployment, now: float) -> Row:
    latency = deployment.latency_ms
    return Row(
        (
            printable(f"{endpoint.name}/{deployment.name}"),
            _traffic(endpoint, deployment.name),
            f"{deployment.ready}/{deployment.wanted}",
            _utilization(deployment),
            str(deployment.in_flight),
            str(deployment.queue_depth),
            UNKNOWN if deployment.requests_per_second is None else f"{deployment.requests_per_second:.1f}",
            UNKNOWN if latency is None else _milliseconds(latency.p50),
            UNKNOWN if latency is None else _milliseconds(latency.p99),
            _decision(deployment, now),
        ),
        _mood(deployment),
    )


def _replica_row(replica: Replica) -> Row:
    state = f"{replica.state}, by hand" if replica.held else replica.state
    probe = f"last probe: {replica.last_probe}" if replica.last_probe is not None else ""
    cells = (f"  {replica.address} {state}", "", "", "", str(replica.in_flight), "", "", "", "", probe)
    return Row(tuple(printable(cell) for cell in cells), "detail")


def _traffic(endpoint: Endpoint, name: str) -> str:
    mirrored = endpoint.mirror_traffic.get(name, 0)
    return f"{endpoint.traffic.get(name, 0)}%" + (f" +{mirrored}%" if mirrored else "")


def _utilization(deployment: Deployment) -> str:
    now = UNKNOWN if deployment.utilization is None else f"{deployment.utilization:.0%}"
    return now if deployment.scaling is None else f"{now} of {deployment.scaling.target:.0%}"


def _milliseconds(value: float) -> str:
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _decision(deployment: Deployment, now: float) -> str:
    scaling = deployment.scaling
    if scaling is None:
        return ""
    by_hand = "by hand; " if scaling.manual else ""
    if scaling.last_decision is None:
        return f"{by_hand}none yet"
    decided = scaling.last_decision
    return printable(f"{by_hand}{decided.desired}, {_age(now - decided.time)} ago: {decided.reason}")


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{max(0, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _mood(deployment: Deployment) -> str:
    if deployment.wanted and not deployment.ready:
        return "bad"
    full = deployment.utilization is not None and deployment.utilization >= FULL
    return "busy" if deployment.queue_depth or full else "good"
