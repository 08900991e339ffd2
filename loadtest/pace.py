"""When a user's requests are due.

Owns: the plan of one user, and how far behind it the user is. Never: sleeping; locust does that with what
`until_next` says.

A user waits for its answer before it asks again, so users are a closed loop: when answers are slow, less is asked.
locust's constant_throughput keeps to a rate as long as answers come within its period, but begins each period at the
last request: users that start together stay together for good, and what a slow answer has cost is never caught up. Here
the plan is fixed from the start, its phase is random, and a request that is late is sent at once. With enough users to
keep them from being late, the load is that of an open loop.
"""

from __future__ import annotations

import random
import time


class Pace:
    """`rate` requests a second, evenly or as a Poisson process. Times are seconds."""

    def __init__(self, rate: float, poisson: bool) -> None:
        self._rate = rate
        self._poisson = poisson
        self._due = time.perf_counter() + random.random() / rate  # noqa: S311

    def until_next(self) -> float:
        """How long to wait for the request that is due next; 0 when it is late."""
        return max(0.0, self._due - time.perf_counter())

    def begin(self) -> float:
        """The request that was due is sent now; returns how late it is, and plans the next."""
        late = time.perf_counter() - self._due
        self._due += random.expovariate(self._rate) if self._poisson else 1 / self._rate
        return max(0.0, late)
