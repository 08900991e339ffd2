"""The front-ends of this cluster, found through the API by the label of their pods.

Owns: the list of members: who, where, since when. Never: what they say to each other, or who leads (`election`).
While the API server is away the last known list stays (`watch`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from fe.control.kubernetes.client import Cluster
from fe.control.kubernetes.watch import Key, Reflector


@dataclass(frozen=True, slots=True)
class Sibling:
    """A front-end whose pod runs. `since`: when its node took the pod, in seconds since the epoch by the cluster."""

    identity: str  # the pod's name
    address: str  # IPv4 or IPv6
    since: float


class Siblings:
    """Keeps the list. `on_change` gets all members whenever one has come, gone or moved."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        labels: str,
        on_change: Callable[[tuple[Sibling, ...]], None] | None = None,
    ) -> None:
        self._on_change = on_change
        path = f"/api/v1/namespaces/{namespace}/pods"
        self._pods = Reflector(cluster, path, read_member, self._on_pod, labels=labels)

    @property
    def members(self) -> tuple[Sibling, ...]:
        """All of them, fe itself included; the longest there first."""
        return tuple(sorted(self._pods.store.values(), key=lambda one: (one.since, one.identity)))

    @property
    def synced(self) -> bool:
        """The list has been seen whole at least once."""
        return self._pods.synced

    def stale_for(self) -> float:
        """Seconds since the list was last in sync."""
        return self._pods.stale_for()

    def start(self) -> None:
        """Begins to look."""
        self._pods.start()

    async def stop(self) -> None:
        """Ends looking; the list stays."""
        await self._pods.stop()

    def _on_pod(self, _key: Key, _old: Sibling | None, _new: Sibling | None) -> None:
        if self._on_change is not None:
            self._on_change(self.members)


def read_member(pod: dict[str, Any]) -> Sibling | None:
    """A pod as a member; None: it has no address yet, has ended, or is about to."""
    meta, status = pod["metadata"], pod.get("status") or {}
    address = status.get("podIP")
    if not address or status.get("phase") != "Running" or "deletionTimestamp" in meta:
        return None
    since = datetime.fromisoformat(status.get("startTime") or meta["creationTimestamp"])
    return Sibling(meta["name"], address, since.timestamp())
