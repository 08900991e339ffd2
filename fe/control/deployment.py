"""One deployment as it runs: its record in the table, its replicas there, their observation, their provider.

Owns: every change to one deployment's records. Never: which deployments there should be (`fe.control.reconciler`),
probes (`fe.control.health`), where replicas come from (`fe.control.providers`; it is the `Fleet` that they act on).
A record left by a former controller is taken up by its address, never added twice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from fe._core import (
    REPLICA_DRAINING,
    REPLICA_FREE,
    REPLICA_READY,
    REPLICA_REMOVING,
    REPLICA_STARTING,
    DeploymentLoad,
    ReplicaLoad,
    Table,
)
from fe.control.addresses import display
from fe.control.events import Kind
from fe.control.health import Subject
from fe.control.plan import DeploymentPlan
from fe.control.providers.base import Provider
from fe.control.providers.local import ReplicaId
from fe.control.providers.process import ProcessProvider
from fe.control.providers.static import StaticProvider
from fe.control.sources import PodProvider, Surroundings, build_provider, try_update
from fe.log import logger

log = logger("control.deployment")

DRAIN_POLL: Final = 0.1


@dataclass(eq=False)
class Record:
    """A replica's record in the table."""

    index: int
    incarnation: int  # of the record: it is freed, and used for another replica, when its last lease is gone
    sockaddr: bytes
    local: bool
    subject: Subject | None  # None: draining, not observed
    held: bool = False  # drained by hand: stays so until it is undrained
    leaving: bool = False  # drained by its provider, which is about to end it or has begun to

    @property
    def late(self) -> bool:
        subject = self.subject
        return subject is not None and subject.late


