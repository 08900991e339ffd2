"""What lies below /api: status, events, configuration and the document that describes it all; changes by hand.

Owns: queries and bodies of requests, each checked before anything is done. Never: who may ask
(`fe.control.admin_guard`), what is shown (`fe.control.status`), what a change does (`fe.control.actions`). The shapes
are those of `fe.control.admin_types`; docs/admin-api.md describes it for people, openapi.json for programs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec
from aiohttp import web

from fe.control.actions import ActionError
from fe.control.addresses import display
from fe.control.admin_guard import Refusal, check_change, encoded
from fe.control.admin_types import (
    EVENTS,
    MOST_EVENTS,
    ReplicaAnswer,
    ReplicaRequest,
    ScaleAnswer,
    ScaleRequest,
)
from fe.control.metrics import REPLICA_STATES
from fe.control.plane import ControlPlane
from fe.control.status import build_config, build_status

OPENAPI: Final = Path(__file__).with_name("openapi.json")
BODY_WITHIN: Final = 5.0  # seconds
MOST_ID: Final = 1 << 53  # what every reader of JSON can hold
NAME_LENGTH: Final = 100  # of endpoint/deployment

T = TypeVar("T")


class Api:
    """The handlers."""

    def __init__(self, plane: ControlPlane) -> None:
        self._plane = plane
        self._building = asyncio.Lock()  # one at a time: a second reader waits instead of doubling the work
        self._openapi = OPENAPI.read_bytes()

    def routes(self) -> list[web.RouteDef]:
        deployment = "/api/deployments/{endpoint}/{deployment}"
        return [
            web.get("/api/status", self._status),
            web.get("/api/events", self._events),
            web.get("/api/config", self._config),
            web.get("/api/openapi.json", self._document),
            web.post(f"{deployment}/scale", self._scale),
            web.post(f"{deployment}/drain", self._drain),
            web.post(f"{deployment}/undrain", self._undrain),
        ]

    # --- looking ---

    async def _status(self, request: web.Request) -> web.StreamResponse:
        history = _query(request, "history").get("history", "0")
        if history not in ("0", "1"):
            raise Refusal(400, "bad_query", "history is 0 or 1")
        return await self._built(lambda: build_status(self._plane, history == "1"))

    async def _events(self, request: web.Request) -> web.StreamResponse:
        query = _query(request, "after", "limit", "deployment")
        after, limit = _number(query, "after", 0, 0, MOST_ID), _number(query, "limit", EVENTS, 1, MOST_EVENTS)
        deployment = query.get("deployment")
        if deployment is not None and len(deployment) > NAME_LENGTH:
            raise Refusal(400, "bad_query", "deployment is endpoint/deployment")
        events = self._plane.events
        return await self._built(lambda: {"last": events.last, "events": events.list(after, limit, deployment)})

    async def _config(self, request: web.Request) -> web.StreamResponse:
        _query(request)
        return await self._built(lambda: build_config(self._plane))

    async def _document(self, request: web.Request) -> web.StreamResponse:
        _query(request)
        return encoded(self._openapi)

    async def _built(self, build: Callable[[], dict[str, Any]]) -> web.StreamResponse:
        async with self._building:
            body = await asyncio.to_thread(lambda: msgspec.json.encode(build()))
        return encoded(body)

    # --- changing ---

    async def _scale(self, request: web.Request) -> web.StreamResponse:
        wanted = await _body(request, ScaleRequest)
        former = _act(lambda: self._plane.scale_by_hand(_name(request), wanted.count))
        return encoded(msgspec.json.encode(ScaleAnswer(wanted.count, former)))

    async def _drain(self, request: web.Request) -> web.StreamResponse:
        wanted = await _body(request, ReplicaRequest)
        _act(lambda: self._plane.drain(_name(request), wanted.replica))
        return self._state(_name(request), wanted.replica)

    async def _undrain(self, request: web.Request) -> web.StreamResponse:
        wanted = await _body(request, ReplicaRequest)
        _act(lambda: self._plane.undrain(_name(request), wanted.replica))
        return self._state(_name(request), wanted.replica)

    def _state(self, name: str, replica: str) -> web.StreamResponse:
        """What has become of it: a drained one may be gone already, one put back has to pass a probe first."""
        records = [record for _, record in self._plane.reconciler.live[name].replicas()]
        found = [record.index for record in records if display(record.sockaddr) == replica]
        states = [REPLICA_STATES.get(self._plane.table.replica(index).state, "free") for index in found]
        return encoded(msgspec.json.encode(ReplicaAnswer(replica, states[0] if states else "free")))


def _act(change: Callable[[], T]) -> T:
    try:
        return change()
    except ActionError as error:
        raise Refusal(error.status, error.code, error.message) from None


def _name(request: web.Request) -> str:
    return f"{request.match_info['endpoint']}/{request.match_info['deployment']}"


def _query(request: web.Request, *known: str) -> dict[str, str]:
    """The query's parameters. Raises Refusal for one that is not known, or stands twice."""
    query = request.query
    for name in query:
        if name not in known or len(query.getall(name)) > 1:
            raise Refusal(400, "bad_query", f"known parameters, each once: {', '.join(known) or 'none'}")
    return dict(query)


def _number(query: dict[str, str], name: str, default: int, low: int, high: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdecimal() and len(text) <= 16 and low <= int(text) <= high):
        raise Refusal(400, "bad_query", f"{name} is a number from {low} to {high}")
    return int(text)


async def _body(request: web.Request, kind: type[T]) -> T:
    """The body of a change that may be looked at. Raises Refusal; aiohttp answers 413 when it is too large."""
    check_change(request)
    _query(request)
    try:
        async with asyncio.timeout(BODY_WITHIN):
            raw = await request.read()
        return msgspec.json.decode(raw, type=kind)
    except TimeoutError:
        raise Refusal(408, "timeout", f"the body did not come within {BODY_WITHIN:g} s") from None
    except msgspec.MsgspecError as error:
        raise Refusal(400, "bad_request", str(error)) from None
