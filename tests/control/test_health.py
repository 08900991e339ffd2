"""Probes against thresholds, readiness in the table, and the way back of ejected replicas."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from fe._core import REPLICA_DRAINING, REPLICA_EJECTED, REPLICA_READY, REPLICA_STARTING, Holder, Table
from fe.config.schema import Probe
from fe.control.health import RETURN_FIRST, HealthChecker, HealthPolicy, Subject, Tally
from tests.control.harness import eventually, lease, new_table, on_loop, replicas, ring_to, status

FAST = Probe(period=0.05, initial_delay=0, timeout=60, failure_threshold=3)


@dataclass
class World:
    """A table with one deployment, a checker, and what it has reported."""

    table: Table
    checker: HealthChecker
    holder: Holder
    deployment: int
    dead: list[int] = field(default_factory=list)
    changes: int = 0

    def watch(
        self, sockaddr: bytes, policy: HealthPolicy | None = None, *, local: bool = False, state: int = REPLICA_STARTING
    ) -> Subject:
        index = self.table.add_replica(self.deployment, sockaddr, state)
        return self.observe(index, sockaddr, policy, local=local)

    def observe(
        self, index: int, sockaddr: bytes, policy: HealthPolicy | None = None, *, local: bool = False
    ) -> Subject:
        return self.checker.watch(
            index, f"r{index}", sockaddr, policy or HealthPolicy(), local=local,
            on_change=self._on_change, on_dead=lambda: self.dead.append(index),
        )  # fmt: skip

    def _on_change(self) -> None:
        self.changes += 1

    def state(self, subject: Subject) -> int:
        return self.table.replica(subject.index).state

    async def wait_state(self, subject: Subject, state: int) -> None:
        await eventually(lambda: self.state(subject) == state, f"state {state}")

    def fail(self, subject: Subject, threshold: int = 1) -> None:
        """A worker's exchanges with it fail until it is ejected."""
        incarnation = self.table.replica(subject.index).incarnation
        while not self.holder.failed(subject.index, incarnation, threshold):
            pass


@asynccontextmanager
async def world():
    table, eventfd = new_table()
    loop = asyncio.get_running_loop()
    checker = HealthChecker(loop, table)
    index, _ = table.add_deployment("e/d", 2, 10)
    ring_to(checker, eventfd)
    made = World(table, checker, table.holder(0), index)
    yield made
    loop.remove_reader(eventfd)
    checker.stop()
    assert table.check() == []


def test_a_tally_counts_results_in_a_row():
    tally = Tally(Probe(success_threshold=2, failure_threshold=3), ok=False)
    seen = []
    for result in (True, False, True, True, False, False, True, False, False, False, True, True):
        tally.count(result)
        seen.append(tally.ok)
    assert seen == [False, False, False, True, True, True, True, True, True, False, False, True]


@on_loop
async def test_static_without_probes_is_ready_at_once_and_never_asked():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr)
        assert w.state(subject) == REPLICA_READY
        await asyncio.sleep(0.1)
        assert replica.asked == 0


@on_loop
async def test_static_with_readiness_is_ready_after_the_first_success():
    async with world() as w, replicas() as [replica]:
        replica.answer = status(503)
        # The schema's defaults: neither the delay of 10 s nor the period keeps the first success waiting.
        subject = w.watch(replica.sockaddr, HealthPolicy(readiness=Probe()))
        slow = w.watch(replica.sockaddr, HealthPolicy(readiness=FAST))
        await eventually(lambda: replica.asked >= 4, "probed")
        assert w.state(subject) == w.state(slow) == REPLICA_STARTING
        replica.answer = status(200)
        await w.wait_state(slow, REPLICA_READY)
        other = w.watch(replica.sockaddr, HealthPolicy(readiness=Probe(initial_delay=3600, period=3600, timeout=60)))
        await w.wait_state(other, REPLICA_READY)


@on_loop
async def test_success_threshold():
    async with world() as w, replicas() as [replica]:
        policy = HealthPolicy(readiness=Probe(period=0.05, success_threshold=3, timeout=60))
        subject = w.watch(replica.sockaddr, policy)
        states = []
        while w.state(subject) != REPLICA_READY:
            states.append(replica.asked)
            await asyncio.sleep(0.005)
        assert replica.asked >= 3


