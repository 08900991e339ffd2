"""The control plane as a whole: its parts, wired together, and the life of a configuration.

Owns: start, take-over after a crash, reload, drain. Never: the process around it (`fe.controller` has its signals), nor
how a configuration is carried out (`fe.control.reconciler`). Everything runs on one loop that nothing here blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Final

import msgspec

from fe import model
from fe.config.load import load
from fe.config.schema import RouterConfig
from fe.config.snapshot import decode_config, encode_config, static_differences
from fe.control import actions
from fe.control.deployment import Surroundings
from fe.control.events import Events
from fe.control.health import HealthChecker
from fe.control.link import SupervisorLink
from fe.control.metrics import ReloadCounts, ScalingState
from fe.control.plan import build_plans, encode_for_workers, needs_ready
from fe.control.providers.local import LocalHost
from fe.control.providers.static import Resolve, SystemResolver
from fe.control.reconciler import Reconciler
from fe.control.scaler import Scaler
from fe.control.state import Legacy, decode_legacy, encode_legacy, load_state, save_state
from fe.errors import EXIT_INTERNAL, EXIT_OK, ConfigError, FeError
from fe.log import logger

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
        around = Surroundings(loop, self.table, self._checker, self._host, resolver, self.events)
        self.reconciler = Reconciler(around)
        self.scaler = Scaler(loop, self.table, self.events, lambda: self.reconciler.live, self.remember)
        self._encoded = b""  # the applied configuration, for the successor
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
            self._link.close()

    def end(self, code: int = EXIT_OK) -> None:
        """`run` returns."""
        if not self._ended.done():
            self._ended.set_result(code)

    def scaling(self) -> dict[str, ScalingState]:
        """What scaling says of each deployment; may be called from a thread."""
        return {name: track.state() for name, track in list(self.scaler.tracks.items())}

    # --- start ---

    async def _begin(self) -> None:
        try:
            left = self._left_behind()
            if left is not None:
                await self._take_up(*left)
            else:
                loaded = await self._load()
                await self._apply(loaded)
        except FeError as error:
            self._give_up(str(error), error.exit_code)
        except Exception as error:
            log.exception("the controller cannot start")
            self._give_up(f"the controller cannot start: {error}", EXIT_INTERNAL)
        else:
            self._link.send(model.Ready())
            self.scaler.start()
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

    async def _take_up(self, config: RouterConfig, legacy: Legacy) -> None:
        self._link.send(model.ListReplicas())
        running = await asyncio.wait_for(self._running, RUNNING_WITHIN)
        self.reconciler.take_up(build_plans(config), running, legacy.wanted, legacy.held)
        await self._apply(config)
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
        save_state(self._runtime.state_fd, encode_legacy(Legacy(self._encoded, wanted, held)))

    # --- configuration ---

    async def _load(self) -> RouterConfig:
        loaded = await asyncio.to_thread(load, self._runtime.config_path)
        for note in loaded.notes if self.config is not None else ():  # at the start fe-serve itself has said them
            log.info("configuration", note=note)
        return loaded.config

    async def _apply(self, config: RouterConfig) -> None:
        def commit() -> None:
            self._encoded = encode_config(config)
            self.write_down()
            self.config = config
            self.reloads.applied += 1
            self.reloads.last_ok = True
            self.reloads.last_applied = time.time()

        await self.reconciler.apply(
            build_plans(config),
            needs_ready(self.config, config),
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
        if self.draining or self.config is None:
            return ["fe-serve is starting or ending"]
        try:
            config = await self._load()
            if differences := static_differences(self.config, config):
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
        log.debug("draining: no scaling, no probes")
        self.draining = self._host.ending = True
        self.scaler.stop()
        self._checker.stop()

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
