"""The number of replicas follows the load: on a whole control plane, with real local replicas and real leases."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from fe._core import HELD, WAITING
from fe.control.status import build_status
from tests.control.harness import COMMAND, eventually, on_loop, replicas
from tests.control.world import World, endpoint, world

FAR = 2**62  # a deadline that never comes
NAME = "one/d"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fe.yaml"


def scaled(low: int = 1, high: int = 5, command=COMMAND, **scale):
    """A configuration with one deployment of capacity 1, looked at ten times a second."""
    settings = {"min_instances": low, "max_instances": high, "polling_interval": 0.1, "scale_down_delay": 0.5, **scale}
    deployment = {"scale_settings": settings, "replicas": {"process": {"command": list(command)}}}
    return {"admin_actions": True, "endpoints": [endpoint("one", {"d": deployment})]}


class Load:
    """Requests of one worker: as many as told, in flight or waiting."""

    def __init__(self, w: World) -> None:
        self.world = w
        self.holder = w.table.holder(0)
        self.held: list[int] = []
        self.waiting: list[int] = []

    def ask(self, count: int) -> None:
        index = self.world.plane.reconciler.live[NAME].index
        for _ in range(count):
            result, slot, _ = self.holder.acquire(index, self.world.table.deployment(index).generation, FAR)
            assert result in (HELD, WAITING)
            (self.held if result == HELD else self.waiting).append(slot)

    def collect(self) -> None:
        for slot, _, result in self.holder.collect():
            assert result == HELD
            self.waiting.remove(slot)
            self.held.append(slot)

    def release_all(self) -> None:
        while self.held or self.waiting:
            self.collect()
            while self.held:
                self.holder.release(self.held.pop())


def ready(w: World) -> int:
    return w.states(NAME).count("ready")


def wanted(w: World) -> int:
    return w.plane.reconciler.live[NAME].wanted


def decisions(w: World) -> list[tuple[int, int]]:
    return [(event["from"], event["to"]) for event in w.plane.events.list() if event["kind"] == "scale"]


@on_loop
async def test_up_with_the_load_and_down_without_and_nobody_is_cut(file):
    async with world(file, scaled()) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        load = Load(w)
        load.ask(4)
        await eventually(lambda: wanted(w) == 5, "4 requests on 70 % need 6, and 5 are the most")
        await eventually(lambda: (load.collect(), len(load.held))[1] == 4, "every waiter got a place as it came up")
        kept = load.held.pop()
        load.release_all()
        await eventually(lambda: wanted(w) == 2, "down to what one request needs")
        await eventually(lambda: len(w.peer.processes) == 2, "the others have ended")
        assert w.table.deployment(w.plane.reconciler.live[NAME].index).in_flight == 1
        load.holder.release(kept)
        await eventually(lambda: wanted(w) == 1 and len(w.peer.processes) == 1, "down to the least")
        steps = decisions(w)
        assert steps[-1][1] == 1
        assert all(a[1] == b[0] for a, b in itertools.pairwise(steps))
        last = [event for event in w.plane.events.list() if event["kind"] == "scale"][-1]
        assert last["figures"]["need"] == 0
        assert "0 are needed" in last["reason"]


@on_loop
async def test_a_replica_that_still_serves_is_not_ended_by_scaling_down(file):
    config = scaled()
    config["drain_timeout"] = 0
    config["endpoints"][0]["deployments"][0]["request_settings"] = {"request_timeout_ms": 1}  # a drain's limit: 1 s
    async with world(file, config) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        load = Load(w)
        load.ask(3)
        await eventually(lambda: (load.collect(), len(load.held))[1] == 3 and ready(w) == 5, "three serve, two idle")
        w.plane.scale_by_hand(NAME, 1)
        left = ["draining", "draining", "ready"]
        await eventually(lambda: sorted(w.states(NAME)) == left and len(w.peer.processes) == 3, "idle ones have ended")
        await asyncio.sleep(1.3)
        assert len(w.peer.processes) == 3
        load.release_all()
        await eventually(lambda: len(w.peer.processes) == 1, "the others have ended, too")


@on_loop
async def test_a_successor_goes_on_with_the_same_number(file):
    async with world(file, scaled(high=4, scale_down_delay=600)) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        load = Load(w)
        load.ask(3)
        await eventually(lambda: wanted(w) == 4, "scaled up")
        await w.kill()
        load.release_all()
        await w.start(restarted=True)
        assert wanted(w) == 4
        await eventually(lambda: ready(w) == 4 and len(w.peer.processes) == 4, "all are there")
        assert len(w.peer.spawned) == 4
        track = w.plane.scaler.tracks[NAME]
        await eventually(lambda: track.decided is not None, "looked at without load")
        assert track.decided.rule == "no_history"
        assert wanted(w) == 4


@on_loop
async def test_a_reload_that_narrows_the_bounds_holds_at_once(file):
    async with world(file, scaled(scale_down_delay=600)) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        load = Load(w)
        load.ask(3)
        await eventually(lambda: wanted(w) == 5, "scaled up")
        assert await w.reload(scaled(high=2, scale_down_delay=600)) is None
        assert wanted(w) == 2
        assert await w.reload(scaled(low=3, high=3, scale_down_delay=600)) is None
        assert wanted(w) == 3
        load.release_all()


@on_loop
async def test_by_hand_until_the_load_decides_otherwise(file):
    async with world(file, scaled(scale_down_delay=600)) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        await eventually(lambda: w.plane.scaler.tracks[NAME].decided is not None, "looked at")
        assert w.plane.scale_by_hand(NAME, 3) == 1
        await eventually(lambda: ready(w) == 3, "as told")
        seen = w.plane.scaler.tracks[NAME].decided
        await eventually(lambda: w.plane.scaler.tracks[NAME].decided is not seen, "looked at again")
        assert wanted(w) == 3
        load = Load(w)
        load.ask(4)
        await eventually(lambda: wanted(w) == 5, "the load decides")
        assert w.plane.scaler.tracks[NAME].by_hand is None
        load.release_all()


@on_loop
async def test_crashes_in_a_row_do_not_count(file):
    async with world(file, scaled(command=("sh", "-c", "exit 3"))) as w:
        track = w.plane.scaler.tracks[NAME]
        await eventually(lambda: track.observed is not None and track.observed.failing == 1, "it is known to fail")
        assert (track.observed.ready, track.observed.starting) == (0, 0)
        assert wanted(w) == 1
        assert "fail" in track.decided.reason
        crashes = [event for event in w.plane.events.list() if event["kind"] == "crash"]
        assert crashes[-1]["figures"]["how"] == "status 3"


@on_loop
async def test_drained_by_hand_until_undrained_across_reload_and_successor(file):
    async with replicas(2) as (one, two):
        config = {"admin_actions": True, "endpoints": [endpoint("one", {"d": [one.address, two.address]})]}
        async with world(file, config) as w:
            await eventually(lambda: ready(w) == 2, "both ready")
            w.plane.drain(NAME, two.address)
            assert w.states(NAME) == ["ready", "draining"]
            changed = {**config, "endpoints": [endpoint("one", {"d": [one.address, two.address]}, mirror_traffic={})]}
            assert await w.reload(changed) is None
            assert w.states(NAME) == ["ready", "draining"]
            await w.kill()
            await w.start(restarted=True)
            assert sorted(w.states(NAME)) == ["draining", "ready"]
            w.plane.undrain(NAME, two.address)
            await eventually(lambda: ready(w) == 2, "both again")
            kinds = [event["kind"] for event in w.plane.events.list()]
            assert "undrain" in kinds


@on_loop
async def test_who_is_drained_by_hand_is_replaced_and_stays(file):
    async with world(file, scaled()) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        [address] = [one["address"] for one in build_status(w.plane)["endpoints"][0]["deployments"][0]["replicas"]]
        w.plane.drain(NAME, address)
        await eventually(lambda: w.states(NAME) == ["draining", "ready"], "another one serves")
        w.plane.undrain(NAME, address)
        await eventually(lambda: w.states(NAME) == ["ready"] and len(w.peer.processes) == 1, "one of both is enough")


@on_loop
async def test_a_successor_knows_who_is_drained_by_hand(file):
    async with world(file, scaled(low=2, high=3)) as w:
        await eventually(lambda: ready(w) == 2, "both ready")
        address = next(iter(w.plane.reconciler.live[NAME].replicas()))[0]
        record = dict(w.plane.reconciler.live[NAME].replicas())[address]
        shown = f"127.0.0.1:{int.from_bytes(record.sockaddr[2:4], 'big')}"
        w.plane.drain(NAME, shown)
        await eventually(lambda: sorted(w.states(NAME)) == ["draining", "ready", "ready"], "it has a successor")
        await w.kill()
        await w.start(restarted=True)
        assert sorted(w.states(NAME)) == ["draining", "ready", "ready"]
        assert len(w.peer.spawned) == 3
        w.plane.undrain(NAME, shown)
        await eventually(lambda: w.states(NAME) == ["ready", "ready"], "two are enough")
        await eventually(lambda: len(w.peer.processes) == 2, "the third has ended")
