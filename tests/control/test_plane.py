"""The life of a configuration: start, reload in an order that loses no request, refusal, take-over by a successor."""

from __future__ import annotations

import asyncio
import json
import os
import time

import pytest

from fe import model
from fe._core import GONE, HELD, REPLICA_EJECTED, WAITING
from fe.control import plane, reconciler
from fe.control.state import save_state
from tests.control.harness import COMMAND, LIMITS, eventually, lease, on_loop, replicas, status
from tests.control.world import endpoint, world

A, B = "127.0.0.1:7001", "127.0.0.1:7002"
FAR = 2**62  # a deadline that never comes


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fe.yaml"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(reconciler, "OTHERS_WITHIN", 0.2)


def local(count=1, **settings):
    process = {"command": list(COMMAND), "env": {"MARK": settings.pop("mark", "one")}}
    return {"instance_count": count, "replicas": {"process": process}, **settings}


@on_loop
async def test_the_first_configuration_is_published_before_ready(file):
    async with world(file, {"endpoints": [endpoint("one", {"blue": [A, B]})]}) as w:
        assert w.table.snapshot()[0] == 1
        [one] = w.snapshot.endpoints
        [blue] = one.deployments
        assert (one.name, blue.name, one.traffic) == ("one", "blue", {"blue": 100})
        load = w.table.deployment(blue.index)
        assert (load.name, load.generation, load.ready) == ("one/blue", blue.generation, 2)
        await eventually(lambda: w.said(model.Alive), "a sign of life")
    assert w.said(model.Reloaded) == []


@pytest.mark.parametrize("text", ["endpoints: [{name: x", "endpoints:\n- name: one\n  wrong: 1\n", ""])
@on_loop
async def test_a_bad_first_configuration_is_fatal(file, text):
    async with world(file, {}) as w:
        await w.stop()
        os.ftruncate(w.state_fd, 0)
        file.write_text(text)
        await w.start()
        [fatal] = w.said(model.Fatal)
        assert fatal.exit_code == 2
        assert str(file) in fatal.message


@on_loop
async def test_the_end_of_the_supervisor_is_the_end(file):
    async with world(file, {}) as w:
        assert await w.stop() == 0
        await w.start(restarted=True)


@on_loop
async def test_a_reload_adds_changes_and_removes(file):
    async with world(file, {"endpoints": [endpoint("one", {"blue": [A]}), endpoint("two", {"blue": [B]})]}) as w:
        kept = w.snapshot.endpoints[0].deployments[0]
        changed = endpoint("one", {"blue": {"replicas": {"static": [A, B]}, "max_queue_length": 7}})
        changed["deployments"][0]["request_settings"] = {"max_concurrent_requests_per_instance": 3}
        assert await w.reload({"endpoints": [changed, endpoint("three", {"blue": [B]})]}) is None
        assert [one.name for one in w.snapshot.endpoints] == ["one", "three"]
        after = w.snapshot.endpoints[0].deployments[0]
        assert (after.index, after.generation, after.capacity) == (kept.index, kept.generation, 3)
        load = w.table.deployment(kept.index)
        assert (load.capacity, load.max_queue, load.ready) == (3, 7, 2)
        await eventually(lambda: w.names() == ["one/blue", "three/blue"], "two is gone")


BAD = [
    ("nonsense: 1", "nonsense"),
    (json.dumps({"listen": "127.0.0.1:1"}), "listen cannot change"),
    (json.dumps({"admin": "127.0.0.1:1"}), "admin cannot change"),
    (json.dumps({"workers": 7}), "workers cannot change"),
    (json.dumps({"limits": {"slots": 17}}), "limits.slots cannot change"),
]


@pytest.mark.parametrize(("text", "reason"), BAD, ids=[reason for _, reason in BAD])
@on_loop
async def test_a_bad_reload_changes_nothing(file, text, reason):
    async with world(file, {"log": {}, "endpoints": [endpoint("one", {"blue": [A]})]}) as w:
        before = w.table.snapshot(), w.names(), w.plane.config
        error = await w.reload(text)
        assert reason in (error or "")
        assert (w.table.snapshot(), w.names(), w.plane.config) == before
        file.unlink()
        w.plane.on_hangup()
        await eventually(lambda: len(w.said(model.Reloaded)) == 2, "answered")
        assert str(file) in (w.said(model.Reloaded)[1].error or "")
        assert (w.plane.reloads.refused, w.plane.reloads.last_ok) == (2, False)


