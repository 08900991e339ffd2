"""One simulated replica: what it has been asked, whether more came at once than it can take, its dice.

Owns: the counters behind GET /stats, admission, the random numbers. A process that serves several ports has one for
each. Never: sockets and bytes (`connection.py`). A request is inside from its last byte until just before the last byte
of its answer leaves, or its connection ends: a router that keeps its promise about capacity causes no violation.
"""

from __future__ import annotations

import time
from collections import Counter
from random import Random
from typing import Any

from loadtest.server.distribution import Distribution
from loadtest.server.faults import Fault, draw_fault
from loadtest.server.options import Settings


class Replica:
    """`port` is set once it is known; `index` tells the ports of one process apart."""

    def __init__(self, settings: Settings, index: int) -> None:
        self.settings = settings
        self.port = 0
        self.in_flight = 0
        self.peak = 0
        self.violations = 0
        self.requests = 0
        self.request_bytes = 0
        self.response_bytes = 0
        self.outcomes: Counter[str] = Counter()
        self._ready_at = time.monotonic() + settings.ready_after
        # One generator for each kind of draw, so that a change of one setting leaves the others' numbers as they were.
        self._times, self._intervals, self._faults = (
            Random(f"{settings.seed}/{index}/{purpose}")  # noqa: S311
            for purpose in ("times", "intervals", "faults")
        )

    @property
    def ready(self) -> bool:
        """Start-up is over."""
        return time.monotonic() >= self._ready_at

    def enter(self, body_bytes: int) -> bool:
        """A request has arrived whole. False when that makes more than the limit: it is inside all the same."""
        self.requests += 1
        self.request_bytes += body_bytes
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        if 0 < self.settings.concurrency < self.in_flight:
            self.violations += 1
            return False
        return True

    def leave(self, outcome: str) -> None:
        """A request that had entered has ended so."""
        self.in_flight -= 1
        self.outcomes[outcome] += 1

    def draw_time(self) -> float:
        """Seconds that the next request takes."""
        return self.settings.service_time.draw(self._times)

    def draw_from(self, distribution: Distribution) -> float:
        """Seconds of another distribution, from the same dice."""
        return distribution.draw(self._times)

    def draw_interval(self) -> float:
        """Seconds to the next event."""
        return self.settings.stream_interval.draw(self._intervals)

    def draw_fault(self) -> Fault | None:
        """What goes wrong with the next request."""
        return draw_fault(self.settings.faults, self._faults)

    def stats(self) -> dict[str, Any]:
        """What GET /stats shows. Probes and itself are not counted."""
        return {
            "port": self.port,
            "ready": self.ready,
            "requests": self.requests,
            "in_flight": self.in_flight,
            "peak": self.peak,
            "concurrency": self.settings.concurrency,
            "violations": self.violations,
            "request_bytes": self.request_bytes,
            "response_bytes": self.response_bytes,
            "outcomes": dict(sorted(self.outcomes.items())),
        }
