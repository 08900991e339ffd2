"""What fe sees of one namespace, or of all of them: lists kept current, and what follows from a change.

Owns: which kinds are watched and where, the objects as last read, which target a change is about, and whether all of it
has been seen. Never: what is made of the objects (`hub`), how a list is kept (`watch`).

An object that is changed into something wrong is served as it was before. A kind that the server does not know, or that
it does not let fe see, counts as one without objects; not so after a restart, if it has been seen before.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from fe.control.kubernetes.client import Cluster
from fe.control.kubernetes.heritage import Heritage
from fe.control.kubernetes.objects import (
    GROUP,
    VERSION,
    DeploymentObject,
    EndpointObject,
    kept,
    read_online_deployment,
    read_online_endpoint,
)
from fe.control.kubernetes.slim import Claim, Pod, Workload, read_claim, read_pod, read_workload
from fe.control.kubernetes.targets import Target
from fe.control.kubernetes.watch import Key, Reflector

EVERYWHERE: Final = "*"
OURS: Final = f"apis/{GROUP}/{VERSION}"
V = TypeVar("V")
Changed: TypeAlias = Callable[[Key, V | None, V | None], None]


@dataclass(frozen=True)
class Held:
    """An object of fe's own kinds: as read, and the value that it was read from (for its status, or to read anew)."""

    read: EndpointObject | DeploymentObject
    value: Mapping[str, Any]


class Listener(Protocol):
    """Who hears of changes."""

    @property
    def targets(self) -> Mapping[Key, Target]: ...

    def on_objects(self) -> None:
        """What is to be served may have changed."""