@on_loop
async def test_what_does_not_fit_is_refused_whole(file):
    limits = {"log": {}, "limits": {"config_bytes": LIMITS.config_bytes, "deployments": LIMITS.deployments}}
    async with world(file, {**limits, "endpoints": [endpoint("one", {"blue": [A]})]}) as w:
        many = [endpoint("one", {f"d{n}": [A] for n in range(20)})]
        assert "limits.deployments" in (await w.reload({**limits, "endpoints": many}) or "")
        await eventually(lambda: w.names() == ["one/blue"], "what was added is removed")
        routes = [{"host": f"host-{n}.example", "path_prefix": "/" + "x" * 400} for n in range(200)]
        large = [endpoint("one", {"blue": [B]}, routes=routes)]
        assert "config_bytes" in (await w.reload({**limits, "endpoints": large}) or "")
        assert w.states("one/blue") == ["ready"]
        assert w.table.snapshot()[0] == 1


@on_loop
async def test_traffic_moves_only_to_what_is_ready(file):
    async with replicas() as [slow]:
        slow.answer = status(503)
        probed = {"replicas": {"static": [slow.address]}, "readiness_probe": {"period": 0.1}}
        async with world(file, {"endpoints": [endpoint("one", {"blue": [A]})]}) as w:
            both = endpoint("one", {"blue": [A], "green": probed}, traffic={"green": 100})
            waiting = asyncio.ensure_future(w.reload({"endpoints": [both]}))
            await eventually(lambda: slow.asked >= 3, "green is probed")
            assert w.table.snapshot()[0] == 1
            assert w.snapshot.endpoints[0].traffic == {"blue": 100}
            slow.answer = status(200)
            assert await waiting is None
            assert w.snapshot.endpoints[0].traffic == {"green": 100}


@on_loop
async def test_a_newer_reload_takes_the_place_of_one_that_waits(file):
    async with replicas() as [slow]:
        slow.answer = status(503)
        probed = {"replicas": {"static": [slow.address]}, "readiness_probe": {"period": 0.1}}
        async with world(file, {"endpoints": [endpoint("one", {"blue": [A]})]}) as w:
            w.write({"endpoints": [endpoint("one", {"blue": [A], "green": probed}, traffic={"green": 100})]})
            w.plane.on_hangup()
            await eventually(lambda: slow.asked >= 3, "the first one waits")
            green = next(i for i in w.table.deployments() if w.table.deployment(i).name == "one/green")
            assert await w.reload({"endpoints": [endpoint("one", {"blue": [A], "green": probed})]}) is None
            assert w.snapshot.endpoints[0].deployments[1].index == green  # what was prepared is used
            w.write({"endpoints": [endpoint("one", {"blue": [A], "red": probed}, traffic={"red": 100})]})
            w.plane.on_hangup()
            await eventually(lambda: "one/red" in w.names(), "another one waits")
            assert "nonsense" in (await w.reload("nonsense: 1") or "")
            await eventually(lambda: w.names() == ["one/blue", "one/green"], "and leaves nothing behind")


@on_loop
async def test_traffic_does_not_move_to_what_never_gets_ready(file):
    async with replicas() as [sick]:
        sick.answer = status(503)
        probed = {"replicas": {"static": [sick.address]}, "readiness_probe": {"period": 0.1}}
        async with world(file, {"endpoints": [endpoint("one", {"blue": [A]})]}) as w:
            w.plane.reconciler._ready_limit = 0.3
            error = await w.reload({"endpoints": [endpoint("one", {"green": probed})]})
            assert "one/green has no ready replica" in (error or "")
            assert w.snapshot.endpoints[0].traffic == {"blue": 100}
            await eventually(lambda: w.names() == ["one/blue"], "undone")
            # An endpoint that nobody uses yet holds up nothing.
            new = endpoint("two", {"green": probed})
            assert await w.reload({"endpoints": [endpoint("one", {"blue": [A]}), new]}) is None


@on_loop
async def test_a_removed_deployment_serves_what_it_has(file, monkeypatch):
    monkeypatch.setattr(reconciler, "NOTICED_WITHIN_NS", 10**11)
    async with world(file, {"endpoints": [endpoint("one", {"blue": [A], "green": [B]})]}) as w:
        holder = w.table.holder(0)
        green = w.snapshot.endpoints[0].deployments[1]
        held, _ = lease(holder, w.table, green.index)
        result, waiting, _ = holder.acquire(green.index, green.generation, FAR)
        assert result == WAITING
        holder.set_active()  # a worker that has not yet seen the new snapshot
        assert await w.reload({"endpoints": [endpoint("one", {"blue": [A]})]}) is None
        late, slot, _ = holder.acquire(green.index, green.generation, FAR)
        assert late == WAITING
        holder.cancel(slot)
        await eventually(lambda: _beat(holder) or w.plane.reconciler.closing, "it is noticed")
        holder.release(held)
        [(slot, _, result)] = holder.collect()
        assert (slot, result) == (waiting, HELD)  # its turn came; removal did not throw it out
        await eventually(lambda: _beat(holder) or w.table.deployment(green.index).state == 2, "removing")
        assert holder.acquire(green.index, green.generation, FAR)[0] == GONE
        holder.release(waiting)
        await eventually(lambda: w.names() == ["one/blue"], "gone")


