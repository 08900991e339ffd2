"""An emulated cluster in a thread of its own, whose pods answer HTTP on loopback addresses: for a real fe-serve.

Owns: the thread and its loop, the model servers of the pods, and what a kubelet does to them: a pod that is deleted
serves on until nothing has come for a while, then refuses connections, finishes what it has and is gone: as one with a
preStop hook that is long enough, on any machine. Everything ends with the block.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import uvloop

from tests.kubernetes.emulator import Emulator
from tests.kubernetes.relay import Relay
from tests.kubernetes.scene import PODS, install
from tests.support.fe_process import free_port, wait_for

T = TypeVar("T")
Json = dict[str, Any]
TICK = 0.05  # seconds
QUIET = 40  # ticks without a request after which a pod that is deleted closes
STOP = 0.5  # a tick that takes this long was no time for anybody
LIMIT = 60.0  # nothing takes that long
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok"


class ModelServer:
    """One pod's server. Capacity is nobody's business here: every request takes `service` seconds."""

    def __init__(self, town: Town, address: str) -> None:
        self.town, self.address = town, address
        self.writers: set[asyncio.StreamWriter] = set()
        self._idle: set[asyncio.StreamWriter] = set()
        self._sock = socket.socket()
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._sock.bind((address, town.port))
        self._sock.listen(256)
        self._server: asyncio.Server | None = None
        self.closing = False

    async def run(self) -> None:
        self._server = await asyncio.start_server(self._serve, sock=self._sock)
        if self.closing:
            self.close()

    def close(self) -> None:
        """Connections are refused, those without a request are ended."""
        self.closing = True
        if self._server is not None:
            self._server.close()
        for writer in self._idle:
            writer.close()

    def kill(self) -> None:
        """Whatever it was doing."""
        self.close()
        for writer in self.writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        try:
            while not self.closing:
                self._idle.add(writer)
                head = await reader.readuntil(b"\r\n\r\n")
                self._idle.discard(writer)
                self.town.served[self.address] += 1
                lines = head.lower().split(b"\r\n")
                length = next((line for line in lines if line.startswith(b"content-length:")), b":0")
                await reader.readexactly(int(length.partition(b":")[2]))
                await asyncio.sleep(self.town.service)
                if writer.is_closing():
                    return
                writer.write(ANSWER)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self._idle.discard(writer)
            self.writers.discard(writer)
            writer.close()


class Town:
    """Use it in a `with` block. `service`: seconds that a request takes."""

    def __init__(self, service: float = 0.005) -> None:
        self.service = service
        self.port = free_port()
        self.served: Counter[str] = Counter()  # requests by address
        self.servers: dict[str, ModelServer] = {}
        self.emulator: Emulator
        self.prompt = True  # new pods run and are ready at once
        self._loop = uvloop.new_event_loop()
        self._numbers = iter(range(1, 60_000))
        self._ready = threading.Event()
        self._end: asyncio.Event
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stops: list[tuple[float, float]] = []  # when this loop went on, after how many seconds too many
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Town:
        self._thread.start()
        assert self._ready.wait(LIMIT)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(LIMIT)
        assert not self._thread.is_alive()

    def do(self, work: Coroutine[Any, Any, T], limit: float = LIMIT) -> T:
        """Runs it on the cluster's loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(limit)

    def now(self, work: Callable[[], T]) -> T:
        """Calls it on the cluster's loop."""

        async def call() -> T:
            return work()

        return self.do(call())

    def clock(self) -> float:
        """As the emulator's records have it."""
        return self._loop.time()

    def stopped(self, since: float, until: float) -> float:
        """Seconds for which the machine kept this loop from running, as far as they ended in that time."""
        return sum(late for at, late in list(self._stops) if since <= at <= until)

    def kubeconfig(self, folder: Path, user: str = "admin", relay: Relay | None = None) -> str:
        """relay: the way to the API server."""
        self.now(lambda: self.emulator.user(user))
        file = self.emulator.kubeconfig(folder / f"kubeconfig-{user}", user, namespace="models")
        return str(file if relay is None else relay.through(file))

    # --- what happens in it ---

    def create(self, *bodies: Json) -> None:
        for body in bodies:
            self.do(self.emulator.create(body))

    def patch(self, path: str, patch: Json) -> None:
        self.do(self.emulator.patch(path, patch))

    def replicas(self, name: str = "m") -> int:
        body = self.do(self.emulator.get(f"/apis/apps/v1/namespaces/models/deployments/{name}"))
        return int(body["spec"]["replicas"])

    def pods(self) -> dict[str, Json]:
        """By name, those that run and are not being deleted."""
        return {pod["metadata"]["name"]: pod for pod in self.now(self.emulator.pods) if _runs(pod)}

    def delete(self, name: str) -> None:
        self.do(self.emulator.delete(f"{PODS}/{name}"))

    def end(self, name: str) -> None:
        """Deletes a pod whose kubelet waits for nothing."""
        address = self.pods()[name]["status"]["podIP"]
        self.delete(name)
        self.now(lambda: self.servers[address].close())

    def ready(self, name: str, ready: bool) -> None:
        self.now(lambda: self.emulator.nodes.ready("models", name, ready))

    def act(self, what: str, number: int) -> str | None:
        """Deletes one of the pods that run, or turns its probe ("ready", "unready"); its address, if there was one."""

        async def work() -> str | None:
            running = [pod for pod in self.emulator.pods() if _runs(pod)]
            if not running:
                return None
            pod = running[number % len(running)]
            name = pod["metadata"]["name"]
            if what == "delete":
                await self.emulator.delete(f"{PODS}/{name}")
            else:
                self.emulator.nodes.ready("models", name, what == "ready")
            return str(pod["status"]["podIP"])

        return self.do(work())

    def wait_pods(self, count: int) -> dict[str, Json]:
        wait_for(lambda: len(self.pods()) == count, f"{count} pods run")
        return self.pods()

    # --- inside ---

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._life())
        self._loop.close()

    async def _life(self) -> None:
        self._end = asyncio.Event()
        async with Emulator() as self.emulator:
            await install(self.emulator)
            self.emulator.nodes.stop_after = float("inf")
            self.emulator.nodes.run(self._begin)
            self.emulator.store.listen(self._on_change)
            self._spawn(self._count_stops())
            self._ready.set()
            await self._end.wait()
            for server in self.servers.values():
                server.kill()
            for task in tuple(self._tasks):
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _count_stops(self) -> None:
        while True:
            due = self._loop.time() + TICK
            await asyncio.sleep(TICK)
            if self._loop.time() > due + TICK:
                self._stops.append((self._loop.time(), self._loop.time() - due))

    def _begin(self, _pod: Json) -> list[str] | None:
        if not self.prompt:
            return None
        number = next(self._numbers)
        address = f"127.2.{number // 250}.{number % 250 + 1}"
        server = self.servers[address] = ModelServer(self, address)
        self._spawn(server.run())
        return [address]

    def _on_change(self, change: Any) -> None:
        if change.id != "pods":
            return
        address = change.last["status"].get("podIP")
        if change.new is None:
            if address in self.servers:
                self.servers.pop(address).kill()
        elif "deletionTimestamp" in change.new["metadata"] and "deletionTimestamp" not in change.old["metadata"]:
            self._spawn(self._end_pod(change.key, self.servers.get(address)))

    async def _end_pod(self, key: tuple[str, str], server: ModelServer | None) -> None:
        """Time in which this loop was stopped does not count: nobody could learn of the deletion, and what was sent
        meanwhile has not been read."""
        quiet, served = 0, -1
        while server is not None and quiet < QUIET and not server.closing:
            before = self._loop.time()
            await asyncio.sleep(TICK)
            if self.served[server.address] != served:
                quiet, served = 0, self.served[server.address]
            elif self._loop.time() < before + STOP:
                quiet += 1
        if server is not None:
            server.close()
            while server.writers:
                await asyncio.sleep(TICK)
        self.emulator.nodes.finish(*key)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _runs(pod: Json) -> bool:
    return "podIP" in pod["status"] and "deletionTimestamp" not in pod["metadata"]
