"""Create, read, replace, patch and delete: how a request becomes the next state of an object.

Owns the order of the steps (decode, precondition, carry over, default, validate, write) and the metadata. What differs
by kind is in kinds.py, what differs by patch in patches.py. Never authorizes; api.py has done so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.kubernetes.emulator import kinds, lists, names, schemas, types
from tests.kubernetes.emulator.errors import bad, bad_request, conflict, exists, invalid, not_found, required
from tests.kubernetes.emulator.resources import Registry, Resource
from tests.kubernetes.emulator.store import Key, Store

Json = dict[str, Any]
Query = dict[str, str]
GRACE_KEYS = ("deletionTimestamp", "deletionGracePeriodSeconds")
KEPT = ("name", "namespace", "uid", "creationTimestamp", "generation", "generateName", *GRACE_KEYS)


class Verbs:
    """The writing verbs over one store."""

    def __init__(self, store: Store, registry: Registry, made: names.Names) -> None:
        self.store, self.registry, self.names = store, registry, made

    def get(self, resource: Resource, namespace: str, name: str) -> Json:
        body = self.store.get(resource.id, (namespace, name))
        if body is None:
            raise not_found(resource, name)
        return body

    # Create.

    def create(self, resource: Resource, namespace: str, body: Json, query: Query) -> Json:
        body = self._decoded(resource, body, query)
        meta = self._new_metadata(resource, namespace, body)
        key = (namespace, meta["name"])
        if "status" in resource.subresources:
            body = {name: value for name, value in body.items() if name != "status"}
        body = kinds.defaulted(resource, {**body, "metadata": meta}, self)
        self._validate(resource, body, None)
        self._check_namespace(namespace)
        if self.store.get(resource.id, key) is not None:
            raise exists(resource, meta["name"])
        return body if _dry(query) else self.store.write(resource.id, key, body)

    def _new_metadata(self, resource: Resource, namespace: str, body: Json) -> Json:
        meta = {key: value for key, value in body["metadata"].items() if key not in GRACE_KEYS}
        if meta.pop("resourceVersion", ""):
            raise bad_request("resourceVersion should not be set on objects to be created")
        if meta.get("namespace", namespace) != namespace:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        prefix = meta.get("generateName", "")
        if not meta.get("name") and prefix:
            meta["name"] = prefix + self.names.suffix()
        meta |= {"uid": self.names.uid(), "creationTimestamp": names.now()}
        if namespace:
            meta["namespace"] = namespace
        if resource.generation:
            meta["generation"] = 1
        meta.setdefault("name", "")
        return meta

    def _check_namespace(self, namespace: str) -> None:
        if namespace and self.store.get("namespaces", ("", namespace)) is None:
            spaces = self.registry.find("", "v1", "namespaces")
            assert spaces is not None
            raise not_found(spaces, namespace)

    # Update.

    def replace(self, resource: Resource, key: Key, part: str, body: Json, query: Query) -> tuple[Json, bool]:
        """PUT. Returns the object and whether it was created."""
        body = self._decoded(resource, body, query)
        if body["metadata"].get("name", key[1]) != key[1]:
            had = body["metadata"].get("name")
            raise bad_request(f"the name of the object ({had}) does not match the name on the URL ({key[1]})")
        if body["metadata"].get("namespace", key[0]) != key[0]:
            raise bad_request("the namespace of the provided object does not match the namespace sent on the request")
        old = self.store.get(resource.id, key)
        if old is None:
            if not resource.put_creates or part:
                raise not_found(resource, key[1])
            meta = {name: value for name, value in body["metadata"].items() if name != "resourceVersion"}
            return self.create(resource, key[0], {**body, "metadata": {**meta, "name": key[1]}}, query), True
        return self._update(resource, key, part, old, body, resource.unconditional, query), False

    def patch(self, resource: Resource, key: Key, part: str, change: Callable[[Json], Json], query: Query) -> Json:
        """PATCH: `change` makes the new object of the stored one; without a resourceVersion of its own it applies to
        whatever is stored."""
        old = self.get(resource, *key)
        changed = change(old)
        changed.setdefault("metadata", {})
        body = self._decoded(resource, changed, query)
        return self._update(resource, key, part, old, body, True, query)

    def _update(
        self, resource: Resource, key: Key, part: str, old: Json, body: Json, unconditional: bool, query: Query
    ) -> Json:
        self._check_preconditions(resource, key[1], old, body["metadata"], unconditional)
        new = self._carried(resource, part, old, body)
        new = kinds.defaulted(resource, new, self)
        self._validate(resource, new, old)
        if resource.generation and _spec(resource, new) != _spec(resource, old):
            new["metadata"]["generation"] = old["metadata"].get("generation", 0) + 1
        if new == old or _dry(query):
            return new
        if "deletionTimestamp" in new["metadata"] and not new["metadata"].get("finalizers") and resource.id != "pods":
            self.store.write(resource.id, key, new)
            return self.store.delete(resource.id, key)
        return self.store.write(resource.id, key, new)

    @staticmethod
    def _check_preconditions(resource: Resource, name: str, old: Json, meta: Json, unconditional: bool) -> None:
        had, asked = old["metadata"]["resourceVersion"], meta.get("resourceVersion", "")
        uid = meta.get("uid", old["metadata"]["uid"])
        if uid != old["metadata"]["uid"]:
            why = f"Precondition failed: UID in precondition: {uid}, UID in object meta: {old['metadata']['uid']}"
            raise conflict(resource, name, why)
        if asked in ("", "0") and not unconditional:
            cause = bad("metadata.resourceVersion", 0, "must be specified for an update")
            raise invalid(resource.group, resource.plural, name, [cause])
        if asked not in ("", "0", had):
            raise conflict(resource, name)

    @staticmethod
    def _carried(resource: Resource, part: str, old: Json, body: Json) -> Json:
        """The new object, with what this path may not change taken from the old one."""
        had = old["metadata"]
        if part == "status":
            new = {**old, "metadata": dict(had)}
            new.pop("status", None)
            return new | ({"status": body["status"]} if "status" in body else {})
        meta = {name: value for name, value in body["metadata"].items() if name not in KEPT}
        meta |= {name: had[name] for name in KEPT if name in had} | {"resourceVersion": had["resourceVersion"]}
        new = {**body, "metadata": meta}
        if "status" in resource.subresources:
            new.pop("status", None)
            new |= {"status": old["status"]} if "status" in old else {}
        return new

    # Both.

    def _decoded(self, resource: Resource, body: Json, query: Query) -> Json:
        if body.get("apiVersion", resource.api_version) != resource.api_version or (
            body.get("kind", resource.kind) != resource.kind
        ):
            had = f"{body.get('apiVersion')}, Kind={body.get('kind')}"
            expected = f"{resource.api_version}, Kind={resource.kind}"
            raise bad_request(f"the API version in the data ({had}) does not match the expected API version "
                              f"({expected})")  # fmt: skip
        strict = query.get("fieldValidation") == "Strict"
        body = (schemas.decoded if resource.custom else types.decode)(resource, body, strict)
        meta = {name: value for name, value in body.get("metadata", {}).items() if name != "managedFields"}
        head = {"kind": resource.kind, "apiVersion": resource.api_version}
        return {**head, **body, **head, "metadata": meta}

    @staticmethod
    def _validate(resource: Resource, body: Json, old: Json | None) -> None:
        name = body["metadata"]["name"]
        causes = []
        if old is None:
            prefix = body["metadata"].get("generateName", "")
            if prefix and not names.is_subdomain(prefix.removesuffix("-")):
                causes.append(bad("metadata.generateName", prefix, names.SUBDOMAIN_TEXT))
            if not name:
                causes.append(required("metadata.name", "name or generateName is required"))
            elif not names.is_subdomain(name) and not resource.group.startswith("rbac."):
                causes.append(bad("metadata.name", name, names.SUBDOMAIN_TEXT))
        causes += kinds.causes(resource, body, old)
        if causes:
            group = "" if resource.id == "events.events.k8s.io" else resource.group
            raise invalid(group, resource.kind, name, causes)

    # Delete.

    def delete(self, resource: Resource, key: Key, options: Json) -> tuple[Json, bool]:
        """Returns what is left to show, and whether the object is gone. Pods go in steps; see `_delete_pod`."""
        body = self.get(resource, *key)
        wanted = options.get("preconditions") or {}
        for name in ("uid", "resourceVersion"):
            if wanted.get(name, body["metadata"][name]) != body["metadata"][name]:
                title = {"uid": "UID", "resourceVersion": "ResourceVersion"}[name]
                raise conflict(resource, key[1], f"Precondition failed: {title} in precondition: {wanted[name]}, "
                                                 f"{title} in object meta: {body['metadata'][name]}")  # fmt: skip
        if resource.id == "pods":
            return self._delete_pod(resource, key, body, options)
        if body["metadata"].get("finalizers"):
            if "deletionTimestamp" not in body["metadata"]:
                meta = {"deletionTimestamp": names.now(), "deletionGracePeriodSeconds": 0}
                body = self.store.write(resource.id, key, _with_meta(body, meta))
            return body, False
        return self.store.delete(resource.id, key), True

    def _delete_pod(self, resource: Resource, key: Key, body: Json, options: Json) -> tuple[Json, bool]:
        """A pod on a node gets its grace and goes when the node says so, with a grace of 0; any other goes at once.

        Both end in two events: MODIFIED with a grace of 0, then DELETED.
        """
        had = body["metadata"].get("deletionGracePeriodSeconds")
        grace = options.get("gracePeriodSeconds")
        if grace is None:
            grace = body["spec"].get("terminationGracePeriodSeconds", 30) if had is None else had
        if not body["spec"].get("nodeName") or body.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            grace = 0
        if had is not None and grace >= had > 0:
            return body, False
        meta = {"deletionTimestamp": names.now(grace), "deletionGracePeriodSeconds": grace}
        meta["generation"] = body["metadata"].get("generation", 1) + (had is None)
        body = self.store.write(resource.id, key, _with_meta(body, meta))
        if grace or body["metadata"].get("finalizers"):
            return body, False
        return self.store.delete(resource.id, key), True

    def delete_collection(self, resource: Resource, namespace: str, query: Query, options: Json) -> list[Json]:
        plain = {name: value for name, value in query.items() if name in ("labelSelector", "fieldSelector")}
        found, _ = lists.select(self.store, resource, namespace, plain)
        keys = [(body["metadata"].get("namespace", ""), body["metadata"]["name"]) for body in found]
        return [self.delete(resource, key, options)[0] for key in keys]


def _with_meta(body: Json, meta: Json) -> Json:
    return {**body, "metadata": {**body["metadata"], **meta}}


def _spec(resource: Resource, body: Json) -> Json:
    """What a generation counts: everything but metadata, and but status where that is a subresource."""
    left = {"metadata", "kind", "apiVersion"} | ({"status"} & resource.subresources)
    return {key: value for key, value in body.items() if key not in left}


def _dry(query: Query) -> bool:
    return query.get("dryRun") == "All"
