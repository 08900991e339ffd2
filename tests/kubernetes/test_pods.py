"""Pods as replicas: which get requests, and what becomes of those that have some."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe._core import REPLICA_DRAINING
from fe.control.kubernetes.slim import Pod, read_claim, read_pod, read_selector, read_workload
from fe.control.state import decode_legacy, load_state
from tests.control.harness import eventually, on_loop
from tests.kubernetes.scene import DEPLOYMENTS, PODS, addresses, in_file, scene, workload

NAME = "one/m"
IP = "127.1.0.1"


async def first_pod(s, ip=IP):
    """The name of the Deployment's one pod, which runs and is ready at this address."""
    await s.emulator.create(workload())
    await s.emulator.settled()
    name = s.emulator.pods()[0]["metadata"]["name"]
    s.emulator.nodes.running("models", name, [ip])
    await s.sees(NAME, {ip: "ready"})
    return name


@on_loop
async def test_a_pods_life(tmp_path):
    """Ready, not ready, ready again, being deleted, gone: it is used, drained, used, drained, discarded."""
    async with scene(tmp_path, in_file()) as s:
        s.emulator.nodes.stop_after = float("inf")
        await s.emulator.create(workload())
        await s.emulator.settled()
        name = s.emulator.pods()[0]["metadata"]["name"]
        deployment = s.world.plane.live()[NAME]
        await eventually(lambda: deployment.counts(deployment.load) == (0, 1, 0), "one is starting")
        s.emulator.nodes.running("models", name, [IP], ready=False)
        s.emulator.nodes.ready("models", name, True)
        await s.sees(NAME, {IP: "ready"})
        assert deployment.counts(deployment.load) == (1, 0, 0)
        (slot,) = s.acquire(NAME)
        s.emulator.nodes.ready("models", name, False)
        await s.sees(NAME, {IP: "draining"})
        s.emulator.nodes.ready("models", name, True)
        await s.sees(NAME, {IP: "ready"})
        await s.emulator.delete(f"{PODS}/{name}")
        await s.sees(NAME, {IP: "draining"}, "from the moment at which its deletion is seen")
        s.emulator.nodes.finish("models", name)
        await s.sees(NAME, {IP: "removing"}, "gone, but its request may still end")
        s.holder.release(slot)
        await s.sees(NAME, {})


@on_loop
async def test_one_that_has_ended_is_gone_and_its_address_may_be_anothers(tmp_path):
    async with scene(tmp_path, in_file()) as s:
        name = await first_pod(s)
        (slot,) = s.acquire(NAME)
        s.emulator.nodes.fail("models", name)
        await s.sees(NAME, {IP: "removing"})
        await s.emulator.settled()
        second = next(pod["metadata"]["name"] for pod in s.emulator.pods() if pod["metadata"]["name"] != name)
        s.emulator.nodes.running("models", second, [IP])
        deployment = s.world.plane.live()[NAME]
        await eventually(lambda: deployment.load.ready == 1, "the same address serves again")
        s.holder.release(slot)
        await s.sees(NAME, {IP: "ready"})


@on_loop
async def test_a_pod_with_another_address_is_another_replica(tmp_path):
    async with scene(tmp_path, in_file()) as s:
        name = await first_pod(s)
        s.emulator.nodes.running("models", name, ["127.1.0.2"])
        await s.sees(NAME, {"127.1.0.2": "ready"})


@on_loop
async def test_ipv6_and_both(tmp_path):
    async with scene(tmp_path, in_file()) as s:
        await s.emulator.create(workload(replicas=2))
        await s.emulator.settled()
        first, second = (pod["metadata"]["name"] for pod in s.emulator.pods())
        s.emulator.nodes.running("models", first, ["::1"])
        s.emulator.nodes.running("models", second, ["127.1.0.2", "fd00::2"])
        await s.sees(NAME, {"[::1]": "ready", "127.1.0.2": "ready"})


@on_loop
async def test_those_that_fail_are_told_from_those_that_start(tmp_path):
    async with scene(tmp_path, in_file(scale_settings={"max_instances": 5})) as s:
        await s.emulator.create(workload(replicas=3))
        await s.emulator.settled()
        first, second, third = (pod["metadata"]["name"] for pod in s.emulator.pods())
        s.emulator.nodes.running("models", first, [IP])
        s.emulator.nodes.running("models", second, ["127.1.0.2"], ready=False)
        s.emulator.nodes.crash("models", second)
        deployment = s.world.plane.live()[NAME]
        await eventually(lambda: deployment.counts(deployment.load) == (1, 1, 1), "ready, starting, failing")
        placed = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
        await s.emulator.patch(f"{PODS}/{third}/status", {"status": {"conditions": [placed]}})
        await eventually(lambda: deployment.counts(deployment.load) == (1, 0, 2), "no node has room for it")
        refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate"}
        s.emulator.controllers.pause()
        await s.emulator.patch(f"{DEPLOYMENTS}/m", {"spec": {"replicas": 5}})
        await s.emulator.patch(f"{DEPLOYMENTS}/m/status", {"status": {"conditions": [refused]}})
        await eventually(lambda: deployment.counts(deployment.load) == (1, 0, 4), "no quota for the others")


