"""A whole control plane on the test's loop, with a stand-in for the supervisor at the other end of its socket.

Owns: the runtime that a supervisor would hand over, and what is said through the socket. The plane, the table, the
admin server and the local replicas are real. Successors get the same table, state and processes, as after a crash.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from fe import model
from fe._core import Limits, Table
from fe.control.admin import AdminServer
from fe.control.metrics import REPLICA_STATES
from fe.control.plane import ControlPlane
from tests.control.harness import LIMIT, LIMITS, LocalPeer, eventually, new_table
from tests.support import wire

Config = dict[str, Any]
_decode = msgspec.json.Decoder(model.ToSupervisor).decode


@dataclass
class Voice:
    """What the supervisor tells of its replicas, as messages on the socket."""

    sock: socket.socket

    def on_spawned(self, message: model.Spawned) -> None:
        self.say(message)

    def on_exited(self, message: model.Exited) -> None:
        self.say(message)

    def say(self, message: model.ToController) -> None:
        with contextlib.suppress(BrokenPipeError):  # nobody is there: a supervisor drops it too
            self.sock.send(msgspec.json.encode(message))


@dataclass
class World:
    """A running control plane and everything around it."""

    file: Path
    table: Table
    eventfd: int
    state_fd: int
    admin_socket: socket.socket
    peer: LocalPeer
    heard: list[model.ToSupervisor] = field(default_factory=list)
    heard_out: bool = False  # everything that this controller has said: its end is closed
    code: int | None = None  # what `run` returned
    plane: ControlPlane = field(init=False)
    ours: socket.socket = field(init=False)
    _admin: AdminServer = field(init=False)
    _task: asyncio.Task[int] = field(init=False)

    # --- life ---

    async def start(self, *, restarted: bool = False) -> None:
        """A controller begins; returns when it has said Ready, or all that it says before it ends."""
        loop = asyncio.get_running_loop()
        self.ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self.peer.host = Voice(self.ours)  # type: ignore[assignment]
        loop.add_reader(self.ours.fileno(), self._on_readable)
        runtime = model.ControllerRuntime(
            self.table, LIMITS.workers, self.eventfd, theirs, (self.admin_socket.dup(),), str(self.file), self.state_fd,
            restarted,
        )  # fmt: skip
        self.heard.clear()
        self.heard_out = False
        self.plane = ControlPlane(loop, runtime)
        self._admin = AdminServer(self.plane, runtime.admin)
        await self._admin.start()
        self._task = loop.create_task(self.plane.run())
        await eventually(lambda: self.said(model.Ready) or self.heard_out, "Ready, or the end")

    async def stop(self) -> int:
        """The supervisor's end closes; the exit code."""
        asyncio.get_running_loop().remove_reader(self.ours.fileno())
        self.ours.close()
        code = await asyncio.wait_for(self._task, LIMIT)
        await self._admin.stop()
        return code

    async def kill(self) -> None:
        """As if by SIGKILL: what it was about to do is not done."""
        for deployment in self.plane.reconciler.live.values():
            deployment._provider._step = lambda: None  # type: ignore[attr-defined]
        self.plane._link.send = lambda _message: None  # type: ignore[method-assign]
        for task in list(self.plane.reconciler._tasks):
            task.cancel()
        if self.plane._reload is not None:
            self.plane._reload.cancel()
        await self.stop()

    # --- talking ---

    def said(self, kind: type[Any]) -> list[Any]:
        return [message for message in self.heard if isinstance(message, kind)]

    def write(self, config: Config) -> None:
        self.file.write_text(json.dumps({"log": {"level": "debug"}, **config}))

    async def reload(self, config: Config | str) -> str | None:
        """Writes the file, asks for a reload and returns what was said about it."""
        if isinstance(config, str):
            self.file.write_text(config)
        else:
            self.write(config)
        before = len(self.said(model.Reloaded))
        self.plane.on_hangup()
        answer = await eventually(lambda: self.said(model.Reloaded)[before:], "Reloaded")
        error: str | None = answer[0].error
        return error

    async def get(self, path: str, method: str = "GET", raw: bytes = b"") -> tuple[wire.Head, bytes]:
        """Asks the admin server; head and body of the answer."""
        host, port = self.admin_socket.getsockname()
        reader, writer = await asyncio.open_connection(host, port)
        writer.write(raw or f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), LIMIT)
        writer.close()
        await writer.wait_closed()
        head, _, body = answer.partition(b"\r\n\r\n")
        return wire.parse_head(head + b"\r\n\r\n", wire.STATUS_LINE), body

    @property
    def snapshot(self) -> model.Snapshot:
        """What workers serve from."""
        return model.decode_snapshot(self.table.snapshot()[1])

    def states(self, name: str) -> list[str]:
        """States of a deployment's replicas, as /api/status would show them."""
        deployment = self.plane.reconciler.live[name]
        return [REPLICA_STATES[self.table.replica(record.index).state] for _, record in deployment.replicas()]

    def names(self) -> list[str]:
        """Deployments in the table."""
        return sorted(self.table.deployment(index).name for index in self.table.deployments())

    def _on_readable(self) -> None:
        while True:
            try:
                raw = self.ours.recv(1 << 20)
            except BlockingIOError:
                return
            except ConnectionResetError:  # it ended before it had read everything
                raw = b""
            if not raw:
                self.heard_out = True
                asyncio.get_running_loop().remove_reader(self.ours.fileno())
                return
            message = _decode(raw)
            self.heard.append(message)
            if isinstance(message, model.Spawn | model.Stop):
                self.peer.send(message)
            elif isinstance(message, model.ListReplicas):
                self.peer.host.say(model.Running(self.peer.running))  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def world(file: Path, config: Config, limits: Limits = LIMITS) -> AsyncIterator[World]:
    """A world whose first controller has started."""
    table, eventfd = new_table(limits)
    peer = LocalPeer()
    with socket.create_server(("127.0.0.1", 0)) as admin:
        made = World(file, table, eventfd, os.memfd_create("state"), admin, peer)
        made.write(config)
        try:
            await made.start()
            yield made
            await made.stop()
        finally:
            peer.close()
    assert table.check() == []


def endpoint(name: str, deployments: dict[str, Any], **settings: Any) -> Config:
    """An endpoint; a deployment is its addresses or its settings."""
    made = [
        {"name": key, **({"replicas": {"static": value}} if isinstance(value, list) else value)}
        for key, value in deployments.items()
    ]
    traffic = {"traffic": {made[0]["name"]: 100}} if made else {}
    return {"name": name, "auth_mode": "none", "deployments": made, **traffic, **settings}
