"""Replicas that fe runs itself: a command, started n times, each with a port of its own.

Owns: how many run, which revision of the command they run, restarts with back-off, the roll-out of a changed command
replica by replica (one more than wanted at most), and the end of each. Never: fork or kill (the supervisor does, see
`local`), probes, the table. A replica's id carries port and revision, so that a restarted controller can take it up.
"""

from __future__ import annotations

import asyncio
import enum
import hashlib
import json
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from fe.config.schema import ProcessReplicas, RouterConfig
from fe.config.snapshot import process_start
from fe.control.addresses import pack_inet
from fe.control.providers.base import Fleet, Provider
from fe.control.providers.local import LocalHost, ReplicaId
from fe.log import logger
from fe.model import Spawn

log = logger("control.process")

BACKOFF_FIRST: Final = 0.5  # seconds before the second restart in a row; the first comes at once
BACKOFF_MOST: Final = 30.0
SETTLED: Final = 10.0  # a replica that has run this long does not count as crashing
CRASH_LOOP: Final = 3  # crashes in a row that are worth a louder word
POLL: Final = 0.1  # while something drains; leases given back also ring


@dataclass(frozen=True)
class ProcessSpec:
    """What to run, and the configuration that it stands in (whose keys replicas must not inherit)."""

    process: ProcessReplicas
    config: RouterConfig = field(compare=False, repr=False)

    @property
    def revision(self) -> str:
        """Differs whenever replicas have to be replaced; says nothing about the values."""
        own = self.process
        document = json.dumps([own.command, sorted(own.env.items()), own.cwd, own.output])
        return hashlib.sha256(document.encode()).hexdigest()[:12]


class Stage(enum.Enum):
    """Where a local replica is in its life."""

    SPAWNING = 1  # asked for
    RUNNING = 2
    RESTARTING = 3  # failed its liveness probe: asked to end, to be replaced when it has
    DRAINING = 4  # gets nothing new
    STOPPING = 5  # asked to end


LIVE: Final = (Stage.SPAWNING, Stage.RUNNING, Stage.RESTARTING)


@dataclass(eq=False)
class Instance:
    """One local replica."""

    id: ReplicaId
    stage: Stage
    born: float
    attempt: int  # the try in which it was started
    deadline: float = 0.0  # DRAINING: the end of its patience
    kept: bool = False  # was drained by hand: once it is taken back, its successor goes rather than itself

    @property
    def key(self) -> str:
        return self.id.text


