"""How long the controller's loop is busy with one look at every deployment: 100 deployments of 10 replicas each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bench.context import Context
from bench.result import Bar, Measure
from fe._core import Limits, Table
from fe.control.autoscaler import ScalePolicy
from fe.control.deployment import Deployment, Surroundings
from fe.control.events import Events
from fe.control.health import HealthChecker, HealthPolicy
from fe.control.plan import DeploymentPlan
from fe.control.providers.local import LocalHost
from fe.control.providers.static import SystemResolver
from fe.control.scaler import Scaler

DEPLOYMENTS, EACH = 100, 10
ROUNDS = 20
POLICY = ScalePolicy(1, 100, 0.7, 1, 60.0, 300.0, 0.0)


def measure(context: Context) -> Iterator[Measure]:
    """Time of a look at all deployments in ms."""
    rounds = ROUNDS if context.quick else ROUNDS * 10
    figures = asyncio.run(_looks(rounds))
    yield Measure(
        "look_at_1000_replicas", "one look at 100 deployments with 1,000 replicas", "ms", {"fe": figures}, [Bar(20.0)]
    )


async def _looks(rounds: int) -> list[float]:
    loop = asyncio.get_running_loop()
    table = Table.create(Limits(deployments=DEPLOYMENTS, replicas=DEPLOYMENTS * EACH, holders=2, slots=64, workers=1))
    events = Events()
    checker = HealthChecker(loop, table, events)
    around = Surroundings(loop, table, checker, LocalHost(lambda _: None), SystemResolver(loop), events)
    live = {plan.name: Deployment.create(around, plan) for plan in map(_plan, range(DEPLOYMENTS))}
    for deployment in live.values():
        deployment.start()
    scaler = Scaler(loop, table, events, lambda: live, lambda: None)
    scaler.follow()
    figures = []
    for _ in range(rounds):
        await asyncio.sleep(0.002)
        begun = time.perf_counter()
        for track in scaler.tracks.values():
            scaler.poll(track)
        figures.append((time.perf_counter() - begun) * 1e3)
    scaler.stop()
    checker.stop()
    return figures


def _plan(number: int) -> DeploymentPlan:
    addresses = tuple(f"127.0.{number}.{replica + 1}:5001" for replica in range(EACH))
    return DeploymentPlan(
        name=f"endpoint-{number}/main", capacity=1, max_queue=10, health=HealthPolicy(), source=addresses, count=EACH,
        drain_limit=1.0, scale=POLICY,
    )  # fmt: skip
