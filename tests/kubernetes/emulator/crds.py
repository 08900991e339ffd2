"""CustomResourceDefinitions: their defaults, their validation, and what they make served.

Owns the way from a definition to resources. Whether a schema is structural is decided in structural.py.
"""

from __future__ import annotations

import re
from typing import Any

from tests.kubernetes.emulator import names, structural
from tests.kubernetes.emulator.errors import Cause, bad, required, unsupported
from tests.kubernetes.emulator.resources import Resource

Json = dict[str, Any]
COLUMN_TYPES = ["boolean", "date", "integer", "number", "string"]
_VERSION = re.compile(r"v[1-9]\d*((alpha|beta)[1-9]\d*)?\Z")
_PROTECTED = (".k8s.io", ".kubernetes.io")
APPROVAL = "api-approved.kubernetes.io"


def defaulted(body: Json) -> Json:
    spec = dict(body.get("spec", {}))
    given = spec.get("names", {})
    kind = given.get("kind", "")
    spec["names"] = {"singular": kind.lower(), "listKind": f"{kind}List", **given}
    spec.setdefault("conversion", {"strategy": "None"})
    stored = [version["name"] for version in spec.get("versions", []) if version.get("storage")]
    status = {"conditions": None, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored}
    return {**body, "spec": spec, "status": {**status, **body.get("status", {})}}


def causes(body: Json, old: Json | None) -> list[Cause]:
    """Everything that is wrong with a definition."""
    spec, found = body["spec"], []
    given, group = spec["names"], spec.get("group", "")
    expected = f"{given.get('plural', '')}.{group}"
    if body["metadata"]["name"] != expected:
        text = 'must be spec.names.plural+"."+spec.group'
        found.append(bad("metadata.name", body["metadata"]["name"], text))
    if "." not in group or not names.is_subdomain(group):
        found.append(bad("spec.group", group, "should be a domain with at least one dot"))
    approved = body["metadata"].get("annotations", {}).get(APPROVAL)
    if f".{group}".endswith(_PROTECTED) and not approved:
        text = f"protected groups must have approval annotation {APPROVAL!r}"
        found.append(required("metadata.annotations[api-approved.kubernetes.io]", text))
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        found.append(unsupported("spec.scope", spec.get("scope", ""), ["Cluster", "Namespaced"]))
    found += [required(f"spec.names.{name}") for name in ("plural", "kind") if not given.get(name)]
    versions = spec.get("versions", [])
    if sum(bool(version.get("storage")) for version in versions) != 1:
        found.append(bad("spec.versions", versions, "must have exactly one version marked as storage version"))
    single = len({str(version.get("schema")) for version in versions}) <= 1
    for place, version in enumerate(versions):
        found += _version_causes(version, place, single)
    if old is not None and old["spec"].get("scope") != spec.get("scope"):
        found.append(bad("spec.scope", spec.get("scope"), "field is immutable"))
    return found


def _version_causes(version: Json, place: int, single: bool) -> list[Cause]:
    """The real server speaks of spec.validation when all versions have the same schema, and else of each version's."""
    at, found = f"spec.versions[{place}]", []
    if not _VERSION.match(version.get("name", "")) and not names.is_subdomain(version.get("name", "")):
        found.append(bad(f"{at}.name", version.get("name", ""), names.SUBDOMAIN_TEXT))
    schema = version.get("schema", {}).get("openAPIV3Schema")
    if schema is None:
        found.append(required(f"{at}.schema.openAPIV3Schema", "schemas are required"))
    elif not (single and place):
        path = "spec.validation.openAPIV3Schema" if single else f"{at}.schema.openAPIV3Schema"
        found += structural.causes(schema, path)
    columns = version.get("additionalPrinterColumns", [])
    for number, column in enumerate(columns):
        here = f"spec.additionalPrinterColumns[{number}]" if single else f"{at}.additionalPrinterColumns[{number}]"
        found += [required(f"{here}.{name}") for name in ("name", "type", "jsonPath") if not column.get(name)]
        if column.get("type") and column["type"] not in COLUMN_TYPES:
            text = f"must be one of {','.join(COLUMN_TYPES)}"
            found.append(bad(f"{here}.type", column["type"], text))
        if column.get("jsonPath") and not column["jsonPath"].startswith("."):
            found.append(bad(f"{here}.jsonPath", column["jsonPath"], "must be a simple json path starting with ."))
    return found


def established(body: Json) -> Json | None:
    """The definition with its names accepted; None: they are already."""
    if body["status"].get("conditions"):
        return None
    moment = {"lastTransitionTime": names.now()}
    told = [
        ("NamesAccepted", "NoConflicts", "no conflicts found"),
        ("Established", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    conditions = [
        {"type": kind, "status": "True", **moment, "reason": reason, "message": message}
        for kind, reason, message in told
    ]
    status = {**body["status"], "conditions": conditions, "acceptedNames": body["spec"]["names"]}
    return {**body, "status": status}


def resources(body: Json) -> list[Resource]:
    """What an established definition makes served."""
    spec, given = body["spec"], body["spec"]["names"]
    return [
        Resource(
            spec["group"],
            version["name"],
            given["plural"],
            given["kind"],
            namespaced=spec["scope"] == "Namespaced",
            subresources=frozenset(version.get("subresources", {})) & {"status"},
            generation=True,
            unconditional=False,
            short_names=tuple(given.get("shortNames", ())),
            singular=given["singular"],
            list_kind=given["listKind"],
            schema=version["schema"]["openAPIV3Schema"],
            columns=tuple(version.get("additionalPrinterColumns", ())),
            custom=True,
        )
        for version in spec["versions"]
        if version.get("served")
    ]
