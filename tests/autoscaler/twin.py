"""The simulated deployment once more, plain and slow: a list for the queue, a search for the least loaded replica.

Owns: the rules as the lease table's documents state them, in the most direct form there is. Never: speed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field


@dataclass
class Replica:
    changed: int  # when its load last changed, as a number in the order of such changes
    in_flight: int = 0
    ready: bool = True


@dataclass
class Waiter:
    arrived: int
    deadline: int
    service: int


@dataclass
class Twin:
    capacity: int
    max_queue: int
    max_wait_ns: int
    cold_wait_ns: int
    now: int = 0
    replicas: list[Replica] = field(default_factory=list)
    queue: list[Waiter] = field(default_factory=list)
    leaving: list[tuple[int, int, Replica]] = field(default_factory=list)
    arrivals: list[tuple[int, int]] = field(default_factory=list)
    numbers: itertools.count = field(default_factory=itertools.count)
    counts: dict[str, int] = field(default_factory=dict)
    waits: list[int] = field(default_factory=list)

    def count(self, name: str, by: int = 1) -> None:
        self.counts[name] = self.counts.get(name, 0) + by

    @property
    def ready(self) -> list[Replica]:
        return [replica for replica in self.replicas if replica.ready]

    def advance(self, until: int) -> None:
        while True:
            times = [waiter.deadline for waiter in self.queue], [at for at, *_ in self.leaving], self.arrivals[:1]
            expires, leaves = (min(part, default=until) for part in times[:2])
            arrives = self.arrivals[0][0] if self.arrivals else until
            at = min(expires, leaves, arrives)
            if at >= until:
                break
            self.pass_time(at)
            if expires == at:
                self.expire()
            elif leaves == at:
                self.leave()
            else:
                self.arrive(self.arrivals.pop(0)[1])
        self.pass_time(until)

    def pass_time(self, at: int) -> None:
        passed = at - self.now
        self.count("in_flight_integral", passed * len(self.leaving))
        self.count("queue_integral", passed * len(self.queue))
        self.count("ready_integral", passed * len(self.ready))
        self.count("replica_integral", passed * len(self.replicas))
        self.now = at

    def expire(self) -> None:
        kept = [waiter for waiter in self.queue if waiter.deadline > self.now]
        self.count("queue_wait", len(self.queue) - len(kept))
        self.queue = kept

    def arrive(self, service: int) -> None:
        self.count("arrived")
        wait = self.max_wait_ns if self.ready else self.cold_wait_ns
        if not self.ready and not self.cold_wait_ns:
            self.count("no_replica")
        elif not self.queue and any(replica.in_flight < self.capacity for replica in self.ready):
            self.grant(Waiter(self.now, 0, service))
        elif len(self.queue) >= self.max_queue:
            self.count("queue_full")
        else:
            self.queue.append(Waiter(self.now, self.now + wait, service))

    def leave(self) -> None:
        first = min(self.leaving, key=lambda entry: entry[:2])
        self.leaving.remove(first)
        self.shift(first[2], -1)
        self.count("served")
        self.settle()

    def let_go(self) -> None:
        self.replicas = [replica for replica in self.replicas if replica.ready or replica.in_flight]

    def settle(self) -> None:
        """Drained replicas go; free places go to those who wait."""
        self.let_go()
        self.expire()
        while self.queue and any(replica.in_flight < self.capacity for replica in self.ready):
            self.grant(self.queue.pop(0))

    def grant(self, waiter: Waiter) -> None:
        replica = self.least_loaded()
        self.shift(replica, 1)
        self.leaving.append((self.now + waiter.service, next(self.numbers), replica))
        self.count("granted")
        self.count("wait_ns", self.now - waiter.arrived)
        self.waits.append(self.now - waiter.arrived)

    def least_loaded(self) -> Replica:
        return min(self.ready, key=lambda replica: (replica.in_flight, replica.changed))

    def shift(self, replica: Replica, by: int) -> None:
        replica.in_flight += by
        replica.changed = next(self.numbers)

    def add_replica(self) -> None:
        self.replicas.append(Replica(next(self.numbers)))
        self.settle()

    def drain_replica(self) -> None:
        self.least_loaded().ready = False
        self.let_go()
