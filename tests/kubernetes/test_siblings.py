"""The front-ends of a cluster: who is a member, since when, and that the list survives an API server that does not."""

from __future__ import annotations

import pytest

from fe.control.kubernetes.siblings import Sibling, Siblings
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import PODS, connected, eventually, no_tasks_left, on_loop, pod

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
