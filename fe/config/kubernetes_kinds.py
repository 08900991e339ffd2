"""How values that name things in a Kubernetes cluster are read: objects, namespaces, label selectors.

Owns: the spelling that the API server takes for them, so that a mistake is told before anything is asked of it. Never:
whether such an object exists (`fe.control.kubernetes`), the other kinds (`fe.config.kinds`).
"""

from __future__ import annotations

import re
from typing import Any, Final

from fe.config.problems import Place, shown
from fe.config.reader import INVALID, KINDS, Field, Reader, kind, list_items, problem, wrong_type
from fe.config.source import Node, Scalar, Sequence

EVERYWHERE: Final = "*"  # the only entry of `namespaces`: all of them

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
NAMESPACE: Final = re.compile(_LABEL)
OBJECT_NAME: Final = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
MAX_OBJECT_NAME: Final = 253

_KEY = rf"(?:{_LABEL}(?:\.{_LABEL})*/)?[A-Za-z0-9](?:[-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?"
_VALUE = r"(?:[A-Za-z0-9](?:[-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?"
_TERM = re.compile(
    rf" *(?:!?{_KEY}|{_KEY} *(?:==?|!=) *{_VALUE}|{_KEY} +(?:in|notin) +\( *{_VALUE}(?: *, *{_VALUE})* *\)) *"
)
_COMMA = re.compile(r",(?![^(]*\))")  # but not between parentheses


def _named(reader: Reader, node: Node, place: Place, field: Field, rule: str, pattern: re.Pattern[str]) -> Any:
    text = KINDS["str"](reader, node, place, field)
    if text is INVALID or (len(text) <= MAX_OBJECT_NAME and pattern.fullmatch(text)):
        return text
    return problem(reader, place, f"{shown(text)} is not {rule}")


@kind("object_name")
def _object_name(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    rule = "the name of an object in the cluster: lower-case letters, digits, dashes and dots, at most 253"
    return _named(reader, node, place, field, rule, OBJECT_NAME)


@kind("namespace")
def _namespace(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    rule = "the name of a namespace: lower-case letters, digits and dashes, at most 63"
    return _named(reader, node, place, field, rule, NAMESPACE)


@kind("namespaces")
def _namespaces(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    if not isinstance(node, Sequence):
        return wrong_type(reader, node, place, "a list of namespaces", 'write for example [models], or ["*"] for all')
    names = []
    for at, item in list_items(reader, node, place):
        everywhere = isinstance(item, Scalar) and item.text == EVERYWHERE
        if everywhere and len(node.items) > 1:
            problem(reader, at, f'"{EVERYWHERE}" means every namespace; it has to stand alone')
        name = EVERYWHERE if everywhere else _namespace(reader, item, at, field)
        if name is not INVALID and name not in names:
            names.append(name)
    return tuple(names)


@kind("selector")
def _selector(reader: Reader, node: Node, place: Place, field: Field) -> Any:
    text = KINDS["str"](reader, node, place, field)
    if text is INVALID or all(_TERM.fullmatch(term) for term in _COMMA.split(text)):
        return text
    return problem(reader, place, f"{shown(text)} is not a label selector", "write for example app=fe,tier!=test")
