"""YAML text, or plain JSON-like values, as a tree of nodes that know their line.

Owns: the bounds of what is read at all (size, depth, number of values with aliases expanded), refusal of tags,
duplicate keys and anything that is not plain data. Never: what the values mean (`fe.config.reader`). Composed from
parser events rather than with yaml.load: that loses lines and the spelling of scalars, and has no bounds.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml
from yaml import events

from fe.config.problems import Findings, Place

MAX_FILE_BYTES: Final = 16 << 20
MAX_DEPTH: Final = 32
MAX_VALUES: Final = 1_000_000

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE: Final = "<<"


@dataclass(slots=True)
class Node:
    """A value of the file: a scalar with its text, a mapping or a list."""

    line: int


@dataclass(slots=True)
class Scalar(Node):
    """`text` as written; `plain` if without quotes, so that `5` may be a number and `'5'` may not."""

    text: str
    plain: bool

    @property
    def is_null(self) -> bool:
        """Nothing was written, or `null`."""
        return self.plain and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(slots=True)
class Mapping(Node):
    """Keys in order; a key's own line is its entry's."""

    entries: dict[str, Node]
    key_lines: dict[str, int]


@dataclass(slots=True)
class Sequence(Node):
    """Items in order."""

    items: list[Node]


class _RefusedError(Exception):
    """The text is not configuration data at all."""

    def __init__(self, place: Place, line: int, reason: str) -> None:
        super().__init__(reason)
        self.place = place
        self.line = line
        self.reason = reason


def read_regular(path: str, most: int) -> tuple[bytes, int]:
    """Content and mode of a regular file of at most `most` bytes. Raises ValueError with the reason."""
    try:
        # O_NONBLOCK: opening a FIFO that nobody writes to would hang the start for good
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise ValueError(f"cannot be read: {reason}") from None
    try:
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            raise ValueError("cannot be read: it is not a regular file")
        with open(fd, "rb", closefd=False) as file:
            raw = file.read(most + 1)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(fd)
    if len(raw) > most:
        raise ValueError(f"cannot be read: it is larger than {most >> 10:,} KiB")
    return raw, mode


def read_text(path: str) -> str:
    """The text of a configuration file. Raises ValueError with the reason when there is none to be had."""
    raw, _mode = read_regular(path, MAX_FILE_BYTES)
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"is not UTF-8 text (byte {error.start})") from None


def parse_documents(text: str, file: str, findings: Findings) -> list[Node]:
    """The documents of a YAML text; problems go to `findings`, and what could be read before them is returned."""
    documents: list[Node] = []
    place = Place(file)
    try:
        composer = _Composer(yaml.parse(text, Loader=_LOADER), place, findings)
        documents.extend(composer.documents())
    except _RefusedError as refused:
        findings.problem(refused.place, refused.reason, line=refused.line)
    except yaml.YAMLError as error:
        line, reason = _syntax(error)
        if "nesting depth" in reason:  # the parser of newer releases has a bound of its own, and scans ahead
            findings.problem(place, f"is nested deeper than {MAX_DEPTH} levels", line=line)
        else:
            findings.problem(place, f"is not YAML: {reason}", line=line)
    return documents


def _syntax(error: yaml.YAMLError) -> tuple[int, str]:
    """Line and reason of a syntax error, in a sentence."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    reason = str(getattr(error, "problem", None) or getattr(error, "reason", None) or error).splitlines()[0]
    if "expected" in reason or "not allowed" in reason or "token" in reason:
        reason += " (does a value with brackets, ': ' or a special first character lack its quotes?)"
    return (mark.line + 1 if mark else 0), reason


