"""Decisions as writes of a Deployment's scale: what is written, on what ground, by whom, and what keeps fe from it."""

from __future__ import annotations

import asyncio
import itertools
import json
from functools import partial

import pytest

from fe.control.actions import ActionError, scale
from fe.control.kubernetes import scale as scale_module
from fe.control.kubernetes import targets
from fe.control.status import build_status
from tests.control.harness import eventually, on_loop
from tests.kubernetes.scene import (
    DEPLOYMENTS,
    QUICK,
    addresses,
    cluster,
    in_file,
    online_deployment,
    online_endpoint,
    scene,
    workload,
)

NAME = "one/m"
SCALED = {"scale_settings": {"max_instances": 5}}
HPA = {
    "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
    "metadata": {"name": "others", "namespace": "models"},
    "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m"}, "maxReplicas": 9},
}  # fmt: skip
HPAS = "/apis/autoscaling/v2/namespaces/models/horizontalpodautoscalers"


async def begun(s, replicas=1):
    """A Deployment whose pods run by themselves, and a front-end that leads."""
    s.emulator.nodes.run(addresses())
    await s.emulator.create(workload(replicas=replicas))
    await s.leads()
    await eventually(lambda: s.world.plane.live()[NAME].load.ready == replicas, "its pods serve")
    await s.knows(NAME)


def deployment(s):
    return s.world.plane.live()[NAME]


def shown(s):
    return build_status(s.world.plane)["endpoints"][0]["deployments"][0]["scaling"]


async def reached(s, count, what="the Deployment wants"):
    for _ in range(3000):
        if await s.replicas() == count:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{what} {count}, has {await s.replicas()}")


@on_loop
async def test_a_decision_arrives_as_one_write_with_the_version_it_was_made_on(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        stored = partial(s.emulator.store.get, "deployments.apps", ("models", "m"))
        await eventually(lambda: stored()["status"].get("readyReplicas") == 1, "nothing more is to be said about it")
        await s.knows(NAME)
        before = await s.emulator.get(f"{DEPLOYMENTS}/m")
        s.acquire(NAME, 2)
        await reached(s, 3)
        write = s.writes()[0]
        body = json.loads(write.body)
        meta = {name: before["metadata"][name] for name in ("name", "namespace", "uid", "resourceVersion")}
        assert (body["kind"], body["metadata"], body["spec"]) == ("Scale", meta, {"replicas": 3})
        await eventually(lambda: deployment(s).load.ready == 3, "its pods serve")
        assert len(s.writes()) == 1
        await eventually(lambda: s.world.plane.hub.writes == {"written": 1}, "and it has been answered")
        (event,) = s.events("scale")
        assert (event["from"], event["to"]) == (1, 3)


@on_loop
async def test_down_to_zero_and_up_from_there(tmp_path):
    settings = {"min_instances": 0, "max_instances": 5, "scale_down_delay": 0.2, "scale_to_zero_delay": 0.4}
    async with scene(tmp_path, in_file(scale_settings=settings)) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload(replicas=2))
        await s.leads()
        await reached(s, 0)
        await eventually(lambda: deployment(s).wanted == 0 and not deployment(s).load.ready, "none is left")
        slot = s.wait(NAME)
        await eventually(lambda: s.holder.collect(), "it has a place now")
        assert await s.replicas() >= 1  # more than one where it is decided late: it keeps one busier than the target
        s.holder.release(slot)


@on_loop
async def test_a_conflict_is_read_again_and_decided_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "STALE_LEAST", 600.0)
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        hang = s.emulator.faults.hang(verb="watch", path="deployments")
        s.emulator.end_watches()
        await eventually(lambda: hang.hits, "what happens to the Deployment is not seen")
        await s.emulator.patch(f"{DEPLOYMENTS}/m", {"metadata": {"labels": {"changed": "1"}}})
        s.acquire(NAME, 2)
        await eventually(lambda: s.world.plane.hub.writes["written"], "written in the end")
        assert await s.replicas() == 3
        assert [one.status for one in s.writes()] == [409, 200]
        assert s.events("refused") == []
        s.emulator.faults.remove(hang)