@on_loop
async def test_a_roll_out_that_comes_to_nothing_fails(tmp_path):
    """Pods that run and never become ready: after the Deployment's own progressDeadlineSeconds they do not count."""
    async with scene(tmp_path, in_file(scale_settings={"max_instances": 5})) as s:
        await s.emulator.create(workload(replicas=3))
        await s.emulator.settled()
        first, *others = (pod["metadata"]["name"] for pod in s.emulator.pods())
        s.emulator.nodes.running("models", first, [IP])
        for number, name in enumerate(others):
            s.emulator.nodes.running("models", name, [f"127.1.0.{number + 2}"], ready=False)
        deployment = s.world.plane.live()[NAME]
        await eventually(lambda: deployment.counts(deployment.load) == (1, 2, 0), "two start")
        s.emulator.controllers.pause()
        late = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
        await s.emulator.patch(f"{DEPLOYMENTS}/m/status", {"status": {"conditions": [late]}})
        await eventually(lambda: deployment.counts(deployment.load) == (1, 0, 2), "they have had their time")
        s.emulator.nodes.ready("models", others[0], True)
        await eventually(lambda: deployment.counts(deployment.load) == (2, 0, 1), "one is ready after all")
        await s.emulator.delete(f"{PODS}/{others[1]}")
        await eventually(lambda: deployment.counts(deployment.load) == (2, 1, 0), "one that is ending is not wanted")


@on_loop
async def test_a_pod_that_finds_no_room_is_tried_again(tmp_path):
    async with scene(tmp_path, in_file()) as s:
        await first_pod(s)
        table, name = s.world.table, NAME
        deployment = s.world.plane.live()[name]
        used = sum(table.deployment(index).replicas for index in table.deployments())
        room = range(table.limits.replicas - used)
        filled = [table.add_replica(deployment.index, b"\x01\x00/x", REPLICA_DRAINING) for _ in room]
        with pytest.raises(OverflowError):
            table.add_replica(deployment.index, b"\x01\x00/x", REPLICA_DRAINING)
        await s.emulator.patch(f"{DEPLOYMENTS}/m", {"spec": {"replicas": 2}})
        await s.emulator.settled()
        second = next(pod for pod in s.emulator.pods() if "podIP" not in pod["status"])["metadata"]["name"]
        s.emulator.nodes.running("models", second, ["127.1.0.2"])
        await eventually(lambda: deployment.counts(deployment.load)[1], "it is wanted, and not there")
        for index in filled:
            table.remove_replica(index)
        await s.sees(name, {IP: "ready", "127.1.0.2": "ready"})


@on_loop
async def test_pods_outlive_their_deployment(tmp_path):
    """As with `kubectl delete --cascade=orphan`, and when it is made anew."""
    async with scene(tmp_path, in_file()) as s:
        await first_pod(s)
        s.emulator.controllers.pause()
        await s.emulator.delete(f"{DEPLOYMENTS}/m")
        deployment = s.world.plane.live()[NAME]
        await eventually(lambda: deployment.wanted == 0, "it is gone")
        assert s.state(NAME) == {IP: "ready"}
        await s.emulator.create(workload(replicas=2))
        await eventually(lambda: deployment.wanted == 2, "it is there again")
        assert s.state(NAME) == {IP: "ready"}


# --- after a restart of the controller ---


@on_loop
async def test_a_successor_takes_the_records_up_by_address(tmp_path):
    async with scene(tmp_path, in_file(scale_settings={"min_instances": 3, "max_instances": 3})) as s:
        s.emulator.nodes.stop_after = float("inf")
        await s.emulator.create(workload(replicas=3))
        await s.emulator.settled()
        first, second, third = (pod["metadata"]["name"] for pod in s.emulator.pods())
        for number, name in enumerate((first, second, third), 1):
            s.emulator.nodes.running("models", name, [f"127.1.0.{number}"])
        await s.sees(NAME, {f"127.1.0.{number}": "ready" for number in (1, 2, 3)})
        slots = s.acquire(NAME, 3)
        index = s.world.plane.live()[NAME].index
        records = set(s.world.table.replicas(index))
        await eventually(lambda: _left_behind(s).wanted[NAME] == 3, "the number is written down for a successor")
        await s.world.kill()
        await s.emulator.away()
        s.emulator.nodes.ready("models", second, False)
        await s.emulator.delete(f"{PODS}/{third}", grace=0)
        await s.world.start(restarted=True)
        assert s.state(NAME) == {f"127.1.0.{number}": "ready" for number in (1, 2, 3)}, "the last that was known"
        assert s.world.plane.live()[NAME].wanted == 3
        await s.emulator.back()
        await s.sees(NAME, {"127.1.0.1": "ready", "127.1.0.2": "draining", "127.1.0.3": "removing"})
        assert set(s.world.table.replicas(index)) == records
        for slot in slots:
            s.holder.release(slot)
        s.emulator.nodes.ready("models", second, True)
        await s.sees(NAME, {"127.1.0.1": "ready", "127.1.0.2": "ready"})


