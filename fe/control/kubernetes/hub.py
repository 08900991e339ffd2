"""The cluster as the control plane sees it: its parts, wired together, and their life.

Owns: the connection, one view per namespace, the targets, election and siblings; the moment at which changed objects
become a changed configuration. Never: how a configuration is carried out (`fe.control.plane`), what is written to
objects (`reporter`) or said to people (`events`).

While the API server is away everything stays as it was last seen. After a restart the former controller's
configuration is served until everything has been seen again. Read next: view.py, then targets.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import Counter
from collections.abc import Coroutine, Iterator, Mapping
from typing import Any, Final, Protocol

from prometheus_client.core import Metric

from fe.config import schema
from fe.control.deployment import Deployment
from fe.control.events import Events
from fe.control.kubernetes import figures
from fe.control.kubernetes.client import AccessError
from fe.control.kubernetes.election import Elector, NotLeadingError, Timing
from fe.control.kubernetes.events import Recorder
from fe.control.kubernetes.pods import PodsProvider
from fe.control.kubernetes.reporter import Reporter
from fe.control.kubernetes.served import Served
from fe.control.kubernetes.siblings import Siblings
from fe.control.kubernetes.targets import Bar, Target
from fe.control.kubernetes.view import EVERYWHERE, View
from fe.control.kubernetes.watch import Backoff, Key
from fe.control.plan import DeploymentPlan
from fe.control.providers.base import Fleet
from fe.control.scaler import Track
from fe.control.state import ClusterLegacy
from fe.errors import ConfigError
from fe.log import logger

log = logger("control.kubernetes")

DEBOUNCE: Final = 0.05  # seconds: objects that are applied together are one change
SETTLE_POLL: Final = 0.1
WAITING_LOOK: Final = 0.25  # likewise, while traffic waits for a first ready replica
RETRY: Final = 5.0  # seconds after a change that could not be carried out
KNOWN_WITHIN: Final = 15.0  # so long a start may wait for the cluster before fe calls itself ready without
STOP_WITHIN: Final = 3.0
NOWHERE: Final = ""  # the namespace of a target as long as fe's own is not known


class Router(Protocol):
    """The control plane."""

    events: Events
    config: schema.RouterConfig | None  # the applied one

    def live(self) -> Mapping[str, Deployment]: ...

    def tracks(self) -> Mapping[str, Track]: ...

    async def follow_cluster(self) -> None: ...

    def remember(self) -> None: ...


class Hub:
    """Everything that fe has to do with one cluster.

    legacy, former: what a former controller knew of it, and the configuration that it served.
    """

    def __init__(
        self,
        settings: schema.Kubernetes,
        router: Router,
        legacy: ClusterLegacy | None = None,
        former: schema.RouterConfig | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        election = settings.election
        self.settings = settings
        self.identity = settings.identity or environ.get("POD_NAME") or socket.gethostname()
        self.namespace = environ.get("POD_NAMESPACE") or (legacy.namespace if legacy is not None else NOWHERE)
        self.cluster = figures.Counted(settings.kubeconfig, settings.context)
        self.views: dict[str, View] = {}
        self.targets: dict[Key, Target] = {}
        self.providers: dict[str, PodsProvider] = {}
        self.served = Served(self.views, self.is_ready, legacy, former)
        self.writes: Counter[str] = Counter()
        self.elector: Elector | None = None
        self.siblings: Siblings | None = None
        self.started = time.monotonic()
        self._router = router
        self._timing = Timing(election.duration, election.renew_deadline, election.retry)
        self._changed = asyncio.Event()
        self._led_since: float | None = None
        self._running = self._ending = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._yielding: asyncio.Task[None] | None = None
        self._recorder = Recorder(self)
        self._reporter = Reporter(self, router)

    # --- life ---

    def start(self) -> None:
        """Begins to look, in tasks that `stop` ends."""
        self._router.events.listeners.append(self._recorder.on_event)
        self._spawn(self._run())

    def yield_lead(self) -> None:
        """fe-serve ends: somebody else scales from now on. What becomes of pods is still followed."""
        self._ending = True
        self._drop_writes()
        if self.elector is not None:
            self._yielding = asyncio.get_running_loop().create_task(self.elector.stop())

    async def stop(self) -> None:
        """Gives the lead up and ends everything; within seconds."""
        self._ending = True
        self._drop_writes()
        for task in tuple(self._tasks):
            task.cancel()
        try:
            async with asyncio.timeout(STOP_WITHIN):
                if self._yielding is not None:
                    await self._yielding
                for one in (self.elector, self.siblings, *self.views.values()):
                    if one is not None:
                        await one.stop()
        except TimeoutError:
            log.warning("the cluster did not let go in time; the lease ends by itself")
        await self.cluster.close()

    async def _run(self) -> None:
        await self._find_namespace()
        self._running = True
        for namespace in self.settings.namespaces or (self.namespace,):
            self._view(namespace)
        for view in self.views.values():
            view.start()
        for target in [one for one in self.targets.values() if one.key[0] == NOWHERE]:
            del self.targets[target.key]
            target.move((self.namespace, target.key[1]))
            self._place(target)
        election = self.settings.election
        self.siblings = Siblings(self.cluster, self.namespace, self.settings.siblings)
        self.elector = Elector(
            self.cluster, election.namespace or self.namespace, election.lease, self.identity, self._on_leading,
            timing=self._timing,
        )  # fmt: skip
        self.siblings.start()
        self.elector.start()
        self._spawn(self._reporter.run())
        self._spawn(self._recorder.run())
        await self._follow()

    async def _find_namespace(self) -> None:
        backoff = Backoff()
        while self.namespace == NOWHERE:
            try:
                self.namespace = (await self.cluster.open()).namespace
            except AccessError as error:
                log.warning("the cluster cannot be used", reason=error)
                await asyncio.sleep(backoff.next())

    async def _follow(self) -> None:
        """Every change of objects becomes one of the configuration, as soon as everything is known."""
        while not self.served.settled:
            await asyncio.sleep(SETTLE_POLL)
        self._changed.set()
        failed = False  # then it is `_later`'s turn, or that of another change
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(WAITING_LOOK if self.served.waiting and not failed else None):
                    await self._changed.wait()
                    await asyncio.sleep(DEBOUNCE)
            if not self._changed.is_set() and not self._awaited_is_ready():
                continue
            self._changed.clear()
            failed = True
            try:
                await self._router.follow_cluster()
                self.served.on_carried_out()
                self._forget()
                failed = False
            except ConfigError as error:
                log.error("a change in the cluster cannot be carried out", reason=error)
                self._later()
            except Exception:
                log.exception("a change in the cluster failed")
                self._later()

    def _awaited_is_ready(self) -> bool:
        """A deployment that traffic waits for has got a replica."""
        waiting = self.served.waiting.items()
        return any(self.is_ready(f"{endpoint}/{name}") for endpoint, names in waiting for name in names)

    def _later(self) -> None:
        asyncio.get_running_loop().call_later(RETRY, self._changed.set)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._on_done)

    def _on_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            log.error("a part of the cluster's view has failed", reason=repr(error))

    def show(self) -> dict[str, Any]:
        """For /api/status; may be called from a thread."""
        return figures.show(self)

    def metrics(self) -> Iterator[Metric]:
        """For /metrics; may be called from a thread."""
        return figures.collect(self)

    # --- objects and the configuration ---

    @property
    def unknown(self) -> str:
        """Why fe cannot say yet which models there are; "" when it can, or has waited long enough."""
        if self.served.known or time.monotonic() > self.started + KNOWN_WITHIN:
            return ""
        return "the cluster's models are not known yet"

    def combined(self, files: schema.RouterConfig, applied: schema.RouterConfig | None) -> schema.RouterConfig:
        """As `Served.combine`."""
        return self.served.combine(files, applied, self.namespace)

    def legacy(self, files: bytes) -> ClusterLegacy:
        """As `Served.legacy`."""
        return self.served.legacy(files, self.namespace)

    def read_again(self) -> None:
        """Files that objects refer to may have changed."""
        for view in self.views.values():
            view.read_again()

    @property
    def applied(self) -> schema.RouterConfig | None:
        """What is served now."""
        return self._router.config

    def is_ready(self, name: str) -> bool:
        """A deployment has a replica that serves, or is scaled to zero: the first request starts one."""
        deployment = self._router.live().get(name)
        if deployment is None:
            return False
        return deployment.load.ready > 0 or self.starts_on_request(deployment)

    def starts_on_request(self, deployment: Deployment) -> bool:
        """It has no replica and wants none; the first request starts one."""
        provider = self.providers.get(deployment.name)
        scale = deployment.plan.scale
        missing = provider is not None and provider.target.workload is None
        return scale is not None and scale.min_instances == 0 == deployment.wanted and not missing

    def on_objects(self) -> None:
        """What is to be served may have changed."""
        self._changed.set()

    # --- pods ---

    def build_provider(self, fleet: Fleet, plan: DeploymentPlan, count: int) -> PodsProvider:
        """A provider for the pods that the plan names."""
        source = plan.source
        assert isinstance(source, schema.KubernetesReplicas)
        key = (source.namespace or self.namespace, source.deployment)
        target = self.targets.get(key)
        if target is None:
            target = Target(key, self, self)
            self._place(target)
        made = PodsProvider(fleet, asyncio.get_running_loop(), target, plan, count, self._router.remember)
        self.providers[fleet.name] = made
        return made

    def _place(self, target: Target) -> None:
        self.targets[target.key] = target
        if target.key[0] != NOWHERE:
            self._view(target.key[0]).fill(target)

    def _view(self, namespace: str) -> View:
        """The view in which a namespace is; begun, if there was none."""
        searched = self.settings.namespaces or (self.namespace,)
        name = EVERYWHERE if EVERYWHERE in searched else namespace
        view = self.views.get(name)
        if view is None:
            known, objects = self.served.paths, name in searched
            view = self.views[name] = View(self.cluster, name, self, known, self.served.heritage, objects=objects)
            if self._running:
                view.start()
        return view

    def _forget(self) -> None:
        """Targets that nobody uses any more."""
        self.providers = {name: one for name, one in self.providers.items() if not one.retired}
        used = {one.target for one in self.providers.values()}
        self.targets = {key: one for key, one in self.targets.items() if one.users or one in used}

    # --- who scales ---

    @property
    def leading(self) -> bool:
        return self.elector is not None and self.elector.leading

    @property
    def leader(self) -> str:
        """Who scales, as far as it is known."""
        return "" if self.elector is None else self.elector.leader.rpartition("_")[0]

    def fence(self) -> float:
        """Seconds for which this front-end leads, for certain. Raises NotLeadingError."""
        if self.elector is None or self._ending:
            raise NotLeadingError("this front-end does not lead")
        return self.elector.fence()

    def led_for(self) -> float:
        """Seconds since this front-end began to lead; below 0: it does not."""
        return -1.0 if self._led_since is None else time.monotonic() - self._led_since

    def may_lead(self) -> Bar | None:
        """What keeps this front-end from scaling anything."""
        if self._ending:
            return Bar("NotLeading", "this front-end is ending")
        if self.leading:
            return None
        if self.elector is None or self.elector.trouble:
            why = "the election has not begun" if self.elector is None else self.elector.trouble
            return Bar("NotLeading", f"this front-end does not lead: {why}")
        return Bar("NotLeading", f"the front-end {self.leader} scales" if self.leader else "no front-end leads yet")

    def stale_for(self, key: Key) -> float:
        """Seconds since the namespace of a target was last seen as it is."""
        view = self.views.get(EVERYWHERE) or self.views.get(key[0])
        return float("inf") if view is None else view.stale_for()

    def front_ends(self) -> int:
        """How many there are, as far as it is known."""
        return 0 if self.siblings is None else len(self.siblings.members)

    def _on_leading(self, leading: bool) -> None:
        self._led_since = time.monotonic() if leading else None
        if not leading:
            self._drop_writes()
        text = "this front-end scales from now on" if leading else "this front-end does not scale any more"
        self._router.events.add("leader", text)

    def _drop_writes(self) -> None:
        for target in self.targets.values():
            target.scale.drop()
