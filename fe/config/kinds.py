"""How each kind of value is read: numbers, durations, sizes, names, addresses, networks, commands.

Owns: the spelling that is accepted for a kind, and what is said when it is not. Never: structs and unknown keys
(`fe.config.reader`), secrets (`fe.config.credentials`), what values mean together (`fe.config.rules`). No message made
here shows the value of an environment variable.
"""

from __future__ import annotations

import ipaddress
import os
import re
import shlex
from collections.abc import Callable
from typing import Any, Final, get_args

import msgspec

from fe.config import schema
from fe.config.addresses import AddressError, listen_address, replica_address
from fe.config.annotations import key
from fe.config.problems import Place, did_you_mean, shown
from fe.config.reader import (
    INVALID,
    Field,
    Invalid,
    Reader,
    entries,
    kind,
    list_items,
    problem,
    read_struct,
    wrong_type,
)
from fe.config.source import Mapping, Node, Scalar, Sequence

TRUE: Final = frozenset(("true", "yes", "on"))
FALSE: Final = frozenset(("false", "no", "off"))

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
DURATION: Final = re.compile(r"((?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)) ?(ms|s|m|min|h|d)")
SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?(B|[kKMGT]i?B)")
NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*")
_HOST = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?:\.[A-Za-z0-9_-]{1,63})*")
_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})+")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PREFIXES: Final = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}


# --- numbers, switches, text -----------------------------------------------------------------------------------------


def _bounded(reader: Reader, node: Scalar, place: Place, field: Field, value: float) -> Any:
    """The value if it is within the bounds of its field."""
    assert field.meta.extra is not None
    (low, high), unit = field.meta.extra["bounds"], _unit(field)
    if low is not None and value < low:
        return problem(reader, place, f"{shown(node.text)} is too little: {low:g}{unit} is the least")
    if high is not None and value > high:
        return problem(reader, place, f"{shown(node.text)} is too much: {high:,}{unit} is the most")
    return value


def _unit(field: Field) -> str:
    assert field.meta.extra is not None
    unit = field.meta.extra["unit"]
    return f" {unit}" if unit else ""


def _example(field: Field) -> str:
    assert field.meta.extra is not None
    example = field.meta.extra["example"]
    return "" if example is None or isinstance(example, dict | list) else f"write for example {example}"


