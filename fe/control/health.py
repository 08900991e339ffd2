"""Whether replicas are fit to be used: probes, their thresholds, and the way back of ejected replicas.

Owns: when a replica is probed, and its state STARTING / READY / EJECTED in the table as far as probes decide it.
Never: the exchange itself (`fe.control.probe`), which replicas exist (`fe.control.deployment`), or restarting one (its
provider does).
A probe that times out while the replica holds leases counts as nothing: it is busy, not dead.
"""

from __future__ import annotations

import asyncio
import enum
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypedDict

from fe._core import (
    REPLICA_EJECTED,
    REPLICA_READY,
    REPLICA_STARTING,
    Table,
)
from fe.config.schema import Probe
from fe.control.addresses import display
from fe.control.agenda import Agenda
from fe.control.events import Events
from fe.control.probe import Ask, Attempt, Outcome
from fe.log import logger

log = logger("control.health")

STARTUP_PERIOD: Final = 0.25  # a local replica that has not answered yet
READY_WITHIN: Final = 600.0  # seconds, as Kubernetes gives pods: one that is not ready for so long counts as failing
RETURN_FIRST: Final = 0.25  # an ejected replica: first probe after this, then doubling
RETURN_MOST: Final = 10.0
FLAPPING: Final = 10.0  # ejected again within this after its return: the back-off goes on where it was
JITTER: Final = 0.1  # of a period, either way
ATTEMPTS: Final = 512  # probes under way at once
UNCONFIGURED: Final = Probe()  # path and timeout of what is asked where nothing is configured


class Which(TypedDict):
    """Names a replica."""

    deployment: str
    replica: str


@dataclass(frozen=True)
class HealthPolicy:
    """What is probed; None: nothing is configured."""

    readiness: Probe | None = None
    liveness: Probe | None = None


@dataclass
class Tally:
    """Consecutive results of one probe against its thresholds."""

    check: Probe
    ok: bool
    good: int = 0
    bad: int = 0

    def count(self, success: bool) -> None:
        self.good, self.bad = (self.good + 1, 0) if success else (0, self.bad + 1)
        if self.good >= self.check.success_threshold:
            self.ok = True
        elif self.bad >= self.check.failure_threshold:
            self.ok = False


class Purpose(enum.Enum):
    """Why a replica is probed."""

    READINESS = "readiness"
    LIVENESS = "liveness"
    RETURN = "return"


@dataclass(eq=False)
class Watch:
    """One purpose for which one replica is probed: at most one attempt at a time."""

    subject: Subject
    purpose: Purpose
    ticket: int = 0
    delay: float = RETURN_FIRST  # RETURN only: the next back-off
    attempt: Attempt | None = None
    active: bool = False  # scheduled, waiting for a free attempt, or under way


@dataclass(eq=False)
class Subject:
    """A replica under observation."""

    index: int  # its record in the table
    deployment: str  # for messages
    sockaddr: bytes
    local: bool
    policy: HealthPolicy
    on_change: Callable[[], None]
    on_dead: Callable[[], None]
    started: bool  # has answered once
    ready: bool  # what was last decided; a worker may have ejected it since
    readiness: Tally | None = None
    liveness: Tally | None = None
    returned: float = float("-inf")  # when it last came back from ejection
    waits_since: float = 0.0  # since when it is not ready
    late: bool = False  # it has had its time to become ready
    last: str = "not probed yet"
    watches: dict[Purpose, Watch] = field(default_factory=dict)
    closed: bool = False

    @property
    def fields(self) -> Which:
        """Which replica this is, for the log and for events."""
        return {"deployment": self.deployment, "replica": display(self.sockaddr)}