@on_loop
async def test_readiness_failing_takes_it_out_and_its_return_takes_it_in():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr, HealthPolicy(readiness=FAST))
        await w.wait_state(subject, REPLICA_READY)
        replica.answer = status(500)
        asked = replica.asked
        await w.wait_state(subject, REPLICA_STARTING)
        assert replica.asked - asked >= FAST.failure_threshold
        assert subject.last == "status 500"
        replica.answer = status(200)
        await w.wait_state(subject, REPLICA_READY)
        assert w.changes == 3


@on_loop
async def test_a_timeout_counts_only_while_nothing_is_in_flight():
    async with world() as w, replicas() as [replica]:
        probe = Probe(period=0.05, initial_delay=0, timeout=0.1, failure_threshold=2)
        subject = w.watch(replica.sockaddr, HealthPolicy(readiness=probe, liveness=probe))
        await w.wait_state(subject, REPLICA_READY)
        slot, taken = lease(w.holder, w.table, w.deployment)
        assert taken == subject.index
        replica.answer = None
        asked = replica.asked
        await eventually(lambda: replica.asked >= asked + 8, "several probes of each kind")
        assert w.state(subject) == REPLICA_READY
        assert subject.readiness is not None
        assert subject.readiness.bad == 0
        w.holder.release(slot)
        await w.wait_state(subject, REPLICA_STARTING)


@on_loop
async def test_refusal_counts_although_something_is_in_flight():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr, HealthPolicy(readiness=FAST))
        await w.wait_state(subject, REPLICA_READY)
        slot, _ = lease(w.holder, w.table, w.deployment)
        await replica.stop()
        await w.wait_state(subject, REPLICA_STARTING)
        w.holder.release(slot)


@pytest.mark.parametrize(("answer", "good"), [(status(404), True), (status(503), False)])
@on_loop
async def test_a_local_replica_without_probes_is_asked_until_it_serves(answer, good):
    async with world() as w, replicas() as [replica]:
        port = replica.port
        await replica.stop()
        subject = w.watch(replica.sockaddr, local=True)
        await eventually(lambda: subject.last == "connection refused", "probed while it starts")
        assert w.state(subject) == REPLICA_STARTING
        replica.answer = answer
        await replica.start(port)
        if good:
            await w.wait_state(subject, REPLICA_READY)
            asked = replica.asked
            await asyncio.sleep(0.6)
            assert replica.asked == asked  # no probe is configured: none goes on
        else:
            await eventually(lambda: replica.asked >= 2, "asked again")
            assert w.state(subject) == REPLICA_STARTING


@on_loop
async def test_a_local_replica_starts_quickly_whatever_the_period():
    async with world() as w, replicas() as [replica]:
        replica.answer = status(500)
        subject = w.watch(replica.sockaddr, HealthPolicy(readiness=Probe(), liveness=Probe()), local=True)
        await eventually(lambda: replica.asked >= 3, "probed every quarter of a second")
        replica.answer = status(200)
        await w.wait_state(subject, REPLICA_READY)
        assert w.dead == []


@on_loop
async def test_liveness_of_a_local_replica_is_reported_once():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr, HealthPolicy(liveness=FAST), local=True)
        await w.wait_state(subject, REPLICA_READY)
        replica.answer = status(500)
        await eventually(lambda: w.dead, "declared dead")
        assert w.state(subject) == REPLICA_STARTING
        asked = replica.asked
        await asyncio.sleep(0.2)
        assert (replica.asked, w.dead) == (asked, [subject.index])


@on_loop
async def test_liveness_of_a_static_replica_sets_it_aside_and_takes_it_back():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr, HealthPolicy(liveness=FAST))
        assert w.state(subject) == REPLICA_READY
        replica.answer = status(500)
        await w.wait_state(subject, REPLICA_STARTING)
        replica.answer = status(200)
        await w.wait_state(subject, REPLICA_READY)
        assert w.dead == []


@on_loop
async def test_liveness_waits_for_its_initial_delay():
    async with world() as w, replicas() as [replica]:
        delayed = Probe(period=0.05, initial_delay=0.4, timeout=60, failure_threshold=1)
        replica.answer = status(500)
        begun = time.monotonic()
        w.watch(replica.sockaddr, HealthPolicy(liveness=delayed))
        await eventually(lambda: replica.asked, "the first liveness probe")
        assert time.monotonic() - begun >= 0.39


@on_loop
async def test_an_ejected_replica_comes_back_through_a_connection():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr)
        begun = time.monotonic()
        w.fail(subject, threshold=3)
        assert w.state(subject) == REPLICA_EJECTED
        await w.wait_state(subject, REPLICA_READY)
        assert time.monotonic() - begun >= RETURN_FIRST * 0.9
        assert replica.asked == 0
        assert w.table.replica(subject.index).failures == 0