class View:
    """One namespace; "*": all of them."""

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        listener: Listener,
        known: Collection[str],
        heritage: Heritage,
        *,
        objects: bool,
    ) -> None:
        """objects: models are looked for here; else only pods that a file names.

        known, heritage: paths that a former controller had seen, and what it served.
        """
        self.namespace = namespace
        self.objects = objects
        self._listener = listener
        self._known = known
        self._heritage = heritage
        self._claims: dict[tuple[str, Key], Claim] = {}
        self.endpoints: dict[Key, EndpointObject] = {}  # as they are served
        self.deployments: dict[Key, DeploymentObject] = {}
        self.plain: dict[Key, DeploymentObject] = {}  # Deployments that are models by their labels
        self.paths: dict[str, str] = {}  # by the kind's name in a path, as reflectors are
        self.reflectors: dict[str, Reflector[Any]] = {}

        def watch(root: str, plural: str, reduce: Callable[[Any], V | None], on_change: Changed[V]) -> Reflector[V]:
            path = f"/{root}/{plural}" if namespace == EVERYWHERE else f"/{root}/namespaces/{namespace}/{plural}"
            made = Reflector(cluster, path, reduce, on_change, on_sync=self._on_sync)
            self.paths[plural], self.reflectors[plural] = path, made
            return made

        self.workloads = watch("apis/apps/v1", "deployments", read_workload, self._on_workload)
        self.pods = watch("api/v1", "pods", read_pod, self._on_pod)
        watch("apis/autoscaling/v2", "horizontalpodautoscalers", _autoscaler, self._on_autoscaler)
        watch("apis/keda.sh/v1alpha1", "scaledobjects", _scaled_object, self._on_scaled_object)
        if objects:
            watch(OURS, "onlineendpoints", _endpoint, self._on_endpoint)
            watch(OURS, "onlinedeployments", _deployment, self._on_deployment)

    def start(self) -> None:
        """Begins to look."""
        for reflector in self.reflectors.values():
            reflector.start()

    async def stop(self) -> None:
        """Ends it; what was seen stays."""
        for reflector in self.reflectors.values():
            await reflector.stop()

    # --- how well it is known ---

    @property
    def settled(self) -> bool:
        """Everything here has been seen, or cannot be."""
        return all(
            one.synced or (self.is_refused(kind) and self.paths[kind] not in self._known)
            for kind, one in self.reflectors.items()
        )

    def held(self, kind: str) -> Mapping[Key, Held]:
        """The objects of one of fe's own kinds."""
        found = self.reflectors.get(kind)
        return {} if found is None else found.store

    def stale_for(self) -> float:
        """Seconds since what a decision about a number depends on was last seen as it is."""
        needed: list[Reflector[Any]] = [self.workloads, self.pods]
        if not self.is_refused("horizontalpodautoscalers"):
            needed.append(self.reflectors["horizontalpodautoscalers"])
        return max(one.stale_for() for one in needed)

    def is_refused(self, kind: str) -> bool:
        """The server does not know this kind, or does not let fe see it, and never did."""
        return self.reflectors[kind].refused is not None

    def claims_on(self, key: Key) -> tuple[str, ...]:
        """What else scales this Deployment."""
        namespace, name = key
        found = [one.who for (_, (where, _)), one in self._claims.items() if where == namespace and one.target == name]
        return tuple(sorted(found))

    def read_again(self) -> None:
        """The files that endpoints refer to may hold something else now."""
        for key, held in self.held("onlineendpoints").items():
            self.endpoints[key] = kept(read_online_endpoint(held.value), self.endpoints.get(key))
        self._listener.on_objects()

    def fill(self, target: Target) -> None:
        """All that is known about a target that has just come about."""
        target.claims = self.claims_on(target.key)
        workload = self.workloads.store.get(target.key)
        if workload is not None and target.on_workload(workload):
            self._gather(target)
        self._look(target)

    def _look(self, target: Target) -> None:
        """What is known about a target may be the cluster's word by now."""
        if not target.seen and self.workloads.synced and self.pods.synced:
            target.seen = True
            target.on_workload(self.workloads.store.get(target.key))

    def _on_sync(self) -> None:
        for target in self._listener.targets.values():
            if self.namespace in (EVERYWHERE, target.key[0]):
                self._look(target)

    # --- changes ---

    def _on_endpoint(self, key: Key, old: Held | None, new: Held | None) -> None:
        if new is None:
            self.endpoints.pop(key, None)
        elif old is None or old.read != new.read:
            assert isinstance(new.read, EndpointObject)
            former = self.endpoints.get(key) or self._heritage.get(new.read.ref)
            self.endpoints[key] = kept(new.read, former if isinstance(former, EndpointObject) else None)
        else:
            return  # its status
        self._listener.on_objects()

    def _on_deployment(self, key: Key, old: Held | None, new: Held | None) -> None:
        read = None if new is None else new.read
        if (None if old is None else old.read) != read:
            assert not isinstance(read, EndpointObject)
            self._put(self.deployments, key, read)

    def _put(self, into: dict[Key, DeploymentObject], key: Key, read: DeploymentObject | None) -> None:
        """What it was before holds on where it is wrong now, beside the new problems: as `objects.kept`."""
        if read is None:
            into.pop(key, None)
        else:
            former = into.get(key) or self._heritage.get(read.ref)
            into[key] = read
            if read.deployment is None and isinstance(former, DeploymentObject) and former.deployment is not None:
                into[key] = dataclasses.replace(former, problems=read.problems, notes=read.notes)
        self._listener.on_objects()

    def _on_workload(self, key: Key, old: Workload | None, new: Workload | None) -> None:
        target = self._listener.targets.get(key)
        if target is not None and target.on_workload(new):
            self._gather(target)
        if self.objects and (old and old.plain) != (new and new.plain):
            self._put(self.plain, key, None if new is None else new.plain)

    def _gather(self, target: Target) -> None:
        for (namespace, _), pod in self.pods.store.items():
            if namespace == target.key[0]:
                target.on_pod(pod, pod)
        for uid in [uid for uid, pod in target.pods.items() if not target.selector.matches(pod.labels)]:
            target.on_pod(target.pods[uid], None)

    def _on_pod(self, key: Key, old: Pod | None, new: Pod | None) -> None:
        for target in self._listener.targets.values():
            if target.key[0] == key[0]:
                target.on_pod(old, new)

    def _on_autoscaler(self, key: Key, old: Claim | None, new: Claim | None) -> None:
        self._on_claim("autoscaler", key, old, new)

    def _on_scaled_object(self, key: Key, old: Claim | None, new: Claim | None) -> None:
        self._on_claim("scaled object", key, old, new)

    def _on_claim(self, kind: str, key: Key, old: Claim | None, new: Claim | None) -> None:
        if new is None:
            self._claims.pop((kind, key), None)
        else:
            self._claims[kind, key] = new
        for claim in (old, new):
            target = None if claim is None else self._listener.targets.get((key[0], claim.target))
            if target is not None:
                target.claims = self.claims_on(target.key)
                target.tell()


def _slim(value: Mapping[str, Any]) -> Mapping[str, Any]:
    """An object without what the server keeps for itself."""
    meta = {name: one for name, one in value["metadata"].items() if name != "managedFields"}
    return {**value, "metadata": meta}


def _endpoint(value: Mapping[str, Any]) -> Held:
    return Held(read_online_endpoint(value), _slim(value))


def _deployment(value: Mapping[str, Any]) -> Held:
    return Held(read_online_deployment(value), _slim(value))


def _autoscaler(value: Mapping[str, Any]) -> Claim | None:
    return read_claim(value, "HorizontalPodAutoscaler")


def _scaled_object(value: Mapping[str, Any]) -> Claim | None:
    return read_claim(value, "ScaledObject")
