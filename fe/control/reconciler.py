"""From what should be (plans, one per deployment) to what is (the lease table), in an order that loses no request.

Owns: the set of deployments, the order of a change: add and wait until ready, commit, publish, and only when the
workers use the new snapshot remove. Never: one deployment's replicas (`fe.control.deployment`), reading configuration
(`fe.control.plane`). A change that cannot be carried out is undone whole and leaves what ran as it was.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

from fe._core import HOLDER_ACTIVE
from fe.control.addresses import pack_inet
from fe.control.deployment import Deployment, drained
from fe.control.plan import DeploymentPlan
from fe.control.providers.local import ReplicaId
from fe.control.sources import Surroundings
from fe.errors import ConfigError
from fe.log import logger

log = logger("control.reconciler")

DEPLOYMENT_ACTIVE: Final = 1  # DeploymentLoad.state
DEPLOYMENT_REMOVING: Final = 2
READY_POLL: Final = 0.05
CLEAR_WITHIN: Final = 30.0  # what a former controller left gets this long for its requests
NOTICED_WITHIN_NS: Final = 2_000_000_000  # a healthy worker uses a published snapshot well within this
BEAT_NS: Final = 100_000_000  # between two signs of life of a worker, at most
OTHERS_WITHIN: Final = 10.0  # seconds that further replicas get once the first is ready

Encode = Callable[[Mapping[str, Deployment]], bytes]


class Reconciler:
    """All deployments."""

    def __init__(self, around: Surroundings, ready_limit: float = 300.0) -> None:
        self._around = around
        self._table = around.table
        self._ready_limit = ready_limit
        self._tasks: set[asyncio.Task[None]] = set()
        self._prepared: dict[str, Deployment] = {}  # by a change that was called off: the next one may want them
        self.live: dict[str, Deployment] = {}
        self.closing: list[Deployment] = []
        self.version = 0  # of the published snapshot

    # --- taking up what a former controller left ---

    def take_up(
        self,
        plans: Mapping[str, DeploymentPlan],
        running: Mapping[str, int],
        wanted: Mapping[str, int] = MappingProxyType({}),
        held: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> None:
        """Adopts deployments, replicas and local processes that exist; `apply` the same plans at once afterwards.

        wanted, held: by deployment, see `Deployment.take_up`.
        """
        local: dict[str, list[ReplicaId]] = {}
        for text in running:
            id_ = ReplicaId.parse(text)
            if id_ is None:
                self._around.host.stop(text)
            else:
                local.setdefault(id_.deployment, []).append(id_)
        loads = {index: self._table.deployment(index) for index in self._table.deployments()}
        for index, load in loads.items():  # first, so that a successor of the same name does not get their replicas
            if load.state == DEPLOYMENT_REMOVING:
                self._spawn_task(self._clear(index, load.generation, self._claim(index, local.get(load.name, []))))
        for index, load in loads.items():
            if load.state != DEPLOYMENT_ACTIVE:
                continue
            ids, plan = local.pop(load.name, []), plans.get(load.name)
            if plan is not None and load.name not in self.live:
                more = wanted.get(load.name), held.get(load.name, ())
                self.live[load.name] = Deployment.take_up(self._around, plan, index, ids, *more)
                self.live[load.name].start()
            else:
                self._spawn_task(self._clear(index, load.generation, ids))
        for ids in local.values():
            for id_ in ids:
                self._around.host.stop(id_.text)

    def _claim(self, index: int, ids: list[ReplicaId]) -> list[ReplicaId]:
        """Takes those out of `ids` whose records belong to this deployment."""
        addresses = {self._table.replica(replica).sockaddr for replica in self._table.replicas(index)}
        mine = [id_ for id_ in ids if pack_inet("127.0.0.1", id_.port) in addresses]
        ids[:] = [id_ for id_ in ids if id_ not in mine]
        return mine

    async def _clear(self, index: int, generation: int, local: list[ReplicaId]) -> None:
        """Ends a deployment of the table that no configuration names."""
        if self._table.deployment(index).state == DEPLOYMENT_ACTIVE:
            await self._noticed(time.monotonic_ns())  # its former snapshot may name it; the new one is just out
            await drained(self._table, index, generation, CLEAR_WITHIN, queue_only=True)
            self._table.remove_deployment(index)
        await drained(self._table, index, generation, CLEAR_WITHIN)
        for id_ in local:
            self._around.host.stop(id_.text)

    # --- a change of configuration ---

    async def apply(
        self,
        plans: Mapping[str, DeploymentPlan],
        awaited: Callable[[str], bool],
        encode: Encode,
        commit: Callable[[], None],
    ) -> None:
        """Carries out `plans`. Raises ConfigError, with nothing changed, when that is not possible.

        awaited: whether a deployment without a ready replica has to get one before the change; encode: the snapshot
        for these deployments; commit: called when nothing can fail any more, before the first visible change.
        """
        try:
            self._prepare(plans)
            future = {name: self.live.get(name) or self._prepared[name] for name in plans}
            snapshot = encode(future)
            if len(snapshot) > self._table.limits.config_bytes:
                most = self._table.limits.config_bytes
                raise ConfigError([f"workers would read {len(snapshot)} bytes of it, limits.config_bytes is {most}"])
            await self._wait_ready([deployment for name, deployment in future.items() if awaited(name)])
        except Exception:
            self.drop_prepared()
            raise
        self._prepared.clear()
        commit()
        self._carry_out(future, plans, snapshot)

    def drop_prepared(self) -> None:
        """What a change that did not come about had prepared is not needed."""
        for deployment in self._prepared.values():
            self._spawn_task(self._close(deployment))
        self._prepared.clear()

    def _prepare(self, plans: Mapping[str, DeploymentPlan]) -> None:
        """Adds what is new; nobody is sent there yet."""
        for name in [name for name in self._prepared if name not in plans]:
            self._spawn_task(self._close(self._prepared.pop(name)))
        for name, plan in plans.items():
            if name in self._prepared:
                self._prepared[name].apply(plan)
            elif name not in self.live:
                self._prepared[name] = self._create(plan)
                self._prepared[name].start()

    def _carry_out(self, future: dict[str, Deployment], plans: Mapping[str, DeploymentPlan], snapshot: bytes) -> None:
        for name, plan in plans.items():
            future[name].apply(plan)
        removed = [deployment for name, deployment in self.live.items() if name not in plans]
        self.live = future
        self.version = self._table.publish(snapshot)
        published = time.monotonic_ns()
        for deployment in removed:
            self._spawn_task(self._close(deployment, published))

    def _create(self, plan: DeploymentPlan) -> Deployment:
        try:
            return Deployment.create(self._around, plan)
        except (OverflowError, ValueError) as error:
            raise ConfigError([f"deployment {plan.name} cannot be added: {error}"]) from error

    async def _wait_ready(self, awaited: list[Deployment]) -> None:
        """Until each of them has a ready replica, and as many as it should have or some patience for them has ended."""
        now = self._around.loop.time()
        deadline, patience = now + self._ready_limit, now + OTHERS_WITHIN
        while self._around.loop.time() < deadline:
            now = self._around.loop.time()
            loads = [(one.load.ready, one.wanted) for one in awaited]
            if not all(ready or not wanted for ready, wanted in loads):
                patience = now + OTHERS_WITHIN  # not even the first
            elif now >= patience or all(ready >= wanted for ready, wanted in loads):
                return
            await asyncio.sleep(READY_POLL)
        raise ConfigError([
            f"deployment {one.name} has no ready replica within {self._ready_limit:g} s, so it cannot take traffic over"
            for one in awaited
            if not one.load.ready
        ])  # fmt: skip

    async def _close(self, deployment: Deployment, published: int | None = None) -> None:
        self.closing.append(deployment)
        try:
            if published is not None:
                await self._noticed(published)
            await deployment.close()
        finally:
            self.closing.remove(deployment)

    async def _noticed(self, published_ns: int) -> None:
        """Until every active worker has gone round its loop since then, with one beat to spare. Bounded.

        A worker that is later than this loses nothing: its requests are told GONE and routed anew.
        """
        table = self._table
        while time.monotonic_ns() < published_ns + NOTICED_WITHIN_NS:
            states = [table.holder_state(index) for index in range(table.limits.workers)]
            if all(state.state != HOLDER_ACTIVE or state.beat_ns > published_ns + BEAT_NS for state in states):
                return
            await asyncio.sleep(READY_POLL)

    # --- the rest ---

    def poke(self) -> None:
        """A removal or a drain has emptied somewhere."""
        for deployment in (*self.live.values(), *self._prepared.values(), *self.closing):
            if deployment.draining:
                deployment.poke()

    def _spawn_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._around.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)

    def _on_task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a deployment could not be ended cleanly", reason=repr(error))
