"""What fe tells the cluster: status of objects, and Events; from one front-end, not too often, within its rights."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path

import yaml

from fe.control.kubernetes import reporter
from fe.control.kubernetes.election import NotLeadingError
from tests.control.harness import eventually, on_loop
from tests.kubernetes.scene import (
    EVENTS,
    addresses,
    cluster,
    conditions,
    has,
    in_file,
    online_deployment,
    online_endpoint,
    scene,
    workload,
)

NAME = "one/m"
ROOT = Path(__file__).resolve().parents[2]
ACCESS = ROOT / "deploy" / "kubernetes" / "base" / "access.yaml"
DOCUMENT = ROOT / "docs" / "kubernetes.md"


@on_loop
async def test_the_status_of_objects(tmp_path):
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(online_endpoint())
        await s.emulator.create(online_deployment(scale_settings={"max_instances": 4}))
        await s.emulator.create(online_deployment("stray", "none", target={"deployment": "other"}))
        status = await has(
            s, "onlinedeployments/m", lambda one: conditions(one).get("Ready") == ("True", "Serving"), "ready"
        )
        assert conditions(status)["Scaling"] == ("True", "FollowsLoad")
        assert conditions(status)["Conflict"] == ("False", "NoConflict")
        assert (status["endpoint"], status["desiredReplicas"], status["readyReplicas"]) == ("one", 1, 1)
        serving = ("True", "Serving")
        status = await has(s, "onlineendpoints/one", lambda one: conditions(one).get("Ready") == serving, "ready")
        assert (status["scoringPath"], status["traffic"]) == ("/api/v1/endpoint/one/score", {"m": 100})
        status = await has(s, "onlinedeployments/stray", lambda one: one.get("conditions"), "told")
        assert conditions(status)["Ready"] == ("False", "EndpointMissing")
        s.acquire(NAME, 2)
        status = await has(s, "onlinedeployments/m", lambda one: one.get("lastDecision"), "decided")
        assert status["lastDecision"]["desired"] == 3
        spec = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "m"}, "maxReplicas": 9}
        hpa = {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}}
        await s.emulator.create({**hpa, "spec": spec})
        status = await has(s, "onlinedeployments/m", lambda one: conditions(one)["Conflict"][0] == "True", "a conflict")
        assert conditions(status)["Scaling"] == ("False", "Conflict")


@on_loop
async def test_ready_only_if_somebody_answers(tmp_path):
    """Who waits for the condition relies on it: no pods and nothing that starts one, or a share without anybody."""
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(workload("zero", replicas=0))
        await s.emulator.create(online_endpoint(traffic={"m": 50, "gone": 50}))
        await s.emulator.create(online_endpoint("two"))
        await s.emulator.create(online_deployment())
        await s.emulator.create(online_deployment("gone"))
        to_zero = {"min_instances": 0, "max_instances": 2}
        await s.emulator.create(online_deployment("zero", "two", scale_settings=to_zero))
        for path, expected in (
            ("onlinedeployments/gone", ("False", "TargetMissing")),
            ("onlineendpoints/one", ("False", "NoReadyReplica")),
            ("onlinedeployments/zero", ("True", "ScaledToZero")),
            ("onlineendpoints/two", ("True", "ScaledToZero")),
        ):
            await has(s, path, lambda one, expected=expected: conditions(one).get("Ready") == expected, f"{path}")
        await s.emulator.create(workload("gone", replicas=0))
        empty = ("False", "NoReplica")
        await has(s, "onlinedeployments/gone", lambda one: conditions(one).get("Ready") == empty, "nobody starts one")


@on_loop
async def test_a_verdict_is_about_the_version_that_it_names(tmp_path, monkeypatch):
    """A newer one that has been seen and not been carried out yet has none."""
    monkeypatch.setattr(reporter, "LOOK", 0.001)
    monkeypatch.setattr(reporter, "EVERY", 0.001)
    path = "/apis/inference.fe-router.io/v1alpha1/namespaces/models/onlinedeployments/m"
    async with scene(tmp_path) as s:
        await s.emulator.create(online_endpoint())
        await s.emulator.create(online_deployment())
        for count in range(10):
            least = 9 if count % 2 == 0 else 1
            await s.emulator.patch(path, {"spec": {"scale_settings": {"min_instances": least, "max_instances": 2}}})
            generation = (await s.emulator.get(path))["metadata"]["generation"]
            status = await has(
                s, "onlinedeployments/m", lambda one, new=generation: one.get("observedGeneration") == new, "seen"
            )
            reason = conditions(status)["Ready"][1]
            assert (reason == "Invalid") == (least == 9), (least, reason)


@on_loop
async def test_a_status_that_is_right_is_not_written_and_a_refused_one_not_often(tmp_path):
    async with scene(tmp_path) as s:
        refuse = s.emulator.faults.status(403, path="/status")
        await s.emulator.create(online_endpoint())
        await eventually(lambda: refuse.hits, "tried")
        await asyncio.sleep(1)
        assert refuse.hits <= 2
        s.emulator.faults.remove(refuse)
        await has(s, "onlineendpoints/one", lambda one: one.get("conditions"), "written")
        before = len(statuses(s))
        await asyncio.sleep(1.5)
        assert len(statuses(s)) == before


def statuses(s):
    return [one for one in s.emulator.records if one.path.endswith("/status") and one.verb == "patch"]


@on_loop
async def test_only_the_leader_writes_status_and_events(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    async with cluster() as emulator, scene(tmp_path / "a", emulator=emulator) as first:
        await first.leads()
        emulator.user("second")
        async with scene(tmp_path / "b", emulator=emulator, user="second", identity="fe-1") as second:
            await emulator.create(online_endpoint())
            await eventually(lambda: len(second.world.snapshot.endpoints) == 1, "it serves as well")
            await has(first, "onlineendpoints/one", lambda one: one.get("conditions"), "written")
            await asyncio.sleep(0.6)
            wrote = {one.user for one in emulator.records if one.verb in ("patch", "create")}
            assert wrote == {"admin"}


@on_loop
async def test_what_the_leader_tells_passes_its_fence(tmp_path, monkeypatch):
    """A front-end that is ending still holds the lease for a moment."""
    monkeypatch.setattr(reporter, "LOOK", 0.02)
    async with scene(tmp_path, in_file()) as s:
        await s.emulator.create(workload())
        await s.leads()
        hub = s.world.plane.hub
        asked = []
        fence = hub.fence

        def ended():
            asked.append(hub.leading)
            raise NotLeadingError("its time is over")

        hub.fence = ended
        await s.emulator.create(online_endpoint("two"))
        s.world.plane.events.add("scale", "because", deployment=NAME, before=1, after=2)
        await eventually(lambda: len(asked) > 3, "it would tell")
        assert asked[0]
        assert not [one for one in s.emulator.records if one.verb == "patch" or one.path == EVENTS]
        hub.fence = fence
        await has(s, "onlineendpoints/two", lambda one: one.get("conditions"), "written")


# --- events ---


@on_loop
async def test_many_events_become_few(tmp_path):
    async with scene(tmp_path, in_file()) as s:
        await s.emulator.create(workload())
        await s.leads()
        for number in range(50):
            s.world.plane.events.add("scale", "because", deployment=NAME, before=number, after=number + 1)
        await eventually(
            lambda: any(one.verb == "create" and "events" in one.path for one in s.emulator.records), "told"
        )
        s.world.plane.events.add("refused", "x" * 3000, deployment=NAME, figures={"why": "y"})
        events = await s.told(2)
        assert len(events) == 2
        assert {one["reason"] for one in events} == {"ScaledUp", "ScaleRefused"}
        assert all(len(one["note"].encode()) <= 1024 for one in events)
        assert next(one["note"] for one in events if one["reason"] == "ScaledUp").startswith(
            "from 49 to 50 replicas: because (50 times"
        )


# --- rights ---


@on_loop
async def test_no_more_rights_are_needed_than_an_installation_gives(tmp_path):
    """Found, scaled, told: all of it as the account of deploy/kubernetes, which may do little else."""
    async with cluster() as emulator:
        for document in yaml.safe_load_all(ACCESS.read_text()):
            if document["kind"] in ("Role", "ClusterRole"):
                emulator.user("installed", document["rules"], "models")
        emulator.nodes.run(addresses())
        await emulator.create(workload())
        await emulator.create(online_endpoint())
        await emulator.create(online_deployment(scale_settings={"max_instances": 4}))
        async with scene(tmp_path, emulator=emulator, user="installed") as s:
            await s.sees(NAME, {"127.1.0.1": "ready"})
            await s.leads()
            await s.knows(NAME)
            s.acquire(NAME, 2)
            await has(s, "onlinedeployments/m", lambda one: one.get("lastDecision"), "written")
            await eventually(lambda: any(one.path == EVENTS for one in emulator.records), "an event")
        asked = [one for one in emulator.records if one.user == "installed"]
        assert {one.status for one in asked if one.status >= 400} <= {404, 409}
        assert {(one.verb, one.status) for one in asked if one.path.endswith("/scale")} == {("update", 200)}


@on_loop
async def test_the_objects_of_the_document_are_served(tmp_path):
    """Every object of docs/kubernetes.md is taken by the API server, and what it describes is there."""
    blocks = re.findall(r"```yaml\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    objects = [one for block in blocks for one in yaml.safe_load_all(block) if "apiVersion" in one]
    assert len(objects) == 4
    async with cluster(namespaces=("fe",)) as emulator:
        emulator.nodes.run(addresses())
        async with scene(tmp_path, emulator=emulator, namespaces=["fe"]) as s:
            for one in objects:
                await emulator.create(one)
            live = s.world.plane.live
            await eventually(lambda: sorted(live()) == ["fraud/blue", "rents/rents"], "served")
            await eventually(lambda: [one.load.ready for one in live().values()].count(0) == 0, "ready")
            assert s.world.plane.hub.served.problems == []
            assert live()["fraud/blue"].plan.scale.max_instances == 10