class Deployment:
    """A deployment that exists in the table."""

    def __init__(
        self, around: Surroundings, plan: DeploymentPlan, index: int, generation: int, count: int | None = None
    ) -> None:
        self.name = plan.name
        self.plan = plan
        self.index = index
        self.generation = generation
        self._around = around
        self._table = around.table
        self._records: dict[str, Record] = {}
        self._left: dict[bytes, int] = {}  # records of a former controller that nobody has claimed: address -> index
        self._poked = False
        self._provider = build_provider(self, around, plan, plan.adjusted(plan.count if count is None else count))
        self._outgoing: list[Provider] = []  # providers of another kind, replaced by a reload
        self._closing = False
        self._held: set[str] = set()  # addresses of replicas that were drained by hand

    # --- life ---

    @classmethod
    def create(cls, around: Surroundings, plan: DeploymentPlan) -> Deployment:
        """Adds the deployment to the table. Raises when the table has no room for it."""
        index, generation = around.table.add_deployment(plan.name, plan.capacity, plan.max_queue)
        return cls(around, plan, index, generation)

    @classmethod
    def take_up(
        cls,
        around: Surroundings,
        plan: DeploymentPlan,
        index: int,
        local: list[ReplicaId],
        wanted: int | None = None,
        held: Collection[str] = (),
    ) -> Deployment:
        """Takes up a deployment that a former controller has left, with its replicas as they are.

        wanted: how many it should have had at last (None: not known, as many as there are); held: addresses of those
        that were drained by hand.
        """
        table = around.table
        count = len(local) if wanted is None else wanted
        self = cls(around, plan, index, table.deployment(index).generation, count)
        self._held.update(held)
        found = [(table.replica(replica), replica) for replica in table.replicas(index)]
        for load, replica in sorted(found, key=lambda one: one[0].state != REPLICA_DRAINING):
            if load.state != REPLICA_REMOVING:
                if load.sockaddr in self._left:  # its address has passed on to another one already
                    table.remove_replica(self._left[load.sockaddr])
                self._left[load.sockaddr] = replica
        if isinstance(self._provider, ProcessProvider):
            self._provider.adopt(local)
        else:
            self._adopt_others(local)
        table.configure_deployment(index, plan.capacity, plan.max_queue)
        return self

    def start(self) -> None:
        """Begins to find or start replicas."""
        self._provider.start()
        for sockaddr, replica in self._left.items():
            log.info("a replica that nobody has is removed", deployment=self.name, replica=display(sockaddr))
            self._table.remove_replica(replica)
        self._left.clear()

    def apply(self, plan: DeploymentPlan) -> None:
        """Changes to other settings, without disturbing what is in flight."""
        old, self.plan = self.plan, plan
        if (plan.capacity, plan.max_queue) != (old.capacity, old.max_queue):
            self._table.configure_deployment(self.index, plan.capacity, plan.max_queue)
        for record in self._records.values():
            if record.subject is not None:
                self._around.checker.reconfigure(record.subject, plan.health)
        if not try_update(self._provider, self._around, old, plan):
            self._outgoing.append(self._provider)
            self._provider = build_provider(self, self._around, plan, plan.adjusted(plan.count))
            self._provider.start()
            self._poke()

    def scale(self, count: int) -> None:
        """There should be this many replicas from now on."""
        self._provider.scale(count)

    def hold(self, address: str) -> bool:
        """Drains a replica by hand: it gets no new request until `unhold`. False: there is none at this address."""
        record = self._find(address)
        if record is None:
            return False
        record.held = True
        self._held.add(address)
        self._unobserve(record)
        self._change(record, REPLICA_DRAINING)
        self.note("drain", "drained by hand", replica=address, in_flight=self._in_flight(record))
        return True

    def unhold(self, address: str) -> bool:
        """Takes back what `hold` did: the replica is used again once a probe says so."""
        record = self._find(address)
        if record is None or not record.held:
            return False
        record.held = False
        self._held.discard(address)
        self.note("undrain", "taken back by hand", replica=address)
        for key, one in self._records.items():
            if one is record and not one.leaving and self._change(record, REPLICA_STARTING, REPLICA_DRAINING):
                self._observe(key, record)
        return True

    async def close(self) -> None:
        """Ends the deployment, when no new request comes: queue first (removal would empty it), leases, replicas."""
        self._closing = True
        await drained(self._table, self.index, self.generation, self.plan.drain_limit, queue_only=True)
        for record in self._records.values():
            self._unobserve(record)  # the records are not ours any more as soon as they are empty
        self._table.remove_deployment(self.index)
        await drained(self._table, self.index, self.generation, self.plan.drain_limit)
        providers = [self._provider, *self._outgoing]
        for provider in providers:
            provider.retire()
        while not all(provider.retired for provider in providers):
            await asyncio.sleep(DRAIN_POLL)

    # --- reading ---

    @property
    def load(self) -> DeploymentLoad:
        return self._table.deployment(self.index)

    @property
    def draining(self) -> bool:
        """Some replica gets nothing new and still has something."""
        return any(record.subject is None for record in list(self._records.values()))

    @property
    def held(self) -> frozenset[str]:
        """Addresses of replicas that were drained by hand."""
        return frozenset(self._held)

    @property
    def scalable(self) -> bool:
        """The provider can start and end replicas."""
        return self._provider.scalable

    @property
    def barred(self) -> str:
        """Why the number of replicas cannot be set from here now; "" where it can."""
        return self._provider.barred

    @property
    def mend(self) -> str:
        """What can be done where it is `barred`."""
        return self._provider.mend

    @property
    def last_stays(self) -> str:
        """Why the last replica has to stay; "" where it may go."""
        return self._provider.last_stays

    def take_hand(self) -> tuple[int, int] | None:
        """Before and after, where somebody else has set the number since this was last asked."""
        return self._provider.take_hand()

    def counts(self, load: DeploymentLoad) -> tuple[int, int, int]:
        """Replicas that are ready, that will be soon, and that fail or do not get ready in time (those do not count).

        As everything that only reads, it may be called from a thread.
        """
        records = list(self._records.values())
        failing = max(self._provider.failing, sum(record.late for record in records))
        states = [self._table.replica(record.index).state for record in records]
        starting = states.count(REPLICA_STARTING) + self._provider.pending
        return load.ready, max(0, starting - failing), failing

    @property
    def wanted(self) -> int:
        return self._provider.wanted

    @property
    def kind(self) -> str:
        return self._provider.kind

    def replicas(self) -> list[tuple[str, Record]]:
        """Key and record of every replica that is not gone."""
        return list(self._records.items())

    # --- the fleet that providers act on ---

    def add(self, key: str, sockaddr: bytes, *, local: bool) -> bool:
        record = self._records.get(key)
        if record is not None:
            record.leaving = False
            again = record.subject is None and not record.held
            if again and self._change(record, REPLICA_STARTING, REPLICA_DRAINING):
                self._observe(key, record)
            return True
        index = self._left.pop(sockaddr, None)
        if index is None:
            try:
                index = self._table.add_replica(self.index, sockaddr, REPLICA_STARTING)
            except (OverflowError, ValueError):
                return False
        record = self._note(key, index, sockaddr, local)
        self._observe(key, record)
        return True

    def adopt_record(self, key: str, sockaddr: bytes, *, local: bool) -> bool:
        index = self._left.get(sockaddr)
        if index is None or self._table.replica(index).state != REPLICA_DRAINING:
            return self.add(key, sockaddr, local=local)
        del self._left[sockaddr]
        record = self._note(key, index, sockaddr, local)
        record.held = display(sockaddr) in self._held
        record.leaving = not record.held
        return record.held

    def drain(self, key: str) -> None:
        record = self._records.get(key)
        if record is not None:
            record.leaving = True
            self._unobserve(record)
            self._change(record, REPLICA_DRAINING)

    def discard(self, key: str) -> None:
        record = self._records.pop(key, None)
        if record is not None:
            self._held.discard(display(record.sockaddr))
            self._unobserve(record)
            self._change(record, REPLICA_REMOVING)

    def is_ready(self, key: str) -> bool:
        record = self._records.get(key)
        load = self._load_of(record)
        return load is not None and load.state == REPLICA_READY

    def is_held(self, key: str) -> bool:
        record = self._records.get(key)
        return record is not None and record.held

    def in_flight(self, key: str) -> int:
        return self._in_flight(self._records.get(key))

    def note(self, kind: Kind, reason: str, *, replica: str | None = None, **figures: float | str) -> None:
        self._around.events.add(kind, reason, deployment=self.name, replica=replica, figures=figures)

    def poke(self) -> None:
        """Something may have emptied or changed: the providers take their next step."""
        self._poke()

    # --- inside ---

    def _note(self, key: str, index: int, sockaddr: bytes, local: bool) -> Record:
        record = Record(index, self._table.replica(index).incarnation, sockaddr, local, None)
        self._records[key] = record
        return record

    def _find(self, address: str) -> Record | None:
        """The replica that serves there; one that has just been replaced on the same address does not count."""
        found = [record for record in self._records.values() if display(record.sockaddr) == address]
        return found[-1] if found else None

    def _in_flight(self, record: Record | None) -> int:
        load = self._load_of(record)
        return 0 if load is None else load.in_flight

    def _load_of(self, record: Record | None) -> ReplicaLoad | None:
        """The replica as the table has it; None when its record has been freed."""
        if record is None:
            return None
        load = self._table.replica(record.index)
        return load if load.state != REPLICA_FREE and load.incarnation == record.incarnation else None

    def _change(self, record: Record, state: int, expect: int | None = None) -> bool:
        # Nobody else adds replicas, so between this look and the change the record cannot become another's.
        return self._load_of(record) is not None and self._table.set_replica_state(record.index, state, expect)

    def _adopt_others(self, local: list[ReplicaId]) -> None:
        """Local replicas of a deployment that has turned to addresses or pods serve until those are ready."""
        if local:
            around = self._around
            former = ProcessProvider(self, around.loop, around.host, None, len(local), self.plan.drain_limit)
            former.adopt(local)
            self._outgoing.append(former)
            self._poke()
        if isinstance(self._provider, StaticProvider | PodProvider):
            self._provider.adopt(list(self._left))

    def _observe(self, key: str, record: Record) -> None:
        record.subject = self._around.checker.watch(
            record.index,
            self.name,
            record.sockaddr,
            self.plan.health,
            local=record.local,
            on_change=self._poke,
            on_dead=lambda: self._on_dead(key),
        )

    def _unobserve(self, record: Record) -> None:
        if record.subject is not None:
            self._around.checker.unwatch(record.subject)
            record.subject = None

    def _on_dead(self, key: str) -> None:
        for provider in (self._provider, *self._outgoing):
            provider.restart(key)

    def _poke(self) -> None:
        # Never from inside a provider's own step: it would see half of it.
        if not self._poked:
            self._poked = True
            self._around.loop.call_soon(self._on_poke)

    def _on_poke(self) -> None:
        self._poked = False
        self._provider.on_change()
        for provider in self._outgoing:
            provider.on_change()
        if self._outgoing and not self._closing and self._is_served():
            for provider in self._outgoing:
                provider.retire()
            self._outgoing = [provider for provider in self._outgoing if not provider.retired]

    def _is_served(self) -> bool:
        """The present provider has as many ready replicas as it should."""
        keys = [key for key, record in self._records.items() if record.subject is not None]
        ready = sum(self.is_ready(key) for key in keys if self._provider.holds(key))
        return ready >= self._provider.wanted


async def drained(table: Table, index: int, generation: int, limit: float, *, queue_only: bool = False) -> None:
    """Until a deployment has no request left (or none waiting), or is gone; at most `limit` seconds."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        load = table.deployment(index)
        left = load.queue_depth if queue_only else load.queue_depth + load.in_flight
        if not load.state or load.generation != generation or not left:
            return
        await asyncio.sleep(DRAIN_POLL)
