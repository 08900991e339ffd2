"""The last minutes of a deployment, for whoever looks: a series of averages, and latencies of the last minute.

Owns: two small rings per deployment, of fixed size. Never: decisions (the autoscaler has its own history), the table's
own statistics (they are read, and what was read before is subtracted). Averages come from the table's integrals
(`averages`, for the autoscaler too), so nothing between two readings is missed.
"""

from __future__ import annotations

import math
from array import array
from collections import deque
from typing import Any, Final

from fe._core import COUNTERS, HISTOGRAM_BOUNDS_NS, DeploymentLoad
from fe.control.numeric import NDArray, np
from fe.model import COUNTER_INDEX

PERIOD: Final = 2.0  # seconds between two points
POINTS: Final = 150
WINDOW: Final = 30  # periods of latencies: a minute
QUANTILES: Final = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
INTEGRALS_WRAP: Final = 1 << 64  # ns times requests: after three weeks with 10,000 of them at a time
SERIES: Final = ("utilization", "in_flight", "queue_depth", "ready", "wanted")

_REQUESTS: Final = COUNTER_INDEX["requests"]
_TOTAL: Final = slice(COUNTERS, COUNTERS + len(HISTOGRAM_BOUNDS_NS) + 1)  # the histogram "total" comes first

Row = NDArray[np.uint64]


class Trend:
    """One deployment's rings. `add_point` every PERIOD seconds."""

    def __init__(self, load: DeploymentLoad) -> None:
        self._load = load  # at the last point
        self._points = array("f")  # len(SERIES) numbers each
        self._end = 0.0  # time of the last point, seconds since the epoch
        self._seen: deque[tuple[int, int, Row]] = deque(maxlen=WINDOW + 1)  # time in ns, requests, latencies

    def add_point(self, load: DeploymentLoad, wanted: int, row: Row, now: float) -> None:
        """The averages since the last point; `row` is the deployment's statistics record, summed over workers."""
        before, self._load = self._load, load
        if load.generation != before.generation or load.now_ns <= before.now_ns:
            return
        in_flight, queue = averages(before, load)
        used = utilization(in_flight, queue, load.capacity, load.ready)
        self._points.extend((math.nan if used is None else used, in_flight, queue, load.ready, wanted))
        del self._points[: -POINTS * len(SERIES)]
        self._end = now
        self._seen.append((load.now_ns, int(row[_REQUESTS]), row[_TOTAL].copy()))

    def series(self) -> dict[str, Any]:
        """Oldest first; None where nothing is known."""
        points = self._points[:]  # in a thread: a point may be added meanwhile
        named = {
            name: [None if math.isnan(value) else round(value, 4) for value in points[index :: len(SERIES)]]
            for index, name in enumerate(SERIES)
        }
        return {"period_s": PERIOD, "end": round(self._end, 3), **named}

    def rate(self) -> float | None:
        """Requests per second over the last minute."""
        if len(self._seen) < 2:
            return None
        (start, first, _), (end, last, _) = self._seen[0], self._seen[-1]
        return (last - first) / (end - start) * 1e9

    def latencies_ms(self) -> dict[str, float] | None:
        """Quantiles of the last minute, from the table's buckets (a quarter of an octave wide); None: no request."""
        if len(self._seen) < 2:
            return None
        counts = self._seen[-1][2] - self._seen[0][2]
        return quantiles_ms(counts)


def averages(before: DeploymentLoad, after: DeploymentLoad) -> tuple[float, float]:
    """In flight and queued, exactly, between two readings of one deployment; 0 when no time has passed."""
    passed = after.now_ns - before.now_ns
    if passed <= 0:
        return 0.0, 0.0
    return (
        (after.in_flight_integral - before.in_flight_integral) % INTEGRALS_WRAP / passed,
        (after.queue_integral - before.queue_integral) % INTEGRALS_WRAP / passed,
    )


def utilization(in_flight: float, queued: float, capacity: int, replicas: int) -> float | None:
    """(busy + queued) / replicas, both in replicas' worth of work; None where there is nothing to measure it by."""
    if not capacity or not replicas:
        return None
    return (in_flight + queued) / (capacity * replicas)


def quantiles_ms(counts: Row) -> dict[str, float] | None:
    """Of a histogram as the table keeps it; each the upper bound of its bucket."""
    total = np.cumsum(counts)
    whole = int(total[-1])
    if not whole:
        return None
    found = {name: int(np.searchsorted(total, math.ceil(share * whole))) for name, share in QUANTILES.items()}
    bounds = HISTOGRAM_BOUNDS_NS
    return {name: round(bounds[min(index, len(bounds) - 1)] / 1e6, 3) for name, index in found.items()}