def _beat(holder):
    holder.beat(time.monotonic_ns())


@pytest.mark.parametrize("beats", [True, False])
@on_loop
async def test_removal_waits_for_workers_that_have_not_looked_but_not_forever(file, monkeypatch, beats):
    monkeypatch.setattr(reconciler, "NOTICED_WITHIN_NS", 10**11)
    async with world(file, {"endpoints": [endpoint("one", {"blue": [A], "green": [B]})]}) as w:
        holder = w.table.holder(0)
        holder.set_active()
        holder.beat(0)
        green = w.snapshot.endpoints[0].deployments[1]
        assert await w.reload({"endpoints": [endpoint("one", {"blue": [A]})]}) is None
        await asyncio.sleep(0.2)
        result, slot, _ = holder.acquire(green.index, green.generation, FAR)
        assert result == HELD
        holder.release(slot)
        if not beats:
            monkeypatch.setattr(reconciler, "NOTICED_WITHIN_NS", 0)
        await eventually(lambda: (beats and _beat(holder)) or w.names() == ["one/blue"], "removed")


@on_loop
async def test_fifty_reloads_keep_the_records(file):
    configs = [
        {"endpoints": [endpoint("one", {"blue": [A, B], "green": [A]}), endpoint("two", {"blue": local()})]},
        {"endpoints": [endpoint("one", {"blue": [A]}), endpoint("two", {"blue": local()}), endpoint("six", {})]},
    ]
    async with world(file, configs[0]) as w:
        await eventually(lambda: w.states("two/blue") == ["ready"], "local one is ready")
        first = {one.name: one.deployments[0] for one in w.snapshot.endpoints}
        pids = [process.pid for process in w.peer.processes.values()]
        for turn in range(50):
            assert await w.reload(configs[(turn + 1) % 2]) is None
            now = {one.name: one.deployments[0] for one in w.snapshot.endpoints if one.deployments}
            assert {name: (now[name].index, now[name].generation) for name in ("one", "two")} == {
                name: (first[name].index, first[name].generation) for name in ("one", "two")
            }
        assert [process.pid for process in w.peer.processes.values()] == pids
        await eventually(lambda: w.names() == ["one/blue", "one/green", "two/blue"], "nothing piles up")
        assert w.plane.reloads.applied == 51
        assert await w.reload({"endpoints": []}) is None
        await eventually(lambda: w.names() == [] and not w.peer.processes, "all is gone")


@on_loop
async def test_a_successor_disturbs_nothing(file):
    config = {"endpoints": [endpoint("one", {"blue": [A, B]}), endpoint("two", {"blue": local(2)})]}
    async with world(file, config) as w:
        await eventually(lambda: w.states("two/blue") == ["ready", "ready"], "ready")
        holder = w.table.holder(0)
        static, own = (one.deployments[0].index for one in w.snapshot.endpoints)
        held = lease(holder, w.table, static)[0], lease(holder, w.table, own)[0]
        before = {index: [w.table.replica(one) for one in w.table.replicas(index)] for index in (static, own)}
        snapshot = w.table.snapshot()[1]
        spawned = len(w.peer.spawned)
        await w.kill()
        w.write({"endpoints": []})  # the file is not what counts: what was applied is
        await w.start(restarted=True)
        assert w.table.snapshot()[1] == snapshot
        assert {index: [w.table.replica(one) for one in w.table.replicas(index)] for index in (static, own)} == before
        assert (len(w.peer.spawned), w.peer.stopped) == (spawned, [])
        for slot in held:
            holder.release(slot)
        [victim, _] = w.peer.processes
        w.peer.kill(victim)
        await eventually(lambda: len(w.peer.spawned) == spawned + 1, "it looks after the local ones")
        await eventually(lambda: w.states("two/blue") == ["ready", "ready"], "ready again")
        assert await w.reload({"endpoints": [endpoint("one", {"blue": [A]})]}) is None
        await eventually(lambda: w.names() == ["one/blue"] and not w.peer.processes, "and reloads")