@on_loop
async def test_conflicts_do_not_back_off_and_many_in_a_row_are_told_once(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        number = s.world.plane.hub.providers[NAME].target.scale
        conflict = s.emulator.faults.status(409, path="/scale", verb="update")
        s.acquire(NAME, 2)
        for count in range(1, 12):
            await eventually(lambda n=count: s.world.plane.hub.writes["conflict"] >= n, "decided anew")
            assert (number.trouble(), deployment(s).barred) == ("", "")
            assert len(s.events("refused")) <= (s.world.plane.hub.writes["conflict"] >= scale_module.CONFLICTS_TOLD)
        s.emulator.faults.remove(conflict)
        await reached(s, 3)
        (event,) = s.events("refused")
        assert "changed meanwhile, 5 times in a row" in event["reason"]


@pytest.mark.parametrize("code", [403, 422, 500])
@on_loop
async def test_a_refusal_is_told_and_tried_again_later_and_later(code, tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        refuse = s.emulator.faults.status(code, path="/scale", verb="update")
        s.acquire(NAME, 2)
        await eventually(lambda: len(s.writes()) >= 4, "tried again")
        times = [one.at for one in s.writes()]
        pauses = [later - before for before, later in itertools.pairwise(times)]
        assert all(pause >= 0.1 * 2**number for number, pause in enumerate(pauses))
        assert len(s.events("refused")) >= 3
        await eventually(lambda: shown(s)["reason"].startswith(f"left alone: {code} "), "the reason is shown")
        assert deployment(s).wanted == 1
        s.emulator.faults.remove(refuse)
        await reached(s, 3)


@on_loop
async def test_an_answer_that_is_lost_changes_nothing(tmp_path):
    """The number was written, and fe cannot know: the watch tells, and nothing is written twice."""
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        lost = s.emulator.faults.lose(path="/scale", verb="update", times=1)
        s.acquire(NAME, 2)
        await reached(s, 3)
        await eventually(lambda: deployment(s).load.ready == 3, "its pods serve, whatever became of the answer")
        s.emulator.faults.remove(lost)
        await eventually(lambda: s.world.plane.hub.writes.total(), "the call has ended")
        await eventually(lambda: deployment(s).wanted == 3, "as many as the cluster says")
        await asyncio.sleep(0.5)
        assert await s.replicas() == 3
        assert [one.status for one in s.writes()] in ([0], [0, 409])  # sent again by itself, with the same version
        assert s.events("refused") == []
        assert not s.world.plane.scaler.tracks[NAME].by_hand


@on_loop
async def test_another_number_overtakes_one_that_hangs(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        hang = s.emulator.faults.hang(path="/scale", verb="update", times=1)
        s.acquire(NAME, 2)
        await eventually(lambda: deployment(s).wanted == 3, "asked for")
        s.acquire(NAME, 1)
        await reached(s, 5)
        s.emulator.faults.remove(hang)
        assert deployment(s).wanted == 5


# --- who may ---


@on_loop
async def test_only_the_one_that_leads_writes(tmp_path):
    async with cluster() as emulator:
        (tmp_path / "a").mkdir()
        (tmp_path / "b").mkdir()
        async with scene(tmp_path / "a", in_file(**SCALED), emulator=emulator) as first:
            await begun(first)
            async with scene(tmp_path / "b", in_file(**SCALED), emulator=emulator, identity="fe-1") as second:
                await eventually(lambda: deployment(second).load.ready == 1, "it serves as well")
                second.acquire(NAME, 2)
                await eventually(
                    lambda: shown(second)["reason"] == "left alone: the front-end fe-0 scales", "it says so"
                )
                first.acquire(NAME, 1)
                await reached(first, 2)
                await eventually(lambda: deployment(second).wanted == 2, "its number follows the cluster's")
                assert second.events("scale") == []
                with pytest.raises(ActionError, match="the front-end fe-0 scales"):
                    scale(second.world.plane, NAME, 4)
                await first.world.stop()
                await second.leads()
                await reached(second, 3)
                await first.world.start()


@on_loop
async def test_a_leader_that_is_cut_off_does_not_write(tmp_path):
    """Its own clock ends its lead; what it had decided before does not arrive later."""
    async with scene(tmp_path, in_file(**SCALED), election=QUICK) as s:
        await begun(s)
        write = s.emulator.faults.hang(path="/scale")
        s.acquire(NAME, 2)
        await eventually(lambda: s.writes(), "decided while it led")
        hang = s.emulator.faults.hang(path="leases")
        await eventually(lambda: hang.hits and not s.world.plane.hub.leading, "its lease is over")
        assert deployment(s).wanted == 1
        s.emulator.faults.remove(write)
        count = len(s.writes())
        await eventually(lambda: "does not lead" in shown(s)["reason"], "the reason is shown")
        await asyncio.sleep(0.5)
        assert len(s.writes()) == count
        assert await s.replicas() == 1
        s.emulator.faults.remove(hang)
        await reached(s, 3)


@on_loop
async def test_the_fence_holds_back_what_was_decided_too_early(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        hub = s.world.plane.hub
        renewal = s.emulator.faults.hang(path="leases")
        await eventually(lambda: renewal.hits, "nothing else changes the lead")
        fence, hub.fence = hub.fence, hub.elector.fence
        leads_until, hub.elector._leads_until = hub.elector._leads_until, float("-inf")
        provider = hub.providers[NAME]
        provider.scale(4)
        await eventually(lambda: hub.writes["fenced"] == 1, "fenced")
        hub.elector._leads_until, hub.fence = leads_until, fence
        assert s.writes() == []
        assert provider.wanted == 1
        s.emulator.faults.remove(renewal)


# --- others ---


@on_loop
async def test_fe_stands_back_where_an_autoscaler_of_the_cluster_is(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        await s.emulator.create(HPA)
        await eventually(lambda: s.events("conflict"), "it is told")
        s.acquire(NAME, 2)
        await eventually(lambda: "HorizontalPodAutoscaler others" in str(shown(s)["reason"]), "and shown")
        await asyncio.sleep(0.3)
        assert s.writes() == []
        assert s.world.plane.hub.show()["conflicts"] == {NAME: ["HorizontalPodAutoscaler others"]}
        await s.emulator.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 2}})
        await eventually(lambda: deployment(s).wanted == 2, "its number is followed")
        assert [one["type"] for one in await s.told(reason="Conflict")] == ["Warning"]
        await s.emulator.delete(f"{HPAS}/others")
        await reached(s, 3)


@on_loop
async def test_keda_counts_as_well(tmp_path):
    version = {"name": "v1alpha1", "served": True, "storage": True, "schema": {"openAPIV3Schema": {
        "type": "object", "x-kubernetes-preserve-unknown-fields": True}}}  # fmt: skip
    crd = {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "scaledobjects.keda.sh"},
        "spec": {
            "group": "keda.sh", "scope": "Namespaced", "versions": [version],
            "names": {"plural": "scaledobjects", "kind": "ScaledObject"},
        },
    }  # fmt: skip
    async with cluster() as emulator:
        await emulator.create(crd)
        await emulator.settled()
        async with scene(tmp_path, in_file(**SCALED), emulator=emulator) as s:
            await begun(s)
            metadata, spec = {"name": "k", "namespace": "models"}, {"scaleTargetRef": {"name": "m"}}
            value = {"apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject", "metadata": metadata, "spec": spec}
            await emulator.create(value)
            await eventually(lambda: s.events("conflict"), "it is told")
            assert "ScaledObject k" in deployment(s).barred


@on_loop
async def test_somebody_who_scales_by_hand_is_respected_and_shown(tmp_path, monkeypatch):
    monkeypatch.setattr(scale_module, "SETTLED", 0.0)
    async with scene(tmp_path, in_file(scale_settings={"max_instances": 5, "scale_down_delay": 0.5})) as s:
        await begun(s)
        await s.emulator.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 4}})
        await eventually(lambda: deployment(s).load.ready == 4, "its pods serve")
        await eventually(lambda: shown(s)["manual"], "shown")
        event = s.events("scale")[-1]
        assert (event["from"], event["to"], event["reason"]) == (1, 4, "set in the cluster by somebody else")
        await asyncio.sleep(1)  # longer than scale_down_delay
        assert await s.replicas() == 4
        s.acquire(NAME, 2)
        await reached(s, 3, "the next decision is another one:")
        assert not shown(s)["manual"]


