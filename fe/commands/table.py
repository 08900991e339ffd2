"""A status as the rows of a table and the lines above it, in words and rounded figures.

Owns: which figures are shown, how they are written, what is marked as bad. Never: output (`fe.commands.status`). Every
text is made fit for a terminal here, so that whoever prints cells need not think of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final, NamedTuple

from fe.commands.text import printable
from fe.control.admin_types import Deployment, Endpoint, Kubernetes, Replica, Status

UNKNOWN: Final = "-"
FULL: Final = 1.0  # utilization from which requests wait
NEEDED: Final = ("pods", "deployments")  # kinds without which nothing of a cluster can be served


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


class Line(NamedTuple):
    """`mood`: "good", "busy" (fe goes on with what it knows) or "bad"."""

    text: str
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


def cluster_lines(status: Status) -> Iterator[Line]:
    """Who scales and how well the cluster is seen, and a line for each problem of an object; none without a cluster."""
    cluster = status.kubernetes
    if cluster is not None:
        lead, sight = _lead(cluster), _sight(cluster)
        count = len(cluster.siblings)
        text = f"kubernetes: {lead.text} | {count} front-end{'' if count == 1 else 's'} | {sight.text}"
        yield Line(printable(text), max(lead.mood, sight.mood, key=("good", "busy", "bad").index))
        for problem in cluster.problems:
            yield Line(printable(f"kubernetes: {problem}"), "busy")


def _lead(cluster: Kubernetes) -> Line:
    if cluster.leading:
        return Line("this front-end scales", "good")
    if cluster.leader is not None and cluster.leader != cluster.identity:  # itself: it was the last that is known of
        return Line(f"{cluster.leader} scales", "good")
    why = f": {cluster.election_trouble}" if cluster.election_trouble is not None else ""
    return Line(f"no front-end scales{why}", "busy")


def _sight(cluster: Kubernetes) -> Line:
    blind = [view for view in cluster.views if view.refused and view.kind in NEEDED]
    if blind:
        return Line(f"fe may not see {blind[0].kind} of {blind[0].namespace}: {blind[0].trouble}", "bad")
    wanted = [view for view in cluster.views if not view.refused]
    away = [view for view in wanted if view.trouble is not None]
    if not away:
        known = bool(wanted) and all(view.seconds_since_sync is not None for view in wanted)
        return Line("seen as it is", "good") if known else Line("being looked at for the first time", "good")
    who = "API server" if len(away) == len(wanted) else ", ".join(sorted({view.kind for view in away}))
    ages = [view.seconds_since_sync for view in away if view.seconds_since_sync is not None]
    if not ages:
        return Line(f"{who} not reached yet: {away[0].trouble}", "bad")
    return Line(f"{who} away for {_age(max(ages))}, serving the last known state: {away[0].trouble}", "busy")


def rows(status: Status) -> Iterator[Row]:
    """One for each deployment; below it what else scales its pods, and each of its replicas that gets no requests."""
    conflicts = status.kubernetes.conflicts if status.kubernetes is not None else {}
    for endpoint in status.endpoints:
        for deployment in endpoint.deployments:
            yield _row(endpoint, deployment, status.time)
            if others := conflicts.get(f"{endpoint.name}/{deployment.name}"):
                yield _conflict_row(others)
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


def _conflict_row(others: list[str]) -> Row:
    what = f"{' and '.join(others)} scales the same pods: fe leaves their number alone"
    return Row(("  conflict", *[""] * (len(COLUMNS) - 2), printable(what)), "busy")


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
