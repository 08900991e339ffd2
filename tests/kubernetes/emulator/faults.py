"""Faults in front of the API: what a test makes go wrong, where, how often, and with what chance.

Owns which call meets which fault; http.py carries them out. Deterministic by seed: the same calls in the same order
meet the same faults. Never touches the state behind the API.
"""

from __future__ import annotations

import asyncio
import random
import re
from dataclasses import dataclass, field
from typing import Any

REASONS = {
    400: "BadRequest", 401: "Unauthorized", 403: "Forbidden", 404: "NotFound", 409: "Conflict", 410: "Expired",
    429: "TooManyRequests", 500: "InternalError", 502: "BadGateway", 503: "ServiceUnavailable", 504: "Timeout",
}  # fmt: skip


@dataclass
class Fault:
    """One thing that goes wrong. `path` is a regular expression to be found in path and query; `verb` one of get,
    list, watch, create, update, patch, delete, deletecollection, or "" for all; `times` how often at most."""

    kind: str
    path: str = ""
    verb: str = ""
    user: str = ""
    times: int | None = None
    chance: float = 1.0
    skip: int = 0  # so many matching calls go well first
    value: Any = None
    retry_after: int | None = None
    hits: int = 0
    free: asyncio.Event = field(default_factory=asyncio.Event)

    def meets(self, verb: str, path: str, user: str) -> bool:
        return self.verb in ("", verb) and self.user in ("", user) and re.search(self.path, path) is not None


class Faults:
    """All faults that are set. Each method takes Fault's keywords (path, verb, user, times, chance, skip)."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - chances, not secrets
        self._set: list[Fault] = []
        self.hits = 0

    def status(self, code: int, retry_after: int | None = None, **where: Any) -> Fault:
        """Answer with this HTTP status and a Status object; 429 and 503 may say when to come again."""
        return self._add(Fault("status", value=code, retry_after=retry_after, **where))

    def expire(self, after: int = 0, **where: Any) -> Fault:
        """A watch begins well and, behind `after` events, ends with an ERROR event of code 410."""
        return self._add(Fault("expire", value=after, **{"verb": "watch", **where}))

    def reset(self, after: int = 0, **where: Any) -> Fault:
        """Reset the connection instead of an answer; `after` lets a watch give so many events first."""
        return self._add(Fault("reset", value=after, **where))

    def hang(self, **where: Any) -> Fault:
        """Take the call and never answer it, until the fault is taken back. The call has no effect."""
        return self._add(Fault("hang", **where))

    def lose(self, **where: Any) -> Fault:
        """Carry the call out and hang instead of answering it: the caller cannot know that it succeeded."""
        return self._add(Fault("lose", **where))

    def silent(self, after: int = 0, **where: Any) -> Fault:
        """A watch begins, gives `after` events, and then no byte ever comes, nor an end."""
        return self._add(Fault("silent", value=after, **{"verb": "watch", **where}))

    def truncate(self, after: int = 0, **where: Any) -> Fault:
        """End the answer in the middle of its JSON; a watch, in the middle of the event behind `after` whole ones."""
        return self._add(Fault("truncate", value=after, **where))

    def garble(self, after: int = 0, **where: Any) -> Fault:
        """An answer, or an event behind `after` whole ones, that is not JSON."""
        return self._add(Fault("garble", value=after, **where))

    def empty(self, **where: Any) -> Fault:
        """A list without items, and nothing wrong with it otherwise."""
        return self._add(Fault("empty", **{"verb": "list", **where}))

    def slow(self, seconds: float, **where: Any) -> Fault:
        """Wait before the answer. Other faults still apply."""
        return self._add(Fault("slow", value=seconds, **where))

    def remove(self, fault: Fault) -> None:
        """Take a fault back; calls that hang in it are reset."""
        if fault in self._set:
            self._set.remove(fault)
        fault.free.set()

    def clear(self) -> None:
        for fault in list(self._set):
            self.remove(fault)

    def pick(self, verb: str, path: str, user: str) -> list[Fault]:
        """The faults this call meets: any slowness, and at most one other."""
        picked: list[Fault] = []
        for fault in self._set:
            if not fault.meets(verb, path, user) or (fault.times is not None and fault.hits >= fault.times):
                continue
            if fault.kind != "slow" and any(had.kind != "slow" for had in picked):
                continue
            if fault.skip > 0:
                fault.skip -= 1
                continue
            if fault.chance < 1.0 and self._random.random() >= fault.chance:
                continue
            fault.hits += 1
            self.hits += 1
            picked.append(fault)
        return picked

    def _add(self, fault: Fault) -> Fault:
        re.compile(fault.path)
        self._set.append(fault)
        return fault
