"""How many replicas there should be: a pure function of settings, history and the load between two looks.

Owns: the rules of scaling, what they remember, and the sentence that gives each decision's reason. Never: a clock, I/O,
a replica; whoever calls it measures the load and carries decisions out. docs/autoscaling.md has the rules and why they
are these; fe/sizing.py the formula.

    history = history.record(policy, observation)
    decision = decide(policy, history, current, observation)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple, TypeAlias

from fe.sizing import replicas_for

Rule: TypeAlias = Literal[
    "up",  # to what the load needs
    "burst",  # to what the load of the interval's last tenth needs
    "from_zero",  # to what the first load needs
    "rate",  # as far up as max_scale_up_rate allows
    "down",  # to the highest need of scale_down_delay
    "zero",  # the last replica goes
    "hold",  # as many as are needed, or the load is not known
    "window",  # more are there than needed now, not than needed within scale_down_delay
    "idle",  # no load, but not for scale_to_zero_delay yet
    "no_history",  # less than scale_down_delay has been seen: nothing is removed
    "min",  # min_instances says so
    "last",  # the last replica stays, whatever the load
    "max",  # max_instances says so
]

BURST: Final = 2  # times what the replicas can carry: that the interval's average alone would show too late
_PARTS: Final = 1000  # of scale_down_delay: how finely the past is kept, and by how much too early it may be forgotten


@dataclass(frozen=True)
class ScalePolicy:
    """The settings of one deployment. Times in seconds. ValueError when they cannot be met."""

    min_instances: int
    max_instances: int
    target: float  # utilization aimed at, 0..1
    capacity: int  # requests at once per replica
    scale_down_delay: float  # down only to the highest need of this long
    scale_to_zero_delay: float  # with min_instances 0: without any load, before the last replica goes
    max_scale_up_rate: (
        float  # at one decision at most this factor over the ready replicas (at least 1 more); 0: no limit
    )

    def __post_init__(self) -> None:
        if not 0 <= self.min_instances <= self.max_instances:
            raise ValueError(
                f"min_instances {self.min_instances}, max_instances {self.max_instances}: not 0 <= min <= max"
            )
        if not 0 < self.target <= 1 or self.capacity < 1:
            raise ValueError(f"target {self.target}, capacity {self.capacity}: not 0 < target <= 1 and capacity >= 1")


@dataclass(frozen=True)
class Observation:
    """The load between two looks: exact averages, in requests."""

    at: float  # s, end of the interval, on any clock that does not jump
    seconds: float  # its length; 0: the clock stood still, nothing is known
    in_flight: float  # average over the interval
    queued: float  # average over the interval
    recent: float  # average of in_flight + queued over the interval's last tenth
    ready: int
    starting: int  # will be ready soon: they count as replicas, so that nothing is ordered twice
    failing: int = 0  # wanted, but crash in a loop or cannot be placed: they do not count, and are reported
    last_stays: str = ""  # why the last replica has to, whatever the load; "": it may go

    @property
    def known(self) -> bool:
        """The load can be relied on."""
        return self.seconds > 0 and all(map(math.isfinite, (self.at, self.in_flight, self.queued, self.recent)))

    @property
    def replicas(self) -> int:
        """Replicas that carry load, now or soon."""
        return self.ready + self.starting


@dataclass(frozen=True)
class History:
    """What is remembered of the past: loads, so that it holds for changed settings, and no more than _PARTS of them.

    `History()` knows nothing; that is how to go on after a gap in the observations too.
    """

    peaks: tuple[tuple[float, float], ...] = ()  # (end of its interval, load), loads falling: those that matter later
    complete_since: float = math.inf  # s; every peak since then is known
    idle_since: float = math.inf  # s; no load has been seen since then
    last: float = -math.inf  # s; end of the last interval

    def record(self, policy: ScalePolicy, observation: Observation) -> History:
        """The history with this observation. One in which no time has passed changes nothing."""
        at, begin = observation.at, observation.at - observation.seconds
        if not observation.known:
            return self
        if at < self.last:  # another clock: what is remembered means nothing on it
            return History().record(policy, observation)
        load, _burst = _decisive_load(policy, observation)
        forgotten = at - policy.scale_down_delay
        kept = [peak for peak in self.peaks if peak[0] > forgotten and peak[1] > load]
        if not kept or at - kept[-1][0] >= policy.scale_down_delay / _PARTS:
            kept.append((at, load))
        return History(
            peaks=tuple(kept),
            complete_since=max(min(self.complete_since, begin), forgotten),
            idle_since=at if load > 0 else min(self.idle_since, begin),
            last=at,
        )


@dataclass(frozen=True)
class Decision:
    """How many replicas there should be, and why."""

    desired: int
    need: int  # what the load of this interval needs, whatever the past and the bounds say
    utilization: float  # (in flight + queued) / capacity / replicas; inf when there is load and no replica
    rule: Rule
    reason: str  # a sentence with numbers


class _Wish(NamedTuple):
    """What would be decided without bounds."""

    desired: int
    rule: Rule
    because: str


def decide(policy: ScalePolicy, history: History, current: int, observation: Observation) -> Decision:
    """How many replicas to want instead of `current`, now that `history` has recorded `observation`.

    `current` is what is wanted so far, whether those replicas are ready, starting or failing. The answer is within
    [min_instances, max_instances] always.
    """
    if not observation.known:
        wish, need, utilization = _Wish(current, "hold", "the load is not known, no time has passed"), current, 0.0
    else:
        load, burst = _decisive_load(policy, observation)
        need, utilization = replicas_for(load, policy.capacity, policy.target), _utilization(policy, observation)
        wish = _wish(policy, history, current, observation, need, burst)
    desired, rule, because = _bounded(policy, wish, observation.last_stays)
    if observation.failing:
        because += f"; failing and not counted: {observation.failing}"
    return Decision(desired, need, utilization, rule, because)


def keep(policy: ScalePolicy, decision: Decision, count: int, observation: Observation) -> Decision:
    """`decision`, where a number that was set by hand goes first: it holds, within the bounds."""
    wish = _bounded(policy, _Wish(count, "hold", f"{count} set by hand"), observation.last_stays)
    return replace(decision, desired=wish.desired, rule=wish.rule, reason=wish.because)


def _decisive_load(policy: ScalePolicy, observation: Observation) -> tuple[float, bool]:
    """Requests at once that the decision is about, and whether they are those of the interval's last tenth."""
    load = max(0.0, observation.in_flight + observation.queued)
    carried = max(observation.replicas, 1) * policy.capacity
    burst = observation.recent >= BURST * carried and observation.recent > load
    return (observation.recent, True) if burst else (load, False)


