"""What fe has to do with the cluster, in numbers and words: metrics, and its part of /api/status.

Owns: the names of the metrics fe_kubernetes_*, and the counting of lists and watches. Never: secrets; reads only, may
run in a thread.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from fe.control.kubernetes.client import CALL_WITHIN, EMPTY, Answer, Cluster

if TYPE_CHECKING:
    from fe.control.kubernetes.hub import Hub

OUTCOMES: Final = ("written", "conflict", "refused", "unreachable", "fenced")


class Counted(Cluster):
    """A Cluster that counts lists and watches by the kind's name in their path."""

    lists: Counter[str]
    watches: Counter[str]

    def __init__(self, kubeconfig: str | None, context: str | None) -> None:
        super().__init__(kubeconfig, context)
        self.lists, self.watches = Counter(), Counter()

    @property
    def source(self) -> str:
        """How the cluster is reached; "" as long as that is not known."""
        return "" if self._access is None else f"{self._access.source}, {self._access.server}"

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = EMPTY,
        body: Any = None,
        content_type: str | None = None,
        timeout: float = CALL_WITHIN,
        fence: Callable[[], object] | None = None,
    ) -> Answer:
        if "limit" in query:
            self.lists[_kind(path)] += 1
        return await super().call(method, path, query, body, content_type, timeout, fence)

    def stream(
        self,
        path: str,
        query: Mapping[str, str] = EMPTY,
        idle_timeout: float = 60.0,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes | bytearray, None]:
        self.watches[_kind(path)] += 1
        return super().stream(path, query, idle_timeout, on_open)


def _kind(path: str) -> str:
    return path.rpartition("/")[2]


def collect(hub: Hub) -> Iterator[Metric]:
    """The metrics."""
    yield GaugeMetricFamily("fe_kubernetes_leader", "1 while this front-end is the one that scales.", int(hub.leading))
    members = () if hub.siblings is None else hub.siblings.members
    yield GaugeMetricFamily("fe_kubernetes_siblings", "Front-ends in the cluster, this one included.", len(members))
    stale = GaugeMetricFamily(
        "fe_kubernetes_sync_age_seconds",
        "Since a kind of objects was last seen as it is, the longest of all namespaces; +Inf: not yet.",
        labels=["kind"],
    )
    for kind, seconds in sorted(_staleness(hub).items()):
        stale.add_metric([kind], seconds)
    yield stale
    for name, text, counts in (
        ("fe_kubernetes_list_calls", "Calls for a list (or a page of one).", hub.cluster.lists),
        ("fe_kubernetes_watches", "Watches begun; each ends after some time and is begun anew.", hub.cluster.watches),
    ):
        family = CounterMetricFamily(name, text, labels=["kind"])
        for kind, count in sorted(counts.copy().items()):
            family.add_metric([kind], count)
        yield family
    writes = CounterMetricFamily(
        "fe_kubernetes_scale_writes", "Numbers of replicas written, by what became of it.", labels=["result"]
    )
    for outcome in OUTCOMES:
        writes.add_metric([outcome], hub.writes[outcome])
    yield writes
    yield from _claimed(hub)


def _claimed(hub: Hub) -> Iterator[Metric]:
    conflicts = GaugeMetricFamily(
        "fe_kubernetes_scale_conflict",
        "1 where something else scales the same pods, so that fe leaves their number alone.",
        labels=["endpoint", "deployment"],
    )
    for name, provider in sorted(hub.providers.items()):
        if provider.scales and not provider.retired:
            conflicts.add_metric(list(name.partition("/")[::2]), int(bool(provider.target.claims)))
    yield conflicts


def _staleness(hub: Hub) -> dict[str, float]:
    found: dict[str, float] = {}
    for view in list(hub.views.values()):
        for kind, reflector in view.reflectors.items():
            if not view.is_refused(kind):
                found[kind] = max(found.get(kind, 0.0), reflector.stale_for())
    return found


def show(hub: Hub) -> dict[str, Any]:
    """For /api/status, JSON-ready."""
    members = () if hub.siblings is None else hub.siblings.members
    return {
        "identity": hub.identity,
        "namespace": hub.namespace,
        "reached_by": hub.cluster.source or None,
        "leading": hub.leading,
        "leader": hub.leader or None,
        "election_trouble": (hub.elector.trouble if hub.elector is not None else "") or None,
        "siblings": [{"identity": one.identity, "address": one.address, "since": one.since} for one in members],
        "views": [
            {
                "namespace": view.namespace, "kind": kind, "objects": len(one.store),
                "seconds_since_sync": round(one.stale_for(), 3) if one.synced else None, "trouble": one.trouble or None,
                "refused": view.is_refused(kind),
            }
            for view in list(hub.views.values())
            for kind, one in view.reflectors.items()
        ],
        "conflicts": {
            name: list(provider.target.claims)
            for name, provider in hub.providers.items()
            if provider.scales and provider.target.claims
        },
        "problems": hub.served.problems,
        "waiting": hub.served.waiting,
        "scale_writes": dict(hub.writes),
    }  # fmt: skip