class _Composer:
    """Builds nodes from parser events, within the bounds. A duplicate key is a problem, and the first one is kept."""

    def __init__(self, source: Iterator[Any], place: Place, findings: Findings) -> None:
        self._source = source
        self._place = place
        self._findings = findings
        self._anchors: dict[str, tuple[Node, int]] = {}
        self._values = 0

    def documents(self) -> Iterator[Node]:
        for event in self._source:
            if isinstance(event, events.DocumentStartEvent):
                self._anchors.clear()
            elif isinstance(event, events.NodeEvent):
                yield self._node(event, self._place)

    def _node(self, event: Any, place: Place) -> Node:
        line = event.start_mark.line + 1
        if isinstance(event, events.AliasEvent):
            return self._alias(event.anchor, place, line)
        before = self._values
        self._count(1, place, line)
        if len(place.path) > MAX_DEPTH:
            raise _RefusedError(self._place, line, f"is nested deeper than {MAX_DEPTH} levels")
        if event.tag is not None and event.tag != "!":
            raise _RefusedError(place, line, "has a tag (!...): values are plain data; put text in quotes")
        node: Node
        if isinstance(event, events.ScalarEvent):
            node = self._scalar(event, place, line)
        elif isinstance(event, events.SequenceStartEvent):
            items = self._until(events.SequenceEndEvent)
            node = Sequence(line, [self._node(item, place.item(index)) for index, item in enumerate(items)])
        else:
            node = self._mapping(place, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = (node, self._values - before)
        return node

    def _scalar(self, event: Any, place: Place, line: int) -> Scalar:
        try:
            event.value.encode()
        except UnicodeEncodeError:
            raise _RefusedError(place, line, "has a character that is none (half of a surrogate pair)") from None
        return Scalar(line, event.value, bool(event.implicit[0]) and not event.style)

    def _alias(self, name: str | None, place: Place, line: int) -> Node:
        if name is None or name not in self._anchors:
            raise _RefusedError(place, line, "is an alias (*...) of nothing before it; put text in quotes")
        node, values = self._anchors[name]
        self._count(values, place, line)
        return node

    def _count(self, values: int, place: Place, line: int) -> None:
        self._values += values
        if self._values > MAX_VALUES:
            raise _RefusedError(place, line, f"is where the file has more than {MAX_VALUES:,} values, aliases expanded")

    def _until(self, end: type[Any]) -> Iterator[Any]:
        for event in self._source:
            if isinstance(event, end):
                return
            yield event

    def _mapping(self, place: Place, line: int) -> Mapping:
        node = Mapping(line, {}, {})
        merged: list[Node] = []
        for event in self._until(events.MappingEndEvent):
            name = self._node(event, place)
            if not isinstance(name, Scalar):
                raise _RefusedError(place, name.line, "a key has to be a word, not a list or a mapping")
            value = self._node(next(self._source), place.key(name.text))
            if name.text == _MERGE and name.plain:
                merged.append(value)
            elif name.text in node.entries:
                reason = f"the key stands here a second time, after line {node.key_lines[name.text]}"
                self._findings.problem(place.key(name.text), reason, line=name.line)
            else:
                node.entries[name.text] = value
                node.key_lines[name.text] = name.line
        for value in merged:
            self._merge(node, value, place)
        return node

    def _merge(self, node: Mapping, value: Node, place: Place) -> None:
        """`<<: *defaults`: entries that the mapping does not have itself; the first of several wins."""
        for source in value.items if isinstance(value, Sequence) else [value]:
            if not isinstance(source, Mapping):
                raise _RefusedError(place, value.line, "'<<' merges mappings only")
            self._count(len(source.entries), place, value.line)
            for name, entry in source.entries.items():
                node.entries.setdefault(name, entry)
                node.key_lines.setdefault(name, source.key_lines[name])


def node_of(value: object, depth: int = 0) -> Node:
    """Plain values (of JSON, say) as nodes without lines. Raises ValueError for what is not plain data, or too deep."""
    if depth > MAX_DEPTH:
        raise ValueError(f"nested deeper than {MAX_DEPTH} levels")
    if isinstance(value, dict):
        entries = {str(name): node_of(entry, depth + 1) for name, entry in value.items()}
        return Mapping(0, entries, dict.fromkeys(entries, 0))
    if isinstance(value, list | tuple):
        return Sequence(0, [node_of(item, depth + 1) for item in value])
    if isinstance(value, str):
        return Scalar(0, value, plain=False)
    if value is None or isinstance(value, bool | int | float):
        return Scalar(0, "null" if value is None else str(value).lower(), plain=True)
    raise ValueError(f"{type(value).__name__} is not plain data")
