"""Tools for tests of the control plane: tests on a loop, a table, scripted HTTP replicas, a peer that runs commands.

Owns: what several tests need. Everything is real: the table, the sockets, the processes; only the supervisor may be
stood in for (`LocalPeer`), where a whole fe-serve would be too heavy. Every wait has a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import selectors
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import uvloop

from fe import model
from fe._core import Holder, Limits, Table
from fe.config.schema import ProcessReplicas, RouterConfig
from fe.control.addresses import display, pack_inet
from fe.control.deployment import Deployment
from fe.control.health import HealthChecker, HealthPolicy
from fe.control.metrics import REPLICA_STATES
from fe.control.plan import DeploymentPlan
from fe.control.providers.local import LocalHost
from fe.control.providers.process import ProcessSpec
from fe.control.sources import Surroundings

LIMIT = 45.0  # of a wait that ends much earlier, on any machine
Resolve = Callable[[str, int], Awaitable[list[bytes]]]
LIMITS = Limits(deployments=16, replicas=64, holders=4, slots=64, workers=2, config_bytes=65536)

# A replica in a few lines: answers every request with its pid and mark, and starts in a few hundredths of a second.
SERVE = """
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(os.environ["PORT"])), backlog=64)
while True:
    connection, _ = listener.accept()
    connection.settimeout(60)
    try:
        connection.recv(65536)
        body = f"{os.getpid()} {os.environ.get('MARK', '')}".encode()
        head = b"HTTP/1.1 200 OK\\r\\nConnection: close\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body)
        connection.sendall(head + body)
    except OSError:
        pass
    connection.close()
"""
COMMAND = (sys.executable, "-S", "-c", SERVE)


def on_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async test on uvloop, within twice the limit of a wait."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        async def limited() -> None:
            await asyncio.wait_for(test(*args, **kwargs), LIMIT * 2)

        uvloop.run(limited())

    return run


class Skipping(selectors.DefaultSelector):
    """Waits for nothing but what comes at once: time is skipped instead."""

    skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(timeout if timeout is None else min(timeout, 0.001))
        if not found:
            self.skipped += timeout or 0.0
        return found


class VirtualLoop(asyncio.SelectorEventLoop):
    """Time passes only while there is nothing to do: how fast the machine is, and whether it stops, does not matter.
    Everything has to run on this loop: no thread, no other process."""

    def __init__(self) -> None:
        self._passed = Skipping()
        super().__init__(self._passed)

    def time(self) -> float:
        return self._passed.skipped


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async test on such a loop."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


async def eventually(condition: Callable[[], Any], what: str, limit: float = LIMIT) -> Any:
    """Polls until `condition` is true and returns its value."""
    end = asyncio.get_running_loop().time() + limit
    while not (value := condition()):
        assert asyncio.get_running_loop().time() < end, f"never within {limit} s: {what}"
        await asyncio.sleep(0.005)
    return value


def new_table(limits: Limits = LIMITS) -> tuple[Table, int]:
    """A table, and the eventfd that is rung for the controller."""
    table = Table.create(limits)
    eventfd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
    table.name_control_eventfd(eventfd)
    return table, eventfd


def lease(holder: Holder, table: Table, index: int) -> tuple[int, int]:
    """Takes a lease of this deployment; slot and replica."""
    result, slot, replica = holder.acquire(index, table.deployment(index).generation, 0)
    assert result == 0, f"acquire answered {result}"
    return slot, replica


class Replica:
    """An HTTP server on this loop whose answers the test chooses through `answer`; None: it stays silent."""

    def __init__(self) -> None:
        self.answer: bytes | None = status(200)
        self.asked = 0
        self.requests: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> None:
        self._server = await asyncio.start_server(self._serve, host, port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Connections are refused from now on."""
        if self._server is not None:
            self._server.close()
            for writer in list(self._connections):
                writer.close()
            self._server = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    @property
    def sockaddr(self) -> bytes:
        return pack_inet("127.0.0.1", self.port)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.requests.append(request)
            if self.answer is None:
                await reader.read()
            else:
                writer.write(self.answer)
                await writer.drain()
        self._connections.discard(writer)
        writer.close()


def status(code: int, body: bytes = b"ok") -> bytes:
    """An answer with this status."""
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (code, len(body), body)


@contextlib.asynccontextmanager
async def replicas(count: int = 1) -> AsyncIterator[list[Replica]]:
    """Running replicas."""
    made = [Replica() for _ in range(count)]
    for one in made:
        await one.start()
    try:
        yield made
    finally:
        for one in made:
            await one.stop()