def _utilization(policy: ScalePolicy, observation: Observation) -> float:
    load = max(0.0, observation.in_flight + observation.queued)
    if load == 0:
        return 0.0
    return load / (policy.capacity * observation.replicas) if observation.replicas else math.inf


# --- the rules -------------------------------------------------------------------------------------------------------


def _wish(
    policy: ScalePolicy, history: History, current: int, observation: Observation, need: int, burst: bool
) -> _Wish:
    seen = f"{_load_words(policy, observation, burst)}: {_count(need, 'is', 'are')} needed"
    if need > current:
        return _up(policy, current, observation, need, "burst" if burst else "up", seen)
    if need == current:
        return _Wish(current, "hold", seen)
    if current <= policy.min_instances:
        return _Wish(need, "min", seen)
    return _down(policy, history, current, observation.at, seen)


def _up(policy: ScalePolicy, current: int, observation: Observation, need: int, rule: Rule, seen: str) -> _Wish:
    """At once, and by absolute numbers: replicas that are slow to start are not ordered again."""
    ready = max(observation.ready, 1)
    most = max(math.floor(ready * policy.max_scale_up_rate + 1e-9), ready + 1)
    if policy.max_scale_up_rate and most < need:
        limit = f"{most} at once by max_scale_up_rate {policy.max_scale_up_rate:g} with {observation.ready} ready"
        return _Wish(max(current, most), "rate", f"{seen}, {limit}")
    return _Wish(need, "from_zero" if current == 0 else rule, seen)


def _down(policy: ScalePolicy, history: History, current: int, at: float, seen: str) -> _Wish:
    """Only to the highest need of scale_down_delay, and only when that much of the past is known."""
    delay = policy.scale_down_delay
    if history.complete_since > at - delay:
        known = max(0.0, at - history.complete_since)
        return _Wish(current, "no_history", f"{seen}, but of scale_down_delay {delay:g} s only {known:.0f} s are known")
    highest = replicas_for(max((load for _at, load in history.peaks), default=0.0), policy.capacity, policy.target)
    if highest >= current:
        return _Wish(current, "window", f"{seen}, but {highest} were within the last {delay:g} s")
    if highest == 0 and policy.min_instances == 0:
        return _to_zero(policy, max(0.0, at - history.idle_since))
    return _Wish(highest, "down", f"{seen}, and at most {highest} within the last {delay:g} s")


def _to_zero(policy: ScalePolicy, idle: float) -> _Wish:
    if idle >= policy.scale_to_zero_delay:
        return _Wish(0, "zero", f"no load for {idle:.0f} s: none is needed")
    return _Wish(1, "idle", f"no load for {idle:.0f} s: the last replica stays for {policy.scale_to_zero_delay:g} s")


def _bounded(policy: ScalePolicy, wish: _Wish, last_stays: str) -> _Wish:
    if wish.desired > policy.max_instances:
        return _Wish(policy.max_instances, "max", f"{wish.because}, max_instances is {policy.max_instances}")
    if wish.desired < policy.min_instances:
        return _Wish(policy.min_instances, "min", f"{wish.because}, min_instances is {policy.min_instances}")
    if wish.desired == 0 < policy.max_instances and last_stays:
        return _Wish(1, "last", f"{wish.because}, {last_stays}")
    return wish


# --- words -----------------------------------------------------------------------------------------------------------


def _load_words(policy: ScalePolicy, observation: Observation, burst: bool) -> str:
    load = f"{_average(observation.in_flight)} in flight + {_average(observation.queued)} queued"
    if burst:
        load = f"{_average(observation.recent)} in flight or queued in the interval's last tenth"
    elif not observation.replicas:
        load = f"{load}, at last {_average(observation.recent)} together,"
    if not observation.replicas:
        return f"{load} and no replica"
    replicas = f"{_count(observation.replicas, 'replica')} of capacity {policy.capacity}"
    used = (observation.recent if burst else observation.in_flight + observation.queued) / policy.capacity
    return f"{load} on {replicas} are {100 * used / observation.replicas:.0f} % (target {100 * policy.target:g} %)"


def _average(load: float) -> str:
    """Never 0.0 for what has made a difference."""
    return f"{load:.1f}" if load >= 0.05 or load <= 0 else f"{load:.1g}"


def _count(number: int, one: str, more: str = "") -> str:
    return f"{number} {one}" if number == 1 else f"{number} {more or f'{one}s'}"
