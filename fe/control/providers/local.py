"""Local replicas as the whole controller sees them: their ids, their ports, who is told what about which.

Owns: the exchange with the supervisor about local replicas (Spawn, Stop, Spawned, Exited), the choice of ports, the
environment that replicas inherit. Never: how many there should be (that is `process`).
"""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import msgspec

from fe.model import Exited, Spawn, Spawned, Stop, ToSupervisor

PORT_LOW: Final = 10_240
PORT_TRIES: Final = 1_000
MESSAGE_BYTES: Final = 200_000  # a socket with default buffers takes a message of this size
PORTS_REMEMBERED: Final = 64  # not given again soon after a replica left them


@dataclass(frozen=True)
class ReplicaId:
    """`endpoint/deployment/port-revision-token`: all that a restarted controller needs to take a replica up."""

    deployment: str  # "endpoint/deployment"
    port: int
    revision: str
    token: str

    @property
    def text(self) -> str:
        return f"{self.deployment}/{self.port}-{self.revision}-{self.token}"

    @classmethod
    def parse(cls, text: str) -> ReplicaId | None:
        deployment, _, rest = text.rpartition("/")
        parts = rest.split("-")
        if not deployment or len(parts) != 3 or not parts[0].isdigit():
            return None
        return cls(deployment, int(parts[0]), parts[1], parts[2])


class Owner(Protocol):
    """Who is told about a local replica."""

    def on_spawned(self, key: str, error: str | None) -> None: ...
    def on_exited(self, key: str, status: int) -> None: ...


class LocalHost:
    """All local replicas of this fe-serve."""

    def __init__(
        self,
        send: Callable[[ToSupervisor], None],
        environment: Mapping[str, str] | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self._send = send
        self.ending = False  # fe-serve ends: the supervisor starts none, and ends those that run
        self._owners: dict[str, Owner] = {}
        self._ports: dict[str, int] = {}
        self._recent: deque[int] = deque(maxlen=PORTS_REMEMBERED)
        self._random = rng or random.Random()  # noqa: S311 - spreads ports, decides nothing
        self.environment: Mapping[str, str] = os.environ if environment is None else environment

    def spawn(self, owner: Owner, message: Spawn) -> None:
        self.take(message.id, owner)
        try:
            size = len(msgspec.json.encode(message))
            error = f"command and environment have {size} bytes, more than {MESSAGE_BYTES}"
        except UnicodeEncodeError:
            size, error = 0, "command or environment has bytes that are not UTF-8"
        if 0 < size <= MESSAGE_BYTES:
            self._send(message)
        else:
            asyncio.get_running_loop().call_soon(self.on_spawned, Spawned(message.id, 0, error))

    def take(self, key: str, owner: Owner) -> None:
        """What happens to this replica is told to `owner` from now on."""
        self._owners[key] = owner
        id_ = ReplicaId.parse(key)
        if id_ is not None:
            self._ports[key] = id_.port

    def stop(self, key: str) -> None:
        self._send(Stop(key))

    def forget(self, key: str) -> None:
        self._owners.pop(key, None)
        port = self._ports.pop(key, None)
        if port is not None:
            self._recent.append(port)

    def on_spawned(self, message: Spawned) -> None:
        owner = self._owners.get(message.id)
        if owner is not None:
            owner.on_spawned(message.id, message.error)
        elif message.error is None:
            self.stop(message.id)  # nobody wants it any more

    def on_exited(self, message: Exited) -> None:
        owner = self._owners.get(message.id)
        if owner is not None:
            owner.on_exited(message.id, message.status)

    def free_port(self) -> int:
        """A loopback port on which nobody listens, outside the range of outgoing connections.

        Inside that range a connection of a worker could take the port before the replica has bound it.
        Raises OSError when none is found.
        """
        low, high = _listening_range()
        taken = set(self._ports.values()).union(self._recent)
        for _ in range(PORT_TRIES):
            port = self._random.randint(low, high)
            if port not in taken and _is_free(port):
                self._recent.append(port)
                return port
        raise OSError(f"no free port between {low} and {high}")


def _listening_range() -> tuple[int, int]:
    try:
        with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
            first, last = map(int, file.read().split())
    except (OSError, ValueError):
        first, last = 32_768, 60_999
    below, above = first - PORT_LOW, 65_535 - last
    return (PORT_LOW, first - 1) if below >= above else (last + 1, 65_535)


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
