"""Kubernetes Events: what fe has decided, told where `kubectl describe` looks for it.

Owns: which of fe's events become Events of the cluster, about which object, and how many. Never: the decisions. Only
the front-end that leads tells, since the others decide nothing. Many of one kind about one object within a short
time become one that says how often; what cannot be told is dropped: the log has it all.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from fe.control.events import Event
from fe.control.kubernetes.client import ApiError, UnreachableError
from fe.control.kubernetes.election import NotLeadingError
from fe.control.kubernetes.objects import GROUP, VERSION, Ref
from fe.log import logger

if TYPE_CHECKING:
    from fe.control.kubernetes.hub import Hub

log = logger("control.kubernetes")

EVERY: Final = 10.0  # seconds between two of one kind about one object
PENDING_MOST: Final = 200
SEND_WITHIN: Final = 5.0
NOTE_BYTES: Final = 1024
NAME_CHARS: Final = 200  # of the object's, so that the whole stays within what the server takes
WARNINGS: Final = {"conflict": "Conflict", "refused": "ScaleRefused"}


@dataclass
class Pending:
    """What is to be told about one object."""

    event: Event
    reason: str
    count: int = 1
    first: float = 0.0


class Recorder:
    """Tells. `on_event` is to be called for each event of fe."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._pending: dict[tuple[str, str], Pending] = {}
        self._told_at: dict[tuple[str, str], float] = {}
        self._awake = asyncio.Event()
        self._numbers = itertools.count(time.time_ns())
        self._trouble = ""

    def on_event(self, event: Event) -> None:
        """Takes note of it, if it is one for the cluster."""
        reason = _reason(event)
        if reason is None or event.deployment is None or not self._hub.leading:
            return
        key = event.deployment, reason
        pending = self._pending.get(key)
        if pending is not None:
            pending.event, pending.count = event, pending.count + 1
        elif len(self._pending) < PENDING_MOST:
            self._pending[key] = Pending(event, reason, first=time.monotonic())
            self._awake.set()

    async def run(self) -> None:
        """Tells one after the other, for as long as it is not cancelled."""
        while True:
            due, wait = self._due()
            if due is not None:
                await self._tell(due)
                continue
            self._awake.clear()
            try:
                async with asyncio.timeout(wait):
                    await self._awake.wait()
            except TimeoutError:
                pass

    def _due(self) -> tuple[Pending | None, float | None]:
        """The next one to be told now, or the seconds until there is one."""
        now = time.monotonic()
        self._told_at = {key: at for key, at in self._told_at.items() if now < at + EVERY}
        for key, pending in self._pending.items():
            if key not in self._told_at:
                del self._pending[key]
                self._told_at[key] = now
                return pending, None
        waits = [self._told_at[key] + EVERY - now for key in self._pending]
        return None, min(waits, default=None)

    async def _tell(self, pending: Pending) -> None:
        about = self._about(pending.event)
        if about is None:
            return
        body = self._body(pending, about)
        path = f"/apis/events.k8s.io/v1/namespaces/{about['namespace']}/events"
        hub = self._hub
        try:
            limit = min(SEND_WITHIN, hub.fence())
            await hub.cluster.call("POST", path, {}, body, "application/json", limit, hub.fence)
            trouble = ""
        except NotLeadingError:
            return
        except (ApiError, UnreachableError) as error:
            trouble = str(error)
        if trouble and trouble != self._trouble:
            log.warning("an event could not be recorded in the cluster", reason=trouble)
        self._trouble = trouble

    def _about(self, event: Event) -> dict[str, str] | None:
        """The object: the one that brought the deployment, else the Deployment whose pods serve."""
        provider = self._hub.providers.get(event.deployment or "")
        if provider is None:
            return None
        namespace, name = provider.target.key
        ref = self._hub.served.merged and self._hub.served.merged.deployments.get(event.deployment or "")
        if isinstance(ref, Ref) and ref.kind != "Deployment":
            value = self._hub.served.value_of(ref)
            uid = "" if value is None else value["metadata"]["uid"]
            return _reference(f"{GROUP}/{VERSION}", ref, uid)
        workload = provider.target.workload
        return _reference("apps/v1", Ref("Deployment", namespace, name), "" if workload is None else workload.uid)

    def _body(self, pending: Pending, about: Mapping[str, str]) -> dict[str, Any]:
        event = pending.event
        name = about["name"][:NAME_CHARS].rstrip("-.")
        often = f" ({pending.count} times within {time.monotonic() - pending.first:.0f} s)" if pending.count > 1 else ""
        change = f"from {event.before} to {event.after} replicas: " if event.before is not None else ""
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{name}.{next(self._numbers):x}", "namespace": about["namespace"]},
            "eventTime": _microtime(event.time),
            "type": "Warning" if event.kind in WARNINGS else "Normal",
            "reason": pending.reason,
            "action": "Scale",
            "note": _cut(f"{change}{event.reason}{_why(event)}", NOTE_BYTES - len(often)) + often,
            "reportingController": f"{GROUP}/fe",
            "reportingInstance": self._hub.identity[:128],
            "regarding": dict(about),
        }


def _reason(event: Event) -> str | None:
    """In one word, as the cluster has it; None: it is not one for the cluster."""
    if event.kind == "scale" and event.before is not None and event.after is not None:
        return "ScaledUp" if event.after > event.before else "ScaledDown"
    return WARNINGS.get(event.kind)


def _why(event: Event) -> str:
    why = event.figures.get("why")
    return f": {why}" if why else ""


def _reference(version: str, ref: Ref, uid: str) -> dict[str, str]:
    fields = {"apiVersion": version, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name, "uid": uid}
    return {name: text for name, text in fields.items() if text}


def _cut(text: str, most: int) -> str:
    raw = text.encode()
    return text if len(raw) <= most else raw[: most - 3].decode(errors="ignore") + "..."


def _microtime(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
