"""What scaling has to survive: failures beside healthy replicas, hands that come too late, reloads, a death in between.

Owns: cases in which the runtime of scaling once went wrong. What it does when all is well is in test_scaler.py and
test_process.py; the rules are judged in tests/autoscaler.
"""

from __future__ import annotations

import asyncio
import math
import sys
import threading

import pytest

from fe._core import WAITING
from fe.control.deployment import Deployment
from fe.control.providers import process
from fe.control.providers.local import ReplicaId
from fe.control.state import decode_legacy, load_state
from fe.model import Spawn
from tests.control.harness import SERVE, Stage, eventually, lease, on_loop, plan, spec, stage
from tests.control.test_scaler import FAR, NAME, Load, decisions, ready, scaled, wanted
from tests.control.world import world

CRASH = ("sh", "-c", "exit 3")
ONE_ALONE = "import os, sys\ntry:\n    os.mkdir(os.environ['LOCK'])\nexcept OSError:\n    sys.exit(3)\n" + SERVE


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fe.yaml"


async def started(s: Stage, count: int, **more) -> Deployment:
    """A deployment with this many ready replicas."""
    deployment = Deployment.create(s.around, plan(more.pop("spec", spec()), count=count, **more))
    deployment.start()
    await eventually(lambda: list(s.states(deployment).values()) == ["ready"] * count, "all ready")
    return deployment


# --- failures --------------------------------------------------------------------------------------------------------


@on_loop
async def test_crashes_beside_settled_replicas_are_slowed_down_and_reported(monkeypatch, tmp_path):
    monkeypatch.setattr(process, "SETTLED", 0.2)
    async with stage() as s:
        only = spec(command=(sys.executable, "-S", "-c", ONE_ALONE), LOCK=str(tmp_path / "lock"))
        deployment = await started(s, 1, spec=only)
        await eventually(lambda: all(map(deployment._provider._has_settled, deployment._provider._live())), "settled")
        deployment.scale(2)
        await eventually(lambda: deployment.counts(deployment.load) == (1, 0, 1), "one is there, one fails")
        assert len(s.peer.spawned) <= 6  # the first one; then at 0, 0, 500, 1000 ms


@on_loop
async def test_a_replica_may_crash_for_days():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(command=CRASH)))
        provider = deployment._provider
        provider._crashes = 5000
        deployment.start()
        await eventually(lambda: provider._crashes == 5001, "crashed once more")
        assert provider._spawn_after - s.around.loop.time() == pytest.approx(process.BACKOFF_MOST, abs=15)
        assert provider._timer is not None


@on_loop
async def test_many_that_fail_together_are_one_failure():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(), count=20))
        s.peer.refuse = "no memory"
        deployment.start()
        provider = deployment._provider
        await eventually(lambda: provider._crashes >= 2, "all, and all of the second try")
        ended = [event for event in s.around.events.list() if event["kind"] == "crash"]
        assert 20 * (provider._crashes - 1) < len(ended) <= 20 * provider._crashes
        s.peer.refuse = None
        await eventually(lambda: list(s.states(deployment).values()) == ["ready"] * 20, "half a second later")


@on_loop
async def test_no_free_port_is_tried_again(monkeypatch):
    async with stage() as s:
        find, tries = s.peer.host.free_port, []

        def none_at_first() -> int:
            tries.append(1)
            if len(tries) == 1:
                raise OSError("no free port")
            return find()

        monkeypatch.setattr(s.peer.host, "free_port", none_at_first)
        await started(s, 1)


@on_loop
async def test_a_failing_roll_out_goes_on_trying_beside_what_serves(monkeypatch):
    monkeypatch.setattr(process, "SETTLED", 0.1)
    monkeypatch.setattr(process, "BACKOFF_FIRST", 0.05)
    async with stage() as s:
        deployment = await started(s, 2)
        await eventually(lambda: all(map(deployment._provider._has_settled, deployment._provider._live())), "settled")
        deployment.apply(plan(spec(command=CRASH), count=2))
        await eventually(lambda: len(s.peer.spawned) >= 6, "four tries")
        assert deployment._provider._crashes >= 3
        assert deployment.load.ready == 2


@on_loop
async def test_threads_may_read_while_replicas_come_and_go():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(command=CRASH), count=40))
        deployment._provider._crashes = process.CRASH_LOOP
        reads, errors, over = [], [], threading.Event()

        def read() -> None:
            while not over.is_set() and not errors:
                try:
                    reads.append(deployment.counts(deployment.load))
                except RuntimeError as error:
                    errors.append(error)

        interval = sys.getswitchinterval()
        sys.setswitchinterval(1e-6)
        try:
            reading = asyncio.get_running_loop().run_in_executor(None, read)
            while len(reads) < 2000 and not errors:
                deployment._provider._spawn_after = 0.0
                deployment._provider._step()
                await asyncio.sleep(0.005)
        finally:
            sys.setswitchinterval(interval)
            over.set()
        await reading
        assert errors == []


