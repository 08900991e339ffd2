"""Tools for tests of fe's own loops against the emulator: a cluster to call, watches that note what they were told.

Owns: what several of these tests need. Every wait has a limit (`eventually`), every test runs on uvloop (`on_loop`) or,
where it is about durations beside each other, on a loop whose time is its own (`in_virtual_time`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml

from fe.control.kubernetes.client import Cluster
from fe.control.kubernetes.watch import Backoff, Reflector
from tests.control.harness import eventually, in_virtual_time, on_loop
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.relay import Relay

__all__ = [
    "PODS", "Clock", "Pauses", "Seen", "asked", "connected", "connections", "eventually", "filled", "forget",
    "in_virtual_time", "no_tasks_left", "on_loop", "plain", "pod", "reflector",
]  # fmt: skip

PODS = "/api/v1/namespaces/models/pods"


class Clock:
    """A clock that only the test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pauses(Backoff):
    """A back-off with short delays that counts how often it was asked."""

    def __init__(self, first: float = 0.002, most: float = 0.01) -> None:
        super().__init__(first, most)
        self.asked = 0
        self.most_asked: list[float | None] = []

    def next(self, most: float | None = None) -> float:
        self.asked += 1
        self.most_asked.append(most)
        return super().next(None if most is None else 0.02)


class Seen:
    """What a Reflector has told: changes in order, and the store that they add up to."""

    def __init__(self) -> None:
        self.changes: list[tuple[tuple[str, str], Any, Any]] = []
        self.store: dict[tuple[str, str], Any] = {}
        self.syncs = 0

    def on_change(self, key: tuple[str, str], old: Any, new: Any) -> None:
        assert self.store.get(key) == old
        self.changes.append((key, old, new))
        if new is None:
            del self.store[key]
        else:
            self.store[key] = new

    def on_sync(self) -> None:
        self.syncs += 1

    @property
    def names(self) -> set[str]:
        return {name for _, name in self.store}


def plain(path: Path, server: str, user: dict[str, Any], **more: object) -> str:
    """Writes a kubeconfig for this server; returns its path."""
    document = {
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "k", "cluster": {"server": server}}], "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u", "namespace": "own"}}], **more,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(document))
    return str(path)


@contextlib.asynccontextmanager
async def connected(
    emulator: Emulator, folder: Path, user: str = "admin", relay: Relay | None = None
) -> AsyncIterator[Cluster]:
    """A Cluster that speaks to the emulator as this user. relay: the way there."""
    file = emulator.kubeconfig(folder / f"kubeconfig-{user}", user)
    cluster = Cluster(str(file if relay is None else relay.through(file)))
    try:
        yield cluster
    finally:
        await cluster.close()


@contextlib.asynccontextmanager
async def reflector(cluster: Cluster, seen: Seen, **options: Any) -> AsyncIterator[Reflector[Any]]:
    """A running Reflector of the pods of `models`, whose values are their labels' `v` and whether they are ending."""
    options = {"backoff": Pauses(), "on_sync": seen.on_sync, **options}
    watching = Reflector(cluster, options.pop("path", PODS), slim, seen.on_change, **options)
    watching.start()
    try:
        yield watching
    finally:
        await watching.stop()


def connections(emulator: Emulator) -> int:
    """Connections to it that stand, as the kernel sees them."""
    port = f":{int(emulator.url.rpartition(':')[2]):04X}"
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


def asked(emulator: Emulator, verb: str) -> list:
    return [record for record in emulator.records if record.verb == verb]


def forget(emulator: Emulator) -> None:
    """From now on nobody can go on from what they have seen."""
    emulator.skip(10)
    emulator.compact()


async def filled(emulator: Emulator, *names: str) -> None:
    for name in names:
        await emulator.create(pod(name))


def slim(item: dict[str, Any]) -> tuple[str, bool]:
    meta = item["metadata"]
    return meta["labels"]["v"], "deletionTimestamp" in meta


def pod(name: str, value: str = "1", app: str = "m", **meta: Any) -> dict[str, Any]:
    """A pod as a user would create it."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "models", "labels": {"app": app, "v": value}, **meta},
        "spec": {"containers": [{"name": "model", "image": "model:1"}]},
    }


@contextlib.asynccontextmanager
async def no_tasks_left() -> AsyncIterator[None]:
    """What is started inside has ended at its end, but for tasks that were there before."""
    before = asyncio.all_tasks()
    yield
    await eventually(lambda: asyncio.all_tasks() <= before, "every task has ended")
