"""Reads a tree of nodes into the structs of the model, driven by their type annotations, collecting every problem.

Owns: the general rules (unknown keys, types, bounds, null as absent) and, per field, the table of what the annotations
say. Never: kinds of values (`fe.config.kinds`), files (`fe.config.load`), checks across fields (`fe.config.rules`).
Nothing here raises for bad input: a bad value is a problem in `Findings`, and the field keeps its default.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Final, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

import msgspec

from fe.config import source
from fe.config.problems import Findings, Place, did_you_mean, shown

S = TypeVar("S", bound=msgspec.Struct)


class Invalid:
    """What a reader returns for a value it has reported as a problem."""

    def __repr__(self) -> str:
        return "INVALID"


INVALID: Final = Invalid()


class Field(NamedTuple):
    """What the annotation of a struct's field says."""

    name: str
    type: Any  # without Annotated and without `| None`
    kind: str
    meta: msgspec.Meta
    required: bool
    default: Any


class Reader(NamedTuple):
    """Where values are read: the findings they may add to, and what paths and `env:` references refer to."""

    findings: Findings
    folder: str
    environ: Mapping[str, str]
    references_only: bool = False  # keys as plain text are refused: what is read is for others to see


Kind = Callable[[Reader, source.Node, Place, Field], Any]
KINDS: Final[dict[str, Kind]] = {}  # filled by fe.config.kinds and its neighbours
HOMES: Final[dict[str, str]] = {}  # said of a key that stands at the wrong place; filled by fe.config.documents


def kind(name: str) -> Callable[[Kind], Kind]:
    """Registers the way to read fields of this kind."""

    def register(function: Kind) -> Kind:
        KINDS[name] = function
        return function

    return register


@functools.cache
def fields_of(struct: type[msgspec.Struct]) -> dict[str, Field]:
    """The keys of a struct of the model, by name; a field without annotation is none."""
    hints = get_type_hints(struct, include_extras=True)
    fields = [field for field in msgspec.structs.fields(struct) if hasattr(hints[field.name], "__metadata__")]
    return {field.name: _field(field, hints[field.name]) for field in fields}


def _field(field: msgspec.structs.FieldInfo, hint: Any) -> Field:
    meta = next(extra for extra in hint.__metadata__ if isinstance(extra, msgspec.Meta))
    base = get_args(hint)[0]
    if type(None) in get_args(base):
        base = functools.reduce(lambda left, right: left | right, (t for t in get_args(base) if t is not type(None)))
    default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
    assert meta.extra is not None
    return Field(field.name, base, meta.extra["kind"], meta, field.required, default)


def read_struct(reader: Reader, node: source.Node, place: Place, struct: type[S]) -> S | Invalid:
    """A whole struct; where values are missing or bad, their defaults (the problems are in the findings)."""
    values = read_fields(reader, node, place, struct)
    return INVALID if isinstance(values, Invalid) else build(struct, values)


def build(struct: type[S], values: Mapping[str, Any]) -> S:
    """The struct from the values there are; a required one that is missing is stood in for by an empty one."""
    whole = {name: _placeholder(field) for name, field in fields_of(struct).items() if field.required}
    return struct(**{**whole, **values})


def _placeholder(field: Field) -> Any:
    return "" if field.type is str else ()


