"""Objects become what is served: together, in any state of the cluster, across restarts, and their status says so."""

from __future__ import annotations

import asyncio
import json

import msgspec
import pytest

from fe import model
from fe.config.load import load
from fe.control import admin_types
from fe.control.kubernetes import hub as hub_module
from fe.control.metrics import TableCollector, build_registry, render
from fe.control.status import build_status, not_ready_reasons
from fe.errors import ConfigError
from tests.control.harness import eventually, on_loop
from tests.control.world import world
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.scene import (
    DEPLOYMENTS,
    OURS,
    PODS,
    addresses,
    cluster,
    conditions,
    has,
    in_file,
    install,
    online_deployment,
    online_endpoint,
    scene,
    settings,
    workload,
)

NAME = "one/m"


def served(s):
    return sorted(s.world.plane.live())


def shares(s, name="one"):
    return next(view.traffic for view in s.world.snapshot.endpoints if view.name == name)


@on_loop
async def test_objects_come_and_change_and_go(tmp_path):
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(online_deployment())
        await eventually(lambda: any("EndpointMissing" in one or "no endpoint" in one for one in problems(s)), "said")
        await s.emulator.create(online_endpoint(routes=[{"path_prefix": "/one"}]))
        await s.sees(NAME, {"127.1.0.1": "ready"})
        assert shares(s) == {"m": 100}
        path = f"{OURS}/onlinedeployments/m"
        await s.emulator.patch(path, {"spec": {"request_settings": {"max_concurrent_requests_per_instance": 7}}})
        await eventually(lambda: s.world.plane.live()[NAME].load.capacity == 7, "changed")
        await s.emulator.patch(path, {"spec": {"scale_settings": {"min_instances": 9, "max_instances": 2}}})
        await eventually(lambda: problems(s), "wrong now")
        assert served(s) == [NAME]
        assert s.world.plane.live()[NAME].load.capacity == 7
        await s.emulator.delete(path)
        await eventually(lambda: served(s) == [], "gone")
        await s.emulator.delete(f"{OURS}/onlineendpoints/one")
        await eventually(lambda: s.world.snapshot.endpoints == (), "gone as well")


def problems(s):
    return s.world.plane.hub.served.problems


@on_loop
async def test_a_plain_deployment_without_any_definition(tmp_path):
    """For a first try: no CustomResourceDefinitions in the cluster."""
    async with Emulator() as emulator, scene(tmp_path, emulator=emulator) as s:
        emulator.nodes.run(addresses())
        await emulator.create(workload("rents", port=8080, max_instances=3))
        await s.sees("rents/rents", {"127.1.0.1": "ready"})
        assert s.world.plane.live()["rents/rents"].plan.scale.max_instances == 3
        await emulator.patch(
            f"{DEPLOYMENTS}/rents", {"metadata": {"labels": {"inference.fe-router.io/endpoint": None}}}
        )
        await eventually(lambda: served(s) == [], "it is no model any more")


@on_loop
async def test_definitions_that_come_later(tmp_path):
    async with Emulator() as emulator, scene(tmp_path, in_file("filed", "two"), emulator=emulator) as s:
        emulator.nodes.run(addresses())
        await eventually(lambda: s.world.plane.hub.served.settled, "nothing is there")
        await install(emulator)
        await emulator.create(workload())
        await emulator.create(online_endpoint())
        await emulator.create(online_deployment())
        await eventually(lambda: served(s) == [NAME, "two/filed"], "beside what the file says")


@on_loop
async def test_namespaces(tmp_path):
    async with cluster(namespaces=("models", "more", "others")) as emulator:
        emulator.nodes.run(addresses())
        for number, namespace in enumerate(("models", "more", "others")):
            await emulator.create(workload(f"rents{number}", namespace=namespace, port=8080))
        async with scene(tmp_path, emulator=emulator, namespaces=["more", "models"]) as s:
            await eventually(lambda: served(s) == ["rents0/rents0", "rents1/rents1"], "those of two")
            assert {record.path for record in emulator.records if "namespaces/others" in record.path} == set()
        async with scene(tmp_path, in_file("filed", "two"), emulator=emulator, namespaces=["*"]) as s:
            await eventually(lambda: len(served(s)) == 4, "all of them")
            await eventually(lambda: s.world.plane.live()["rents2/rents2"].load.ready, "and their pods")