def _left_behind(s):
    return decode_legacy(load_state(s.world.state_fd))


# --- what is read of objects ---


def test_selectors():
    value = {
        "matchLabels": {"app": "m"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["a", "b"]},
            {"key": "tier", "operator": "NotIn", "values": ["b"]},
            {"key": "app", "operator": "Exists"},
            {"key": "old", "operator": "DoesNotExist"},
        ],
    }
    selector = read_selector(value)
    assert selector.matches({"app": "m", "tier": "a"})
    for labels in ({}, {"app": "m"}, {"app": "m", "tier": "b"}, {"app": "m", "tier": "a", "old": ""}):
        assert not selector.matches(labels)
    assert not read_selector({}).matches({"app": "m"})


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ({"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m"}}, "m"),
        ({"scaleTargetRef": {"name": "m"}}, "m"),
        ({"scaleTargetRef": {"kind": "StatefulSet", "name": "m"}}, None),
        ({}, None),
    ],
)
def test_what_else_scales(value, target):
    claim = read_claim({"metadata": {"name": "a"}, "spec": value}, "HorizontalPodAutoscaler")
    assert (claim.target if claim else None) == target


def test_a_pod_that_has_hardly_begun_and_a_deployment_without_a_number():
    pod = read_pod({"metadata": {"name": "p", "uid": "u"}})
    assert pod == Pod("u", "", False, False, False, "", {})
    value = workload()
    value["metadata"] |= {"uid": "u", "resourceVersion": "1"}
    del value["spec"]["replicas"]
    assert read_workload(value).replicas == 1


# --- in any order ---

STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            [
                "more",
                "less",
                "run",
                "ready",
                "unready",
                "delete",
                "finish",
                "fail",
                "crash",
                "ask",
                "end",
                "cut",
                "compact",
                "gap",
            ]
        ),
        st.integers(0, 5),
    ),
    max_size=25,
)


async def one_step(s, what, number, slots):
    nodes, pods = s.emulator.nodes, s.emulator.pods()
    name = pods[number % len(pods)]["metadata"]["name"] if pods else ""
    running = bool(pods) and "podIP" in pods[number % len(pods)]["status"]
    if what in ("more", "less"):
        count = (await s.replicas()) + (1 if what == "more" else -1)
        await s.emulator.patch(f"{DEPLOYMENTS}/m", {"spec": {"replicas": max(0, min(count, 6))}})
        await s.emulator.settled()
    elif what == "ask" and s.world.plane.live()[NAME].load.ready:
        slots += s.acquire(NAME)
    elif what == "end" and slots:
        s.holder.release(slots.pop())
    elif what == "cut":
        s.emulator.cut()
    elif what == "compact":
        s.emulator.compact()
    elif what == "gap":
        await s.emulator.away()
        await s.emulator.back()
    elif name and what == "run" and not running:
        nodes.running("models", name, s.addresses(None), ready=bool(number % 2))
    elif name and what == "delete":
        await s.emulator.delete(f"{PODS}/{name}")
        await s.emulator.settled()
    elif name and what == "finish" and "deletionTimestamp" in pods[number % len(pods)]["metadata"]:
        nodes.finish("models", name)
    elif running and what in ("ready", "unready"):
        nodes.ready("models", name, what == "ready")
    elif running and what in ("fail", "crash"):
        getattr(nodes, what)("models", name)


def serving(pods):
    """Addresses of pods that may get requests, by the cluster's own word."""
    found = [read_pod(pod) for pod in pods]
    return {pod.address for pod in found if pod.serves and pod.address}


@pytest.mark.timeout(400)  # of all the examples
@settings(max_examples=25)
@given(steps=STEPS)
def test_in_any_order(steps, tmp_path_factory):
    """Whatever happens to pods, those that are ready and stay get requests, no other does, and no lease is lost."""

    @on_loop
    async def run():
        capacity = {"max_concurrent_requests_per_instance": 100}
        async with scene(tmp_path_factory.mktemp("any"), in_file(request_settings=capacity)) as s:
            s.addresses = addresses()
            s.emulator.nodes.stop_after = float("inf")
            await s.emulator.create(workload(replicas=2))
            await s.emulator.settled()
            slots: list[int] = []
            for what, number in steps:
                await one_step(s, what, number, slots)
                if number == 0:
                    await settled(s)
            await settled(s)
            assert sum(s.world.table.replica(index).in_flight for index in records(s)) == len(slots)
            for slot in slots:
                s.holder.release(slot)

    run()


def records(s):
    return s.world.table.replicas(s.world.plane.live()[NAME].index)


async def settled(s):
    def same():
        states = s.state(NAME)
        used = {address for address, state in states.items() if state == "ready"}
        return used == serving(s.emulator.pods()) and "starting" not in states.values()

    await eventually(same, "the table is in line with the cluster")
