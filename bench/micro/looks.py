"""How long the controller's loop is busy with one look at every deployment: 100 deployments of 10 replicas each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from bench.context import Context
from bench.micro import perf
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
LOOKS = 10  # for a value
REST = 0.002  # seconds between two, in which the loop has its other work
POLICY = ScalePolicy(1, 100, 0.7, 1, 60.0, 300.0, 0.0)


def measure(context: Context) -> Iterator[Measure]:
    """Time of a look at all deployments in ms."""
    values = perf.run(context, __name__, 3 if context.quick else 20)
    yield Measure(
        "look_at_1000_replicas", "one look at 100 deployments with 1,000 replicas", "ms",
        perf.flat(values, {"fe": "looks"}, 1e3), [Bar(20.0)],
    )  # fmt: skip


def looks(loops: int) -> float:
    """Seconds for so many."""
    perf.pin(0)
    return asyncio.run(_looks(loops))


async def _looks(count: int) -> float:
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
    seconds = 0.0
    for _ in range(count):
        await asyncio.sleep(REST)
        begun = time.perf_counter()
        for track in scaler.tracks.values():
            scaler.poll(track)
        seconds += time.perf_counter() - begun
    scaler.stop()
    checker.stop()
    return seconds


def _plan(number: int) -> DeploymentPlan:
    addresses = tuple(f"127.0.{number}.{replica + 1}:5001" for replica in range(EACH))
    return DeploymentPlan(
        name=f"endpoint-{number}/main", capacity=1, max_queue=10, health=HealthPolicy(), source=addresses, count=EACH,
        drain_limit=1.0, scale=POLICY,
    )  # fmt: skip


def main() -> None:
    perf.runner(LOOKS).bench_time_func("looks", looks)


if __name__ == "__main__":
    main()
