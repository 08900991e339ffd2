"""Fields of built-in kinds: unknown ones are dropped or refused, types are checked, times are read strictly.

Owns the decoding of built-in kinds. Which fields exist, and of what type, is read from the models of the kubernetes
package, which are generated from the real server's OpenAPI document. Custom kinds: schemas.py.
"""

from __future__ import annotations

import functools
import re
from typing import Any

from tests.kubernetes.emulator.errors import Refused, bad_request, go
from tests.kubernetes.emulator.resources import Resource

Json = dict[str, Any]
MICRO = {"acquireTime", "renewTime", "eventTime", "lastObservedTime"}  # of metav1.MicroTime: six digits or none at all
_MICRO_LAYOUT, _LAYOUT = "2006-01-02T15:04:05.000000Z07:00", "2006-01-02T15:04:05Z07:00"
_DATE = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d"
_ZONE = r"(Z|[+-]\d\d:\d\d)"
_MICRO_TIME, _TIME = re.compile(rf"{_DATE}\.\d{{6}}{_ZONE}\Z"), re.compile(rf"{_DATE}(\.\d+)?{_ZONE}\Z")
_NAMES = {bool: "bool", int: "number", float: "number", str: "string", dict: "object", list: "array"}
_GO = {"str": "string", "int": "int32", "float": "float64", "bool": "bool"}
_SCHEMA = "V1JSONSchemaProps"
OVERRIDES = {(_SCHEMA, "items"): _SCHEMA, (_SCHEMA, "additionalProperties"): f"bool|{_SCHEMA}"}
DROPPED_WHEN_EMPTY = {"labels", "annotations", "ownerReferences", "finalizers"}


class DecodeError(Exception):
    """A value that the kind's type cannot hold."""


@functools.cache
def fields(model: str) -> dict[str, str] | None:
    """Types by field of one of the package's models; None: it has none of that name."""
    from kubernetes.aio.client import models

    found = getattr(models, model, None)
    if found is None:
        return None
    named = {found.attribute_map[attribute]: kind for attribute, kind in found.openapi_types.items()}
    return named | {name: kind for (owner, name), kind in OVERRIDES.items() if owner == model}


class _Decoder:
    def __init__(self) -> None:
        self.unknown: list[str] = []

    def value(self, kind: str, value: Any, path: str) -> Any:
        if kind.startswith("List["):
            self._expect(value, list, kind, path)
            return [self.value(kind[5:-1], item, f"{path}[{index}]") for index, item in enumerate(value)]
        if kind.startswith("Dict["):
            self._expect(value, dict, kind, path)
            inner = kind[5:-1].partition(", ")[2]
            return {key: self.value(inner, item, f"{path}.{key}") for key, item in value.items()}
        if kind.startswith("bool|"):
            return value if isinstance(value, bool) else self.value(kind[5:], value, path)
        if kind in ("object", "bytes"):
            return value
        if kind == "datetime":
            return _time(value, path)
        if kind in _GO:
            return self._scalar(kind, value, path)
        return self.model(kind, value, path)

    def model(self, kind: str, body: Any, path: str) -> Any:
        known = fields(kind)
        if known is None:
            return body
        self._expect(body, dict, kind, path)
        result = {}
        for name, value in body.items():
            inner = f"{path}.{name}" if path else name
            if name not in known:
                self.unknown.append(inner)
            elif value is not None and not (name in DROPPED_WHEN_EMPTY and not value):
                result[name] = self.value(known[name], value, inner)
        return result

    def _scalar(self, kind: str, value: Any, path: str) -> Any:
        wanted: tuple[type, ...] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}[kind]
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "bool"):
            self._fail(value, kind, path)
        return value

    def _expect(self, value: Any, wanted: type, kind: str, path: str) -> None:
        if not isinstance(value, wanted):
            self._fail(value, kind, path)

    @staticmethod
    def _fail(value: Any, kind: str, path: str) -> None:
        what = "null" if value is None else _NAMES[type(value)]
        raise DecodeError(f"json: cannot unmarshal {what} into Go struct field {path} of type {_GO.get(kind, kind)}")


def _time(value: Any, path: str) -> str:
    micro = path.rpartition(".")[2] in MICRO
    pattern, layout = (_MICRO_TIME, _MICRO_LAYOUT) if micro else (_TIME, _LAYOUT)
    if isinstance(value, str) and pattern.match(value):
        return value
    date = re.match(_DATE, value) if isinstance(value, str) else None
    rest, part = (value[19:], ".000000" if micro else "Z07:00") if date else (value, "2006")
    raise DecodeError(f"parsing time {go(value)} as {go(layout)}: cannot parse {go(rest)} as {go(part)}")


def cannot_handle(resource: Resource, why: str) -> Refused:
    kind = resource.kind
    return bad_request(f'{kind} in version "{resource.version}" cannot be handled as a {kind}: {why}')


def strict_error(resource: Resource, unknown: list[str]) -> Refused:
    told = ", ".join(f'unknown field "{path}"' for path in unknown)
    return cannot_handle(resource, f"strict decoding error: {told}")


def decode(resource: Resource, body: Json, strict: bool, model: str | None = None) -> Json:
    """What the server understands of `body`. Refused: 400, a type is wrong, or (strict) a field is unknown."""
    decoder = _Decoder()
    try:
        known: Json = decoder.model(model or resource.model, body, "")
    except DecodeError as error:
        raise cannot_handle(resource, str(error)) from None
    if strict and decoder.unknown:
        raise strict_error(resource, decoder.unknown)
    return known
