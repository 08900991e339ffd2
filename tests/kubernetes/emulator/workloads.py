"""Deployments and replica sets: as many pods as are wanted, of the newest template, and a status that says so.

Owns the control loop of both, in small: the real order of events (a pod being deleted is replaced at once; surplus goes
youngest and unready first) and the real names, labels and conditions. Never ends a pod: nodes.py does.
"""

from __future__ import annotations

import json
import math
import zlib
from typing import Any

from tests.kubernetes.emulator import names
from tests.kubernetes.emulator.resources import Registry, Resource
from tests.kubernetes.emulator.store import Store
from tests.kubernetes.emulator.verbs import Verbs

Json = dict[str, Any]
DEPLOYMENTS, SETS, PODS = "deployments.apps", "replicasets.apps", "pods"
HASH, REVISION, COST = (
    "pod-template-hash",
    "deployment.kubernetes.io/revision",
    "controller.kubernetes.io/pod-deletion-cost",
)


def reconcile(store: Store, registry: Registry, verbs: Verbs) -> None:
    """One round over all deployments and replica sets."""
    sets, pods = registry.find("apps", "v1", "replicasets"), registry.find("", "v1", "pods")
    assert sets is not None
    assert pods is not None
    for body in list(store.items(DEPLOYMENTS).values()):
        if "deletionTimestamp" not in body["metadata"]:
            _deployment(store, verbs, sets, body)
    owned = _by_owner(store, PODS)
    for body in list(store.items(SETS).values()):
        _replica_set(store, verbs, pods, body, owned.get(body["metadata"]["uid"], []))


def _by_owner(store: Store, identity: str) -> dict[str, list[Json]]:
    found: dict[str, list[Json]] = {}
    for body in store.items(identity).values():
        for owner in body["metadata"].get("ownerReferences", []):
            if owner.get("controller"):
                found.setdefault(owner["uid"], []).append(body)
    return found


def _key(body: Json) -> tuple[str, str]:
    return body["metadata"]["namespace"], body["metadata"]["name"]


def owner(body: Json) -> Json:
    """A reference to the object as the controller of another."""
    head = {"apiVersion": body["apiVersion"], "kind": body["kind"], "name": body["metadata"]["name"]}
    return {**head, "uid": body["metadata"]["uid"], "controller": True, "blockOwnerDeletion": True}


# Deployments.


def _deployment(store: Store, verbs: Verbs, resource: Resource, body: Json) -> None:
    sets = _by_owner(store, SETS).get(body["metadata"]["uid"], [])
    mark = _hash(body["spec"]["template"])
    newest = next((had for had in sets if had["metadata"]["labels"].get(HASH) == mark), None)
    if newest is None:
        revision = 1 + max((int(had["metadata"]["annotations"][REVISION]) for had in sets), default=0)
        newest = _new_set(verbs, resource, body, mark, revision, bool(sets))
        sets = [*sets, newest]
    body = _revised(store, body, newest["metadata"]["annotations"][REVISION])
    if not body["spec"].get("paused"):
        _roll(store, body, newest, [had for had in sets if had is not newest])
    _deployment_status(store, body, newest)


def _hash(template: Json) -> str:
    number = zlib.crc32(json.dumps(template, sort_keys=True).encode())
    digits = []
    for _ in range(9):
        number, digit = divmod(number, len(names.LETTERS))
        digits.append(names.LETTERS[digit])
    return "".join(digits)


def _new_set(verbs: Verbs, resource: Resource, body: Json, mark: str, revision: int, rolling: bool) -> Json:
    namespace, name = _key(body)
    spec, meta = body["spec"], body["spec"]["template"].get("metadata", {})
    labels = {**meta.get("labels", {}), HASH: mark}
    template = {**spec["template"], "metadata": {**meta, "labels": labels}}
    selector = {**spec["selector"], "matchLabels": {**spec["selector"].get("matchLabels", {}), HASH: mark}}
    made = {
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": f"{name}-{mark}", "labels": labels, "ownerReferences": [owner(body)],
            "annotations": {REVISION: str(revision)},
        },
        "spec": {"replicas": 0 if rolling else spec["replicas"], "selector": selector, "template": template},
    }  # fmt: skip
    return verbs.create(resource, namespace, made, {})


def _revised(store: Store, body: Json, revision: str) -> Json:
    annotations = body["metadata"].get("annotations", {})
    if annotations.get(REVISION) == revision:
        return body
    meta = {**body["metadata"], "annotations": {**annotations, REVISION: revision}}
    return store.write(DEPLOYMENTS, _key(body), {**body, "metadata": meta})


def _share(value: Any, whole: int, up: bool) -> int:
    if isinstance(value, int):
        return value
    part = whole * int(value.rstrip("%")) / 100
    return math.ceil(part) if up else math.floor(part)


def _roll(store: Store, body: Json, newest: Json, older: list[Json]) -> None:
    """Move replicas to the newest set: all at once if there is nothing else, else within surge and unavailability."""
    wanted = body["spec"]["replicas"]
    left = [had for had in older if had["spec"]["replicas"] or had["status"].get("replicas")]
    if not left:
        _resize(store, newest, wanted)
        return
    if body["spec"]["strategy"]["type"] == "Recreate":
        for had in left:
            _resize(store, had, 0)
        return
    limits = body["spec"]["strategy"]["rollingUpdate"]
    surge = _share(limits["maxSurge"], wanted, up=True)
    unavailable = _share(limits["maxUnavailable"], wanted, up=False) if surge else 1
    total = newest["spec"]["replicas"] + sum(had["spec"]["replicas"] for had in left)
    room = wanted + surge - total
    size = newest["spec"]["replicas"]
    if room > 0 or size > wanted:
        _resize(store, newest, min(wanted, size + max(room, 0)))
    ready = sum(had["status"].get("availableReplicas", 0) for had in [newest, *left])
    spare = ready - (wanted - unavailable)
    for had in left:
        unready = had["spec"]["replicas"] - had["status"].get("availableReplicas", 0)
        less = min(had["spec"]["replicas"], max(unready, 0) + max(spare, 0))
        spare -= max(less - max(unready, 0), 0)
        _resize(store, had, had["spec"]["replicas"] - less)


