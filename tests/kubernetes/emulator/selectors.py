"""Label and field selectors: text to a predicate over objects.

Owns their syntax and meaning. Never reads a store.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tests.kubernetes.emulator.errors import bad_request
from tests.kubernetes.emulator.resources import Resource

Json = dict[str, Any]
Predicate = Callable[[Json], bool]

_SET = re.compile(r"\s*(?P<key>[\w./-]+)\s+(?P<op>in|notin)\s+\((?P<values>[^)]*)\)\s*$")
_EQUAL = re.compile(r"\s*(?P<key>[\w./-]+)\s*(?P<op>==|=|!=)\s*(?P<values>[\w.-]*)\s*$")
_EXISTS = re.compile(r"\s*(?P<op>!?)\s*(?P<key>[\w./-]+)\s*$")
_FIELD = re.compile(r"\s*(?P<key>[\w.]+)(?P<op>==|=|!=)(?P<value>.*)$")

# What may be selected by beside metadata.name and metadata.namespace.
FIELDS = {
    "pods": ("spec.nodeName", "spec.restartPolicy", "spec.schedulerName", "spec.serviceAccountName", "status.phase",
             "status.podIP", "status.nominatedNodeName"),
    "events.events.k8s.io": ("regarding.kind", "regarding.namespace", "regarding.name", "regarding.uid", "reason",
                             "reportingController", "type"),
    "secrets": ("type",),
    "namespaces": ("status.phase",),
    "replicasets.apps": ("status.replicas",),
    "nodes": ("spec.unschedulable",),
}  # fmt: skip


def at(body: Json, path: str) -> Any:
    """The value at a dotted path; None where there is none."""
    value: Any = body
    for part in path.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _parts(text: str) -> Iterator[str]:
    """Split at commas outside of parentheses."""
    return iter(part for part in re.split(r",(?![^(]*\))", text) if part.strip())


def _label(text: str) -> Predicate:
    for pattern in (_SET, _EQUAL, _EXISTS):
        if match := pattern.match(text):
            break
    else:
        raise bad_request(f"unable to parse requirement: found '{text.strip()}', expected: a label selector")
    key, kind, groups = match["key"], match["op"], match.groupdict()
    values = {value.strip() for value in (groups.get("values") or "").split(",")}

    def labels(body: Json) -> Json:
        return body["metadata"].get("labels") or {}

    if kind in ("=", "==", "in"):
        return lambda body: labels(body).get(key) in values
    if kind in ("!=", "notin"):
        return lambda body: labels(body).get(key) not in values
    return (lambda body: key not in labels(body)) if kind else (lambda body: key in labels(body))


def _field(resource: Resource, text: str) -> Predicate:
    match = _FIELD.match(text)
    if match is None:
        raise bad_request(f"invalid selector: '{text}'; can't understand '{text}'")
    key, equal, wanted = match["key"], match["op"] != "!=", match["value"]
    allowed = ("metadata.name", "metadata.namespace", *FIELDS.get(resource.id, ()))
    if key not in allowed:
        raise bad_request(f'Unable to find "{resource.api_version}, Resource={resource.plural}" that match label '
                          f'selector "", field selector "{text}": field label not supported: {key}')  # fmt: skip
    return lambda body: (str(at(body, key) or "") == wanted) is equal


def build(resource: Resource, labels: str, fields: str) -> Predicate:
    """One predicate of both selectors. Refused: one of them cannot be understood."""
    tests = [_label(part) for part in _parts(labels)] + [_field(resource, part) for part in _parts(fields)]
    return lambda body: all(test(body) for test in tests)


def name_in(fields: str) -> str:
    """The one name a field selector asks for, or "": access rules by name apply to such lists and watches."""
    for part in _parts(fields):
        match = _FIELD.match(part)
        if match and match["key"] == "metadata.name" and match["op"] != "!=":
            return match["value"]
    return ""