@on_loop
async def test_an_ejected_replica_with_a_probe_has_to_pass_it():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr, HealthPolicy(readiness=Probe(period=0.3, failure_threshold=100)))
        await w.wait_state(subject, REPLICA_READY)
        replica.answer = status(500)
        w.fail(subject)
        asked = replica.asked
        await eventually(lambda: replica.asked >= asked + 4, "probed again and again")
        assert w.state(subject) == REPLICA_EJECTED
        replica.answer = status(200)
        await w.wait_state(subject, REPLICA_READY)


@on_loop
async def test_one_that_fails_again_after_its_return_waits_longer_each_time(monkeypatch: Any):
    monkeypatch.setattr("fe.control.health.FLAPPING", 600.0)
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr)
        waited: list[float] = []
        for _ in range(3):
            begun = time.monotonic()
            w.fail(subject)
            await w.wait_state(subject, REPLICA_READY)
            waited.append(time.monotonic() - begun)
        assert waited[1] >= 2 * RETURN_FIRST * 0.9
        assert waited[2] >= 4 * RETURN_FIRST * 0.9


@on_loop
async def test_a_successor_takes_states_up_as_they_are():
    async with world() as w, replicas(3) as [fit, ejected, draining]:
        policy = HealthPolicy(readiness=Probe(period=30_000))
        index = [w.table.add_replica(w.deployment, one.sockaddr, REPLICA_READY) for one in (fit, ejected, draining)]
        for one, state in zip(index, (REPLICA_READY, REPLICA_EJECTED, REPLICA_DRAINING), strict=True):
            w.table.set_replica_state(one, state)
        subjects = [w.observe(one, place.sockaddr, policy) for one, place in zip(index, (fit, ejected), strict=False)]
        assert [w.state(one) for one in subjects] == [REPLICA_READY, REPLICA_EJECTED]
        await w.wait_state(subjects[1], REPLICA_READY)
        assert fit.asked == 0  # its next probe is somewhere in the next period
        assert w.table.replica(index[2]).state == REPLICA_DRAINING


@on_loop
async def test_other_settings_keep_what_is_known():
    async with world() as w, replicas() as [replica]:
        subject = w.watch(replica.sockaddr)
        w.checker.reconfigure(subject, HealthPolicy(readiness=FAST))
        assert w.state(subject) == REPLICA_READY
        replica.answer = status(500)
        await w.wait_state(subject, REPLICA_STARTING)
        w.checker.reconfigure(subject, HealthPolicy())
        assert w.state(subject) == REPLICA_READY
        asked = replica.asked
        await asyncio.sleep(0.2)
        assert replica.asked <= asked + 1  # the last one may have been under way


@on_loop
async def test_nothing_is_probed_after_unwatch_or_stop():
    async with world() as w, replicas(2) as [one, two]:
        first = w.watch(one.sockaddr, HealthPolicy(readiness=FAST))
        second = w.watch(two.sockaddr, HealthPolicy(readiness=FAST))
        await w.wait_state(first, REPLICA_READY)
        await w.wait_state(second, REPLICA_READY)
        w.checker.unwatch(first)
        w.checker.stop()
        await asyncio.sleep(0.1)
        asked = one.asked, two.asked
        one.answer = two.answer = status(500)
        await asyncio.sleep(0.3)
        assert (one.asked, two.asked) == asked
        assert (w.state(first), w.state(second)) == (REPLICA_READY, REPLICA_READY)


@on_loop
async def test_many_probes_wait_for_each_other_and_all_take_place(monkeypatch: Any):
    monkeypatch.setattr("fe.control.health.ATTEMPTS", 3)
    async with world() as w, replicas() as [replica]:
        together, most = 0, 0
        serve = replica._serve

        async def counted(reader, writer):
            nonlocal together, most
            together += 1
            most = max(most, together)
            await asyncio.sleep(0.01)
            together -= 1
            await serve(reader, writer)

        server = await asyncio.start_server(counted, "127.0.0.1", 0)
        replica.port = server.sockets[0].getsockname()[1]
        subjects = [w.watch(replica.sockaddr, HealthPolicy(readiness=Probe(timeout=60))) for _ in range(20)]
        for subject in subjects:
            await w.wait_state(subject, REPLICA_READY)
        assert most <= 4  # three attempts, and one whose verdict is in but whose connection is still closing
        server.close()