def _resize(store: Store, body: Json, replicas: int) -> None:
    if body["spec"]["replicas"] != replicas:
        meta = {**body["metadata"], "generation": body["metadata"]["generation"] + 1}
        store.write(SETS, _key(body), {**body, "metadata": meta, "spec": {**body["spec"], "replicas": replicas}})


def _deployment_status(store: Store, body: Json, newest: Json) -> None:
    sets = _by_owner(store, SETS).get(body["metadata"]["uid"], [])
    wanted = body["spec"]["replicas"]
    count = {name: sum(had["status"].get(name, 0) for had in sets) for name in _COUNTED}
    updated = (store.get(SETS, _key(newest)) or newest)["status"].get("replicas", 0)
    status: Json = {"observedGeneration": body["metadata"]["generation"]}
    figures = {
        "replicas": count["replicas"], "updatedReplicas": updated, "readyReplicas": count["readyReplicas"],
        "availableReplicas": count["availableReplicas"],
        "unavailableReplicas": max(wanted - count["availableReplicas"], 0),
    }  # fmt: skip
    status |= {name: figure for name, figure in figures.items() if figure}
    status["terminatingReplicas"] = count["terminatingReplicas"]
    least = wanted - _share(body["spec"]["strategy"].get("rollingUpdate", {}).get("maxUnavailable", 0), wanted, False)
    done = count["availableReplicas"] >= wanted and updated == count["replicas"] == wanted
    told = _conditions(count["availableReplicas"] >= least, done, newest["metadata"]["name"])
    status["conditions"] = _kept(body["status"].get("conditions", []), told)
    if status != body["status"]:
        store.write(DEPLOYMENTS, _key(body), {**body, "status": status})


_COUNTED = ("replicas", "readyReplicas", "availableReplicas", "terminatingReplicas")


def _conditions(available: bool, done: bool, name: str) -> list[Json]:
    first = ("Available", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    if not available:
        first = ("Available", "MinimumReplicasUnavailable", "Deployment does not have minimum availability.")
    second = ("Progressing", "ReplicaSetUpdated", f'ReplicaSet "{name}" is progressing.')
    if done:
        second = ("Progressing", "NewReplicaSetAvailable", f'ReplicaSet "{name}" has successfully progressed.')
    return [
        {"type": kind, "status": status, "reason": reason, "message": message}
        for (kind, reason, message), status in ((first, "True" if available else "False"), (second, "True"))
    ]


def _kept(had: list[Json], told: list[Json]) -> list[Json]:
    """Conditions with their times: those of what has not changed stay."""
    kept = []
    for condition in told:
        same = next((old for old in had if condition.items() <= old.items()), None)
        moment = {"lastUpdateTime": names.now(), "lastTransitionTime": names.now()}
        kept.append(same or {**condition, **moment})
    return kept


# Replica sets.


def _replica_set(store: Store, verbs: Verbs, resource: Resource, body: Json, pods: list[Json]) -> None:
    active = [pod for pod in pods if _is_active(pod)]
    missing = body["spec"]["replicas"] - len(active)
    if "deletionTimestamp" not in body["metadata"]:
        for _ in range(missing):
            _new_pod(verbs, resource, body)
        for pod in sorted(active, key=_rank)[: max(-missing, 0)]:
            verbs.delete(resource, _key(pod), {})
    left = _by_owner(store, PODS).get(body["metadata"]["uid"], []) if missing else pods
    _set_status(store, body, left)


def _is_active(pod: Json) -> bool:
    return "deletionTimestamp" not in pod["metadata"] and pod["status"].get("phase") not in ("Failed", "Succeeded")


def _is_ready(pod: Json) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(condition["type"] == "Ready" and condition["status"] == "True" for condition in conditions)


def _rank(pod: Json) -> tuple[Any, ...]:
    """Which of too many pods go first: not on a node, not running, not ready, cheap, young."""
    cost = int(pod["metadata"].get("annotations", {}).get(COST, "0"))
    running = pod["status"].get("phase") == "Running"
    return bool(pod["spec"].get("nodeName")), running, _is_ready(pod), cost, -int(pod["metadata"]["resourceVersion"])


def _new_pod(verbs: Verbs, resource: Resource, body: Json) -> None:
    namespace, name = _key(body)
    template = body["spec"]["template"]
    meta = {**template.get("metadata", {}), "generateName": f"{name}-", "ownerReferences": [owner(body)]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}
    verbs.create(resource, namespace, pod, {})


def _set_status(store: Store, body: Json, pods: list[Json]) -> None:
    active = [pod for pod in pods if _is_active(pod)]
    ready = sum(map(_is_ready, active))
    gone = sum("deletionTimestamp" in pod["metadata"] for pod in pods)
    counted = {"fullyLabeledReplicas": len(active), "readyReplicas": ready, "availableReplicas": ready}
    status = {"replicas": len(active)} | {name: number for name, number in counted.items() if number}
    status |= {"terminatingReplicas": gone, "observedGeneration": body["metadata"]["generation"]}
    if status != body["status"]:
        store.write(SETS, _key(body), {**body, "status": status})
