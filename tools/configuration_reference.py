"""Writes the tables of docs/configuration.md from the model, so that they cannot differ from it.

Owns: what stands between `<!-- table of X -->` and `<!-- end -->`. Never: the prose around it. A test runs it and
compares.
Use: `python tools/configuration_reference.py` after a change of fe/config/*schema.py or fe/config/limits.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import msgspec
import yaml

from fe.config import limits, schema
from fe.config.reader import Field, fields_of

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "configuration.md"

STRUCTS: dict[str, type[msgspec.Struct]] = {
    struct.__name__: struct
    for struct in (
        schema.RouterConfig,
        schema.LogSettings,
        schema.Kubernetes,
        schema.Election,
        limits.Limits,
        schema.Endpoint,
        schema.Keys,
        schema.Route,
        schema.Deployment,
        schema.RequestSettings,
        schema.ScaleSettings,
        schema.Probe,
        schema.ProcessReplicas,
        schema.KubernetesReplicas,
    )
}

# How a kind of value is written in the file, where that is not the name of its type.
WRITTEN = {
    "number": "number",
    "seconds": "seconds",
    "bytes": "size",
    "listen_address": "address or list",
    "replica_address": "list of addresses",
    "network": "list of networks",
    "secret": "secret",
    "workers": "number or `auto`",
    "percentages": "mapping to percent",
    "command": "list or string",
    "environment": "mapping",
    "file_path": "path",
    "path": "URL path",
    "path_prefix": "URL path",
    "host": "host name",
    "endpoint_name": "name",
    "deployment_name": "name",
    "routes": "list",
    "replicas": "mapping",
    "object_name": "name in the cluster",
    "namespace": "namespace",
    "namespaces": "list of namespaces",
    "selector": "label selector",
}
PLAIN = {"int": "number", "bool": "true or false", "str": "text"}


def type_of(field: Field) -> str:
    """How the value is written, with its bounds."""
    if get_origin(field.type) is Literal:
        return " or ".join(f"`{choice}`" for choice in get_args(field.type))
    if field.kind:
        text = WRITTEN[field.kind]
    elif get_origin(field.type) is tuple:
        text = "list"
    else:
        text = PLAIN.get(getattr(field.type, "__name__", ""), "mapping")
    extra = field.meta.extra or {}
    low, high = extra["bounds"]
    unit = f" {extra['unit']}" if extra["unit"] else ""
    return f"{text}, {low:,} to {high:,}{unit}" if low is not None and high is not None else text + unit


def default_of(field: Field) -> str:
    """What holds when the key is absent."""
    if field.required:
        return "**required**"
    if field.default is None or field.default == () or field.default == {} or field.default == "":
        return "-"
    if isinstance(field.default, msgspec.Struct):
        return "see below"
    value = field.default
    if isinstance(value, tuple):
        value = value[0] if len(value) == 1 else list(value)
    return f"`{written(value)}`"


def written(value: Any) -> str:
    """A value as it would stand in the file."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return yaml.safe_dump(value, default_flow_style=True, width=1000, sort_keys=False).removesuffix("\n...\n").strip()


def example_of(field: Field) -> str:
    example = (field.meta.extra or {})["example"]
    return "" if example is None else f"`{field.name}: {written(example)}`"


def table_of(struct: type[msgspec.Struct]) -> str:
    """The struct's keys as a table in Markdown."""
    rows = [
        [f"`{field.name}`", type_of(field), default_of(field), field.meta.description or "", example_of(field)]
        for field in fields_of(struct).values()
    ]
    header = ["key", "value", "default", "meaning", "example"]
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def generate(text: str) -> str:
    """The document with fresh tables. Raises KeyError for a table of something that is no part of the model."""

    def replace(match: re.Match[str]) -> str:
        return f"<!-- table of {match[1]} -->\n{table_of(STRUCTS[match[1]])}\n<!-- end -->"

    return re.sub(r"<!-- table of (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(generate(DOCUMENT.read_text()))
