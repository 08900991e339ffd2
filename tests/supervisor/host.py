"""The supervisor with small mains of the tests' own: run as `python -m tests.supervisor.host OPTIONS-JSON` in a folder.

A worker beats, and serves lines on its listening sockets: `pid`; `lease` takes one, answers `held` and keeps it until
`done` or until the client leaves; `stop inside` stops it in the middle of taking one (debug builds).
The controller is a bridge between the admin socket and the supervisor: every line from
the test is sent as a message, every message comes back as a line; lines with a `!` are orders to the controller itself.
Files in the folder bend both while they run: `worker` and `controller` hold what a fresh process does at its start.
`events` gets a line for everything whose order matters.
"""

from __future__ import annotations

import json
import logging
import os
import select
import signal
import socket
import sys
import time
from pathlib import Path
from types import FrameType

import msgspec

from fe import _core, log, model
from fe._core import HELD, REPLICA_READY, Limits
from fe.errors import FeError
from fe.supervisor import Settings, Supervisor

LIMITS = Limits(deployments=4, replicas=16, holders=8, slots=64, config_bytes=4096)
ADDRESS = b"\x02\x00" + (9).to_bytes(2, "big") + b"\x7f\0\0\1" + bytes(8)
STEP = 0.02


def event(text: str) -> None:
    fd = os.open("events", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)


def order(name: str) -> list[str]:
    try:
        return Path(name).read_text().split()
    except FileNotFoundError:
        return []


def obey(orders: list[str]) -> None:
    """What a process does instead of starting properly."""
    match orders:
        case ["exit", code]:
            sys.exit(int(code))
        case ["raise"]:
            raise RuntimeError("as the test wanted")
        case ["hang"]:
            while True:
                time.sleep(1)


class Flag:
    """Set by a signal."""

    def __init__(self, number: int) -> None:
        self.up = False
        signal.signal(number, self._raise)

    def _raise(self, _number: int, _frame: FrameType | None) -> None:
        self.up = True


class Worker:
    def __init__(self, runtime: model.WorkerRuntime) -> None:
        self.runtime = runtime
        self.term = Flag(signal.SIGTERM)
        self.holder = runtime.table.holder(runtime.index)
        self.clients: dict[socket.socket, int | None] = {}  # with the slot of its lease

    def run(self) -> int:
        orders = order("worker")  # before the event: who has seen that may already write the next ones
        event(f"worker-{self.runtime.index} start")
        obey(orders)
        while not self.runtime.table.snapshot()[0]:
            self.step([])
        self.holder.set_active()
        mine = [x.socket for x in self.runtime.listeners if x.worker in (None, self.runtime.index)]
        while not self.term.up:
            self.step(mine)
        event(f"worker-{self.runtime.index} term")
        while any(slot is not None for slot in self.clients.values()) or "stubborn" in order("worker"):
            self.step([])
        event(f"worker-{self.runtime.index} end")
        return 0

    def step(self, listening: list[socket.socket]) -> None:
        self.holder.beat(time.monotonic_ns())
        for ready in select.select([*listening, *self.clients], [], [], STEP)[0]:
            if ready not in self.clients:
                self.accept(ready)
            elif line := ready.recv(100).decode():
                self.serve(ready, line.strip())
            else:
                self.leave(ready)

    def accept(self, listening: socket.socket) -> None:
        try:
            client, _ = listening.accept()
        except BlockingIOError:
            return
        client.setblocking(True)
        self.clients[client] = None

    def serve(self, client: socket.socket, line: str) -> None:
        if line == "spin":
            while True:
                pass
        answer = str(os.getpid())
        if line in ("lease", "stop inside"):
            if line == "stop inside":
                _core.crash_arm(6, signal.SIGSTOP)  # a few stores after "lock: taken"
            deployment = self.runtime.table.deployments()[0]
            generation = self.runtime.table.deployment(deployment).generation
            result, slot, _ = self.holder.acquire(deployment, generation, time.monotonic_ns() + 10**9)
            assert result == HELD
            self.clients[client], answer = slot, "held"
        elif line == "done":
            self.give_back(client)
        client.sendall(answer.encode() + b"\n")

    def leave(self, client: socket.socket) -> None:
        self.give_back(client)
        del self.clients[client]
        client.close()

    def give_back(self, client: socket.socket) -> None:
        slot = self.clients[client]
        if slot is not None:
            self.holder.release(slot)
        self.clients[client] = None


