"""A control plane beside an emulated cluster, in one process: what tests of the integration begin with.

Owns: the cluster's first state, builders of its objects, and the words in which tests look at both sides. The plane,
the table and the API's HTTP are real. Every wait has a limit.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fe.control.addresses import display
from fe.control.metrics import REPLICA_STATES
from tests.control.harness import LIMITS, eventually
from tests.control.world import World, world
from tests.kubernetes.emulator import Emulator

CRDS = Path(__file__).resolve().parents[2] / "deploy" / "kubernetes" / "base" / "crds"
GROUP = "inference.fe-router.io"
DEPLOYMENTS = "/apis/apps/v1/namespaces/models/deployments"
PODS = "/api/v1/namespaces/models/pods"
EVENTS = "/apis/events.k8s.io/v1/namespaces/models/events"
OURS = f"/apis/{GROUP}/v1alpha1/namespaces/models"
FAR = 2**62  # a deadline that never comes
LASTING = {"duration": 60, "renew_deadline": 50, "retry": 0.1}  # a lead that no stop of the machine ends
QUICK = {"duration": 1, "renew_deadline": 0.6, "retry": 0.1}  # where the end of a lead is waited for
Json = dict[str, Any]


def workload(name: str = "m", replicas: int = 1, namespace: str = "models", **annotations: object) -> Json:
    """A Deployment (apps/v1). With annotations it is labelled as a model, of an endpoint of its own name."""
    meta: Json = {"name": name, "namespace": namespace}
    if annotations:
        named = {f"{GROUP}/{key.replace('_', '-')}": str(value) for key, value in annotations.items()}
        meta |= {"labels": {f"{GROUP}/endpoint": name}, "annotations": {f"{GROUP}/auth-mode": "none", **named}}
    template = {
        "metadata": {"labels": {"app": name}},
        "spec": {"containers": [{"name": "model", "image": "model:1"}], "terminationGracePeriodSeconds": 5},
    }
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}


def online_endpoint(name: str = "one", namespace: str = "models", **spec: Any) -> Json:
    """An OnlineEndpoint that is open to everybody."""
    return {
        "apiVersion": f"{GROUP}/v1alpha1", "kind": "OnlineEndpoint",
        "metadata": {"name": name, "namespace": namespace}, "spec": {"auth_mode": "none", **spec},
    }  # fmt: skip


def online_deployment(name: str = "m", endpoint: str = "one", namespace: str = "models", **spec: Any) -> Json:
    """An OnlineDeployment whose pods are those of the Deployment of its name, looked at ten times a second."""
    scale = {"polling_interval": "100ms", "scale_down_delay": 600, **spec.pop("scale_settings", {})}
    settings = {"target": {"port": 8080}, **spec}
    return {
        "apiVersion": f"{GROUP}/v1alpha1", "kind": "OnlineDeployment",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"endpoint_name": endpoint, "scale_settings": scale, **settings},
    }  # fmt: skip


def in_file(name: str = "m", endpoint: str = "one", **more: Any) -> Json:
    """A configuration file's part for pods of the Deployment of this name."""
    scale = {"polling_interval": 0.1, "scale_down_delay": 600, **more.pop("scale_settings", {})}
    deployment = {
        "name": name, "replicas": {"kubernetes": {"deployment": name, "port": 8080}}, "scale_settings": scale, **more,
    }  # fmt: skip
    return {"endpoints": [{"name": endpoint, "auth_mode": "none", "traffic": {name: 100}, "deployments": [deployment]}]}


