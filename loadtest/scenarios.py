"""The scenarios: how many users there are at each moment, what they ask for, and what may come of it.

Owns: SCENARIOS. A scenario is plain data and a pure function of time, so that it says all about itself in one place.
Never: locust, traffic (`users.py`). docs/loadtest.md explains what each shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class Scenario:
    """`share(x)` is the part of the users, 0 to 1, at the part x of the run's time. `users` and `rate` are defaults.

    `overload`: more may come than the replicas can take, so refusals are an outcome and no failure.
    """

    name: str
    summary: str
    users: int
    rate: float
    share: Callable[[float], float]
    scores: bool = True
    streams: bool = False
    overload: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)

    def users_at(self, second: float, seconds: float, users: int) -> int:
        """How many of `users` users there are, `second` seconds into a run of `seconds`: at least one."""
        return max(1, round(users * self.share(min(1.0, second / seconds))))


def _all(_part: float) -> float:
    return 1.0


def _ramp(part: float) -> float:
    """From nothing to all in four fifths of the time, then all."""
    return min(1.0, part / 0.8)


def _spike(part: float) -> float:
    """A tenth; all for the middle third; a tenth again."""
    return 1.0 if 1 / 3 <= part < 2 / 3 else 0.1


# Drawn by the simulated server for each such request; a real model has its own tail and ignores the field. One in a
# hundred takes more than 10 times the mean, one in a thousand more than 30 times.
LONG_TAIL: Final = {"X-Service-Time": "lognormal:20ms,1.5"}

SCENARIOS: Final = {
    scenario.name: scenario
    for scenario in (
        Scenario("steady", "the same rate throughout", 50, 100, _all),
        Scenario("ramp", "a rate that grows until the replicas are full", 300, 600, _ramp, overload=True),
        Scenario("spike", "ten times the rate for a third of the time", 300, 600, _spike, overload=True),
        Scenario("long-tail", "service times of which a few are very long", 50, 100, _all, headers=LONG_TAIL),
        Scenario("mixed", "several endpoints, events included; the split is verified", 50, 100, _all, streams=True),
        Scenario("streaming", "server-sent events, each timed", 30, 30, _all, scores=False, streams=True),
    )
}
