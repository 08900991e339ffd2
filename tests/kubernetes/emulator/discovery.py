"""What the server tells of itself: version, health, and the lists of groups and resources.

Owns the paths that name no object. Never reads the store.
"""

from __future__ import annotations

from typing import Any

from tests.kubernetes.emulator.errors import NoSuchPath
from tests.kubernetes.emulator.resources import REVIEWS, Registry, Resource

Json = dict[str, Any]
VERSION = {
    "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36",
    "minCompatibilityMajor": "1", "minCompatibilityMinor": "35",
    "gitVersion": "v0.0.0-master+$Format:%H$", "gitCommit": "$Format:%H$", "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z", "goVersion": "go1.27.3", "compiler": "gc", "platform": "linux/amd64",
}  # fmt: skip
HEALTH = ("/readyz", "/livez", "/healthz")
ALL_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def answer(registry: Registry, path: str) -> Json | str:
    """The body of a GET. NoSuchPath: the path is none of these."""
    if path == "/version":
        return VERSION
    if path in HEALTH:
        return "ok"
    parts = path.strip("/").split("/")
    if parts == ["api"]:
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if parts == ["apis"]:
        groups = dict.fromkeys(resource.group for resource in registry.all() if resource.group)
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(registry, group) for group in groups]}
    if len(parts) == 2 and parts[0] == "apis":
        return {"kind": "APIGroup", "apiVersion": "v1"} | _group(registry, parts[1])
    group, version = ("", parts[-1]) if parts[0] == "api" else (parts[1], parts[-1]) if len(parts) == 3 else ("", "")
    served = [resource for resource in registry.all() if (resource.group, resource.version) == (group, version)]
    if not served:
        raise NoSuchPath(path)
    resources = [entry for resource in served for entry in _entries(resource)]
    head = {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": served[0].api_version}
    return head | {"resources": resources}


def _group(registry: Registry, group: str) -> Json:
    versions = dict.fromkeys(resource.version for resource in registry.all() if resource.group == group)
    if not versions:
        raise NoSuchPath(group)
    told = [{"groupVersion": f"{group}/{version}", "version": version} for version in versions]
    return {"name": group, "versions": told, "preferredVersion": told[0]}


def _entries(resource: Resource) -> list[Json]:
    names = {"singularName": resource.singular or resource.kind.lower(), "namespaced": resource.namespaced}
    verbs = ["create"] if resource.id == REVIEWS else ALL_VERBS
    entry: Json = {"name": resource.plural, **names, "kind": resource.kind, "verbs": verbs}
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    parts = [
        {"name": f"{resource.plural}/{part}", **names, "singularName": "", "kind": resource.kind,
         "verbs": ["get", "patch", "update"]}
        for part in sorted(resource.subresources)
    ]  # fmt: skip
    return [entry, *parts]
