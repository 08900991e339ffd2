"""The cluster's controllers: deployments, replica sets, endpoint slices, definitions of kinds, and the clearing up.

Owns when they run: after every change, as soon as the loop gets to it, until there is nothing left to do. Never answers
a request. The work is in workloads.py and endpoints.py; here are definitions, dead namespaces and orphans.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from tests.kubernetes.emulator import crds, endpoints, workloads
from tests.kubernetes.emulator.resources import Registry
from tests.kubernetes.emulator.store import Change, Key, Store
from tests.kubernetes.emulator.verbs import Verbs

Json = dict[str, Any]
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
OWNERS = ("deployments.apps", "replicasets.apps", "services")  # whose belongings go with them
OWNED = {"replicasets.apps": "ReplicaSet", "pods": "Pod", "endpointslices.discovery.k8s.io": "EndpointSlice"}
WATCHED = {*OWNERS, *OWNED, DEFINITIONS, "namespaces"}
MOST_ROUNDS = 100


class Controllers:
    def __init__(self, store: Store, registry: Registry, verbs: Verbs) -> None:
        self.store, self.registry, self.verbs = store, registry, verbs
        self.paused = False
        self._due = False
        self._running = False
        self._unlisten: Callable[[], None] | None = None
        self._gone: set[str] = set()

    @property
    def idle(self) -> bool:
        return not self._due

    def start(self) -> None:
        self._unlisten = self.store.listen(self._on_change)

    def stop(self) -> None:
        if self._unlisten is not None:
            self._unlisten()

    def pause(self) -> None:
        """Let nothing be done until `resume`: as when the controller manager is down."""
        self.paused = True

    def resume(self) -> None:
        self.paused = False
        self._wake()

    def _on_change(self, change: Change) -> None:
        if change.id == "namespaces" and change.new is None:
            self._gone.add(change.key[1])
        if change.id == DEFINITIONS and change.new is None and change.old is not None:
            self._forget(change.old)
        if change.id in WATCHED and not self._running:
            self._wake()

    def _wake(self) -> None:
        if not self._due and not self.paused:
            self._due = True
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        self._due, self._running = False, True
        try:
            for _ in range(MOST_ROUNDS):
                before = self.store.version
                self._round()
                if self.store.version == before:
                    return
        finally:
            self._running = False

    def _round(self) -> None:
        self._establish()
        self._clear_namespaces()
        self._clear_orphans()
        workloads.reconcile(self.store, self.registry, self.verbs)
        endpoints.reconcile(self.store, self.registry, self.verbs)

    def _establish(self) -> None:
        """Accept the names of new definitions, and serve what they define."""
        for key, body in list(self.store.items(DEFINITIONS).items()):
            accepted = crds.established(body)
            if accepted is not None:
                self.store.write(DEFINITIONS, key, accepted)
            for resource in crds.resources(body):
                known = self.registry.find(resource.group, resource.version, resource.plural)
                if known is None or known.schema != resource.schema or known.columns != resource.columns:
                    self.registry.add(resource)

    def _forget(self, definition: Json) -> None:
        """A definition is deleted: so are the objects of its kind, and it is served no more."""
        identity = definition["metadata"]["name"]
        for key in list(self.store.items(identity)):
            self.store.delete(identity, key)
        self.registry.remove(identity)

    def _clear_namespaces(self) -> None:
        for resource in self.registry.all():
            for key in [key for key in self.store.items(resource.id) if key[0] in self._gone and key[0]]:
                self._remove(resource.id, key)
        self._gone -= {name for _, name in self.store.items("namespaces")}

    def _clear_orphans(self) -> None:
        """What is controlled by an object that no longer exists goes as well."""
        alive = {body["metadata"]["uid"] for identity in OWNERS for body in self.store.items(identity).values()}
        kinds = {"Deployment", "ReplicaSet", "Service"}
        for identity in OWNED:
            for key, body in list(self.store.items(identity).items()):
                owners = [owner for owner in body["metadata"].get("ownerReferences", []) if owner["kind"] in kinds]
                if owners and not any(owner["uid"] in alive for owner in owners):
                    self._remove(identity, key)

    def _remove(self, identity: str, key: Key) -> None:
        body = self.store.get(identity, key)
        if body is None or "deletionTimestamp" in body["metadata"]:
            return
        resource = next(resource for resource in self.registry.all() if resource.id == identity)
        self.verbs.delete(resource, key, {})
