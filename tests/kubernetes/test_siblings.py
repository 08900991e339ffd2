"""The front-ends of a cluster: who is a member, since when, and that the list survives an API server that does not.

Each of several counts only its own requests: then no deployment is left without a replica.
"""

from __future__ import annotations

import pytest

from fe.control.kubernetes import scale
from fe.control.kubernetes.siblings import Sibling, Siblings
from tests.control.admin_client import post
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import PODS, connected, eventually, no_tasks_left, on_loop, pod
from tests.kubernetes.scene import DEPLOYMENTS, addresses, in_file, scene, workload
from tests.kubernetes.test_scale import deployment, reached

LABELS = "app.kubernetes.io/name=fe"


def front_end(name: str) -> dict:
    return pod(name, labels={"app.kubernetes.io/name": "fe"})


@on_loop
async def test_members_come_move_and_go(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        told: list[tuple[Sibling, ...]] = []
        siblings = Siblings(cluster, "models", LABELS, told.append)
        assert not siblings.synced
        siblings.start()
        await eventually(lambda: siblings.synced, "in sync")
        await emulator.create(pod("other"))
        emulator.nodes.running("models", "other", ["10.1.0.9"])
        for name, address in (("fe-0", "10.1.0.1"), ("fe-1", "fd00::1")):
            await emulator.create(front_end(name))  # no member before it runs
            emulator.nodes.running("models", name, [address])
        await eventually(lambda: len(siblings.members) == 2, "both are there")
        assert {(one.identity, one.address) for one in siblings.members} == {("fe-0", "10.1.0.1"), ("fe-1", "fd00::1")}
        assert all(one.since > 1.7e9 for one in siblings.members)
        emulator.nodes.running("models", "fe-0", ["10.1.0.7"])
        await eventually(lambda: "10.1.0.7" in {one.address for one in siblings.members}, "one has moved")
        await emulator.delete(f"{PODS}/fe-1", grace=600)  # is ending: no member from now on
        await eventually(lambda: [one.identity for one in siblings.members] == ["fe-0"], "one is going")
        await emulator.away()
        await eventually(lambda: siblings.stale_for() > 0, "the server is away")
        assert [one.identity for one in siblings.members] == ["fe-0"]
        await emulator.back()
        await emulator.delete(f"{PODS}/fe-0", grace=0)
        await eventually(lambda: not siblings.members, "the last has gone")
        assert [len(members) for members in told] == [1, 2, 2, 1, 0]
        await siblings.stop()


@pytest.mark.parametrize("started", ["2026-11-22T08:00:00Z", None])
@on_loop
async def test_members_are_ordered_by_the_time_since_which_they_are_there(started, tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        for name in ("b", "a", "c"):
            await emulator.create(front_end(name))
            emulator.nodes.running("models", name)
            if name == "c":
                await emulator.patch(f"{PODS}/c/status", {"status": {"startTime": started}})
        siblings = Siblings(cluster, "models", LABELS)
        siblings.start()
        await eventually(lambda: len(siblings.members) == 3, "all are there")
        times = [(one.since, one.identity) for one in siblings.members]
        assert times == sorted(times)
        await siblings.stop()


TO_ZERO = {"min_instances": 0, "max_instances": 5, "scale_down_delay": 0.2, "scale_to_zero_delay": 0.2}


@on_loop
async def test_the_last_replica_stays_while_there_are_several(tmp_path, monkeypatch):
    monkeypatch.setattr(scale, "SETTLED", 0.0)
    async with scene(tmp_path, in_file(scale_settings=TO_ZERO)) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(front_end("fe-0"))
        await reached(s, 0)
        await s.emulator.create(front_end("fe-1"))
        await reached(s, 1, "it is there for requests that only another front-end sees: the Deployment wants")
        why = "2 front-ends count for themselves: the last replica stays"
        lifted = s.events("scale")[-1]
        assert (lifted["from"], lifted["to"], lifted["reason"].rpartition(", ")[2]) == (0, 1, why)
        track = s.world.plane.tracks()["one/m"]
        await eventually(lambda: track.decided.rule == "last" and deployment(s).load.ready == 1, "it stays")
        answer = await post(s.world, "/api/deployments/one/m/scale", {"count": 0})
        assert (answer.status, answer.code) == (409, "out_of_bounds")
        assert why in answer.json["error"]["message"]
        await s.emulator.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 0}})
        await eventually(lambda: s.events("scale")[-1]["reason"] == f"0 set by hand, {why}", "whoever takes it away")
        await reached(s, 1)
        await s.emulator.delete(f"{PODS}/fe-1", grace=0)
        await reached(s, 0, "alone again, it counts everything: the Deployment wants")