class Controller:
    def __init__(self, runtime: model.ControllerRuntime) -> None:
        self.runtime = runtime
        self.term = Flag(signal.SIGTERM)
        self.hup = Flag(signal.SIGHUP)
        self.test: socket.socket | None = None
        self.unread: list[bytes] = []  # messages for a test that is not connected
        self.partial = b""
        runtime.supervisor.setblocking(True)

    def run(self) -> int:
        orders = order("controller")
        event(f"controller start{' again' if self.runtime.restarted else ''}")
        if orders[:1] == ["fatal"]:
            self.send(model.Fatal("the test wants it so", 3))
            return 0
        obey(orders)
        table = self.runtime.table
        if not self.runtime.restarted:
            index, _ = table.add_deployment("endpoint/deployment", 4, 16)
            table.add_replica(index, ADDRESS, REPLICA_READY)
            table.publish(b"snapshot")
        if orders != ["silent"]:
            self.send(model.Ready())
        while not self.term.up:
            self.step()
        event("controller term")
        return 0

    def send(self, message: model.ToSupervisor) -> None:
        self.runtime.supervisor.send(msgspec.json.encode(message))

    def step(self) -> None:
        if self.hup.up:
            self.hup.up = False
            orders = order("reload")
            event("controller hup")
            if "deaf" not in orders:
                self.send(model.Reloaded("it is bad" if "bad" in orders else None))
        watched = [self.runtime.supervisor, *self.runtime.admin, *([self.test] if self.test else [])]
        for ready in select.select(watched, [], [], STEP)[0]:
            if ready is self.runtime.supervisor:
                self.on_message(ready.recv(1 << 20))
            elif ready is self.test:
                self.on_lines(ready.recv(1 << 20))
            elif self.test is None:
                self.test, _ = ready.accept()
                self.test.setblocking(True)
                for raw in self.unread:
                    self.test.sendall(raw + b"\n")
                self.unread.clear()

    def on_message(self, raw: bytes) -> None:
        assert raw, "the supervisor is gone"
        if raw == b'{"type":"drain"}':
            event("controller drain")
        if self.test is None:
            self.unread.append(raw)
        else:
            self.test.sendall(raw + b"\n")

    def on_lines(self, raw: bytes) -> None:
        if not raw:
            self.test = None
        *lines, self.partial = (self.partial + raw).split(b"\n")
        for line in lines:
            if line.startswith(b"!"):
                self.on_order(line[1:].decode().split())
            else:
                self.runtime.supervisor.send(line)

    def on_order(self, orders: list[str]) -> None:
        if orders == ["close"]:
            os.dup2(os.open(os.devnull, os.O_RDONLY), self.runtime.supervisor.fileno())
            self.term.up = False
            obey(["hang"])
        if orders == ["load"] and self.test is not None:
            table = self.runtime.table
            load = {"in_flight": table.deployment(0).in_flight, "check": table.check()}
            self.test.sendall(json.dumps(load).encode() + b"\n")
        if orders == ["environment"] and self.test is not None:
            self.test.sendall(json.dumps(dict(os.environ)).encode() + b"\n")
        obey(orders)


def main() -> int:
    options = json.loads(sys.argv[1])
    level = options.pop("level", "info")
    log.configure("supervisor", level=level)
    settings = Settings(
        config_path="none",
        limits=LIMITS,
        reopen_logs=lambda: event(f"reopen {os.getpid()}"),
        **{key: tuple(value) if isinstance(value, list) else value for key, value in options.items()},
    )
    try:
        return Supervisor(settings, lambda r: Worker(r).run(), lambda r: Controller(r).run()).run()
    except FeError as error:
        logging.getLogger("fe.test").error("fe-serve: %s", error)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
