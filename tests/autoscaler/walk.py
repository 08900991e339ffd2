"""Walks an autoscaler through virtual time: looks at a load, decides, and does what was decided at once.

Owns: the usual policy, and the bookkeeping of a deployment whose replicas start without delay unless told otherwise.
"""

from __future__ import annotations

from dataclasses import replace

from fe.control.autoscaler import Decision, History, Observation, ScalePolicy, decide

USUAL = ScalePolicy(
    min_instances=1,
    max_instances=1000,
    target=0.7,
    capacity=1,
    scale_down_delay=60,
    scale_to_zero_delay=300,
    max_scale_up_rate=0,
)


def policy(**changes) -> ScalePolicy:
    return replace(USUAL, **changes)


def seen(
    load: float, *, ready: int, at: float = 1.0, queued: float = 0.0, recent: float | None = None, **more
) -> Observation:
    """One second with this load in flight; the last tenth like the rest of it unless told."""
    recent = load + queued if recent is None else recent
    fields = {
        "at": at,
        "seconds": 1.0,
        "in_flight": load,
        "queued": queued,
        "recent": recent,
        "ready": ready,
        "starting": 0,
    }
    return Observation(**(fields | more))


def decided(current: int, observation: Observation, settings: ScalePolicy = USUAL) -> Decision:
    """The decision of a history that knows this observation only."""
    return decide(settings, History().record(settings, observation), current, observation)


class Walk:
    """A deployment under an autoscaler."""

    def __init__(self, settings: ScalePolicy = USUAL, current: int = 1, poll: float = 1.0) -> None:
        self.policy = settings
        self.current = current
        self.poll = poll
        self.polls = 0
        self.history = History()

    @property
    def at(self) -> float:
        return self.polls * self.poll

    def step(self, load: float, **more) -> Decision:
        """One look; `more` as in `seen`."""
        self.polls += 1
        ready = {"ready": self.current} | more
        observation = seen(load, at=self.at, seconds=self.poll, **ready)
        self.history = self.history.record(self.policy, observation)
        decision = decide(self.policy, self.history, self.current, observation)
        self.current = decision.desired
        return decision

    def run(self, load: float, seconds: float, **more) -> list[Decision]:
        """This load for so long."""
        return [self.step(load, **more) for _ in range(round(seconds / self.poll))]
