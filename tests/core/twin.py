"""The lease table once more, in plain Python: no shared memory, no lists, no caches; everything is counted each time.

Owns: what each operation has to answer and what it changes, written as plainly as possible. Never: fast, never looks
at the real table. `test_twin` drives both side by side.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from fe import _core
from fe._core import Limits

FREE, WAITING, GRANTED, HELD, EXPIRED = range(5)
GONE, ACTIVE, REMOVING = range(3)  # of a deployment
NOW = 2  # deadlines are below it or far above


@dataclass
class Slot:
    state: int = FREE
    deployment: int = 0
    replica: int = 0
    seq: int = 0
    deadline: int = 0


@dataclass
class Replica:
    state: int = _core.REPLICA_FREE
    deployment: int = 0
    incarnation: int = 0
    sockaddr: bytes = b""
    failures: int = 0
    since: int = 0  # when it came to its present load: the one that came first is chosen first


@dataclass
class Deployment:
    state: int = GONE
    generation: int = 0
    name: str = ""
    capacity: int = 0
    max_queue: int = 0


@dataclass
class Twin:
    limits: Limits
    clock: int = 0
    control: bool = False  # the controller has been rung
    deployments: list[Deployment] = field(default_factory=list)
    replicas: list[Replica] = field(default_factory=list)
    slots: dict[tuple[int, int], Slot] = field(default_factory=dict)
    free: list[list[int]] = field(default_factory=list)  # of each holder, the next one last

    def __post_init__(self) -> None:
        self.deployments = [Deployment() for _ in range(self.limits.deployments)]
        self.replicas = [Replica() for _ in range(self.limits.replicas)]
        self.free = [[] for _ in range(self.limits.holders)]

    # --- Counting -----------------------------------------------------------------------------------------------------

    def tick(self) -> int:
        self.clock += 1
        return self.clock

    def members(self, deployment: int) -> list[int]:
        states = enumerate(self.replicas)
        return [i for i, r in states if r.state != _core.REPLICA_FREE and r.deployment == deployment]

    def ready(self, deployment: int) -> list[int]:
        return [i for i in self.members(deployment) if self.replicas[i].state == _core.REPLICA_READY]

    def load(self, replica: int) -> int:
        return sum(slot.state in (GRANTED, HELD) and slot.replica == replica for slot in self.slots.values())

    def in_flight(self, deployment: int) -> int:
        return sum(slot.state in (GRANTED, HELD) and slot.deployment == deployment for slot in self.slots.values())

    def queue(self, deployment: int) -> list[tuple[int, int]]:
        waiting = [k for k, slot in self.slots.items() if slot.state == WAITING and slot.deployment == deployment]
        return sorted(waiting, key=lambda key: self.slots[key].seq)

    def news(self, holder: int) -> list[int]:
        return sorted(k[1] for k, slot in self.slots.items() if k[0] == holder and slot.state in (GRANTED, EXPIRED))

    def choose(self, deployment: int) -> int | None:
        """The least loaded; among equals, the one that has been so longest."""
        ready = self.ready(deployment)
        best = min(ready, key=lambda i: (self.load(i), self.replicas[i].since), default=None)
        return best if best is not None and self.has_room(best, 1) else None

    def has_room(self, replica: int, more: int) -> bool:
        capacity = self.deployments[self.replicas[replica].deployment].capacity
        return capacity == 0 or self.load(replica) + more <= capacity

    # --- What follows from a change -----------------------------------------------------------------------------------

    def grant_free(self, deployment: int) -> None:
        for key in self.queue(deployment):
            replica = self.choose(deployment)
            if replica is None:
                return
            self.grant(key, replica)

    def grant(self, key: tuple[int, int], replica: int) -> bool:
        """To a waiter, unless its deadline has passed."""
        slot = self.slots[key]
        if slot.deadline <= NOW:
            slot.state = EXPIRED
            return False
        slot.state, slot.replica = GRANTED, replica
        self.replicas[replica].since = self.tick()
        return True

    def give_back(self, replica: int) -> None:
        """One lease fewer at this replica: the first waiter takes its place at once, or its load has gone down."""
        record = self.replicas[replica]
        since = record.since
        if record.state == _core.REPLICA_READY and self.has_room(replica, 1):
            for key in self.queue(record.deployment):
                if self.grant(key, replica):
                    record.since = since  # handed over: its load never changed
                    return
        record.since = self.tick()
        self.finish(replica)

    def finish(self, replica: int) -> None:
        record = self.replicas[replica]
        if record.state not in (_core.REPLICA_DRAINING, _core.REPLICA_REMOVING) or self.load(replica):
            return
        self.control = True
        if record.state == _core.REPLICA_REMOVING:
            record.state = _core.REPLICA_FREE
            self.finish_deployment(record.deployment)

    def finish_deployment(self, deployment: int) -> None:
        if self.deployments[deployment].state == REMOVING and not self.members(deployment):
            self.deployments[deployment].state = GONE
            self.control = True

    def recount(self, deployment: int) -> None:
        """Draws every consequence; who waited longest among equals is forgotten."""
        for replica in self.members(deployment):
            if self.deployments[deployment].state == REMOVING:
                self.replicas[replica].state = _core.REPLICA_REMOVING
            self.replicas[replica].since = self.tick()
        for key in self.queue(deployment):
            if self.deployments[deployment].state == REMOVING:
                self.slots[key].state = EXPIRED
        for replica in self.members(deployment):
            self.finish(replica)
        self.finish_deployment(deployment)
        self.grant_free(deployment)

    def set_state(self, replica: int, state: int) -> None:
        record = self.replicas[replica]
        if record.state != state == _core.REPLICA_READY:
            record.since, record.failures = self.tick(), 0
        record.state = state
        self.grant_free(record.deployment)
        self.finish(replica)

    # --- Requests -----------------------------------------------------------------------------------------------------

    def take_slot(self, holder: int, **values: int) -> int:
        slot = self.free[holder].pop()
        self.slots[holder, slot] = Slot(seq=self.tick(), **values)
        return slot

    def free_slot(self, holder: int, slot: int) -> None:
        self.slots[holder, slot] = Slot()
        self.free[holder].append(slot)

    def call_for_replica(self, deployment: int) -> None:
        """Somebody is about to wait; the first who waits for a replica rings."""
        if not self.ready(deployment) and not self.queue(deployment):
            self.control = True

    def acquire(
        self, holder: int, deployment: int, generation: int, deadline: int, way: str = "acquire"
    ) -> tuple[int, int, int]:
        """`way`: "acquire", "try_acquire" or "await_"."""
        record = self.deployments[deployment]
        if not self.free[holder]:
            return _core.NO_SLOT, 0, 0
        if record.state != ACTIVE or record.generation != generation:
            return _core.GONE, 0, 0
        if not self.ready(deployment) and way != "await_":
            return _core.NO_REPLICA, 0, 0
        replica = self.choose(deployment)
        if replica is not None:
            self.replicas[replica].since = self.tick()
            return _core.HELD, self.take_slot(holder, state=HELD, deployment=deployment, replica=replica), replica
        if way == "try_acquire":
            return _core.BUSY, 0, 0
        if len(self.queue(deployment)) >= record.max_queue:
            return _core.QUEUE_FULL, 0, 0
        self.call_for_replica(deployment)
        return _core.WAITING, self.take_slot(holder, state=WAITING, deployment=deployment, deadline=deadline), 0

    def release(self, holder: int, slot: int) -> None:
        lease = self.slots.get((holder, slot), Slot())
        if lease.state in (HELD, GRANTED):
            self.free_slot(holder, slot)
            self.give_back(lease.replica)

    def retry(self, holder: int, slot: int, deadline: int, awaits: bool = False) -> tuple[int, int]:
        lease = self.slots.get((holder, slot), Slot())
        if lease.state not in (HELD, GRANTED):
            return _core.GONE, 0
        replica, result = lease.replica, _core.WAITING
        if self.deployments[lease.deployment].state != ACTIVE:
            result = _core.GONE
        elif not self.ready(lease.deployment) and not awaits:
            result = _core.NO_REPLICA
        else:
            self.call_for_replica(lease.deployment)
            lease.state, lease.deadline = WAITING, NOW + 1
        if result != _core.WAITING:
            self.free_slot(holder, slot)
        self.replicas[replica].since = self.tick()
        self.finish(replica)
        self.grant_free(lease.deployment)
        lease.deadline = deadline  # what is free now it may have in any case
        if result == _core.WAITING and lease.state == GRANTED:
            lease.state = HELD
            return _core.HELD, lease.replica
        return result, 0

    def cancel(self, holder: int, slot: int) -> tuple[int, int]:
        lease = self.slots.get((holder, slot), Slot())
        if lease.state in (HELD, GRANTED):
            lease.state = HELD
            return _core.HELD, lease.replica
        if lease.state != FREE:
            self.free_slot(holder, slot)
        return _core.CANCELLED, 0

    def collect(self, holder: int, most: int) -> list[tuple[int, int, int]]:
        outcomes = []
        for slot in self.news(holder)[:most]:
            lease = self.slots[holder, slot]
            if lease.state == GRANTED:
                lease.state = HELD
                outcomes.append((slot, lease.replica, _core.HELD))
            else:
                self.free_slot(holder, slot)
                outcomes.append((slot, 0, _core.EXPIRED))
        return outcomes

    def failed(self, replica: int, incarnation: int, threshold: int) -> bool:
        record = self.replicas[replica]
        if record.state == _core.REPLICA_FREE or record.incarnation != incarnation:
            return False
        record.failures += 1
        if record.state != _core.REPLICA_READY or not 0 < threshold <= record.failures:
            return False
        self.set_state(replica, _core.REPLICA_EJECTED)
        self.control = True
        return True

    def adopt(self, holder: int, deployment: int, replica: int) -> int | None:
        if not self.free[holder] or replica not in self.members(deployment):
            return None
        self.replicas[replica].since = self.tick()
        return self.take_slot(holder, state=HELD, deployment=deployment, replica=replica)

    # --- Control ------------------------------------------------------------------------------------------------------

    def add_deployment(self, name: str, capacity: int, max_queue: int) -> tuple[int, int] | None:
        index = next((i for i, d in enumerate(self.deployments) if d.state == GONE), None)
        if index is None:
            return None
        generation = self.deployments[index].generation + 1
        self.deployments[index] = Deployment(ACTIVE, generation, name, capacity, max_queue)
        return index, generation

    def configure_deployment(self, deployment: int, capacity: int, max_queue: int) -> None:
        self.deployments[deployment].capacity = capacity
        self.deployments[deployment].max_queue = max_queue
        self.grant_free(deployment)

    def remove_deployment(self, deployment: int) -> None:
        if self.deployments[deployment].state == ACTIVE:
            self.deployments[deployment].state = REMOVING
            self.recount(deployment)

    def add_replica(self, deployment: int, sockaddr: bytes, state: int) -> int | None:
        index = next((i for i, r in enumerate(self.replicas) if r.state == _core.REPLICA_FREE), None)
        if self.deployments[deployment].state != ACTIVE or index is None:
            return None
        incarnation = self.replicas[index].incarnation + 1
        self.replicas[index] = Replica(_core.REPLICA_STARTING, deployment, incarnation, sockaddr)
        self.set_state(index, state)
        return index

    def set_replica_state(self, replica: int, state: int, expect: int | None = None) -> bool:
        now = self.replicas[replica].state
        if now in (_core.REPLICA_FREE, _core.REPLICA_REMOVING) or expect not in (None, now):
            return False
        self.set_state(replica, state)
        return True

    # --- Holders ------------------------------------------------------------------------------------------------------

    def claim(self, holder: int) -> None:
        if any(key[0] == holder for key in self.slots):
            self.recover(holder)
        self.free[holder] = list(reversed(range(self.limits.slots)))

    def recover(self, holder: int) -> int:
        mine = [key for key in self.slots if key[0] == holder]
        dropped = sum(self.slots[key].state != FREE for key in mine)
        for deployment, _ in enumerate(self.deployments):
            for key in mine:
                if self.slots[key].deployment == deployment:
                    self.slots[key] = Slot()
            self.recount(deployment)
        for key in mine:
            del self.slots[key]
        self.control = True  # a death may have come before that bell
        return dropped