@on_loop
async def test_a_number_that_is_stated_is_kept_up_and_one_that_is_not_is_left_alone(tmp_path):
    async with scene(tmp_path, in_file(instance_count=3, scale_settings={"type": "default"})) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await reached(s, 3)
        await s.emulator.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 1}})
        await reached(s, 3)
        files = in_file()
        files["kubernetes"] = json.loads(s.world.file.read_text())["kubernetes"]
        assert await s.world.reload({"admin_actions": True, **files}) is None
        count = len(s.writes())
        await s.emulator.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 2}})
        await eventually(lambda: deployment(s).wanted == 2, "seen")
        await asyncio.sleep(0.3)
        assert (len(s.writes()), await s.replicas()) == (count, 2)


@on_loop
async def test_what_is_not_in_sight_is_not_scaled(tmp_path, monkeypatch):
    monkeypatch.setattr(targets, "STALE_LEAST", 0.4)
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        hang = s.emulator.faults.hang(verb="watch", path="/pods")
        s.emulator.end_watches()
        await eventually(lambda: "has not been seen for more than" in deployment(s).barred, "out of sync")
        s.acquire(NAME, 2)
        await asyncio.sleep(0.3)
        assert s.writes() == []
        assert s.world.plane.hub.leading
        s.emulator.faults.remove(hang)
        await reached(s, 3)


@on_loop
async def test_a_target_that_is_not_there_is_said(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await s.leads()
        await eventually(lambda: deployment(s).barred == "there is no Deployment models/m", "it says so")
        assert deployment(s).wanted == 0
        await begun(s)


@on_loop
async def test_by_hand_through_fe(tmp_path):
    async with scene(tmp_path, in_file(**SCALED)) as s:
        await begun(s)
        assert scale(s.world.plane, NAME, 4) == 1
        await reached(s, 4)
        await eventually(lambda: s.world.plane.hub.writes == {"written": 1}, "one write")


@on_loop
async def test_objects_are_scaled_and_kubernetes_events_are_about_them(tmp_path):
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(online_endpoint())
        made = await s.emulator.create(online_deployment(scale_settings={"max_instances": 4}))
        await s.leads()
        await eventually(lambda: NAME in s.world.plane.live() and deployment(s).load.ready == 1, "it serves")
        s.acquire(NAME, 2)
        await reached(s, 3)
        (event,) = await s.told()
        assert (event["reason"], event["type"], event["action"]) == ("ScaledUp", "Normal", "Scale")
        assert event["regarding"]["kind"] == "OnlineDeployment"
        assert event["regarding"]["uid"] == made["metadata"]["uid"]
        assert event["note"].startswith("from 1 to 3 replicas: ")
        assert event["reportingInstance"] == "fe-0"