class ProcessProvider(Provider):
    """The local replicas of one deployment."""

    kind = "process"
    scalable = True

    def __init__(
        self,
        fleet: Fleet,
        loop: asyncio.AbstractEventLoop,
        host: LocalHost,
        spec: ProcessSpec | None,  # None: nothing new is started, only what is adopted
        count: int,
        drain_limit: float,
    ) -> None:
        self._fleet = fleet
        self._loop = loop
        self._host = host
        self._spec = spec
        self._revision = spec.revision if spec is not None else ""
        self._count = count
        self._drain_limit = drain_limit
        self._instances: dict[str, Instance] = {}
        self._crashes = 0  # in a row; of replicas that were started in the same try one counts
        self._try = 0
        self._spawn_after = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._retiring = False

    # --- the provider's interface ---

    def start(self) -> None:
        self._step()

    def adopt(self, ids: Sequence[ReplicaId]) -> None:
        """Before `start`: local replicas of this deployment that run already."""
        for id_ in ids:
            instance = Instance(id_, Stage.RUNNING, self._loop.time() - SETTLED, self._try)
            self._instances[id_.text] = instance
            self._host.take(id_.text, self)
            if not self._fleet.adopt_record(id_.text, pack_inet("127.0.0.1", id_.port), local=True):
                self._drain(instance, self._patience(instance), "drained by a former controller")

    def update(self, spec: ProcessSpec, count: int, drain_limit: float) -> None:
        """Another command or number from now on; running replicas of another revision are replaced one by one."""
        if spec.revision != self._revision:
            self._fleet.note("rollout", "the command has changed, replicas are replaced one by one")
            self._crashes, self._spawn_after = 0, 0.0
        self._spec, self._revision, self._count, self._drain_limit = spec, spec.revision, count, drain_limit
        self._step()

    def scale(self, count: int) -> None:
        self._forgive()
        self._count = count
        self._loop.call_soon(self._step)  # the number is noted for a successor before anything follows from it

    def on_change(self) -> None:
        self._step()

    def restart(self, key: str) -> bool:
        instance = self._instances.get(key)
        if instance is not None and instance.stage is Stage.RUNNING:
            instance.stage = Stage.RESTARTING
            self._fleet.drain(key)
            self._note_drain(instance, "restarted: it has failed its liveness probe")
            self._host.stop(key)
        return True

    def holds(self, key: str) -> bool:
        return key in self._instances

    def retire(self) -> None:
        self._retiring = True
        last = self._loop.time() + self._drain_limit
        for instance in self._instances.values():
            instance.deadline = min(instance.deadline, last)
        self._step()

    @property
    def retired(self) -> bool:
        return self._retiring and not self._instances

    @property
    def wanted(self) -> int:
        return self._count

    @property
    def pending(self) -> int:
        running = sum(one.stage in (Stage.RUNNING, Stage.RESTARTING) for one in list(self._instances.values()))
        return max(0, self._count - running)

    @property
    def failing(self) -> int:
        if self._crashes < CRASH_LOOP:
            return 0
        return max(0, self._count - sum(self._fleet.is_ready(one.key) for one in self._live()))

    # --- what the supervisor says ---

    def on_spawned(self, key: str, error: str | None) -> None:
        """A replica was started, or could not be."""
        instance = self._instances.get(key)
        if instance is None:
            return
        if error is not None:
            self._forget(instance)
            if instance.stage is Stage.SPAWNING:
                self._note_crash(error, instance.attempt, 0.0)
        elif instance.stage is Stage.SPAWNING:
            instance.stage = Stage.RUNNING
            if not self._fleet.add(key, pack_inet("127.0.0.1", instance.id.port), local=True):
                self._note_crash("no room in the table", instance.attempt, 0.0)
                self._stop(instance)
        self._step()

    def on_exited(self, key: str, status: int) -> None:
        """A replica and its whole process group are gone."""
        instance = self._instances.get(key)
        if instance is None:
            return
        self._forget(instance)
        if instance.stage in LIVE and not self._retiring and not self._host.ending:
            how = f"signal {-status}" if status < 0 else f"status {status}"
            if instance.stage is Stage.RESTARTING:
                how = "liveness probe"
            self._note_crash(how, instance.attempt, self._loop.time() - instance.born)
        self._step()

    # --- one step towards what should be ---

    def _step(self) -> None:
        self._forgive()
        for instance in self._instances.values():
            instance.kept = instance.kept or self._fleet.is_held(instance.key)
        draining = [instance for instance in self._instances.values() if instance.stage is Stage.DRAINING]
        now = self._loop.time()
        for instance in draining:
            if self._fleet.in_flight(instance.key) == 0 or now >= instance.deadline:
                self._stop(instance)
        if self._retiring:
            for instance in self._live():
                self._drain(instance, self._drain_limit, "the deployment has no use for local replicas any more")
        elif not self._host.ending:
            self._grow(now)
            self._shrink()
        self._arm(now)

    def _forgive(self) -> None:
        """Crashes are over when as many as there should be run well; those that always do prove nothing for others."""
        fresh = self._fresh()
        if self._crashes and fresh and len(fresh) >= self._count and all(map(self._has_settled, fresh)):
            self._crashes = 0

    def _has_settled(self, instance: Instance) -> bool:
        return self._fleet.is_ready(instance.key) and self._loop.time() - instance.born >= SETTLED

    def _live(self) -> list[Instance]:
        return [instance for instance in list(self._instances.values()) if instance.stage in LIVE]

    def _counted(self) -> list[Instance]:
        """Those that serve or will: who was drained by hand is replaced, and stays beside its successor."""
        return [instance for instance in self._live() if not self._fleet.is_held(instance.key)]

    def _fresh(self) -> list[Instance]:
        """Those that run the present command."""
        return [instance for instance in self._live() if instance.id.revision == self._revision]

    def _patience(self, instance: Instance) -> float:
        """How long it may take to finish what it has: one that is merely not needed is never cut short."""
        return math.inf if instance.id.revision == self._revision else self._drain_limit

    def _grow(self, now: float) -> None:
        if self._spec is None:
            return
        live = self._counted()
        current = sum(instance.id.revision == self._revision for instance in live)
        ending = any(one.stage not in LIVE and one.id.revision != self._revision for one in self._instances.values())
        surge = 1 if current < len(live) and not ending else 0
        total = len(live)
        while current < self._count and total < self._count + surge and now >= self._spawn_after:
            self._spawn(self._spec, now)
            current += 1
            total += 1

    def _shrink(self) -> None:
        live = self._counted()
        surplus = len(live) - self._count
        if surplus <= 0:
            return
        ready = {instance.key for instance in live if self._fleet.is_ready(instance.key)}
        for instance in self._by_expendability(live, ready)[:surplus]:
            old = instance.id.revision != self._revision
            if instance.key in ready:
                if old and len(ready) - 1 < self._count:
                    return  # its successor is not ready yet
                ready.remove(instance.key)
            self._drain(instance, self._patience(instance), "replaced" if old else "not needed any more")

    def _by_expendability(self, live: list[Instance], ready: set[str]) -> list[Instance]:
        """Old revisions first, then who is not ready, and among equals those that serve nothing."""
        return sorted(
            live,
            key=lambda one: (
                one.id.revision == self._revision, one.kept, one.key in ready, self._fleet.in_flight(one.key),
            ),
        )  # fmt: skip

    def _spawn(self, spec: ProcessSpec, now: float) -> None:
        try:
            port = self._host.free_port()
        except OSError as error:
            self._note_crash(str(error), self._try, 0.0)
            return
        id_ = ReplicaId(self._fleet.name, port, self._revision, secrets.token_hex(6))
        instance = self._instances[id_.text] = Instance(id_, Stage.SPAWNING, now, self._try)
        process = spec.process
        argv, env, output = process_start(process, port, self._host.environment, spec.config)
        self._host.spawn(self, Spawn(instance.key, argv, env, process.cwd, output, process.stop_grace))
        log.info("a local replica is started", deployment=self._fleet.name, port=port)

    def _drain(self, instance: Instance, limit: float, why: str) -> None:
        instance.stage = Stage.DRAINING
        instance.deadline = self._loop.time() + limit
        self._fleet.drain(instance.key)
        self._note_drain(instance, why)
        if self._fleet.in_flight(instance.key) == 0:
            self._stop(instance)

    def _note_drain(self, instance: Instance, why: str) -> None:
        address = f"127.0.0.1:{instance.id.port}"
        self._fleet.note("drain", why, replica=address, in_flight=self._fleet.in_flight(instance.key))

    def _stop(self, instance: Instance) -> None:
        left = self._fleet.in_flight(instance.key)
        if left:
            log.warning("a local replica is ended before its requests", replica=instance.key, in_flight=left)
        instance.stage = Stage.STOPPING
        self._host.stop(instance.key)

    def _forget(self, instance: Instance) -> None:
        del self._instances[instance.key]
        self._host.forget(instance.key)
        self._fleet.discard(instance.key)

    def _note_crash(self, how: str, attempt: int, ran: float) -> None:
        now = self._loop.time()
        if attempt == self._try:  # else its fellows have said so: forty that fail together are one failure
            self._try += 1
            self._crashes = 1 if ran >= SETTLED else self._crashes + 1
            delay = 0.0 if self._crashes == 1 else min(BACKOFF_MOST, BACKOFF_FIRST * 2.0 ** min(self._crashes - 2, 30))
            self._spawn_after = now + delay
        output = (self._spec and self._spec.process.output) or "stderr of fe, above"
        loops = self._crashes >= CRASH_LOOP
        reason = "local replicas crash in a row" if loops else "a local replica ended and is started again"
        self._fleet.note(
            "crash", reason, how=how, after_s=round(ran, 1), output=output, crashes=self._crashes,
            next_start_s=round(max(0.0, self._spawn_after - now), 3),
        )  # fmt: skip

    def _arm(self, now: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        delay: float | None = None
        if any(instance.stage is Stage.DRAINING for instance in self._instances.values()):
            delay = POLL
        elif now <= self._spawn_after and len(self._fresh()) < self._count and not self._retiring:
            delay = self._spawn_after - now + 0.001
        if delay is not None:
            self._timer = self._loop.call_later(delay, self._step)
