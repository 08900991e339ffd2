"""Checks of the front-ends among themselves: who holds the Lease, which others there are, whether they can be reached.

Owns: reading both as they are now. Never: takes part in the election: the Lease is looked at only.
"""

from __future__ import annotations

import socket
import time
from datetime import datetime
from typing import Any, Final

from fe.checks.context import Context
from fe.checks.reach import connect_all
from fe.checks.result import Result, count, fail, ok, warn
from fe.config.addresses import parse_address
from fe.control.addresses import pack_inet
from fe.control.kubernetes.client import ApiError
from fe.control.kubernetes.siblings import Sibling, read_member
from fe.control.kubernetes.slim import read_pod

CALL_WITHIN: Final = 5.0  # seconds
LATE: Final = 10.0  # beyond the Lease's duration: the clocks of two machines differ
MOST: Final = 500  # front-ends that are looked at


async def check_election(context: Context) -> list[Result]:
    """The Lease can be read; who holds it."""
    election = context.kubernetes.election
    namespace = election.namespace or context.namespace
    where = f"the Lease {namespace}/{election.lease}"
    path = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases/{election.lease}"
    try:
        spec = (await context.client.call("GET", path, timeout=CALL_WITHIN)).body.get("spec") or {}
    except ApiError as error:
        if error.status == 404:
            return [ok(f"{where} is not there yet: the first fe-serve makes it")]
        return [fail(f"{where}: {error}", "without it nothing is scaled; `permissions` says which rule is missing")]
    holder = str(spec.get("holderIdentity") or "").rpartition("_")[0] or str(spec.get("holderIdentity") or "")
    if not holder:
        return [ok(f"{where} is held by nobody: the next fe-serve takes it")]
    age = time.time() - _moment(spec.get("renewTime"))
    held = f"{where} is held by {holder}, renewed {max(0.0, age):.0f} s ago"
    if age > (spec.get("leaseDurationSeconds") or election.duration) + LATE:
        return [
            warn(
                f"{held}: it has ended, and nobody has taken it",
                "nothing is scaled until a front-end takes it: is any fe-serve running, and may it update the Lease?",
            )
        ]
    return [ok(f"{held}, {count(int(spec.get('leaseTransitions') or 0), 'change')} of the holder so far")]


async def check_siblings(context: Context) -> list[Result]:
    """The front-ends that run, and whether the port for requests of each can be reached."""
    labels = context.kubernetes.siblings
    path = f"/api/v1/namespaces/{context.namespace}/pods"
    try:
        answer = await context.client.call(
            "GET", path, {"labelSelector": labels, "limit": str(MOST)}, timeout=CALL_WITHIN
        )
    except ApiError as error:
        return [fail(str(error), "`permissions` says which rule is missing")]
    pods = answer.body.get("items") or []
    members = [(one, read_pod(pod)) for pod in pods if (one := read_member(pod)) is not None]
    if not members:
        return [
            warn(
                f"no pod that runs in {context.namespace} has the label {labels}",
                "nothing to do if fe runs "
                "outside the cluster; else mend kubernetes.siblings, or the labels of fe's pods",
            )
        ]
    ready = sum(pod.serves for _, pod in members)
    items = [_item(one, ready=pod.serves) for one, pod in members]
    found = f"{count(len(members), 'front-end')} in {context.namespace}, {ready:,} ready"
    unreached = await _unreached(context, [one for one, _ in members])
    if unreached:
        return [
            warn(
                f"{found}; {len(unreached):,} cannot be reached",
                "a NetworkPolicy has to let fe's pods "
                "connect to each other on the port for requests (deploy/kubernetes/base/network.yaml)",
                unreached,
            )
        ]
    return [ok(found, items)]


async def _unreached(context: Context, members: list[Sibling]) -> list[str]:
    """Others than this one whose port for requests accepts no connection. One that listens on loopback has none."""
    listen = [parse_address(text) for text in context.config.listen]
    port = next((one.port for one in listen if one.port and one.host in ("0.0.0.0", "::")), 0)  # noqa: S104 - compared
    own = context.kubernetes.identity or context.environ.get("POD_NAME") or socket.gethostname()
    if not port:
        return []
    places = {pack_inet(one.address, port): one for one in members if one.identity != own}
    outcomes = await connect_all(places, context.deadline)
    return [f"{places[at].identity} at {places[at].address}, port {port}: {why}" for at, why in outcomes.items() if why]


def _item(one: Sibling, *, ready: bool) -> str:
    since = datetime.fromtimestamp(one.since).astimezone().isoformat(" ", "seconds")
    return f"{one.identity} at {one.address} since {since}, {'ready' if ready else 'not ready'}"


def _moment(text: Any) -> float:
    """A time of the API in seconds; 0 where there is none."""
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except ValueError:
        return 0.0
