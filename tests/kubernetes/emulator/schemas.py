"""Structural schemas at work: what a custom object must look like, what is dropped from it and what is filled in.

Owns validation, pruning and defaulting by an OpenAPI v3 schema, in the real server's words. Whether a schema may be
registered at all is decided in structural.py. Rules in CEL (x-kubernetes-validations) are not evaluated.
"""

from __future__ import annotations

import copy
import re
from typing import Any

from tests.kubernetes.emulator import types
from tests.kubernetes.emulator.errors import Cause, bad, go, required, unsupported
from tests.kubernetes.emulator.resources import Resource

Json = dict[str, Any]
INT_OR_STRING, PRESERVE = "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"
HEADER = ("apiVersion", "kind", "metadata")
_KINDS: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "integer": (int,),
    "number": (int, float),
}  # fmt: skip
# Lower limits of sizes, and the words when a value is below.
_SMALLEST = {
    "minLength": (str, "should be at least {} chars long"),
    "minItems": (list, "should have at least {} items"),
    "minProperties": (dict, "should have at least {} properties"),
}


def decoded(resource: Resource, body: Json, strict: bool) -> Json:
    """A custom object less its unknown fields. Refused: 400, its metadata is not of the type; (strict) unknown ones."""
    meta = types.decode(resource, body.get("metadata") or {}, strict, "V1ObjectMeta")
    unknown: list[str] = []
    schema = resource.schema or {}
    known = prune(schema, {key: value for key, value in body.items() if key not in HEADER}, "", unknown)
    if strict and unknown:
        raise types.strict_error(resource, unknown)
    return {"metadata": meta, **known}


