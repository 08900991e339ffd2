"""Structural schemas: whether a CustomResourceDefinition's schema may be registered.

Owns the rules of https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/
#specifying-a-structural-schema, in the real server's words and order. Never looks at an object: schemas.py does.
"""

from __future__ import annotations

import re
from typing import Any

from tests.kubernetes.emulator import schemas
from tests.kubernetes.emulator.errors import Cause, bad, forbidden_field, required, unsupported

Json = dict[str, Any]
TYPES = ["array", "boolean", "integer", "number", "object", "string"]
NOT_SUPPORTED = ("$ref", "definitions", "dependencies", "id", "patternProperties", "additionalItems")
ONLY_STRUCTURAL = (
    "description", "type", "default", "additionalProperties", "nullable", "title",
    "x-kubernetes-preserve-unknown-fields", "x-kubernetes-embedded-resource", "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys", "x-kubernetes-map-type",
)  # fmt: skip
EMPTY = "must be empty to be structural"


def causes(schema: Json, path: str) -> list[Cause]:
    """Everything that keeps a schema from being structural, ordered by field."""
    found = _node(schema, path, "must not be empty at the root")
    if schema.get("type") not in (None, "object"):
        found.append(bad(f"{path}.type", schema["type"], "must be object at the root"))
    meta = schema.get("properties", {}).get("metadata", {})
    odd = set(meta) - {"type", "properties", "description"} or set(meta.get("properties", {})) - {
        "name",
        "generateName",
    }
    if odd:
        text = "must not specify anything other than name and generateName, but metadata is implicitly specified"
        found.append(forbidden_field(f"{path}.properties[metadata]", text))
    return sorted(found, key=lambda cause: cause.field)


def _node(schema: Json, path: str, missing: str) -> list[Cause]:
    found = []
    kind = schema.get("type")
    if not kind and not schema.get(schemas.INT_OR_STRING) and not schema.get(schemas.PRESERVE):
        found.append(required(f"{path}.type", missing))
    if kind and kind not in TYPES:
        found.append(unsupported(f"{path}.type", kind, TYPES))
    if kind and schema.get(schemas.INT_OR_STRING):
        found.append(forbidden_field(f"{path}.type", "must be empty if x-kubernetes-int-or-string is specified"))
    found += [forbidden_field(f"{path}.{name}", "is not supported") for name in NOT_SUPPORTED if name in schema]
    if schema.get("uniqueItems"):
        text = "uniqueItems cannot be set to true since the runtime complexity becomes quadratic"
        found.append(forbidden_field(f"{path}.uniqueItems", text))
    if "pattern" in schema:
        found += _pattern(schema["pattern"], f"{path}.pattern")
    return found + _inside(schema, path) + _lists(schema, path) + _default(schema, path) + _conditions(schema, path)


def _pattern(pattern: str, path: str) -> list[Cause]:
    """Go's regular expressions know neither look-around nor back references."""
    try:
        re.compile(pattern)
        wrong = re.search(r"\(\?(=|!|<=|<!)|\\[1-9]", pattern) is not None
    except re.error:
        wrong = True
    return [bad(path, pattern, f"must be a valid regular expression, but isn't: {pattern}")] if wrong else []


def _inside(schema: Json, path: str) -> list[Cause]:
    found = []
    more, properties = schema.get("additionalProperties"), schema.get("properties", {})
    if more is not None and properties:
        text = "additionalProperties and properties are mutual exclusive"
        found.append(forbidden_field(f"{path}.additionalProperties", text))
    if more is False:
        text = "additionalProperties cannot be set to false"
        found.append(forbidden_field(f"{path}.additionalProperties", text))
    for name, inner in properties.items():
        place = f"{path}.properties[{name}]"
        found += _node(inner, place, "must not be empty for specified object fields")
    if isinstance(more, dict):
        text = "must not be empty for specified object fields"
        found += _node(more, f"{path}.additionalProperties", text)
    if schema.get("type") == "array" and "items" not in schema:
        found.append(required(f"{path}.items", "must be specified"))
    if isinstance(schema.get("items"), dict):
        found += _node(schema["items"], f"{path}.items", "must not be empty for specified array items")
    return found


def _lists(schema: Json, path: str) -> list[Cause]:
    kind, found = schema.get("x-kubernetes-list-type"), []
    keys = schema.get("x-kubernetes-list-map-keys", [])
    if kind and schema.get("type") != "array":
        found.append(
            bad(f"{path}.type", schema.get("type", ""), "must be array if x-kubernetes-list-type is specified")
        )
    if kind and kind not in ("atomic", "map", "set"):
        found.append(unsupported(f"{path}.x-kubernetes-list-type", kind, ["atomic", "map", "set"]))
    if kind == "map" and not keys:
        text = "must not be empty if x-kubernetes-list-type is map"
        found.append(required(f"{path}.x-kubernetes-list-map-keys", text))
    items = schema.get("items") if isinstance(schema.get("items"), dict) else {}
    for key in keys:
        inner = (items or {}).get("properties", {}).get(key)
        if inner is None:
            text = "entries must all be names of item properties"
            found.append(bad(f"{path}.x-kubernetes-list-map-keys", key, text))
        elif key not in (items or {}).get("required", ()) and "default" not in inner:
            text = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property"
            found.append(required(f"{path}.items.properties[{key}].default", text))
    return found


def _default(schema: Json, path: str) -> list[Cause]:
    if "default" not in schema:
        return []
    value, place = schema["default"], f"{path}.default"
    unknown: list[str] = []
    if value is None and not schema.get("nullable"):
        return [bad(place, value, "must not be null: the field is not nullable")]
    if schemas.prune(schema, value, "", unknown) != value:
        return [bad(place, value, "must not have unknown fields")]
    return [Cause(place, cause.reason, cause.message) for cause in schemas.causes(schema, value, "")]


def _conditions(schema: Json, path: str) -> list[Cause]:
    """allOf, anyOf, oneOf and not may test values, and must leave their structure to the schema around them."""
    found = []
    for name in ("allOf", "anyOf", "oneOf"):
        for place, inner in enumerate(schema.get(name, ())):
            found += _condition(inner, f"{path}.{name}[{place}]", schema)
    if "not" in schema:
        found += _condition(schema["not"], f"{path}.not", schema)
    return found


def _condition(schema: Json, path: str, around: Json) -> list[Cause]:
    loose = around.get(schemas.INT_OR_STRING) and set(schema) == {"type"}
    found = [forbidden_field(f"{path}.{name}", EMPTY) for name in ONLY_STRUCTURAL if name in schema and not loose]
    for name, inner in schema.get("properties", {}).items():
        known = around.get("properties", {}).get(name)
        if known is None:
            where = path.rpartition(".")[0]
            text = f"because it is defined in {path}.properties[{name}]"
            found.append(required(f"{where}.properties[{name}]", text))
        found += _condition(inner, f"{path}.properties[{name}]", known or {})
    if isinstance(schema.get("items"), dict):
        found += _condition(schema["items"], f"{path}.items", around.get("items") or {})
    return found + _conditions_of(schema, path, around)


def _conditions_of(schema: Json, path: str, around: Json) -> list[Cause]:
    found = []
    for name in ("allOf", "anyOf", "oneOf"):
        for place, inner in enumerate(schema.get(name, ())):
            found += _condition(inner, f"{path}.{name}[{place}]", around)
    return found
