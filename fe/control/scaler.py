"""The number of replicas follows the load: looks at every deployment at its interval, and carries decisions out.

Owns: when a deployment is looked at, the exact averages between two looks, numbers set by hand, and what is kept of
the last minutes. Never: the decision (`fe.control.autoscaler`, a pure function), how replicas start and end (that is
their provider's). A deployment with no replica at all is looked at when a first request
begins to wait, not at the next poll.
Read next: autoscaler.py, then deployment.py (`scale`).
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fe._core import DeploymentLoad, Table
from fe.control.agenda import Agenda
from fe.control.autoscaler import Decision, History, Observation, ScalePolicy, decide, keep
from fe.control.deployment import Deployment
from fe.control.events import Events
from fe.control.metrics import ScalingState
from fe.control.numeric import np
from fe.control.trends import PERIOD, Trend, averages, utilization
from fe.log import logger

log = logger("control.scaler")

LATE_PART: Final = 0.1  # of an interval: how long its last part is, whose load may count by itself


@dataclass(eq=False)
class ByHand:
    """A number that somebody has set: it holds until the load decides something else than it did then."""

    decided: int  # by the load at that time


@dataclass(eq=False)
class Track:
    """One deployment as it is followed."""

    deployment: Deployment
    base: DeploymentLoad  # at the last look
    trend: Trend
    ticket: int = 0
    interval: float = 0.0  # seconds, by which the next look was planned
    late: DeploymentLoad | None = None  # when the last part of the interval began
    history: History = field(default_factory=History)
    observed: Observation | None = None
    decided: Decision | None = None
    decided_at: float = 0.0  # when the number last changed, seconds since the epoch
    changed: Decision | None = None  # the decision that changed it
    by_hand: ByHand | None = None
    barred: str = ""  # why the number could not be set at the last look; "": it could

    def utilization(self, capacity: int, replicas: int) -> float | None:
        """(busy + queued) / replicas over the last interval; None where it is not known."""
        if self.observed is None:
            return None
        return utilization(self.observed.in_flight, self.observed.queued, capacity, replicas)

    def state(self) -> ScalingState:
        """In numbers, for metrics."""
        deployment, policy = self.deployment, self.deployment.plan.scale
        load = deployment.load
        ready, starting, failing = deployment.counts(load)
        used = self.utilization(load.capacity, ready + starting)
        return ScalingState(deployment.wanted, starting, failing, used, policy.target if policy else None)


class Scaler:
    """All deployments. `live` tells which there are."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: Table,
        events: Events,
        live: Callable[[], Mapping[str, Deployment]],
        on_change: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._table = table
        self._events = events
        self._live = live
        self._on_change = on_change  # a number has changed
        self._agenda: Agenda[Track] = Agenda(loop, self._on_due)
        self._timer: asyncio.TimerHandle | None = None
        self._stopped = False
        self.tracks: dict[str, Track] = {}

    def start(self) -> None:
        """Begins to look. To be called once the first configuration is applied."""
        self.follow()
        self._on_period()

    def stop(self) -> None:
        """No number changes from now on."""
        self._stopped = True
        self._agenda.close()
        if self._timer is not None:
            self._timer.cancel()

    def follow(self) -> None:
        """Takes up deployments that have come and lets go of those that have left."""
        live = self._live()
        for name in [name for name, track in self.tracks.items() if live.get(name) is not track.deployment]:
            Agenda.cancel(self.tracks.pop(name))
            self._events.forget(name)
        for name, deployment in live.items() if not self._stopped else ():
            track = self.tracks.get(name)
            if track is None:
                track = self.tracks[name] = Track(deployment, deployment.load, Trend(deployment.load))
                self._begin(track)
            elif track.interval != deployment.plan.polling_interval:  # nobody waits for the end of an hour
                self._plan_look(track)

    def look(self) -> None:
        """The table has rung: whoever waits where there is no replica at all has it looked at now."""
        if self._stopped:
            return
        for track in self.tracks.values():
            if track.deployment.plan.scale is not None and track.deployment.wanted == 0:
                load = track.deployment.load
                if load.queue_depth and load.now_ns > track.base.now_ns:
                    self._look_at(track, at_once=True)

    def set_by_hand(self, track: Track, count: int) -> None:
        """This many from now on, until the load decides something else than it does now."""
        deployment = track.deployment
        before = deployment.wanted
        if track.by_hand is None:
            track.by_hand = ByHand(before)
        if count != before:
            self._events.add("scale", "set by hand", deployment=deployment.name, before=before, after=count)
            self._on_change()
            deployment.scale(count)

    # --- looking ---

    def _begin(self, track: Track) -> None:
        """A new interval."""
        track.base = track.deployment.load
        self._plan_look(track)

    def _plan_look(self, track: Track) -> None:
        """The last part of the interval is noticed first, then its end."""
        plan = track.deployment.plan
        track.interval, track.late = plan.polling_interval, None
        self._agenda.schedule(track, track.interval * (1 - LATE_PART if plan.scale is not None else 1))

    def _on_due(self, track: Track) -> None:
        if self._stopped:
            return
        plan = track.deployment.plan
        if track.late is None and plan.scale is not None:
            track.late = track.deployment.load
            self._agenda.schedule(track, track.interval * LATE_PART)
            return
        self._look_at(track)

    def _look_at(self, track: Track, *, at_once: bool = False) -> None:
        try:
            self.poll(track, at_once=at_once)
        except Exception:
            log.exception("a deployment could not be scaled", deployment=track.deployment.name)
        self._begin(track)

    def poll(self, track: Track, *, at_once: bool = False) -> None:
        """One look at a deployment: its load since the last, the decision, and what follows from it.

        at_once: what waits has only just come, and counts by its number.
        """
        load = track.deployment.load
        deployment, policy = track.deployment, track.deployment.plan.scale
        if load.generation != track.base.generation:
            track.history = History()
            return
        track.observed = _observe(track, load, at_once)
        track.barred = deployment.barred
        hand = deployment.take_hand()
        if hand is not None and not track.barred:
            self._follow_hand(track, *hand)
        if policy is None:
            self._keep_stated(track)
            return
        track.history = track.history.record(policy, track.observed)
        decision = self._decide(track, policy, track.observed, at_once)
        if decision.desired != deployment.wanted and not track.barred:
            self._carry_out(track, decision, track.observed)

    def _decide(self, track: Track, policy: ScalePolicy, observed: Observation, at_once: bool) -> Decision:
        """By the load; a number set by hand holds within the bounds until the load asks for another than it did."""
        hand, wanted = track.by_hand, track.deployment.wanted
        if hand is not None and not at_once:  # whoever waits where nothing is has asked for something else
            track.decided = decide(policy, track.history, hand.decided, observed)
            if track.decided.desired == hand.decided:
                return keep(policy, track.decided, wanted, observed)
        track.by_hand = None
        track.decided = decide(policy, track.history, wanted, observed)
        return track.decided

    def _follow_hand(self, track: Track, before: int, after: int) -> None:
        """Somebody has set the number past fe: it holds as one that was set through fe does, unless it is fixed."""
        text = "set in the cluster by somebody else"
        self._events.add("scale", text, deployment=track.deployment.name, before=before, after=after)
        if track.by_hand is None and track.deployment.plan.scale is not None:
            track.by_hand = ByHand(before)

    def _keep_stated(self, track: Track) -> None:
        """A fixed number of pods is set again where it is not what the configuration says."""
        deployment, stated = track.deployment, track.deployment.plan.stated
        if stated is None or track.barred or stated == deployment.wanted or track.by_hand is not None:
            return
        text = f"the configuration says {stated}"
        self._events.add("scale", text, deployment=deployment.name, before=deployment.wanted, after=stated)
        deployment.scale(stated)

    def _carry_out(self, track: Track, decision: Decision, observed: Observation) -> None:
        deployment = track.deployment
        self._events.add(
            "scale", decision.reason, deployment=deployment.name, before=deployment.wanted, after=decision.desired,
            figures={
                "rule": decision.rule, "need": decision.need, "utilization": _finite(decision.utilization),
                "in_flight": round(observed.in_flight, 3), "queued": round(observed.queued, 3),
                "ready": observed.ready, "starting": observed.starting, "failing": observed.failing,
            },
        )  # fmt: skip
        track.changed, track.decided_at = decision, time.time()
        self._on_change()
        deployment.scale(decision.desired)

    # --- what is kept for whoever looks ---

    def _on_period(self) -> None:
        if self._stopped:
            return
        statistics = np.asarray(self._table.statistics())
        now = time.time()
        for track in self.tracks.values():
            deployment = track.deployment
            row = statistics[:, deployment.index].sum(axis=0, dtype=np.uint64)
            track.trend.add_point(deployment.load, deployment.wanted, row, now)
        self._timer = self._loop.call_later(PERIOD, self._on_period)


def _observe(track: Track, load: DeploymentLoad, at_once: bool) -> Observation:
    """The averages since the last look, and what is there now; `at_once` as for `poll`."""
    base, late = track.base, track.late or track.base
    ready, starting, failing = track.deployment.counts(load)
    in_flight, queued = averages(base, load)
    return Observation(
        at=load.now_ns / 1e9,
        seconds=(load.now_ns - base.now_ns) / 1e9,
        in_flight=in_flight,
        queued=queued,
        recent=float(load.in_flight + load.queue_depth) if at_once else sum(averages(late, load)),
        ready=ready,
        starting=starting,
        failing=failing,
        last_stays=track.deployment.last_stays,
    )


def _finite(utilization: float) -> float | str:
    return round(utilization, 4) if math.isfinite(utilization) else "no replica"
