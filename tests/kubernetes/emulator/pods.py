"""Pods and pod templates: defaults and the checks that matter to what creates or reads them.

Owns the filling in of a pod's spec and first status. Never runs a pod: kubelet.py does.
"""

from __future__ import annotations

from typing import Any

from tests.kubernetes.emulator.errors import Cause, bad, forbidden_field, required

Json = dict[str, Any]
UNREACHABLE = [
    {"key": f"node.kubernetes.io/{what}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for what in ("not-ready", "unreachable")
]
MAY_CHANGE = ("containers", "initContainers", "activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")
NO_CHANGE = (
    "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"
    "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),"
    "`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)"
)


def template(body: Json) -> Json:
    return {**body, "spec": spec(body.get("spec", {}))}


def spec(body: Json) -> Json:
    """A pod's spec as a template has it."""
    filled = {
        "restartPolicy": "Always", "terminationGracePeriodSeconds": 30, "dnsPolicy": "ClusterFirst",
        "securityContext": {}, "schedulerName": "default-scheduler", **body,
    }  # fmt: skip
    for name in ("containers", "initContainers"):
        if name in body:
            filled[name] = [_container(container) for container in body[name]]
    if "serviceAccountName" in filled:
        filled.setdefault("serviceAccount", filled["serviceAccountName"])
    return filled


def _container(body: Json) -> Json:
    tag = body.get("image", "").rpartition("/")[2].partition(":")[2]
    filled = {
        "resources": {}, "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "imagePullPolicy": "Always" if tag in ("", "latest") else "IfNotPresent", **body,
    }  # fmt: skip
    if "ports" in body:
        filled["ports"] = [{"protocol": "TCP", **port} for port in body["ports"]]
    for name in ("readinessProbe", "livenessProbe", "startupProbe"):
        if name in body:
            filled[name] = _probe(body[name])
    return filled


def _probe(body: Json) -> Json:
    filled = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3, **body}
    if "httpGet" in body:
        filled["httpGet"] = {"path": "/", "scheme": "HTTP", **body["httpGet"]}
    return filled


def pod(body: Json) -> Json:
    """A pod as it is stored: what admission adds, and the status it begins with."""
    filled = spec(body.get("spec", {}))
    filled.setdefault("tolerations", UNREACHABLE)
    filled = {"priority": 0, "enableServiceLinks": True, "preemptionPolicy": "PreemptLowerPriority"} | filled
    status = {"phase": "Pending", "qosClass": "BestEffort", **body.get("status", {})}
    statuses = [{"lastState": {}, "imageID": "", **state} for state in status.get("containerStatuses", [])]
    if statuses:
        status["containerStatuses"] = statuses
    conditions = [{"lastProbeTime": None, **condition} for condition in status.get("conditions", [])]
    if conditions:
        status["conditions"] = conditions
    if status.get("podIP") and not status.get("podIPs"):
        status["podIPs"] = [{"ip": status["podIP"]}]
    return {**body, "spec": filled, "status": status}


def causes(body: Json, path: str) -> list[Cause]:
    """What is wrong with a pod's spec."""
    if not body.get("containers"):
        return [required(f"{path}.containers")]
    found, seen = [], set()
    for place, container in enumerate(body["containers"]):
        at = f"{path}.containers[{place}]"
        found += [required(f"{at}.{name}") for name in ("name", "image") if not container.get(name)]
        if container.get("name") in seen:
            found.append(Cause(f"{at}.name", "FieldValueDuplicate", f'Duplicate value: "{container["name"]}"'))
        seen.add(container.get("name"))
        for number, port in enumerate(container.get("ports", [])):
            if not 0 < port.get("containerPort", 0) < 65536:
                text = "must be between 1 and 65535, inclusive"
                found.append(bad(f"{at}.ports[{number}].containerPort", port.get("containerPort", 0), text))
    return found


def pod_causes(body: Json, old: Json | None) -> list[Cause]:
    found = causes(body["spec"], "spec")
    if old is not None and _fixed(old) != _fixed(body):
        found.append(forbidden_field("spec", NO_CHANGE))
    return found


def _fixed(body: Json) -> Json:
    """What of a pod's spec never changes by an update."""
    return {key: value for key, value in body["spec"].items() if key not in MAY_CHANGE}