class HealthChecker:
    """Probes every replica that it is told to watch."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        table: Table,
        events: Events | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._loop = loop
        self._table = table
        self._events = events or Events()
        self._random = rng or random.Random()  # noqa: S311 - spreads probes, decides nothing
        self._subjects: dict[int, Subject] = {}
        self._agenda: Agenda[Watch] = Agenda(loop, self._on_due)
        self._pending: deque[Watch] = deque()
        self._attempts = 0
        self._stopped = False
        self._ending = False

    # --- what the deployment asks for ---

    def watch(
        self,
        index: int,
        deployment: str,
        sockaddr: bytes,
        policy: HealthPolicy,
        *,
        local: bool,
        on_change: Callable[[], None],
        on_dead: Callable[[], None],
    ) -> Subject:
        """Begins to observe a replica whose record stands in the table; its state there is taken up."""
        state = self._table.replica(index).state
        known = state in (REPLICA_READY, REPLICA_EJECTED)
        subject = Subject(index, deployment, sockaddr, local, policy, on_change, on_dead, known or not local, known)
        subject.waits_since = self._loop.time()
        if policy.readiness is not None:
            subject.readiness = Tally(policy.readiness, ok=known)
        if policy.liveness is not None:
            subject.liveness = Tally(policy.liveness, ok=True)
        self._subjects[index] = subject
        self._begin(subject, fresh=not known)
        if state == REPLICA_EJECTED:
            self._begin_return(subject)
        return subject

    def unwatch(self, subject: Subject) -> None:
        """Stops observing; the table's state is left as it is."""
        subject.closed = True
        if self._subjects.get(subject.index) is subject:
            del self._subjects[subject.index]
        for watch in subject.watches.values():
            self._end(watch)

    def reconfigure(self, subject: Subject, policy: HealthPolicy) -> None:
        """Other settings for a replica under observation; what is known about it stays."""
        if policy == subject.policy:
            return
        subject.policy = policy
        subject.readiness = _retally(subject.readiness, policy.readiness, subject.ready)
        subject.liveness = _retally(subject.liveness, policy.liveness, True)
        for purpose in (Purpose.READINESS, Purpose.LIVENESS):
            if purpose in subject.watches:
                self._end(subject.watches[purpose])
        self._begin(subject, fresh=not subject.ready)

    def scan(self) -> None:
        """Looks for replicas that workers have ejected."""
        if self._stopped or self._ending:
            return
        for subject in self._subjects.values():
            if subject.ready and self._table.replica(subject.index).state == REPLICA_EJECTED:
                self._begin_return(subject)

    def wind_down(self) -> None:
        """The end has begun: only who has not been ready yet is probed, since requests may wait for it."""
        self._ending = True
        for subject in self._subjects.values():
            for watch in subject.watches.values():
                if watch.purpose is not Purpose.READINESS or subject.started:
                    self._end(watch)

    def stop(self) -> None:
        """No probe from now on; every state stays as it is."""
        self._stopped = True
        self._agenda.close()
        self._pending.clear()
        for subject in self._subjects.values():
            for watch in subject.watches.values():
                self._end(watch)

    # --- scheduling ---

    def _begin(self, subject: Subject, *, fresh: bool) -> None:
        if subject.readiness is not None or not subject.started:
            period = subject.readiness.check.period if subject.readiness else STARTUP_PERIOD
            # A fresh one is wanted soon; the probes of those that are taken up are spread over the period.
            self._schedule(subject, Purpose.READINESS, 0.0 if fresh else period * self._random.random())
        if subject.liveness is not None:
            check = subject.liveness.check
            delay = check.initial_delay if fresh else check.period * self._random.random()
            self._schedule(subject, Purpose.LIVENESS, delay)
        self._settle(subject)

    def _begin_return(self, subject: Subject) -> None:
        watch = subject.watches.get(Purpose.RETURN)
        if watch is None:
            watch = subject.watches[Purpose.RETURN] = Watch(subject, Purpose.RETURN)
        if watch.active:
            return
        if self._loop.time() - subject.returned > FLAPPING:
            watch.delay = RETURN_FIRST
        failures = self._table.replica(subject.index).failures
        self._events.add(
            "eject", "a replica is set aside after failures", **subject.fields,
            figures={"failures": failures, "probed_after_s": watch.delay},
        )  # fmt: skip
        self._schedule(subject, Purpose.RETURN, watch.delay)

    def _schedule(self, subject: Subject, purpose: Purpose, delay: float) -> None:
        if self._stopped or subject.closed or (self._ending and (subject.started or purpose is not Purpose.READINESS)):
            return
        watch = subject.watches.get(purpose)
        if watch is None:
            watch = subject.watches[purpose] = Watch(subject, purpose)
        watch.active = True
        self._agenda.schedule(watch, delay)

    def _jittered(self, period: float) -> float:
        return period * (1 + JITTER * (2 * self._random.random() - 1))

    def _end(self, watch: Watch) -> None:
        self._agenda.cancel(watch)
        watch.active = False
        if watch.attempt is not None:
            watch.attempt.cancel()
            watch.attempt = None
            self._attempt_ended()

    def _on_due(self, watch: Watch) -> None:
        if self._attempts >= ATTEMPTS:
            self._pending.append(watch)
        else:
            self._attempt(watch)

    def _attempt(self, watch: Watch) -> None:
        self._attempts += 1
        ask, probe = _question(watch)
        watch.attempt = Attempt(
            self._loop,
            watch.subject.sockaddr,
            ask,
            probe.timeout,
            lambda outcome, why: self._on_outcome(watch, outcome, why),
            probe.path,
        )

    def _attempt_ended(self) -> None:
        self._attempts -= 1
        while self._pending and self._attempts < ATTEMPTS:
            watch = self._pending.popleft()
            if watch.active and not watch.ticket and watch.attempt is None:  # else ended or scheduled anew meanwhile
                self._attempt(watch)

    # --- verdicts ---

    def _on_outcome(self, watch: Watch, outcome: Outcome, why: str) -> None:
        watch.attempt = None
        watch.active = False
        self._attempt_ended()
        subject = watch.subject
        if subject.closed or self._stopped:
            return
        busy = outcome is Outcome.TIMEOUT and self._table.replica(subject.index).in_flight > 0
        if not busy:
            subject.last = why
        if watch.purpose is Purpose.RETURN:
            self._on_return(watch, outcome is Outcome.OK, why)
        elif watch.purpose is Purpose.READINESS:
            self._on_readiness(subject, None if busy else outcome is Outcome.OK)
        else:
            self._on_liveness(subject, None if busy else outcome is Outcome.OK)

    def _on_readiness(self, subject: Subject, success: bool | None) -> None:
        if success is not None:
            if subject.readiness is not None:
                subject.readiness.count(success)
                subject.started = subject.started or subject.readiness.ok
            else:
                subject.started = subject.started or success
        if not subject.started:
            self._schedule(subject, Purpose.READINESS, STARTUP_PERIOD)
        elif subject.readiness is not None:
            self._schedule(subject, Purpose.READINESS, self._jittered(subject.readiness.check.period))
        self._settle(subject)

    def _on_liveness(self, subject: Subject, success: bool | None) -> None:
        tally = subject.liveness
        if tally is None:
            return
        if success is not None:
            tally.count(success)
        if not tally.ok and subject.local:
            log.warning("a replica has failed its liveness probe", **subject.fields, reason=subject.last)
            self._settle(subject)
            subject.on_dead()
            return
        self._schedule(subject, Purpose.LIVENESS, self._jittered(tally.check.period))
        self._settle(subject)

    def _on_return(self, watch: Watch, success: bool, why: str) -> None:
        subject = watch.subject
        watch.delay = min(watch.delay * 2, _return_most(subject.policy))
        if not success:
            log.debug("a replica stays set aside", **subject.fields, reason=why)
            if self._table.replica(subject.index).state == REPLICA_EJECTED:
                self._schedule(subject, Purpose.RETURN, watch.delay)
        elif self._table.set_replica_state(subject.index, REPLICA_READY, REPLICA_EJECTED):
            subject.returned = self._loop.time()
            self._events.add("return", "a replica is back in use", **subject.fields)
            subject.on_change()

    def _settle(self, subject: Subject) -> None:
        """Brings the table in line with what the tallies say."""
        fit = subject.started
        for tally in (subject.readiness, subject.liveness):
            fit = fit and (tally is None or tally.ok)
        state = self._table.replica(subject.index).state
        if fit and state == REPLICA_STARTING:
            changed = self._table.set_replica_state(subject.index, REPLICA_READY, REPLICA_STARTING)
        elif not fit and state in (REPLICA_READY, REPLICA_EJECTED):
            changed = self._table.set_replica_state(subject.index, REPLICA_STARTING, state)
        else:
            changed = False
        if not fit and Purpose.RETURN in subject.watches:
            self._end(subject.watches[Purpose.RETURN])
        now = self._loop.time()
        if changed or fit != subject.ready:
            subject.ready, subject.waits_since, subject.late = fit, now, False
            text = "a replica is ready" if fit else "a replica is not ready"
        elif not fit and not subject.late and now >= subject.waits_since + READY_WITHIN:
            subject.late = True
            text = f"a replica has not been ready for {READY_WITHIN:g} s: it counts as failing"
        else:
            return
        self._events.add("ready" if fit else "unready", text, **subject.fields, figures={"probe": subject.last})
        subject.on_change()


def _retally(old: Tally | None, check: Probe | None, ok: bool) -> Tally | None:
    if check is None:
        return None
    if old is None:
        return Tally(check, ok)
    old.check = check
    return old


def _question(watch: Watch) -> tuple[Ask, Probe]:
    """What is asked of the replica, with which settings."""
    policy = watch.subject.policy
    own = policy.liveness if watch.purpose is Purpose.LIVENESS else policy.readiness or policy.liveness
    if own is not None:
        return Ask.HEALTHY, own
    return (Ask.SERVES if watch.purpose is Purpose.READINESS else Ask.CONNECT), UNCONFIGURED


def _return_most(policy: HealthPolicy) -> float:
    check = policy.readiness or policy.liveness
    return min(RETURN_MOST, check.period) if check is not None else RETURN_MOST