def prune(schema: Json, value: Any, path: str, unknown: list[str]) -> Any:
    """`value` less what the schema does not know; the paths of that are added to `unknown`."""
    if isinstance(value, list):
        items = schema.get("items", {})
        return [prune(items, item, f"{path}[{index}]", unknown) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    properties, more = schema.get("properties", {}), schema.get("additionalProperties")
    result = {}
    for key, inner in value.items():
        place = f"{path}.{key}" if path else key
        if key in properties:
            result[key] = prune(properties[key], inner, place, unknown)
        elif isinstance(more, dict):
            result[key] = prune(more, inner, place, unknown)
        elif more is True or schema.get(PRESERVE):
            result[key] = inner
        else:
            unknown.append(place)
    return result


def defaulted(schema: Json, value: Any) -> Any:
    """`value` with the schema's defaults where a field is absent, or null and not nullable."""
    if isinstance(value, list):
        return [defaulted(schema.get("items", {}), item) for item in value]
    if not isinstance(value, dict):
        return value
    result = dict(value)
    for key, inner in schema.get("properties", {}).items():
        absent = key not in result or (result[key] is None and not inner.get("nullable"))
        if absent and "default" in inner:
            result[key] = copy.deepcopy(inner["default"])
        elif absent and key in result:
            del result[key]
        if key in result:
            result[key] = defaulted(inner, result[key])
    more = schema.get("additionalProperties")
    if isinstance(more, dict):
        known = schema.get("properties", {})
        result |= {key: defaulted(more, inner) for key, inner in result.items() if key not in known}
    return result


def causes(schema: Json, value: Any, path: str = "") -> list[Cause]:
    """Everything that is wrong with `value`."""
    if value is None:
        return [] if schema.get("nullable") else [_mistyped(schema, value, path)]
    if schema.get(INT_OR_STRING):
        if isinstance(value, bool) or not isinstance(value, (int, str)):
            return [_mistyped({"type": "integer,string"}, value, path)]
        return _own(schema, value, path) + _combined(schema, value, path)
    if not _is(schema, value):
        return [_mistyped(schema, value, path)]
    found = _own(schema, value, path) + _combined(schema, value, path)
    if isinstance(value, dict):
        return found + _properties(schema, value, path)
    if isinstance(value, list):
        items = schema.get("items", {})
        return found + [cause for at, item in enumerate(value) for cause in causes(items, item, f"{path}[{at}]")]
    return found


def _is(schema: Json, value: Any) -> bool:
    kind = schema.get("type")
    if not kind:
        return True
    if kind == "integer" and isinstance(value, float):
        return value.is_integer()
    return isinstance(value, _KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def _mistyped(schema: Json, value: Any, path: str) -> Cause:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    kind, shown = schema.get("type", "object"), "null" if value is None else names[type(value)]
    return bad(path, value if isinstance(value, (int, float)) else shown,
               f"{path} in body must be of type {kind}: {go(shown)}")  # fmt: skip


def _properties(schema: Json, value: Json, path: str) -> list[Cause]:
    found = []
    more = schema.get("additionalProperties")
    properties = schema.get("properties", {})
    for key in sorted({*properties, *schema.get("required", ()), *value}):
        place = f"{path}.{key}" if path else key
        inner = properties.get(key, more if isinstance(more, dict) else {})
        if key in value:
            found += causes(inner, value[key], place) if inner else []
        elif key in schema.get("required", ()):
            found.append(required(place))
    return found


def _own(schema: Json, value: Any, path: str) -> list[Cause]:
    """Keywords about the value itself."""
    found = []
    if "enum" in schema and value not in schema["enum"]:
        found.append(unsupported(path, value, schema["enum"]))
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        found += _range(schema, value, path)
    for keyword, (kind, words) in _SMALLEST.items():
        if keyword in schema and isinstance(value, kind) and len(value) < schema[keyword]:
            found.append(bad(path, value, f"{path} in body {words.format(schema[keyword])}"))
    if "pattern" in schema and isinstance(value, str) and not re.search(schema["pattern"], value):
        found.append(bad(path, value, f"{path} in body should match '{schema['pattern']}'"))
    if "maxLength" in schema and isinstance(value, str) and len(value) > schema["maxLength"]:
        found.append(Cause(path, "FieldValueTooLong", f"Too long: may not be more than {schema['maxLength']} bytes"))
    for keyword, kind in (("maxItems", list), ("maxProperties", dict)):
        if keyword in schema and isinstance(value, kind) and len(value) > schema[keyword]:
            text = f"Too many: {len(value)}: must have at most {schema[keyword]} items"
            found.append(Cause(path, "FieldValueTooMany", text))
    return found + _unique(schema, value, path)


def _range(schema: Json, value: float, path: str) -> list[Cause]:
    found = []
    if "multipleOf" in schema and value % schema["multipleOf"]:
        found.append(bad(path, value, f"{path} in body should be a multiple of {schema['multipleOf']}"))
    if "minimum" in schema:
        exclusive = schema.get("exclusiveMinimum", False)
        if value < schema["minimum"] or (exclusive and value == schema["minimum"]):
            words = "should be greater than" if exclusive else "should be greater than or equal to"
            found.append(bad(path, value, f"{path} in body {words} {schema['minimum']}"))
    if "maximum" in schema:
        exclusive = schema.get("exclusiveMaximum", False)
        if value > schema["maximum"] or (exclusive and value == schema["maximum"]):
            words = "should be less than" if exclusive else "should be less than or equal to"
            found.append(bad(path, value, f"{path} in body {words} {schema['maximum']}"))
    return found


def _unique(schema: Json, value: Any, path: str) -> list[Cause]:
    """Lists that are sets or maps hold nothing twice."""
    kind = schema.get("x-kubernetes-list-type", "atomic")
    if not isinstance(value, list) or kind == "atomic":
        return []
    keys, seen, found = schema.get("x-kubernetes-list-map-keys", []), [], []
    for at, item in enumerate(value):
        key = {name: item.get(name) for name in keys} if kind == "map" and isinstance(item, dict) else item
        if key in seen:
            found.append(Cause(f"{path}[{at}]", "FieldValueDuplicate", f"Duplicate value: {go(key)}"))
        seen.append(key)
    return found


def _combined(schema: Json, value: Any, path: str) -> list[Cause]:
    found = [cause for inner in schema.get("allOf", ()) for cause in causes(inner, value, path)]
    one = [inner for inner in schema.get("oneOf", ()) if not causes(inner, value, path)]
    if "oneOf" in schema and len(one) != 1:
        found.append(bad(path, value, f"{path} in body must validate one and only one schema (oneOf)"))
    if "anyOf" in schema and all(causes(inner, value, path) for inner in schema["anyOf"]):
        found.append(bad(path, value, f"{path} in body must validate at least one schema (anyOf)"))
    if "not" in schema and not causes(schema["not"], value, path):
        found.append(bad(path, value, f"{path} in body must not validate the schema (not)"))
    return found


def list_key(schema: Json, path: tuple[str, ...]) -> str | None:
    """The key by which the list at `path` is merged; None: it is replaced as a whole."""
    for part in path:
        if part == "[]" or part.startswith("k:"):
            schema = schema.get("items", {})
        else:
            more = schema.get("additionalProperties")
            schema = schema.get("properties", {}).get(part, more if isinstance(more, dict) else {})
    keys = schema.get("x-kubernetes-list-map-keys") or []
    return keys[0] if schema.get("x-kubernetes-list-type") == "map" and keys else None