@dataclass
class Scene:
    """Both sides."""

    emulator: Emulator
    world: World
    folder: Path

    def state(self, name: str) -> dict[str, str]:
        """Address (without its port) -> state of a deployment's replicas in the table, those being removed included."""
        table = self.world.table
        loads = [table.replica(index) for index in table.replicas(self.world.plane.live()[name].index)]
        return {display(load.sockaddr).rpartition(":")[0]: REPLICA_STATES[load.state] for load in loads}

    async def sees(self, name: str, states: dict[str, str], why: str = "") -> None:
        """Waits until the table has these replicas of a deployment, and no other."""
        await eventually(lambda: name in self.world.plane.live(), f"{name} is served")
        await eventually(lambda: self.state(name) == states, why or f"{states}")

    async def knows(self, name: str) -> None:
        """Waits until fe has seen the newest version of a deployment's Deployment: a write is based on that one."""

        def is_newest() -> bool:
            hub = self.world.plane.hub
            target = hub.providers[name].target
            stored = self.emulator.store.get("deployments.apps", target.key)
            return bool(target.workload and target.workload.version == stored["metadata"]["resourceVersion"])

        await eventually(is_newest, f"the newest {name} is seen")

    async def leads(self) -> None:
        await eventually(lambda: self.world.plane.hub is not None and self.world.plane.hub.leading, "it leads")

    def acquire(self, name: str, count: int = 1) -> list[int]:
        """Leases or places in the queue, of one worker; their slots."""
        deployment = self.world.plane.live()[name]
        generation = self.world.table.deployment(deployment.index).generation
        if not hasattr(self, "holder"):
            self.holder = self.world.table.holder(0)
        return [self.holder.acquire(deployment.index, generation, FAR)[1] for _ in range(count)]

    def wait(self, name: str) -> int:
        """A place in the queue where no replica is, as a worker takes it for a first request; its slot."""
        deployment = self.world.plane.live()[name]
        if not hasattr(self, "holder"):
            self.holder = self.world.table.holder(0)
        return int(
            self.holder.await_(deployment.index, self.world.table.deployment(deployment.index).generation, FAR)[1]
        )

    def events(self, kind: str) -> list[Json]:
        return [event for event in self.world.plane.events.list() if event["kind"] == kind]

    def writes(self) -> list[Any]:
        """Calls that wrote a scale."""
        return [one for one in self.emulator.records if one.path.endswith("/scale") and one.verb in ("update", "patch")]

    async def replicas(self, name: str = "m") -> int:
        """What a Deployment of the cluster wants."""
        return int((await self.emulator.get(f"{DEPLOYMENTS}/{name}"))["spec"]["replicas"])

    async def told(self, count: int = 1, reason: str = "") -> list[Json]:
        """Waits until so many Events (of this reason) are in the cluster, and returns them."""
        for _ in range(3000):
            found = (await self.emulator.get(EVENTS))["items"]
            found = [one for one in found if reason in ("", one["reason"])]
            if len(found) >= count:
                return found
            await asyncio.sleep(0.01)
        raise AssertionError(f"never so many events: {count} {reason}")

    async def status(self, path: str) -> Json:
        """The status of an object of fe's own kinds."""
        return dict((await self.emulator.get(f"{OURS}/{path}")).get("status", {}))


def addresses(count: int = 200) -> Callable[[Json], list[str]]:
    """For `Nodes.run`: loopback addresses, one after the other."""
    free = iter(f"127.1.{number // 200}.{number % 200 + 1}" for number in range(count * 50))
    return lambda _pod: [next(free)]


async def install(emulator: Emulator) -> None:
    """The definitions of fe's own kinds."""
    for file in sorted(CRDS.glob("*.yaml")):
        await emulator.create(yaml.safe_load(file.read_text()))
    await emulator.settled()


@contextlib.asynccontextmanager
async def cluster(**options: Any) -> AsyncIterator[Emulator]:
    """An emulator that knows fe's kinds."""
    async with Emulator(**options) as emulator:
        await install(emulator)
        yield emulator


def settings(emulator: Emulator, folder: Path, user: str = "admin", **more: Any) -> Json:
    """The block `kubernetes` of a configuration."""
    file = emulator.kubeconfig(folder / f"kubeconfig-{user}", user, namespace="models")
    return {"kubeconfig": str(file), "identity": "fe-0", "election": LASTING, **more}


@contextlib.asynccontextmanager
async def scene(
    folder: Path, files: Json | None = None, *, emulator: Emulator | None = None, user: str = "admin", **more: Any
) -> AsyncIterator[Scene]:
    """A control plane beside a cluster. files: the configuration beside `kubernetes`; more: keys of that block."""
    async with contextlib.AsyncExitStack() as stack:
        if emulator is None:
            emulator = await stack.enter_async_context(cluster())
        config = {
            "kubernetes": settings(emulator, folder, user, **more),
            "admin_actions": True,
            "endpoints": [],
            **(files or {}),
        }
        made = await stack.enter_async_context(world(folder / "fe.yaml", config, LIMITS))
        yield Scene(emulator, made, folder)


def conditions(status: Json) -> dict[str, tuple[str, str]]:
    """Type -> status and reason."""
    return {one["type"]: (one["status"], one["reason"]) for one in status.get("conditions", [])}


async def has(s: Scene, path: str, condition: Callable[[Json], Any], why: str) -> Json:
    """Waits until the status of an object of fe's own kinds is so, and returns it."""
    for _ in range(3000):
        status = await s.status(path)
        if condition(status):
            return status
        await asyncio.sleep(0.01)
    raise AssertionError(f"{why}: {status}")