@on_loop
async def test_a_files_pods_may_be_in_a_namespace_where_no_models_are_looked_for(tmp_path):
    async with cluster(namespaces=("models", "more")) as emulator:
        emulator.nodes.run(addresses())
        await emulator.create(workload("m", namespace="more"))
        await emulator.create(workload("rents", namespace="more", port=8080))
        files = in_file()
        files["endpoints"][0]["deployments"][0]["replicas"]["kubernetes"]["namespace"] = "more"
        async with scene(tmp_path, files, emulator=emulator) as s:
            await s.sees(NAME, {"127.1.0.1": "ready"})
            assert served(s) == [NAME]


async def blue_and_green(emulator):
    """Two models of an endpoint; the pod of blue runs at once."""
    emulator.nodes.run(lambda pod: ["127.1.0.1"] if pod["metadata"]["labels"]["app"] == "blue" else None)
    for name in ("blue", "green"):
        await emulator.create(workload(name))
        await emulator.create(online_deployment(name))


def green_gets_ready(emulator):
    green = next(pod for pod in emulator.pods() if pod["metadata"]["labels"]["app"] == "green")
    emulator.nodes.running("models", green["metadata"]["name"], ["127.1.0.9"])


@on_loop
async def test_traffic_waits_for_a_ready_replica_and_nothing_else_does(tmp_path):
    async with scene(tmp_path) as s:
        await s.emulator.create(online_endpoint(traffic={"blue": 100}))
        await blue_and_green(s.emulator)
        await eventually(lambda: served(s) == ["one/blue", "one/green"], "served")
        await eventually(lambda: s.world.plane.live()["one/blue"].load.ready, "blue is ready")
        await s.emulator.patch(f"{OURS}/onlineendpoints/one", {"spec": {"traffic": {"blue": 20, "green": 80}}})
        await eventually(lambda: s.world.plane.hub.served.waiting == {"one": ["green"]}, "green is waited for")
        await s.leads()
        status = await has(
            s, "onlineendpoints/one", lambda one: conditions(one).get("Ready", ("", ""))[1] == "Progressing", "told"
        )
        assert status["traffic"] == {"blue": 100} == shares(s)
        await s.emulator.create(online_endpoint("two"))
        await eventually(lambda: len(s.world.snapshot.endpoints) == 2, "others do not wait")
        green_gets_ready(s.emulator)
        await eventually(lambda: shares(s) == {"blue": 20, "green": 80}, "as it says")
        await has(s, "onlineendpoints/one", lambda one: conditions(one)["Ready"] == ("True", "Serving"), "told")


@on_loop
async def test_what_cannot_be_carried_out_is_not_tried_at_every_look(tmp_path, monkeypatch):
    """Not even while traffic waits, and what it waits for is ready."""
    monkeypatch.setattr(hub_module, "RETRY", 0.5)
    monkeypatch.setattr(hub_module, "WAITING_LOOK", 0.01)
    async with scene(tmp_path) as s:
        await s.emulator.create(online_endpoint(traffic={"blue": 100}))
        await blue_and_green(s.emulator)
        await eventually(lambda: served(s) == ["one/blue", "one/green"], "served")
        await eventually(lambda: s.world.plane.live()["one/blue"].load.ready, "blue is ready")
        await s.emulator.patch(f"{OURS}/onlineendpoints/one", {"spec": {"traffic": {"green": 100}}})
        await eventually(lambda: s.world.plane.hub.served.waiting == {"one": ["green"]}, "green is waited for")
        tried: list[float] = []

        async def refuse() -> None:
            tried.append(asyncio.get_running_loop().time())
            raise ConfigError(["as the test wants it"])

        monkeypatch.setattr(s.world.plane, "follow_cluster", refuse)
        green_gets_ready(s.emulator)
        await eventually(lambda: len(tried) == 3, "tried again and again")
        assert min(tried[1] - tried[0], tried[2] - tried[1]) >= 0.5


@on_loop
async def test_a_front_end_that_joins_sends_traffic_where_the_others_do(tmp_path):
    """While they wait for a replica to get ready: the status says where it goes."""
    async with cluster() as emulator:
        await emulator.create(online_endpoint(traffic={"green": 100}))
        await emulator.patch(f"{OURS}/onlineendpoints/one/status", {"status": {"traffic": {"blue": 100}}})
        await blue_and_green(emulator)
        async with scene(tmp_path, emulator=emulator) as s:
            await eventually(lambda: served(s) == ["one/blue", "one/green"], "served")
            assert shares(s) == {"blue": 100}
            green_gets_ready(emulator)
            await eventually(lambda: shares(s) == {"green": 100}, "as it says")