class LocalPeer:
    """Runs the commands that a `LocalHost` asks for, as the supervisor would, and tells it what becomes of them."""

    def __init__(self) -> None:
        self.host = LocalHost(self.send)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.spawned: list[model.Spawn] = []
        self.stopped: list[str] = []
        self.refuse: str | None = None  # an error that every Spawn meets
        self._watched: set[int] = set()  # pidfds
        self._closed = False

    def send(self, message: model.ToSupervisor) -> None:
        loop = asyncio.get_running_loop()
        if isinstance(message, model.Spawn):
            self.spawned.append(message)
            loop.call_soon(self._spawn, message)
        elif isinstance(message, model.Stop):
            self.stopped.append(message.id)
            loop.call_soon(self.kill, message.id, signal.SIGTERM)  # never before the Spawn that was sent first

    def kill(self, key: str, number: int = signal.SIGKILL) -> None:
        if key in self.processes:
            self.processes[key].send_signal(number)

    @property
    def running(self) -> dict[str, int]:
        return {key: process.pid for key, process in self.processes.items() if key not in self.stopped}

    def close(self) -> None:
        """Ends all at once; nobody is told, and nothing that was asked for is started any more."""
        self._closed = True
        for pidfd in list(self._watched):
            self._unwatch(pidfd)
        for process in self.processes.values():
            process.kill()
            process.wait()

    def _unwatch(self, pidfd: int) -> None:
        self._watched.remove(pidfd)
        asyncio.get_running_loop().remove_reader(pidfd)
        os.close(pidfd)

    def _spawn(self, message: model.Spawn) -> None:
        if self._closed:
            return
        if self.refuse is not None:
            self.host.on_spawned(model.Spawned(message.id, 0, self.refuse))
            return
        process = subprocess.Popen(message.argv, env=message.env, cwd=message.cwd, stdin=subprocess.DEVNULL)
        self.processes[message.id] = process
        pidfd = os.pidfd_open(process.pid)
        self._watched.add(pidfd)
        asyncio.get_running_loop().add_reader(pidfd, self._on_exit, message.id, pidfd)
        self.host.on_spawned(model.Spawned(message.id, process.pid, None))

    def _on_exit(self, key: str, pidfd: int) -> None:
        self._unwatch(pidfd)
        self.host.on_exited(model.Exited(key, self.processes.pop(key).wait()))


@contextlib.asynccontextmanager
async def local_peer() -> AsyncIterator[LocalPeer]:
    """A peer whose processes end with the block."""
    peer = LocalPeer()
    try:
        yield peer
    finally:
        peer.close()


def ring_to(checker: HealthChecker, eventfd: int) -> None:
    """As the controller does: a ring of the table makes it look for ejected replicas."""

    def on_ring() -> None:
        os.read(eventfd, 8)
        checker.scan()

    asyncio.get_running_loop().add_reader(eventfd, on_ring)


@dataclass
class Stage:
    """What deployments live on: a table, a checker that hears of ejections, a peer that runs commands, a resolver."""

    table: Table
    checker: HealthChecker
    peer: LocalPeer
    around: Surroundings
    holder: Holder
    others: set[asyncio.Task[Any]]  # what ran before

    def states(self, deployment: Deployment) -> dict[str, str]:
        """Address -> state of every replica that the deployment knows."""
        return {
            display(record.sockaddr): REPLICA_STATES.get(self.table.replica(record.index).state, "free")
            for _, record in deployment.replicas()
        }

    def in_table(self, index: int) -> dict[str, str]:
        """Address -> state of every replica in the table."""
        loads = [self.table.replica(replica) for replica in self.table.replicas(index)]
        return {display(load.sockaddr): REPLICA_STATES[load.state] for load in loads}

    def successor(self) -> Stage:
        """The same table and processes in the hands of a new controller; the former must be `abandon`ed."""
        return _build_stage(self.table, self.peer, self.around.resolve, self.holder)

    def abandon(self) -> None:
        """As if the controller had been killed: nothing of it acts any more, everything stays as it is."""
        self.checker.stop()
        for task in asyncio.all_tasks() - self.others:
            task.cancel()


def _build_stage(table: Table, peer: LocalPeer, resolve: Resolve, holder: Holder) -> Stage:
    loop = asyncio.get_running_loop()
    checker = HealthChecker(loop, table)
    peer.host = LocalHost(peer.send)
    around = Surroundings(loop, table, checker, peer.host, resolve)
    return Stage(table, checker, peer, around, holder, asyncio.all_tasks())


async def no_names(host: str, _port: int) -> list[bytes]:
    """A resolver that knows no name."""
    raise OSError(f"no such name: {host}")


@contextlib.asynccontextmanager
async def stage(resolve: Resolve = no_names) -> AsyncIterator[Stage]:
    """A stage; at the end every process of it is gone and the table is sound."""
    table, eventfd = new_table()
    async with local_peer() as peer:
        made = _build_stage(table, peer, resolve, table.holder(0))
        ring_to(made.checker, eventfd)
        yield made
        asyncio.get_running_loop().remove_reader(eventfd)
        made.checker.stop()
    assert table.check() == []


def plan(
    source: tuple[str, ...] | ProcessSpec, *, count: int = 1, capacity: int = 1, name: str = "e/d", **more: Any
) -> DeploymentPlan:
    """A plan with what a test does not care about filled in."""
    settings = {"max_queue": 10, "health": HealthPolicy(), "drain_limit": 60.0, **more}
    return DeploymentPlan(name=name, capacity=capacity, source=source, count=count, **settings)


def spec(mark: str = "one", command: tuple[str, ...] = COMMAND, **env: str) -> ProcessSpec:
    """A command that serves and answers with its pid and `mark`."""
    process = ProcessReplicas(command, env={"MARK": mark, **env}, cwd="/", stop_grace=2.0)
    return ProcessSpec(process, RouterConfig())
