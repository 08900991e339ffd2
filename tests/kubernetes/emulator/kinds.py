"""What is particular to each built-in kind: its defaults and its validation.

Owns one pair of functions a kind, found by resource id. Pods and their templates are in pods.py, definitions of custom
kinds in crds.py. A kind without an entry takes every object whose fields types.py understands.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tests.kubernetes.emulator import crds, pods, schemas
from tests.kubernetes.emulator.errors import Cause, bad, forbidden_field, required, unsupported
from tests.kubernetes.emulator.resources import Resource

if TYPE_CHECKING:
    from tests.kubernetes.emulator.verbs import Verbs

Json = dict[str, Any]
AT_LEAST_0 = "must be greater than or equal to 0"
IMMUTABLE = "field is immutable"


def defaulted(resource: Resource, body: Json, verbs: Verbs) -> Json:
    """The object with everything filled in that the server fills in."""
    if resource.custom:
        head = {key: body[key] for key in schemas.HEADER}
        rest = {key: value for key, value in body.items() if key not in schemas.HEADER}
        filled: Json = schemas.defaulted(resource.schema or {}, rest)
        return head | filled
    fill = _DEFAULTS.get(resource.id)
    return fill(body, verbs) if fill else body


def causes(resource: Resource, body: Json, old: Json | None) -> list[Cause]:
    """Everything that is wrong with an object; `old` is what it replaces."""
    if resource.custom:
        rest = {key: value for key, value in body.items() if key not in schemas.HEADER}
        return schemas.causes(resource.schema or {}, rest)
    check = _CHECKS.get(resource.id)
    return check(body, old) if check else []


# Namespaces, config maps and secrets.


def _namespace(body: Json, _: Verbs) -> Json:
    meta = body["metadata"]
    labels = {**meta.get("labels", {}), "kubernetes.io/metadata.name": meta["name"]}
    filled = {"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}
    return {**filled, **body, "metadata": {**meta, "labels": labels}}


def _secret(body: Json, _: Verbs) -> Json:
    return {"type": "Opaque", **body}


# Leases.


def _lease(body: Json, _: Verbs) -> Json:
    return {"spec": {}, **body}


def _check_lease(body: Json, _: Json | None) -> list[Cause]:
    spec, found = body.get("spec", {}), []
    duration, transitions = spec.get("leaseDurationSeconds"), spec.get("leaseTransitions")
    if duration is not None and duration <= 0:
        found.append(bad("spec.leaseDurationSeconds", duration, "must be greater than 0"))
    if transitions is not None and transitions < 0:
        found.append(bad("spec.leaseTransitions", transitions, AT_LEAST_0))
    return found


# Events.


def _event(body: Json, _: Verbs) -> Json:
    empty: Json = {"deprecatedSource": {}, "deprecatedFirstTimestamp": None, "deprecatedLastTimestamp": None}
    return {**empty, "regarding": {}, **body}


def _check_event(body: Json, old: Json | None) -> list[Cause]:
    found = []
    if not body.get("eventTime"):
        return [required("eventTime")]
    regarding = body["regarding"].get("namespace", "")
    if regarding != body["metadata"].get("namespace", "") and (regarding or body["metadata"]["namespace"] != "default"):
        found.append(bad("involvedObject.namespace", regarding, "does not match event.namespace"))
    found += [required(name) for name in ("reportingController", "reportingInstance") if not body.get(name)]
    found += [required(name) for name in ("action", "reason") if not body.get(name)]
    for name, most in (("reportingInstance", 128), ("action", 128), ("reason", 128), ("note", 1024)):
        if len(body.get(name, "")) > most:
            field = "message" if name == "note" else name
            found.append(bad(field, "", f"can have at most {most} characters"))
    if body.get("type") not in ("Normal", "Warning"):
        found.append(bad("type", body.get("type", ""), "has invalid value"))
    changed = old is not None and {k: v for k, v in body.items() if k not in ("metadata", "series")} != {
        k: v for k, v in old.items() if k not in ("metadata", "series")
    }
    return found + ([forbidden_field("", "only metadata and series of an event may change")] if changed else [])


# Workloads.


def _deployment(body: Json, _: Verbs) -> Json:
    spec = dict(body.get("spec", {}))
    rolling = {"maxUnavailable": "25%", "maxSurge": "25%"}
    strategy = spec.get("strategy") or {"type": "RollingUpdate"}
    if strategy.get("type", "RollingUpdate") == "RollingUpdate":
        strategy = {"type": "RollingUpdate", "rollingUpdate": rolling | strategy.get("rollingUpdate", {})}
    spec = {"replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600} | spec | {"strategy": strategy}
    return {"status": {}, **body, "spec": _templated(spec)}


def _replica_set(body: Json, _: Verbs) -> Json:
    return {"status": {"replicas": 0}, **body, "spec": _templated({"replicas": 1, **body.get("spec", {})})}


def _templated(spec: Json) -> Json:
    return {**spec, "template": pods.template(spec.get("template", {}))}


def _check_workload(body: Json, old: Json | None) -> list[Cause]:
    spec, found = body["spec"], []
    labels = spec["template"].get("metadata", {}).get("labels", {})
    selector = spec.get("selector") or {}
    wanted = selector.get("matchLabels", {})
    if spec["replicas"] < 0:
        found.append(bad("spec.replicas", spec["replicas"], AT_LEAST_0))
    if not selector:
        found.append(required("spec.selector"))
    elif not wanted and not selector.get("matchExpressions"):
        found.append(bad("spec.selector", selector, "empty selector is invalid for deployment"))
    elif any(labels.get(key) != value for key, value in wanted.items()):
        text = "`selector` does not match template `labels`"
        found.append(bad("spec.template.metadata.labels", labels, text))
    found += pods.causes(spec["template"].get("spec", {}), "spec.template.spec")
    if old is not None and old["spec"].get("selector") != spec.get("selector"):
        found.append(bad("spec.selector", selector, IMMUTABLE))
    return found


# Autoscalers and services.


def _autoscaler(body: Json, _: Verbs) -> Json:
    target = {"type": "Utilization", "averageUtilization": 80}
    metrics = [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    spec = {"minReplicas": 1, "metrics": metrics} | body.get("spec", {})
    status = {"desiredReplicas": 0, "currentMetrics": None} | body.get("status", {})
    return {**body, "spec": spec, "status": status}


def _check_autoscaler(body: Json, _: Json | None) -> list[Cause]:
    spec, found = body["spec"], []
    target, lowest, highest = spec.get("scaleTargetRef", {}), spec["minReplicas"], spec.get("maxReplicas", 0)
    found += [required(f"spec.scaleTargetRef.{name}") for name in ("kind", "name") if not target.get(name)]
    if lowest < 1:
        found.append(bad("spec.minReplicas", lowest, "must be greater than or equal to 1"))
    if highest < 1:
        found.append(bad("spec.maxReplicas", highest, "must be greater than 0"))
    if highest < lowest:
        found.append(bad("spec.maxReplicas", highest, "must be greater than or equal to `minReplicas`"))
    return found


def _service(body: Json, verbs: Verbs) -> Json:
    spec = dict(body.get("spec", {}))
    ports = [{"protocol": "TCP", "targetPort": port.get("port"), **port} for port in spec.get("ports", [])]
    spec = {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster"} | spec
    if spec["type"] in ("NodePort", "LoadBalancer"):
        used = verbs.store.version % 2000
        ports = [{"nodePort": 30000 + used + place, **port} for place, port in enumerate(ports)]
        spec.setdefault("externalTrafficPolicy", "Cluster")
        if spec["type"] == "LoadBalancer":
            spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec["type"] != "ExternalName":
        address = spec.get("clusterIP") or f"10.96.{verbs.store.version // 250 % 250}.{verbs.store.version % 250 + 1}"
        spec |= {"clusterIP": address, "clusterIPs": spec.get("clusterIPs") or [address]}
        spec = {"ipFamilies": ["IPv6" if ":" in address else "IPv4"], "ipFamilyPolicy": "SingleStack"} | spec
    return {"status": {"loadBalancer": {}}, **body, "spec": spec | {"ports": ports}}


def _check_service(body: Json, old: Json | None) -> list[Cause]:
    spec, found = body["spec"], []
    if not spec["ports"] and spec.get("clusterIP") != "None":
        found.append(required("spec.ports"))
    for place, port in enumerate(spec["ports"]):
        if not 0 < (port.get("port") or 0) < 65536:
            text = "must be between 1 and 65535, inclusive"
            found.append(bad(f"spec.ports[{place}].port", port.get("port", 0), text))
        if len(spec["ports"]) > 1 and not port.get("name"):
            found.append(required(f"spec.ports[{place}].name"))
    if old is not None and old["spec"].get("clusterIP") != spec.get("clusterIP"):
        found.append(bad("spec.clusterIPs[0]", spec.get("clusterIP"), "may not change once set"))
    return found


def _check_slice(body: Json, _: Json | None) -> list[Cause]:
    known = ["FQDN", "IPv4", "IPv6"]
    kind = body.get("addressType")
    return [] if kind in known else [unsupported("addressType", kind, known)] if kind else [required("addressType")]


def _check_role(body: Json, _: Json | None) -> list[Cause]:
    rules = enumerate(body.get("rules") or [])
    return [required(f"rules[{place}].verbs", "verbs must contain at least one value")
            for place, rule in rules if not rule.get("verbs")]  # fmt: skip


_DEFAULTS: dict[str, Callable[[Json, Verbs], Json]] = {
    "namespaces": _namespace,
    "secrets": _secret,
    "leases.coordination.k8s.io": _lease,
    "pods": lambda body, _: pods.pod(body),
    "services": _service,
    "deployments.apps": _deployment,
    "replicasets.apps": _replica_set,
    "events.events.k8s.io": _event,
    "horizontalpodautoscalers.autoscaling": _autoscaler,
    "endpointslices.discovery.k8s.io": lambda body, _: {"endpoints": None, "ports": None, **body},
    "customresourcedefinitions.apiextensions.k8s.io": lambda body, _: crds.defaulted(body),
}
_CHECKS: dict[str, Callable[[Json, Json | None], list[Cause]]] = {
    "pods": pods.pod_causes,
    "services": _check_service,
    "deployments.apps": _check_workload,
    "replicasets.apps": _check_workload,
    "leases.coordination.k8s.io": _check_lease,
    "events.events.k8s.io": _check_event,
    "horizontalpodautoscalers.autoscaling": _check_autoscaler,
    "endpointslices.discovery.k8s.io": _check_slice,
    "roles.rbac.authorization.k8s.io": _check_role,
    "clusterroles.rbac.authorization.k8s.io": _check_role,
    "customresourcedefinitions.apiextensions.k8s.io": crds.causes,
}
