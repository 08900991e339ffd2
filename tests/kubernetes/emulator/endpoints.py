"""Endpoint slices: the pods behind each Service, as the endpoint slice controller lists them.

Owns one slice for each Service with a selector, of the Service's first address family.
"""

from __future__ import annotations

from typing import Any

from tests.kubernetes.emulator import names
from tests.kubernetes.emulator.resources import Registry
from tests.kubernetes.emulator.store import Store
from tests.kubernetes.emulator.verbs import Verbs
from tests.kubernetes.emulator.workloads import owner

Json = dict[str, Any]
SLICES = "endpointslices.discovery.k8s.io"
SERVICE, MANAGER = "kubernetes.io/service-name", "endpointslice.kubernetes.io/managed-by"
CHANGED = "endpoints.kubernetes.io/last-change-trigger-time"


def reconcile(store: Store, registry: Registry, verbs: Verbs) -> None:
    """One round over all services."""
    resource = registry.find("discovery.k8s.io", "v1", "endpointslices")
    assert resource is not None
    slices = {
        (key[0], body["metadata"].get("labels", {}).get(SERVICE)): body for key, body in store.items(SLICES).items()
    }
    for (namespace, name), service in list(store.items("services").items()):
        if not service["spec"].get("selector"):
            continue
        wanted = _wanted(store, namespace, service)
        had = slices.get((namespace, name))
        if had is None:
            body = {"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": _metadata(service)}
            verbs.create(resource, namespace, body | wanted, {})
        elif any(had[key] != value for key, value in wanted.items()):
            meta = {**had["metadata"], "generation": had["metadata"]["generation"] + 1}
            store.write(SLICES, (namespace, meta["name"]), {**had, **wanted, "metadata": meta})


def _metadata(service: Json) -> Json:
    name = service["metadata"]["name"]
    return {
        "generateName": f"{name}-",
        "labels": {SERVICE: name, MANAGER: "endpointslice-controller.k8s.io"},
        "annotations": {CHANGED: names.now()},
        "ownerReferences": [owner(service)],
    }


def _wanted(store: Store, namespace: str, service: Json) -> Json:
    family = service["spec"].get("ipFamilies", ["IPv4"])[0]
    selector = service["spec"]["selector"].items()
    pods = [pod for key, pod in sorted(store.items("pods").items())
            if key[0] == namespace and selector <= pod["metadata"].get("labels", {}).items()]  # fmt: skip
    endpoints = [endpoint for pod in pods if (endpoint := _endpoint(pod, family))]
    ports = _ports(service, pods[0]) if endpoints else None
    return {"addressType": family, "endpoints": endpoints or None, "ports": ports}


def _endpoint(pod: Json, family: str) -> Json | None:
    addresses = [entry["ip"] for entry in pod["status"].get("podIPs", [])]
    mine = [address for address in addresses if (":" in address) == (family == "IPv6")]
    if not mine or pod["status"].get("phase") in ("Failed", "Succeeded"):
        return None
    conditions = pod["status"].get("conditions", [])
    serving = any(entry["type"] == "Ready" and entry["status"] == "True" for entry in conditions)
    terminating = "deletionTimestamp" in pod["metadata"]
    target = {"kind": "Pod", "namespace": pod["metadata"]["namespace"], "name": pod["metadata"]["name"]}
    told = {"ready": serving and not terminating, "serving": serving, "terminating": terminating}
    return {
        "addresses": mine[:1],
        "conditions": told,
        "targetRef": {**target, "uid": pod["metadata"]["uid"]},
        "nodeName": pod["spec"]["nodeName"],
    }


def _ports(service: Json, pod: Json) -> list[Json]:
    named = {port.get("name"): port["containerPort"] for container in pod["spec"]["containers"]
             for port in container.get("ports", [])}  # fmt: skip
    ports = []
    for port in service["spec"]["ports"]:
        target = port["targetPort"]
        number = named.get(target, 0) if isinstance(target, str) else target
        ports.append({"name": port.get("name", ""), "protocol": port["protocol"], "port": number})
    return ports
