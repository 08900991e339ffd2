"""What fe has decided and why, kept for whoever asks later: a bounded ring, the log, and counters.

Owns: the form of an event and its way out: each is one line of the log, one entry of the ring (`/api/events`), and
counted by kind. Never: decides anything. Numbers that led to a decision go into `figures`, so that it can be checked
afterwards. The ring begins anew with the controller; the log is what stays.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Literal

from fe.log import logger

log = logger("control.events")

KEPT: Final = 1000
Kind = Literal[
    "scale", "eject", "return", "drain", "undrain", "ready", "unready", "crash", "rollout", "reload", "takeover",
    "leader", "conflict", "refused",
]  # fmt: skip
LOUD: Final = frozenset(("eject", "unready", "crash", "conflict", "refused"))


@dataclass(frozen=True)
class Event:
    """One thing that happened; `id` grows by one with each, `time` is in seconds since the epoch."""

    id: int
    time: float
    kind: Kind
    deployment: str | None  # "endpoint/deployment"
    replica: str | None  # its address
    before: int | None  # of a count that changed
    after: int | None
    reason: str
    figures: dict[str, float | str] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        """JSON-ready."""
        return {
            "id": self.id, "time": self.time, "kind": self.kind, "deployment": self.deployment, "replica": self.replica,
            "from": self.before, "to": self.after, "reason": self.reason, "figures": self.figures,
        }  # fmt: skip


class Events:
    """The ring. To be used from the controller's loop; `list` may be called from a thread."""

    def __init__(self, kept: int = KEPT) -> None:
        self._ring: deque[Event] = deque(maxlen=kept)
        self.last = 0
        self.listeners: list[Callable[[Event], None]] = []
        self.counts: Counter[Kind] = Counter()
        self.by_deployment: Counter[tuple[str, str]] = Counter()  # (deployment, what is counted)

    def add(
        self,
        kind: Kind,
        reason: str,
        *,
        deployment: str | None = None,
        replica: str | None = None,
        before: int | None = None,
        after: int | None = None,
        figures: Mapping[str, float | str] = MappingProxyType({}),
    ) -> None:
        """Notes, logs and counts it."""
        self.last += 1
        event = Event(self.last, time.time(), kind, deployment, replica, before, after, reason, dict(figures))
        self._ring.append(event)
        self.counts[kind] += 1
        if deployment is not None:
            self.by_deployment[deployment, _counted(event)] += 1
        said = {"deployment": deployment, "replica": replica, "from": before, "to": after, **figures}
        say = log.warning if kind in LOUD else log.info
        say(reason, event=kind, **{name: value for name, value in said.items() if value is not None})
        for listener in self.listeners:
            listener(event)

    def forget(self, deployment: str) -> None:
        """A deployment is gone: one of the same name counts from 0."""
        for counted in [counted for counted in self.by_deployment if counted[0] == deployment]:
            del self.by_deployment[counted]

    def list(self, after: int = 0, limit: int = KEPT, deployment: str | None = None) -> list[dict[str, Any]]:
        """The newest `limit` events beyond `after`, oldest first."""
        found = [
            event.shown()
            for event in list(self._ring)
            if event.id > after and (deployment is None or event.deployment == deployment)
        ]
        return found[-limit:] if limit > 0 else []


def _counted(event: Event) -> str:
    if event.kind == "scale" and event.before is not None and event.after is not None:
        return "up" if event.after > event.before else "down"
    return event.kind