@on_loop
async def test_traffic_does_not_wait_for_one_that_is_scaled_to_zero(tmp_path):
    """Its first replica comes with the first request."""
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(online_endpoint(traffic={"blue": 100}))
        await s.emulator.create(workload("blue"))
        await s.emulator.create(workload("green", replicas=0))
        await s.emulator.create(online_deployment("blue"))
        await s.emulator.create(online_deployment("green", scale_settings={"min_instances": 0, "max_instances": 3}))
        await eventually(lambda: served(s) == ["one/blue", "one/green"], "served")
        await eventually(lambda: s.world.plane.live()["one/blue"].load.ready, "blue is ready")
        await s.emulator.patch(f"{OURS}/onlineendpoints/one", {"spec": {"traffic": {"blue": 0, "green": 100}}})
        await eventually(lambda: shares(s) == {"blue": 0, "green": 100}, "as it says")


# --- when the cluster is not there ---


@on_loop
async def test_a_start_without_the_cluster_serves_the_file_and_finds_the_rest_later(tmp_path):
    async with cluster() as emulator:
        emulator.nodes.run(addresses())
        await emulator.create(workload())
        await emulator.create(workload("rents", port=8080))
        await emulator.settled()
        await emulator.away()
        files = in_file()
        files["endpoints"].append({"name": "two", "auth_mode": "none", "deployments": [
            {"name": "d", "replicas": {"static": ["127.0.0.1:9"]}}]})  # fmt: skip
        async with scene(tmp_path, files, emulator=emulator) as s:
            assert served(s) == [NAME, "two/d"]
            assert s.world.states("two/d") == ["ready"]
            assert "the cluster's models are not known yet" in not_ready_reasons(s.world.plane)
            assert await s.world.reload({**json.loads(s.world.file.read_text())}) is None
            await emulator.back()
            await s.sees(NAME, {"127.1.0.1": "ready"})
            await eventually(lambda: "rents/rents" in served(s), "found")
            await eventually(lambda: not s.world.plane.hub.unknown, "known")


@on_loop
async def test_a_kubeconfig_that_comes_later(tmp_path):
    async with cluster() as emulator:
        emulator.nodes.run(addresses())
        await emulator.create(workload())
        block = settings(emulator, tmp_path)
        (tmp_path / "kubeconfig-admin").rename(tmp_path / "later")
        async with scene(
            tmp_path, {**in_file(), "kubernetes": {**block, "kubeconfig": str(tmp_path / "none")}}, emulator=emulator
        ) as s:
            assert served(s) == [NAME]
            await eventually(lambda: "has not been seen yet" in s.world.plane.live()[NAME].barred, "said")
            (tmp_path / "later").rename(tmp_path / "none")
            await s.sees(NAME, {"127.1.0.1": "ready"})


@on_loop
async def test_a_successor_serves_what_was_found_while_the_cluster_is_away(tmp_path):
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(online_endpoint())
        await s.emulator.create(online_deployment())
        await s.sees(NAME, {"127.1.0.1": "ready"})
        await s.world.kill()
        await s.emulator.away()
        await s.world.start(restarted=True)
        assert (served(s), s.state(NAME)) == ([NAME], {"127.1.0.1": "ready"})
        config = json.loads(s.world.file.read_text())
        assert await s.world.reload(config) is None
        assert "has not been seen since" in str(await s.world.reload({**config, **in_file("filed", "two")}))
        assert served(s) == [NAME]
        await s.world.kill()
        await s.world.start(restarted=True)
        assert served(s) == [NAME]
        for fault in ({"path": "onlineendpoints"}, {"path": "onlinedeployments"}):
            s.emulator.faults.status(403, **fault)
        await s.emulator.back()
        hub = s.world.plane.hub
        await eventually(lambda: hub.views["models"].reflectors["onlineendpoints"].trouble, "it may not be seen")
        await eventually(lambda: hub.views["models"].reflectors["pods"].synced, "others may")
        assert not hub.served.settled
        assert served(s) == [NAME], "what cannot be seen now was there"
        s.emulator.faults.clear()
        await s.emulator.delete(f"{OURS}/onlinedeployments/m")
        await eventually(lambda: served(s) == [], "seen again, and gone")


