"""Objects under one counter of versions, with enough history to look back and to watch.

Owns objects, versions and the log of changes. An object in here is never changed, only replaced: whoever has one may
keep it. Never knows what an object means. Read next: lists.py and watches.py, which read it; verbs.py, which writes.
"""

from __future__ import annotations

import bisect
import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Json = dict[str, Any]
Key = tuple[str, str]  # namespace ("" for objects of the cluster), name


class Change(NamedTuple):
    """One write: `old` is None for a new object, `new` for a deleted one (whose last state is `last`)."""

    version: int
    id: str
    key: Key
    old: Json | None
    new: Json | None
    last: Json


class Store:
    """All objects by resource id and key. `history` changes are kept; what is older is compacted by itself."""

    def __init__(self, version: int, history: int) -> None:
        self.version = version
        self.oldest = 0  # versions below are compacted away
        self._history = history
        self._objects: defaultdict[str, dict[Key, Json]] = defaultdict(dict)
        self._latest: dict[str, int] = {}
        self._first = version
        self._log: list[Change] = []
        self._listeners: dict[int, Callable[[Change], None]] = {}
        self._ids = itertools.count()

    def get(self, identity: str, key: Key) -> Json | None:
        return self._objects[identity].get(key)

    def items(self, identity: str) -> dict[Key, Json]:
        return self._objects[identity]

    def latest(self, identity: str) -> int:
        """The version of the last write to this resource: what its watch cache has seen."""
        return self._latest.get(identity, self._first)

    def write(self, identity: str, key: Key, body: Json) -> Json:
        """Store `body` under a new version and return what is stored."""
        old = self._objects[identity].get(key)
        new = self._stamped(body)
        self._objects[identity][key] = new
        self._append(Change(self.version, identity, key, old, new, new))
        return new

    def delete(self, identity: str, key: Key) -> Json:
        """Remove an object and return its last state, under the version of the deletion."""
        old = self._objects[identity].pop(key)
        last = self._stamped(old)
        self._append(Change(self.version, identity, key, old, None, last))
        return last

    def compact(self, version: int | None = None) -> None:
        """Forget all history before `version` (absent: before now)."""
        self.oldest = max(self.oldest, self.version if version is None else version)
        self._log = self._log[self._after(self.oldest) :]

    def skip(self, versions: int) -> None:
        """Let the counter run on, as writes of others do."""
        self.version += versions

    def since(self, version: int) -> Iterator[Change]:
        """All changes after `version`, oldest first."""
        return iter(self._log[self._after(version) :])

    def at(self, identity: str, version: int) -> dict[Key, Json]:
        """The objects as they were at `version`, which must not be compacted."""
        objects = dict(self._objects[identity])
        for change in reversed(self._log[self._after(version) :]):
            if change.id != identity:
                continue
            if change.old is None:
                objects.pop(change.key, None)
            else:
                objects[change.key] = change.old
        return objects

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` with every change from now on; returns how to stop that."""
        identity = next(self._ids)
        self._listeners[identity] = listener
        return lambda: self._listeners.pop(identity, None) and None

    def _stamped(self, body: Json) -> Json:
        self.version += 1
        return {**body, "metadata": {**body["metadata"], "resourceVersion": str(self.version)}}

    def _after(self, version: int) -> int:
        return bisect.bisect_right(self._log, version, key=lambda change: change.version)

    def _append(self, change: Change) -> None:
        self._latest[change.id] = change.version
        self._log.append(change)
        if len(self._log) > 2 * self._history:
            self.compact(self._log[self._history].version)
        for listener in list(self._listeners.values()):
            listener(change)
