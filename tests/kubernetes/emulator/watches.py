"""Watches: what a client is told of changes, one event at a time.

Owns the start of a watch, its filter, its bookmarks and its end. Never writes; never speaks HTTP: http.py sends what
this yields. Events reach a watch in the moment of the write.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from typing import Any

from tests.kubernetes.emulator import lists, selectors
from tests.kubernetes.emulator.errors import Refused, forbidden_field, invalid, too_old
from tests.kubernetes.emulator.resources import Resource
from tests.kubernetes.emulator.store import Change, Store

Json = dict[str, Any]
LONGEST = 1800.0  # seconds that a watch without timeoutSeconds lasts
BOOKMARK_EVERY = 60.0
LAST_BOOKMARKS = (2.0, 1.0)  # seconds before the end of a watch at which it is sent in any case
NO_PROGRESS = (
    "a watch stream was requested by the client but the required storage feature RequestWatchProgress is disabled"
)
INITIAL_END = "k8s.io/initial-events-end"


class Watch:
    """One watch. `second` is the length of one second of the server's timers, in seconds."""

    def __init__(
        self, store: Store, resource: Resource, namespace: str, query: dict[str, str], second: float, streams: bool
    ) -> None:
        self.store, self.resource, self.namespace, self.query, self.second = store, resource, namespace, query, second
        self.streams = streams  # whether sendInitialEvents is served at all
        self.bookmarks = query.get("allowWatchBookmarks") in ("true", "1")
        self.initial = query.get("sendInitialEvents") == "true"
        self.asked = lists.number(query, "resourceVersion")
        self.timeout = (float(lists.number(query, "timeoutSeconds")) or LONGEST) * second
        self.wanted = selectors.build(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
        self.seen = max(self.asked, store.latest(resource.id))
        self._pending: deque[Change] = deque()
        self._wake = asyncio.Event()
        self._over = False
        self._check()

    def _check(self) -> None:
        lists.check_match(self.query, watch=True)
        match = self.query.get("resourceVersionMatch", "")
        if match and not self.initial:
            text = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            raise invalid("meta.k8s.io", "ListOptions", "", [forbidden_field("resourceVersionMatch", text)])
        if self.initial and match != "NotOlderThan":
            text = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            raise invalid("meta.k8s.io", "ListOptions", "", [forbidden_field("resourceVersionMatch", text)])

    def finish(self) -> None:
        """Let the watch's time be over now: what it has, its last bookmarks, and the end."""
        self._over = True
        self._wake.set()

    async def events(self) -> AsyncGenerator[Json, None]:
        """Every event until the watch's time is over, or until an ERROR ends it."""
        if self.initial and not self.streams:
            yield error(Refused(500, "InternalError", NO_PROGRESS))
            return
        if self.asked and self.asked < self.store.oldest:
            yield error(too_old(self.asked, self.store.oldest))
            return
        stop = self.store.listen(self._on_change)
        try:
            for event in list(self._start()):
                yield event
            async for event in self._follow():
                yield event
        finally:
            stop()

    def _start(self) -> Iterator[Json]:
        """The state as ADDED events where no version was given, or what happened since the one given."""
        if self.asked and not self.initial:
            for change in self.store.since(self.asked):
                yield from self._told(change)
            return
        for key, body in sorted(self.store.items(self.resource.id).items()):
            if self.namespace in ("", key[0]) and self.wanted(body):
                yield self._event("ADDED", body)
        if self.initial and self.bookmarks:
            yield self._bookmark({INITIAL_END: "true"})

    async def _follow(self) -> AsyncIterator[Json]:
        clock = asyncio.get_running_loop().time
        now = clock()
        end, marks = now + self.timeout, self._marks(now)
        while True:
            now = clock()
            while self._pending:
                for event in self._told(self._pending.popleft()):
                    yield event
            while marks and marks[0] <= now:
                marks.popleft()
                yield self._bookmark()
            if self._over or now >= end:
                for _ in list(marks)[-len(LAST_BOOKMARKS) :]:
                    yield self._bookmark()
                return
            self._wake.clear()
            if not self._pending:
                # Not wait_for, which forgets that it was cancelled if an event comes in the same moment.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min([end, *list(marks)[:1]]) - now):
                        await self._wake.wait()

    def _marks(self, now: float) -> deque[float]:
        """When bookmarks are due: every minute, and twice at the end."""
        if not self.bookmarks:
            return deque()
        seconds = self.timeout / self.second
        every = [BOOKMARK_EVERY * number for number in range(1, math.ceil(seconds / BOOKMARK_EVERY))]
        last = [seconds - before for before in LAST_BOOKMARKS if seconds > before]
        return deque(now + moment * self.second for moment in sorted({*every, *last}))

    def _on_change(self, change: Change) -> None:
        if change.id == self.resource.id:
            self._pending.append(change)
            self._wake.set()

    def _told(self, change: Change) -> Iterator[Json]:
        """At most one event: an object that no longer matches the selector is DELETED to this watch."""
        if change.id != self.resource.id or change.version <= self.asked:
            return
        self.seen = max(self.seen, change.version)
        if self.namespace not in ("", change.key[0]):
            return
        before = change.old is not None and self.wanted(change.old)
        after = change.new is not None and self.wanted(change.new)
        if after and change.new is not None:
            yield self._event("MODIFIED" if before else "ADDED", change.new)
        elif before and change.old is not None:
            meta = {**change.old["metadata"], "resourceVersion": str(change.version)}
            yield self._event("DELETED", {**change.old, "metadata": meta})

    def _event(self, kind: str, body: Json) -> Json:
        return {"type": kind, "object": {**body, "apiVersion": self.resource.api_version}}

    def _bookmark(self, annotations: Json | None = None) -> Json:
        meta: Json = {"resourceVersion": str(self.seen)} | ({"annotations": annotations} if annotations else {})
        head = {"kind": self.resource.kind, "apiVersion": self.resource.api_version, "metadata": meta}
        return {"type": "BOOKMARK", "object": head | self.resource.blank}


def error(refused: Refused) -> Json:
    """The event that ends a watch which cannot go on."""
    return {"type": "ERROR", "object": refused.body()}
