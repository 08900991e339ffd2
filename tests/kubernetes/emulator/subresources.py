"""Parts of objects with a path of their own: scale of a workload; binding and eviction of a pod.

Owns their shapes. `status` is no concern of this module: verbs.py carries it.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from tests.kubernetes.emulator import names, types
from tests.kubernetes.emulator.errors import bad, bad_request, conflict, invalid, method_not_allowed
from tests.kubernetes.emulator.resources import Resource

if TYPE_CHECKING:
    from tests.kubernetes.emulator.api import Answer, Api, Call, Target

Json = dict[str, Any]
SCALE = Resource("autoscaling", "v1", "scales", "Scale")
SCALE_META = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def answer(api: Api, resource: Resource, target: Target, call: Call) -> Answer:
    """The answer to a call to scale, binding or eviction. Refused: 405 for other methods and parts."""
    from tests.kubernetes.emulator.api import Answer, change_of, parsed, success

    part, method = target.part, call.method
    if part == "scale" and method == "GET":
        return Answer(200, scale_of(api.verbs.get(resource, *target.key)))
    if part == "scale" and method == "PUT":
        body = api.verbs.get(resource, *target.key)
        return Answer(200, _scaled(api, resource, target, parsed(SCALE, call), call, body))
    if part == "scale" and method == "PATCH":
        body = api.verbs.get(resource, *target.key)
        return Answer(200, _scaled(api, resource, target, change_of(SCALE, call)(scale_of(body)), call, body))
    if part == "binding" and method == "POST":
        _bind(api, resource, target, parsed(resource, call))
        return Answer(201, success({}) | {"code": 201})
    if part == "eviction" and method == "POST":
        options = (json.loads(call.body) if call.body else {}).get("deleteOptions") or {}
        api.verbs.delete(resource, target.key, options)
        return Answer(201, success({}) | {"code": 201})
    raise method_not_allowed()


def scale_of(body: Json) -> Json:
    """The Scale of a workload. No replicas wanted is no field at all, as Go leaves out what is zero."""
    labels = body["spec"]["selector"].get("matchLabels", {})
    replicas = body["spec"].get("replicas", 1)
    status = {"replicas": body.get("status", {}).get("replicas", 0)}
    if labels:
        status["selector"] = ",".join(f"{key}={value}" for key, value in sorted(labels.items()))
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {key: body["metadata"][key] for key in SCALE_META},
        "spec": {"replicas": replicas} if replicas else {},
        "status": status,
    }


def _scaled(api: Api, resource: Resource, target: Target, asked: Json, call: Call, body: Json) -> Json:
    """Write the replicas of a Scale into its workload, under the Scale's preconditions."""
    name = target.name
    if asked.get("kind", "Scale") != "Scale" or asked.get("apiVersion", "autoscaling/v1") != "autoscaling/v1":
        raise bad_request(
            f"expected kind Scale of autoscaling/v1, got {asked.get('kind')} of {asked.get('apiVersion')}"
        )
    asked = types.decode(SCALE, asked, call.query.get("fieldValidation") == "Strict")
    meta = asked.get("metadata", {})
    if meta.get("name", name) != name:
        raise bad_request(f"the name of the object ({meta['name']}) does not match the name on the URL ({name})")
    if meta.get("uid", body["metadata"]["uid"]) != body["metadata"]["uid"]:
        raise conflict(resource, name, "Precondition failed: UID in precondition does not match")
    if meta.get("resourceVersion", "") not in ("", "0", body["metadata"]["resourceVersion"]):
        raise conflict(resource, name)
    replicas = asked.get("spec", {}).get("replicas", 0)
    if replicas < 0:
        cause = bad("spec.replicas", replicas, "must be greater than or equal to 0")
        raise invalid("autoscaling", "Scale", name, [cause])
    merged = {**body, "spec": {**body["spec"], "replicas": replicas}}
    return scale_of(api.verbs.patch(resource, target.key, "", lambda _: merged, call.query))


def _bind(api: Api, resource: Resource, target: Target, binding: Json) -> None:
    """Put a pod on a node, as the scheduler does."""
    pod = api.verbs.get(resource, *target.key)
    node = (binding.get("target") or {}).get("name", "")
    if not node:
        cause = bad("target.name", node, "must be specified")
        raise invalid("", "Binding", target.name, [cause])
    if pod["spec"].get("nodeName"):
        raise conflict(
            resource, target.name, f'pod {target.name} is already assigned to node "{pod["spec"]["nodeName"]}"'
        )
    api.store.write(resource.id, target.key, bound(pod, node))


def bound(pod: Json, node: str) -> Json:
    """The pod on a node."""
    moment = {"lastProbeTime": None, "lastTransitionTime": names.now()}
    conditions = [{"type": "PodScheduled", "status": "True", **moment}]
    status = {**pod["status"], "conditions": conditions}
    return {**pod, "spec": {**pod["spec"], "nodeName": node}, "status": status}