# --- a successor -----------------------------------------------------------------------------------------------------


@on_loop
async def test_a_successor_gives_what_was_drained_the_same_patience():
    async with stage() as s:
        deployment = await started(s, 2)
        slot, _ = lease(s.holder, s.table, deployment.index)
        other, _ = lease(s.holder, s.table, deployment.index)
        deployment.scale(1)
        await eventually(lambda: sorted(s.states(deployment).values()) == ["draining", "ready"], "one drains")
        deployment._provider._step = lambda: None
        s.abandon()
        successor = s.successor()
        ids = [ReplicaId.parse(key) for key in s.peer.running]
        taken = Deployment.take_up(successor.around, plan(spec()), deployment.index, ids, 1)
        taken.start()
        [drained] = [one for one in taken._provider._instances.values() if one.stage is process.Stage.DRAINING]
        assert drained.deadline == math.inf
        s.holder.release(slot)
        s.holder.release(other)
        await eventually(lambda: len(s.peer.processes) == 1, "it has ended")


@on_loop
async def test_a_successor_knows_the_number_before_a_replica_is_started_for_it(file):
    async with world(file, scaled()) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        send, noted = w.plane._host._send, set()

        def listen(message) -> None:
            if isinstance(message, Spawn):
                noted.add(decode_legacy(load_state(w.state_fd)).wanted[NAME])
            send(message)

        w.plane._host._send = listen
        load = Load(w)
        load.ask(3)
        await eventually(lambda: ready(w) == 5, "scaled up")
        assert noted == {5}
        load.release_all()


# --- by hand ---------------------------------------------------------------------------------------------------------


@on_loop
async def test_an_undrain_does_not_bring_back_what_is_being_ended():
    async with stage() as s:
        deployment = await started(s, 2)
        slots = [lease(s.holder, s.table, deployment.index)[0] for _ in range(2)]
        deployment.scale(1)
        await eventually(lambda: "draining" in s.states(deployment).values(), "one is to end")
        [address] = [one for one, state in s.states(deployment).items() if state == "draining"]
        assert deployment.hold(address)
        assert deployment.unhold(address)
        assert s.states(deployment)[address] == "draining"
        for slot in slots:
            s.holder.release(slot)
        await eventually(lambda: list(s.states(deployment).values()) == ["ready"], "it has ended")


@on_loop
async def test_a_request_right_after_zero_by_hand_is_served(file):
    config = scaled(low=0, high=1, scale_to_zero_delay=600)
    config["endpoints"][0]["deployments"][0]["instance_count"] = 1
    async with world(file, config) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        await eventually(lambda: w.plane.scaler.tracks[NAME].decided is not None, "looked at")
        w.plane.scale_by_hand(NAME, 0)
        await eventually(lambda: ready(w) == 0, "it is to end")
        load, index = Load(w), w.plane.reconciler.live[NAME].index
        result, slot, _ = load.holder.await_(index, w.table.deployment(index).generation, FAR)
        assert result == WAITING
        load.waiting.append(slot)
        await eventually(lambda: (load.collect(), len(load.held))[1] == 1, "served")
        load.release_all()


@on_loop
async def test_a_number_set_by_hand_outlasts_the_delay(file):
    async with world(file, scaled(scale_down_delay=2)) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        w.plane.scale_by_hand(NAME, 3)
        track = w.plane.scaler.tracks[NAME]
        await eventually(lambda: track.history.complete_since <= track.history.last - 2, "the window is full")
        seen = track.decided
        await eventually(lambda: track.decided is not seen, "looked at again")
        assert wanted(w) == 3


# --- reload, and what is told ----------------------------------------------------------------------------------------


@on_loop
async def test_a_shorter_polling_interval_holds_at_once(file):
    async with world(file, scaled(polling_interval=3600)) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        assert await w.reload(scaled()) is None
        load = Load(w)
        load.ask(3)
        await eventually(lambda: wanted(w) == 5, "scaled up")
        load.release_all()


@on_loop
async def test_a_number_changed_by_a_reload_is_an_event(file):
    async with world(file, scaled()) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        assert await w.reload(scaled(low=3)) is None
        assert wanted(w) == 3
        assert decisions(w) == [(1, 3)]


@on_loop
async def test_each_replica_that_scaling_drains_is_an_event(file):
    async with world(file, scaled()) as w:
        await eventually(lambda: w.states(NAME) == ["ready"], "the first replica")
        w.plane.scale_by_hand(NAME, 3)
        await eventually(lambda: ready(w) == 3, "as told")
        w.plane.scale_by_hand(NAME, 1)
        await eventually(lambda: len(w.states(NAME)) == 1, "two have ended")
        drains = [event for event in w.plane.events.list() if event["kind"] == "drain"]
        assert [event["reason"] for event in drains] == ["not needed any more"] * 2
        assert len({event["replica"] for event in drains}) == 2
