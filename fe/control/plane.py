"""The control plane as a whole: its parts, wired together, and the life of a configuration.

Owns: start, take-over after a crash, reload, drain. Never: the process around it (`fe.controller` has its signals), nor
how a configuration is carried out (`fe.control.reconciler`). Everything runs on one loop that nothing here blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Final

import msgspec
from prometheus_client.core import Metric

from fe import model
from fe.config.load import load
from fe.config.schema import RouterConfig
from fe.config.snapshot import decode_config, encode_config, static_differences
from fe.control import actions
from fe.control.deployment import Deployment
from fe.control.events import Events
from fe.control.health import HealthChecker
from fe.control.link import SupervisorLink
from fe.control.metrics import ReloadCounts, ScalingState
from fe.control.plan import DeploymentPlan, build_plans, encode_for_workers, needs_ready
from fe.control.providers.base import Fleet
from fe.control.providers.local import LocalHost
from fe.control.providers.static import Resolve, SystemResolver
from fe.control.reconciler import Reconciler
from fe.control.scaler import Scaler, Track
from fe.control.sources import PodProvider, Surroundings
from fe.control.state import ClusterLegacy, Legacy, decode_legacy, encode_legacy, load_state, save_state
from fe.errors import EXIT_INTERNAL, EXIT_OK, ConfigError, FeError
from fe.log import logger

if TYPE_CHECKING:
    from fe.control.kubernetes.hub import Hub

log = logger("control")

RUNNING_WITHIN: Final = 10.0  # the supervisor answers which replicas run
ALIVE_PERIOD: Final = 1.0
LOOK_AFTER: Final = 0.01  # seconds after a ring
LOOK_ANYWAY: Final = 5  # seconds: a worker that is killed between a change and its ring leaves no ring


class ControlPlane:
    """Everything the controller does."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, runtime: model.ControllerRuntime, resolve: Resolve | None = None
    ) -> None:
        self._loop = loop
        self._runtime = runtime
        self.table = runtime.table
        self.config: RouterConfig | None = None  # the applied one
        self.draining = False
        self.reloads = ReloadCounts()
        self._ended: asyncio.Future[int] = loop.create_future()
        self._running: asyncio.Future[dict[str, int]] = loop.create_future()
        self._reload: asyncio.Task[None] | None = None
        self._looking = False
        self._seconds = 0
        self._link = SupervisorLink(loop, runtime.supervisor, self._on_message, self.end)
        self._host = LocalHost(self._link.send)
        self.events = Events()
        self._checker = HealthChecker(loop, self.table, self.events)
        resolver = resolve or SystemResolver(loop)
        around = Surroundings(loop, self.table, self._checker, self._host, resolver, self.events, self)
        self.reconciler = Reconciler(around)
        self.scaler = Scaler(loop, self.table, self.events, lambda: self.reconciler.live, self.remember)
        self.hub: Hub | None = None  # where the configuration asks for a cluster
        self._files: RouterConfig | None = None  # the applied configuration without what the cluster has brought
        self._turn = asyncio.Lock()  # one change at a time: of files, or of the cluster
        self._encoded = self._encoded_files = b""  # both, for the successor
        self._remembering = False

    async def run(self) -> int:
        """Until the supervisor's end closes or `end` is called. The exit code."""
        self._loop.add_reader(self._runtime.eventfd, self._on_ring)
        try:
            await self._begin()
            return await self._ended
        finally:
            self._loop.remove_reader(self._runtime.eventfd)
            self.scaler.stop()
            self._checker.stop()
            if self.hub is not None:
                await self.hub.stop()
            self._link.close()

    def end(self, code: int = EXIT_OK) -> None:
        """`run` returns."""
        if not self._ended.done():
            self._ended.set_result(code)

    def scaling(self) -> dict[str, ScalingState]:
        """What scaling says of each deployment; may be called from a thread."""
        return {name: track.state() for name, track in list(self.scaler.tracks.items())}

    def cluster_metrics(self) -> Iterable[Metric]:
        """Of Kubernetes, if there is a cluster; may be called from a thread."""
        return () if self.hub is None else self.hub.metrics()

    def live(self) -> Mapping[str, Deployment]:
        """Deployments, by "endpoint/deployment"."""
        return self.reconciler.live

    def tracks(self) -> Mapping[str, Track]:
        """How their numbers are followed."""
        return self.scaler.tracks

    def build_provider(self, fleet: Fleet, plan: DeploymentPlan, count: int) -> PodProvider:
        """For pods: a matter of the cluster."""
        assert self.hub is not None
        return self.hub.build_provider(fleet, plan, count)

    # --- start ---

    async def _begin(self) -> None:
        try:
            left = self._left_behind()
            if left is not None:
                await self._take_up(*left)
            else:
                loaded = await self._load()
                self._join(loaded, None)
                await self._apply(loaded)
        except FeError as error:
            self._give_up(str(error), error.exit_code)
        except Exception as error:
            log.exception("the controller cannot start")
            self._give_up(f"the controller cannot start: {error}", EXIT_INTERNAL)
        else:
            self._link.send(model.Ready())
            self.scaler.start()
            if self.hub is not None:
                self.hub.start()
            self._on_second()

    def _give_up(self, why: str, code: int) -> None:
        self._link.send(model.Fatal(why, code))
        self.end(code)

    def _left_behind(self) -> tuple[RouterConfig, Legacy] | None:
        """What a former controller had applied."""
        raw = load_state(self._runtime.state_fd)
        if raw is None:
            return None
        try:
            legacy = decode_legacy(raw)
            return decode_config(legacy.config), legacy
        except msgspec.DecodeError as error:
            log.error("the former controller's configuration cannot be read, the file is loaded", reason=error)
            return None

    def _join(self, config: RouterConfig, legacy: ClusterLegacy | None) -> None:
        """Makes what belongs to the cluster, if there is one; it is not imported without need."""
        if config.kubernetes is not None:
            from fe.control.kubernetes.hub import Hub

            self.hub = Hub(config.kubernetes, self, legacy, config)

    async def _take_up(self, config: RouterConfig, legacy: Legacy) -> None:
        self._link.send(model.ListReplicas())
        running = await asyncio.wait_for(self._running, RUNNING_WITHIN)
        self._join(config, legacy.cluster)
        self.reconciler.take_up(build_plans(config), running, legacy.wanted, legacy.held)
        await self._apply(config if legacy.cluster is None else decode_config(legacy.cluster.files), config)
        figures = {"local_replicas": len(running)}
        self.events.add("takeover", "taken over from a former controller", figures=figures)

    def remember(self) -> None:
        """What a successor has to know has changed; it is written down once in a turn of the loop."""
        if not self._remembering:
            self._remembering = True
            self._loop.call_soon(self.write_down)

    def write_down(self) -> None:
        """As `remember`, at once: before somebody is told that it is done."""
        self._remembering = False
        if not self._encoded or self._ended.done():
            return
        live = self.reconciler.live
        wanted = {name: one.wanted for name, one in live.items() if one.scalable}
        held = {name: tuple(sorted(one.held)) for name, one in live.items() if one.held}
        cluster = None if self.hub is None else self.hub.legacy(self._encoded_files)
        save_state(self._runtime.state_fd, encode_legacy(Legacy(self._encoded, wanted, held, cluster)))

    # --- configuration ---

    async def _load(self) -> RouterConfig:
        loaded = await asyncio.to_thread(load, self._runtime.config_path)
        for note in loaded.notes if self.config is not None else ():  # at the start fe-serve itself has said them
            log.info("configuration", note=note)
        return loaded.config

    async def _apply(self, files: RouterConfig, applied: RouterConfig | None = None) -> None:
        """Carries out what the files say, with what the cluster has beside it. `applied`: what is served now."""
        async with self._turn:
            applied = applied or self.config
            config = files if self.hub is None else self.hub.combined(files, applied)
            await self._carry_out(files, config)

    async def follow_cluster(self) -> None:
        """Objects of the cluster have changed. Raises ConfigError, with nothing changed."""
        async with self._turn:
            if self.hub is None or self._files is None or self.draining:
                return
            config = self.hub.combined(self._files, self.config)
            if config != self.config:
                await self._carry_out(self._files, config)
                figures = {"version": self.reconciler.version}
                self.events.add("reload", "objects of the cluster have changed", figures=figures)

    async def _carry_out(self, files: RouterConfig, config: RouterConfig) -> None:
        def commit() -> None:
            self._encoded, self._encoded_files = encode_config(config), encode_config(files)
            self.config, self._files = config, files
            self.write_down()
            self.reloads.applied += 1
            self.reloads.last_ok = True
            self.reloads.last_applied = time.time()

        needed = needs_ready(self.config, config)
        await self.reconciler.apply(
            build_plans(config),
            lambda name: needed(name) and not (self.hub is not None and self.hub.served.found(name)),
            lambda deployments: encode_for_workers(config, deployments),
            commit,
        )
        self.scaler.follow()
        self.remember()

    def on_hangup(self) -> None:
        """SIGHUP: the configuration is loaded again. A reload that still waits for replicas gives way to this one."""
        former = self._reload
        self._reload = self._loop.create_task(self._reload_after(former))

    async def _reload_after(self, former: asyncio.Task[None] | None) -> None:
        if former is not None and not former.done():
            log.info("the reload under way gives way to a newer one")
            former.cancel()
            await asyncio.wait([former])
        problems = await self._try_reload()
        if problems:
            self.reloads.refused += 1
            self.reloads.last_ok = False
            for problem in problems:
                log.error("reload refused, the running configuration stays", reason=problem)
        else:
            figures = {"version": self.reconciler.version}
            self.events.add("reload", "configuration reloaded", figures=figures)
        self._link.send(model.Reloaded("; ".join(problems) or None))

    async def _try_reload(self) -> list[str]:
        """What was wrong; empty: the configuration of the file is applied."""
        if self.draining or self._files is None:
            return ["fe-serve is starting or ending"]
        try:
            config = await self._load()
            if self.hub is not None:
                self.hub.read_again()
            if differences := static_differences(self._files, config):
                raise ConfigError(differences)
            await self._apply(config)
        except ConfigError as error:
            problems = error.problems
        except Exception as error:
            log.exception("the reload failed")
            problems = [f"internal error: {error}"]
        else:
            return []
        self.reconciler.drop_prepared()
        return problems

    # --- what happens ---

    def _on_second(self) -> None:
        if self._ended.done():
            return
        self._link.send(model.Alive())
        self._seconds += 1
        if self._seconds % LOOK_ANYWAY == 0:
            self._look()
        self._loop.call_later(ALIVE_PERIOD, self._on_second)

    def _on_message(self, message: model.ToController) -> None:
        if isinstance(message, model.Spawned):
            self._host.on_spawned(message)
        elif isinstance(message, model.Exited):
            self._host.on_exited(message)
        elif isinstance(message, model.Running):
            if not self._running.done():
                self._running.set_result(message.replicas)
        else:
            self._on_drain()

    def _on_drain(self) -> None:
        log.debug("draining: no scaling, no probes but of those that start")
        self.draining = self._host.ending = True
        self.scaler.stop()
        self._checker.wind_down()
        if self.hub is not None:
            self.hub.yield_lead()

    def _on_ring(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._runtime.eventfd, 8)
        if not self._looking:  # many rings in a row are one look
            self._looking = True
            self._loop.call_later(LOOK_AFTER, self._look)

    def _look(self) -> None:
        self._looking = False
        self._checker.scan()
        self.reconciler.poke()
        self.scaler.look()

    # --- by hand ---

    def scale_by_hand(self, name: str, count: int) -> int:
        """See `fe.control.actions`, as for the next two. Raises ActionError."""
        return actions.scale(self, name, count)

    def drain(self, name: str, replica: str) -> None:
        actions.drain(self, name, replica)

    def undrain(self, name: str, replica: str) -> None:
        actions.undrain(self, name, replica)