@kind("int")
def _int(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    wanted = f"a whole number{_unit(field) and f' of{_unit(field)}'}"
    if not isinstance(node, Scalar) or not node.plain or not _INTEGER.fullmatch(node.text) or len(node.text) > 24:
        return wrong_type(reader, node, place, wanted, _example(field))
    return _bounded(reader, node, place, field, int(node.text.replace("_", "")))


@kind("number")
def _number(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    if not isinstance(node, Scalar) or not node.plain or not _NUMBER.fullmatch(node.text) or len(node.text) > 24:
        return wrong_type(reader, node, place, "a number", _example(field))
    return _bounded(reader, node, place, field, float(node.text))


@kind("workers")
def _workers(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    return "auto" if isinstance(node, Scalar) and node.text == "auto" else _int(reader, node, place, field)


@kind("seconds")
def _seconds(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    if isinstance(node, Scalar):
        if node.plain and _NUMBER.fullmatch(node.text):
            return _bounded(reader, node, place, field, float(node.text))
        duration = DURATION.fullmatch(node.text)
        if duration:
            return _bounded(reader, node, place, field, float(duration[1]) * _SECONDS[duration[2]])
    return wrong_type(reader, node, place, "a time in seconds", "write for example 30, 0.5, 500ms, 30s or 1m")


@kind("bytes")
def _bytes(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    if isinstance(node, Scalar):
        if node.plain and _INTEGER.fullmatch(node.text) and len(node.text) <= 24:
            return _bounded(reader, node, place, field, int(node.text.replace("_", "")))
        size = SIZE.fullmatch(node.text) if len(node.text) <= 24 else None
        if size:
            prefix = size[2].removesuffix("B").removesuffix("i")
            base = 1024 if "i" in size[2] else 1000
            return _bounded(reader, node, place, field, int(float(size[1]) * base ** _PREFIXES[prefix]))
    return wrong_type(reader, node, place, "a size in bytes", "write for example 1048576, 100MB or 64MiB")


@kind("bool")
def _bool(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    word = node.text.lower() if isinstance(node, Scalar) and node.plain else ""
    if word in TRUE:
        return True
    return False if word in FALSE else wrong_type(reader, node, place, "true or false")


@kind("choice")
def _choice(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    choices = get_args(field.type)
    if isinstance(node, Scalar) and node.text in choices:
        return node.text
    mend = did_you_mean(node.text, choices) if isinstance(node, Scalar) else ""
    return wrong_type(reader, node, place, f"one of {', '.join(choices)}", mend)


@kind("str")
def _text(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if not isinstance(node, Scalar) or node.is_null:
        return wrong_type(reader, node, place, "text")
    if not node.text or "\0" in node.text:
        return problem(reader, place, "has to be text that is not empty and has no NUL in it")
    return node.text


# --- names, hosts, paths ---------------------------------------------------------------------------------------------


@kind("endpoint_name")
def _endpoint_name(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    return _name(reader, node, place, field, 3)


@kind("deployment_name")
def _deployment_name(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    return _name(reader, node, place, field, 1)


def _name(reader: Reader, node: Node, place: Place, field: Field, least: int) -> Any:
    text = _text(reader, node, place, field)
    if text is INVALID:
        return text
    if not least <= len(text) <= 32 or not NAME.fullmatch(text):
        rule = f"{least} to 32 characters, a letter first, then letters, digits and single dashes between them"
        return problem(reader, place, f"{shown(text)} is not a name: {rule}")
    return text


@kind("host")
def _host(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    text = _text(reader, node, place, field)
    if text is INVALID:
        return text
    if text.startswith("[") and text.endswith("]"):
        try:
            return f"[{ipaddress.IPv6Address(text[1:-1])}]"
        except ValueError:
            pass
    if len(text) > 253 or not _HOST.fullmatch(text):
        return problem(reader, place, f"{shown(text)} is not a host name", "write it without port, scheme or wildcard")
    return text.lower()


@kind("path_prefix")
def _path_prefix(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    text = _path(reader, node, place, field)
    if text is INVALID or text == "/":
        return text
    text = text.removesuffix("/")
    segments = text[1:].split("/")
    if any(not _SEGMENT.fullmatch(segment) for segment in segments) or not {".", ".."}.isdisjoint(segments):
        rule = "whole segments, none of them empty, '.' or '..', without query"
        return problem(reader, place, f"{shown(text)} is not a path prefix: {rule}", "write for example /v1/models")
    return text


@kind("path")
def _path(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    text = _text(reader, node, place, field)
    if text is INVALID:
        return text
    if not text.startswith("/") or not text.isascii() or not text.isprintable() or any(c in text for c in ' #\\"<>'):
        return problem(reader, place, f"{shown(text)} is not a path", "begin with '/', and write blanks as %20")
    return text


@kind("file_path")
def _file_path(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    text = _text(reader, node, place, field)
    return text if text is INVALID else os.path.normpath(os.path.join(reader.folder, text))


@kind("routes")
def _routes(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if not isinstance(node, Sequence):
        return wrong_type(reader, node, place, "a list of routes", "write for example [{path_prefix: /v1}]", show=False)
    routes = []
    for at, item in list_items(reader, node, place):
        if isinstance(item, Mapping) and not item.entries:
            problem(reader, at, "has neither host nor path_prefix", "write path_prefix: / for every path")
            routes.append(schema.Route())  # keeps the places of those that follow
            continue
        route = read_struct(reader, item, at, schema.Route)
        routes.append(schema.Route() if isinstance(route, Invalid) else route)
    return tuple(routes)


# --- addresses and networks ------------------------------------------------------------------------------------------


def _addresses(reader: Reader, node: Node, place: Place, parse: Callable[[str, str], object]) -> Any:
    """One address, or a list of them, in canonical spelling."""
    items = list_items(reader, node, place) if isinstance(node, Sequence) else [(place, node)]
    read: list[str] = []
    for at, item in items:
        if not isinstance(item, Scalar) or item.is_null:
            wrong_type(reader, item, at, "an address")
            continue
        try:
            read.append(str(parse(item.text, reader.folder)))
        except AddressError as error:
            problem(reader, at, f"{shown(item.text)} {error}")
    return tuple(read)


@kind("listen_address")
def _listen_addresses(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    return _addresses(reader, node, place, listen_address)


@kind("replica_address")
def _replica_addresses(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if not isinstance(node, Sequence):
        return wrong_type(reader, node, place, "a list of addresses", "write for example [127.0.0.1:5001]")
    return _addresses(reader, node, place, replica_address)


@kind("network")
def _networks(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if not isinstance(node, Sequence):
        return wrong_type(reader, node, place, "a list of addresses or networks", "write for example [10.0.0.0/8]")
    return _addresses(reader, node, place, _network)


def _network(text: str, _folder: str) -> object:
    try:
        interface = ipaddress.ip_interface(text)
    except ValueError:
        raise AddressError("is neither an IP address nor a network; write for example 10.0.0.0/8") from None
    if "/" in text and interface.ip != interface.network.network_address:
        raise AddressError(f"has address bits behind its mask; write {interface.network}")
    return interface.network


# --- mappings with names of the user's -------------------------------------------------------------------------------


@kind("percentages")
def _percentages(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    if not isinstance(node, Mapping):
        return wrong_type(reader, node, place, "a mapping of deployments to percent", "write for example {blue: 100}")
    values: dict[str, int] = {}
    for name, _at, value in entries(reader, node, place):
        at = place.item(name)
        reader.findings.lines[at] = node.key_lines[name]
        if isinstance(value, Scalar) and value.text.endswith("%"):
            problem(reader, at, f"has to be a number, not {shown(value.text)}", "leave out the %")
            continue
        read = _int(reader, value, at, field)
        if read is not INVALID:
            values[name] = read
    return values


@kind("environment")
def _environment(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if not isinstance(node, Mapping):
        return wrong_type(
            reader, node, place, "a mapping of names to values", "write for example {MODEL: v1}", show=False
        )
    values: dict[str, str] = {}
    for name, at, value in entries(reader, node, place):
        if not _VARIABLE.fullmatch(name):
            if ":" in name:  # `{TOKEN:text}` is all name and no value: it is not for everyone to see
                problem(reader, place, "has a name with a colon in it; write a blank behind the colon")
            else:
                problem(reader, at, "is not the name of an environment variable: letters, digits and _")
        elif not isinstance(value, Scalar):
            wrong_type(reader, value, at, "text", show=False)
        elif "\0" in value.text:
            problem(reader, at, "has a NUL in it")
        else:
            values[name] = "" if value.is_null else value.text
    return values


# --- commands and replicas -------------------------------------------------------------------------------------------


@kind("command")
def _command(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if isinstance(node, Scalar):
        try:
            words = shlex.split(node.text)
        except ValueError as error:
            return problem(reader, place, f"cannot be split into words: {error}", "write it as a list of strings")
    elif isinstance(node, Sequence) and all(isinstance(item, Scalar) for item in node.items):
        words = [item.text for item in node.items if isinstance(item, Scalar)]
    else:
        return wrong_type(
            reader, node, place, "a list of strings, or one string", "write for example [python, serve.py]"
        )
    if not words or not words[0]:
        return problem(reader, place, "has no program", "write for example [python, serve.py]")
    if any("\0" in word for word in words):
        return problem(reader, place, "has a NUL in it")
    return tuple(words)


@kind("replicas")
def _replicas(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if isinstance(node, Sequence):
        return wrong_type(reader, node, place, "a mapping", "write replicas: {static: [...]}")
    known = {"static", "process", "kubernetes"}
    if not isinstance(node, Mapping) or len(node.entries) != 1 or not known & set(node.entries):
        return problem(reader, place, "has to have exactly one key, static, process or kubernetes",
                       "write {static: [127.0.0.1:5001]} or {process: {command: ...}}")  # fmt: skip
    ((name, at, value),) = entries(reader, node, place)
    if name == "kubernetes":
        return read_struct(reader, value, at, schema.KubernetesReplicas)
    if name == "process":
        process = read_struct(reader, value, at, schema.ProcessReplicas)
        return process if isinstance(process, Invalid) else _located(process, reader.folder)
    field = Field("addresses", tuple, "replica_address", _NO_META, True, ())
    addresses = _replica_addresses(reader, value, at, field)
    return addresses if addresses is INVALID else schema.StaticReplicas(addresses)


def _located(process: schema.ProcessReplicas, folder: str) -> schema.ProcessReplicas:
    """The process with whole paths; that of its program is taken from its working directory, as exec does."""
    cwd = process.cwd or folder
    program, *rest = process.command or ("",)
    if "/" in program:
        program = os.path.normpath(os.path.join(cwd, program))
    return msgspec.structs.replace(process, cwd=cwd, command=(program, *rest))


_NO_META: Final = key("addresses")