@on_loop
async def test_what_is_wrong_is_served_as_before_also_by_a_successor(tmp_path):
    async with scene(tmp_path) as s:
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload())
        await s.emulator.create(online_endpoint(max_queue_length=77, traffic={"m": 100}))
        await s.emulator.create(online_deployment())
        await s.emulator.create(workload("rents", port=8080))
        await eventually(lambda: served(s) == [NAME, "rents/rents"], "served")
        before = s.world.plane.config
        both = {"spec": {"scale_settings": {"min_instances": 9, "max_instances": 2}}}
        await s.emulator.patch(f"{OURS}/onlinedeployments/m", both)
        await s.emulator.patch(
            f"{OURS}/onlineendpoints/one", {"spec": {"keys": {"primary": "file:/none"}, "auth_mode": "key"}}
        )
        wrong = {"inference.fe-router.io/port": "many"}
        await s.emulator.patch(f"{DEPLOYMENTS}/rents", {"metadata": {"annotations": wrong}})
        await eventually(lambda: len({one.partition(":")[0] for one in problems(s)}) == 3, "all three are wrong")
        assert s.world.plane.config == before
        await s.world.kill()
        await s.world.start(restarted=True)
        await eventually(lambda: s.world.plane.hub.served.merged, "seen again")
        await eventually(lambda: len({one.partition(":")[0] for one in problems(s)}) == 3, "and still wrong")
        assert s.world.plane.config == before
        await s.emulator.delete(f"{OURS}/onlinedeployments/m")
        await eventually(lambda: served(s) == ["rents/rents"], "gone is gone")


@on_loop
async def test_a_change_that_cannot_be_carried_out_is_tried_again(tmp_path, monkeypatch):
    monkeypatch.setattr(hub_module, "RETRY", 0.1)
    async with scene(tmp_path) as s:
        await eventually(lambda: s.world.plane.hub.served.settled, "seen")
        table = s.world.table
        filled = [table.add_deployment(f"x/{number}", 1, 1)[0] for number in range(table.limits.deployments)]
        await s.emulator.create(workload("rents", port=8080))
        await asyncio.sleep(0.3)
        assert served(s) == []
        for index in filled:
            table.remove_deployment(index)
        await eventually(lambda: served(s) == ["rents/rents"], "room again")


# --- life ---


@on_loop
async def test_the_lead_is_given_up_at_the_end_and_at_the_beginning_of_a_drain(tmp_path):
    async with scene(tmp_path) as s:
        await s.leads()
        s.emulator.nodes.run(addresses())
        await s.emulator.create(workload("rents", port=8080))
        await s.sees("rents/rents", {"127.1.0.1": "ready"})
        s.world.plane._on_message(model.Drain())
        await eventually(lambda: not s.world.plane.hub.leading, "somebody else may")
        await eventually(lambda: holder(s) == "", "it is given up")
        name = s.emulator.pods()[0]["metadata"]["name"]
        await s.emulator.delete(f"{PODS}/{name}")
        await eventually(lambda: s.state("rents/rents")["127.1.0.1"] == "draining", "pods are followed to the end")
        assert await s.world.stop() == 0
        await s.world.start()


def holder(s):
    return s.emulator.store.get("leases.coordination.k8s.io", ("models", "fe"))["spec"]["holderIdentity"]


@on_loop
async def test_what_is_shown_is_as_described(tmp_path):
    async with scene(tmp_path) as s:
        await s.leads()
        status = build_status(s.world.plane)
        assert msgspec.to_builtins(msgspec.convert(status, admin_types.Status)) == status
        shown = status["kubernetes"]
        assert (shown["leading"], shown["leader"], shown["namespace"]) == (True, "fe-0", "models")
        pods = s.world.plane.hub.views["models"].reflectors["pods"]
        await eventually(lambda: pods.stale_for() == 0.0, "it is in sync")
        text = render(build_registry(TableCollector(s.world.plane))).decode()
        assert "fe_kubernetes_leader 1.0" in text
        assert 'fe_kubernetes_sync_age_seconds{kind="pods"} 0.0' in text
        assert 'fe_kubernetes_list_calls_total{kind="pods"}' in text
        assert [event["reason"] for event in s.events("leader")] == ["this front-end scales from now on"]


@on_loop
async def test_without_a_cluster_nothing_of_it_is_there(tmp_path):
    async with world(tmp_path / "fe.yaml", {"endpoints": []}) as w:
        assert w.plane.hub is None
        assert build_status(w.plane)["kubernetes"] is None
        assert "fe_kubernetes" not in render(build_registry(TableCollector(w.plane))).decode()


def test_times_of_the_election_that_cannot_be_are_refused_with_the_file(tmp_path):
    file = tmp_path / "fe.yaml"
    file.write_text(json.dumps({"kubernetes": {"election": {"retry": "9s"}}}))
    with pytest.raises(ConfigError, match=r"9 s has, 1.2 times, to be less than renew_deadline, which is 10 s"):
        load(str(file))
