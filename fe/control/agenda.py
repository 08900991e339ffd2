"""A schedule of very many small things to do later, on one loop timer.

Owns: a heap of (time, entry). Never: what is done (a callback gets the entry). Ten thousand replicas with two probes
each would otherwise be twenty thousand timer objects. An entry is due at most once: scheduling it again moves it.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar


class Entry(Protocol):
    """What can be scheduled: it carries the ticket of its place; 0: none."""

    ticket: int


E = TypeVar("E", bound=Entry)


class Agenda(Generic[E]):
    """Calls `due(entry)` on the loop when an entry's time has come."""

    def __init__(self, loop: asyncio.AbstractEventLoop, due: Callable[[E], None]) -> None:
        self._loop = loop
        self._due = due
        self._heap: list[tuple[float, int, E]] = []
        self._tickets = itertools.count(1)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def schedule(self, entry: E, delay: float) -> None:
        """`entry` is due in `delay` seconds."""
        entry.ticket = next(self._tickets)
        heapq.heappush(self._heap, (self._loop.time() + delay, entry.ticket, entry))
        self._arm()

    @staticmethod
    def cancel(entry: E) -> None:
        """`entry` is not due any more; its place in the heap goes when its time comes."""
        entry.ticket = 0

    def close(self) -> None:
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None:
            if self._timer_at <= at:
                return
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._loop.call_at(at, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time() + 0.001  # loop clocks tick in milliseconds: what is due within one is due
        while self._heap and self._heap[0][0] <= now:
            _, ticket, entry = heapq.heappop(self._heap)
            if entry.ticket == ticket:
                entry.ticket = 0
                self._due(entry)
        self._arm()