@on_loop
async def test_a_successor_clears_up_what_nobody_wants(file):
    config = {"endpoints": [endpoint("one", {"blue": local()}), endpoint("two", {"blue": [A]})]}
    async with world(file, config) as w:
        await eventually(lambda: w.states("one/blue") == ["ready"], "ready")
        w.peer.processes["a stray"] = next(iter(w.peer.processes.values()))
        strange = w.table.add_deployment("one/half", 1, 1)[0]  # a reload that a kill has cut short
        w.table.add_replica(strange, b"\x02\x00" + bytes(14))
        half_gone = w.table.add_deployment("two/blue", 1, 1)[0]
        holder = w.table.holder(0)
        w.table.add_replica(half_gone, b"\x02\x00" + bytes(14), 2)
        slot, _ = lease(holder, w.table, half_gone)
        w.table.remove_deployment(half_gone)
        await w.kill()
        del w.peer.processes["a stray"]
        await w.start(restarted=True)
        await eventually(lambda: w.names() == ["one/blue", "two/blue", "two/blue"], "the half deployment is gone")
        assert w.snapshot.endpoints[1].deployments[0].index != half_gone
        holder.release(slot)
        await eventually(lambda: w.names() == ["one/blue", "two/blue"], "the other one with its last lease")
        assert w.states("one/blue") == ["ready"]


@on_loop
async def test_a_predecessor_killed_at_any_step_of_a_reload(file):
    """Every change of the table may be its last; the successor ends with old or new, whole."""
    old = {"endpoints": [endpoint("one", {"blue": [A], "green": [B]})]}
    new = {"endpoints": [endpoint("one", {"blue": [A, B], "red": [A]})]}
    outcomes = set()
    for steps in range(12):
        async with world(file, old) as w:
            count = 0

            class Killed(BaseException):
                pass

            def stepped(call, limit=steps, killed=Killed):
                def instead(*args):
                    nonlocal count
                    if count == limit:
                        raise killed
                    count += 1
                    return call(*args)

                return instead

            real = w.plane.table
            cut = _Cut(real, stepped)
            w.plane.reconciler._table = cut
            object.__setattr__(w.plane.reconciler._around, "table", cut)
            for deployment in w.plane.reconciler.live.values():
                deployment._table = cut
            w.write(new)
            config = await w.plane._load()
            try:
                await w.plane._apply(config)
                whole = True
            except Killed:
                whole = False
            await w.kill()
            await w.start(restarted=True)
            [one] = w.snapshot.endpoints
            names = tuple(deployment.name for deployment in one.deployments)
            assert names in (("blue", "green"), ("blue", "red"))
            assert all(w.table.deployment(one.index).ready for one in one.deployments)
            await eventually(lambda: w.names() == sorted(f"one/{name}" for name in names), "nothing is left over")  # noqa: B023
            outcomes.add(names)
            if whole:
                break
    assert outcomes == {("blue", "green"), ("blue", "red")}
    assert whole


class _Cut:
    """The table, whose every changing call may be the last."""

    def __init__(self, table, stepped):
        self._table = table
        for name in ("add_deployment", "add_replica", "set_replica_state", "configure_deployment", "publish"):
            setattr(self, name, stepped(getattr(table, name)))

    def __getattr__(self, name):
        return getattr(self._table, name)


@on_loop
async def test_a_state_that_cannot_be_read_is_told_and_the_file_counts(file):
    async with world(file, {"endpoints": [endpoint("one", {"blue": [A]})]}) as w:
        await w.kill()
        save_state(w.state_fd, b"\xc1 no configuration")
        await w.start(restarted=True)
        assert [one.name for one in w.snapshot.endpoints] == ["one"]


@on_loop
async def test_draining_stops_probes_and_reloads(file):
    async with replicas() as [replica]:
        probed = {"replicas": {"static": [replica.address]}, "readiness_probe": {"period": 0.05}}
        async with world(file, {"endpoints": [endpoint("one", {"blue": probed})]}) as w:
            await eventually(lambda: replica.asked >= 3, "probed")
            w.peer.host.say(model.Drain())
            await eventually(lambda: w.plane.draining, "heard")
            await asyncio.sleep(0.1)
            asked = replica.asked
            assert "ending" in (await w.reload({"endpoints": []}) or "")
            await asyncio.sleep(0.2)
            assert replica.asked == asked
            assert w.states("one/blue") == ["ready"]


@on_loop
async def test_more_replicas_than_the_table_has_room_for_are_refused(file):
    limits = {"log": {}, "limits": {"replicas": 2}}
    async with world(file, {**limits, "endpoints": [endpoint("one", {"blue": [A]})]}) as w:
        three = endpoint("one", {"blue": [A, B, "127.0.0.1:7003"]})
        assert "limits.replicas" in (await w.reload({**limits, "endpoints": [three]}) or "")


@on_loop
async def test_an_ejection_without_a_ring_is_found_as_well(file, monkeypatch):
    monkeypatch.setattr(plane, "ALIVE_PERIOD", 0.05)
    async with replicas() as [replica], world(file, {"endpoints": [endpoint("one", {"blue": [replica.address]})]}) as w:
        [one] = w.table.replicas(w.snapshot.endpoints[0].deployments[0].index)
        w.table.set_replica_state(one, REPLICA_EJECTED)  # as by a worker that was killed before it could ring
        await eventually(lambda: w.states("one/blue") == ["ready"], "back")
