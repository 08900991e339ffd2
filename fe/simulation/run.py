"""The clockwork: requests arrive, the autoscaler looks at exact averages, replicas start and drain.

Owns: the order of polls and starts in virtual time, and what of it is recorded. Never: the rules of scaling
(`fe.control.autoscaler`, the real ones) and of queueing (`fe._simulator`, as the lease table has them); text.
A simulation with the same scenario gives the same outcome.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from typing import Final

from fe._simulator import Simulator
from fe.control.autoscaler import History, Observation, ScalePolicy, decide
from fe.control.numeric import np
from fe.simulation.draws import Draws
from fe.simulation.loads import UNKNOWN, Source
from fe.simulation.outcome import Change, Outcome, Row, added

_SECOND: Final = 1_000_000_000
_CHUNK: Final = 200_000  # requests that are drawn at once, about
_FINEST: Final = 20  # recorded rows to each that is shown


@dataclass(frozen=True)
class Scenario:
    """A deployment, its load, and the seed that makes chance repeatable. Times in seconds."""

    source: Source
    service: Draws  # for requests whose duration the source does not say
    start_up: Draws  # from the decision until a replica is ready
    policy: ScalePolicy
    polling_interval: float
    max_queue_length: int
    max_queue_wait: float
    cold_start_timeout: float  # with min_instances 0: how long a request waits when no replica is ready
    instances: int  # ready at the beginning
    seed: int

    @property
    def polls(self) -> int:
        return -(-self.source.nanoseconds // self.interval_ns)

    @property
    def interval_ns(self) -> int:
        return max(10, round(self.polling_interval * _SECOND))


class Simulation:
    """One run of a scenario."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        policy = scenario.policy
        self._simulator = Simulator(
            capacity=policy.capacity,
            max_queue=scenario.max_queue_length,
            max_wait_ns=round(scenario.max_queue_wait * _SECOND),
            cold_wait_ns=round(scenario.cold_start_timeout * _SECOND) if policy.min_instances == 0 else 0,
        )
        streams = np.random.SeedSequence(scenario.seed).spawn(
            3
        )  # one each, so that one setting leaves the others' luck
        self._arrivals, self._services, self._starts = map(np.random.default_rng, streams)
        self._chunk_ns = max(1000, min(600 * _SECOND, int(_CHUNK / max(scenario.source.peak, 1e-9) * _SECOND)))
        self._fed_until = 0
        self._starting: list[tuple[int, int]] = []  # (ready at, ordered at), the next first
        self._started_ns = 0  # what replicas spent starting, as far as it is over
        self._history = History()
        self._current = scenario.instances
        self._changes: list[Change] = []
        for _ in range(scenario.instances):
            self._simulator.add_replica()

    def run(self, every: int) -> Outcome:
        """Runs it to its end, with a row to show for so many polls; what is recorded is finer where it can be."""
        fine = next(polls for polls in range(max(1, every // _FINEST), 0, -1) if every % polls == 0)
        polls = self._scenario.polls
        rows = [self._row(first, min(fine, polls - first)) for first in range(0, polls, fine)]
        most = max([self._scenario.instances, *(change.after for change in self._changes)])
        return Outcome(rows, self._changes, self._simulator.in_flight + self._simulator.queued, most, every // fine)

    def _row(self, first: int, polls: int) -> Row:
        interval, simulator = self._scenario.interval_ns, self._simulator
        row = Row(first * interval / _SECOND, capacity=self._scenario.policy.capacity)
        row.seconds = polls * interval / _SECOND
        self._started_ns = 0
        before = self._pending_ns()
        for poll in range(first, first + polls):
            self._poll(poll * interval, (poll + 1) * interval, row)
        row.starting_seconds = (self._started_ns + self._pending_ns() - before) / _SECOND
        row.waits.update({bucket: count for bucket, count in enumerate(simulator.waits()) if count})
        row.desired, row.ready = self._current, simulator.ready
        return row

    def _pending_ns(self) -> int:
        """What the replicas that start now have spent on it so far."""
        return sum(self._simulator.now - ordered for _ready, ordered in self._starting)

    def _poll(self, begin: int, end: int, row: Row) -> None:
        tenth = (end - begin) // 10
        self._advance(end - tenth)
        most = self._simulator.tally()
        self._advance(end)
        last = self._simulator.tally()
        whole = added(most, last)
        row.tally = added(row.tally, whole)
        self._decide(
            Observation(
                at=end / _SECOND,
                seconds=(end - begin) / _SECOND,
                in_flight=whole.in_flight_integral / (end - begin),
                queued=whole.queue_integral / (end - begin),
                recent=(last.in_flight_integral + last.queue_integral) / tenth,
                ready=self._simulator.ready,
                starting=len(self._starting),
            )
        )

    # --- time ---

    def _advance(self, until: int) -> None:
        while self._starting and self._starting[0][0] <= until:
            ready, ordered = self._starting.pop(0)
            self._feed_and_advance(ready)
            self._started_ns += ready - ordered
            self._simulator.add_replica()
        self._feed_and_advance(until)

    def _feed_and_advance(self, until: int) -> None:
        while self._fed_until < until:
            self._simulator.advance(self._fed_until)
            self._feed()
        self._simulator.advance(until)

    def _feed(self) -> None:
        begin = self._fed_until
        self._fed_until = begin + self._chunk_ns
        arrivals, durations = self._scenario.source.span(begin, self._fed_until, self._arrivals)
        drawn = self._scenario.service.take(len(arrivals), self._services)
        self._simulator.feed(arrivals, np.where(durations == UNKNOWN, drawn, durations))

    # --- replicas ---

    def _decide(self, observation: Observation) -> None:
        policy = self._scenario.policy
        self._history = self._history.record(policy, observation)
        decision = decide(policy, self._history, self._current, observation)
        if decision.desired != self._current:
            change = Change(observation.at, self._current, decision.desired, decision.rule, decision.reason)
            self._changes.append(change)
            self._order(decision.desired - self._current)
            self._current = decision.desired

    def _order(self, more: int) -> None:
        """Starts so many replicas; of a negative number, those that start go before ready ones drain."""
        now = self._simulator.now
        for start_up in self._scenario.start_up.take(max(more, 0), self._starts).tolist():
            bisect.insort(self._starting, (now + start_up, now))
        for _ in range(-more):
            if self._starting:
                self._started_ns += now - self._starting.pop()[1]
            else:
                self._simulator.drain_replica()
