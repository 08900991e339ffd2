"""Lists as tables, as `kubectl get` asks for them.

Owns the columns: those of a CustomResourceDefinition, and name and age for built-in kinds. Never reads a store.
"""

from __future__ import annotations

from typing import Any

from tests.kubernetes.emulator.resources import Resource
from tests.kubernetes.emulator.selectors import at

Json = dict[str, Any]
NAME_HELP = (
    "Name must be unique within a namespace. Is required when creating resources, although some resources may allow a "
    "client to request the generation of an appropriate name automatically. Name is primarily intended for creation "
    "idempotence and configuration definition. Cannot be updated. More info: "
    "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
)
CREATED = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}


def table(resource: Resource, items: list[Json], meta: Json) -> Json:
    columns = list(resource.columns) or [CREATED]
    first = {"name": "Name", "type": "string", "format": "name", "description": NAME_HELP, "priority": 0}
    head: Json = {"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": meta}
    rows = [_row(columns, body) for body in items]
    return head | {"columnDefinitions": [first, *map(_definition, columns)], "rows": rows}


def _definition(column: Json) -> Json:
    about = column.get("description") or f"Custom resource definition column (in JSONPath format): {column['jsonPath']}"
    return {
        "name": column["name"],
        "type": column["type"],
        "format": column.get("format", ""),
        "description": about,
        "priority": column.get("priority", 0),
    }


def _row(columns: list[Json], body: Json) -> Json:
    cells = [body["metadata"]["name"], *(_cell(column, body) for column in columns)]
    partial = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": body["metadata"]}
    return {"cells": cells, "object": partial}


def _cell(column: Json, body: Json) -> Any:
    """A column's value. Of JSONPath only `.a.b` and one filter `.list[?(@.key=="value")].c` are understood."""
    path = column["jsonPath"].lstrip(".")
    if "[?(" not in path:
        return at(body, path)
    start, _, rest = path.partition("[?(@.")
    condition, _, last = rest.partition(")]")
    key, _, value = condition.partition("==")
    for entry in at(body, start) or []:
        if str(entry.get(key.strip())) == value.strip().strip("\"'"):
            return at(entry, last.lstrip("."))
    return None