def read_fields(
    reader: Reader,
    node: source.Node,
    place: Place,
    struct: type[msgspec.Struct],
    *,
    aliases: Mapping[str, str] = types.MappingProxyType({}),
    others: Collection[str] = (),
    only: Collection[str] | None = None,
) -> dict[str, Any] | Invalid:
    """The values that are given and good, by field name. `aliases`: further names of fields; `others`: keys that the
    caller reads itself; `only`: fields that the caller leaves to this function."""
    if not isinstance(node, source.Mapping):
        return wrong_type(reader, node, place, "a mapping of keys to values", show=False)
    fields = {name: field for name, field in fields_of(struct).items() if only is None or name in only}
    values: dict[str, Any] = {}
    for name, at, value in entries(reader, node, place):
        field = fields.get(aliases.get(name, name))
        if field is not None:
            if aliases.get(name, name) in node.entries and name in aliases:
                reader.findings.problem(
                    at, f"means the same as {aliases[name]!r}, which is given too", "keep one of them"
                )
                continue
            read = read_value(reader, value, at, field)
            if read is not INVALID and read is not None:
                values[field.name] = read
        elif name not in others:
            _unknown(
                reader, name, place, at, [*fields, *aliases, *others], any(f.kind == "secret" for f in fields.values())
            )
    for field in fields.values():
        if field.required and not any(aliases.get(name, name) == field.name for name in node.entries):
            reader.findings.problem(place, f"the key {field.name!r} is missing ({field.meta.description})")
    return values


def _unknown(reader: Reader, name: str, place: Place, at: Place, known: list[str], secrets: bool) -> None:
    """A key that is none. Beside secrets it may be one itself: `{primary:text}`, without a blank, is a key."""
    near = did_you_mean(name, known)
    if secrets and (":" in name or not near):
        reader.findings.problem(
            place, "has a key that is not known here", f"write {known[0]}: and a blank, then the value"
        )
        return
    home = HOMES.get(name) or ("" if reader.findings.many else near)
    reader.findings.problem(at, "is not a key that is known here", home)


def entries(reader: Reader, node: source.Mapping, place: Place) -> Iterator[tuple[str, Place, source.Node]]:
    """The entries of a mapping with their places, whose lines are noted on the way."""
    for name, value in node.entries.items():
        at = place.key(name)
        reader.findings.lines[at] = node.key_lines[name]
        yield name, at, value


def read_value(reader: Reader, node: source.Node, place: Place, field: Field) -> Any:
    """A field's value: None where nothing is given, INVALID where it is bad."""
    if isinstance(node, source.Scalar) and node.is_null:
        if field.required:
            return problem(reader, place, f"has no value ({field.meta.description})")
        return None
    if field.kind:
        return KINDS[field.kind](reader, node, place, field)
    return _read_type(reader, node, place, field)


def _read_type(reader: Reader, node: source.Node, place: Place, field: Field) -> Any:
    if get_origin(field.type) is Literal:
        return KINDS["choice"](reader, node, place, field)
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
        reader.findings.lines.setdefault(place, node.line)
        return read_struct(reader, node, place, field.type)
    return KINDS[field.type.__name__](reader, node, place, field)


def list_items(reader: Reader, node: source.Sequence, place: Place) -> Iterator[tuple[Place, source.Node]]:
    """The items of a list with their places: by `name` where they have one, else by index."""
    seen: set[str] = set()
    for index, item in enumerate(node.items):
        name = item.entries.get("name") if isinstance(item, source.Mapping) else None
        label = name.text if isinstance(name, source.Scalar) and name.text.isprintable() and name.text else str(index)
        if label in seen:
            label = str(index)
        seen.add(label)
        at = place.item(label)
        reader.findings.lines[at] = item.line
        yield at, item


def problem(reader: Reader, place: Place, reason: str, mend: str = "") -> Invalid:
    """Notes a problem and stands for the value."""
    reader.findings.problem(place, reason, mend)
    return INVALID


def wrong_type(
    reader: Reader, node: source.Node, place: Place, wanted: str, mend: str = "", *, show: bool = True
) -> Invalid:
    """Notes that the value is of another type than wanted."""
    return problem(reader, place, f"has to be {wanted}, not {describe(node, show=show)}", mend)


def describe(node: source.Node, *, show: bool = True) -> str:
    """A value in a few words for a message; its text only if it may be shown."""
    if isinstance(node, source.Mapping):
        return "a mapping"
    if isinstance(node, source.Sequence):
        return "a list"
    assert isinstance(node, source.Scalar)
    if node.is_null:
        return "nothing"
    return shown(node.text) if show else "a single value"
