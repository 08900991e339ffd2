"""What is kept of a simulation: rows over time, and every change of the number of replicas with its reason.

Owns: adding up counts, quantiles of waits, what a row derives from them. Never: the simulation (`fe.simulation.run`),
the form in which it is shown (`fe.commands.simulate`, `fe.simulation.chart`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

from fe._simulator import WAIT_BOUNDS_NS, Tally

_SECOND: Final = 1e9
NOTHING: Final = Tally(*([0] * len(Tally._fields)))


def added(one: Tally, other: Tally) -> Tally:
    """Both together."""
    return Tally(*(left + right for left, right in zip(one, other, strict=True)))


@dataclass(frozen=True)
class Change:
    """The number of replicas wanted changed."""

    at: float  # s
    before: int
    after: int
    rule: str
    reason: str


@dataclass
class Row:
    """A stretch of time."""

    at: float  # s, where it begins
    seconds: float = 0.0
    capacity: int = 1
    tally: Tally = NOTHING
    waits: Counter[int] = field(default_factory=Counter)  # bucket of WAIT_BOUNDS_NS -> those granted a place
    starting_seconds: float = 0.0  # replicas that start, times s
    desired: int = 0  # at its end
    ready: int = 0  # at its end

    def add(self, other: Row) -> None:
        """The stretch that follows."""
        self.seconds += other.seconds
        self.tally = added(self.tally, other.tally)
        self.waits.update(other.waits)
        self.starting_seconds += other.starting_seconds
        self.desired, self.ready = other.desired, other.ready

    @property
    def refused(self) -> int:
        return self.tally.queue_full + self.tally.queue_wait + self.tally.no_replica

    @property
    def requests_per_second(self) -> float:
        return self.tally.arrived / self.seconds if self.seconds else 0.0

    @property
    def utilization(self) -> float:
        """In flight and queued over what the ready replicas carry; inf when there is load and none is ready."""
        load = self.tally.in_flight_integral + self.tally.queue_integral
        if not self.tally.ready_integral:
            return math.inf if load else 0.0
        return load / (self.capacity * self.tally.ready_integral)

    @property
    def replica_hours(self) -> float:
        """Of replicas that start, are ready or drain."""
        return (self.tally.replica_integral / _SECOND + self.starting_seconds) / 3600

    @property
    def wait_mean(self) -> float:
        """Seconds that requests waited for their place at a replica, those that were refused left out."""
        return self.tally.wait_ns / self.tally.granted / _SECOND if self.tally.granted else 0.0

    def wait_quantile(self, quantile: float) -> float:
        """Seconds, within 3 %: what this share of the requests with a place did not wait longer than."""
        wanted, seen = quantile * self.waits.total(), 0
        for bucket, count in sorted(self.waits.items()):
            if seen + count >= wanted:
                low = WAIT_BOUNDS_NS[bucket - 1] if bucket else 0
                high = WAIT_BOUNDS_NS[bucket] if bucket else 0  # the first bucket has those that did not wait
                return (low + (high - low) * (wanted - seen) / count) / _SECOND
            seen += count
        return 0.0

    def as_dict(self) -> dict[str, Any]:
        """For JSON: times in seconds; what would be infinite is null."""
        tally = self.tally
        return {
            "at": self.at,
            "seconds": self.seconds,
            "arrived": tally.arrived,
            "served": tally.served,
            "refused": {name: getattr(tally, name) for name in ("queue_full", "queue_wait", "no_replica")},
            "desired": self.desired,
            "ready": self.ready,
            "utilization": self.utilization if math.isfinite(self.utilization) else None,
            "wait": {"mean": self.wait_mean, "p50": self.wait_quantile(0.5), "p99": self.wait_quantile(0.99)},
            "replica_hours": self.replica_hours,
        }


@dataclass
class Outcome:
    """All that happened. `rows` are as fine as they were recorded."""

    rows: list[Row]
    changes: list[Change]
    in_system: int  # requests in flight or queued at the end
    most_desired: int
    shown: int  # recorded rows to one that is shown

    @property
    def total(self) -> Row:
        return joined(self.rows)

    def merged(self) -> list[Row]:
        """The rows that are shown; the last may be shorter."""
        return [joined(self.rows[first : first + self.shown]) for first in range(0, len(self.rows), self.shown)]


def joined(rows: Iterable[Row]) -> Row:
    """Consecutive rows, at least one, as one."""
    first, *rest = rows
    whole = Row(first.at, capacity=first.capacity)
    for row in (first, *rest):
        whole.add(row)
    return whole
