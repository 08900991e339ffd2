"""A real fe-serve beside an emulated cluster, under load: models are found, scaled, rolled out, and nothing is lost."""

from __future__ import annotations

import json
import os
import signal
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kubernetes.scene import DEPLOYMENTS, OURS, QUICK, online_deployment, online_endpoint, workload
from tests.kubernetes.town import Town
from tests.support import proc
from tests.support.fe_process import FeProcess, wait_for
from tests.support.load import Load

TARGET = "/api/v1/endpoint/one/score"
# A pod that ends while the cluster cannot be seen closes kept connections under requests: those may be sent again.
RESENT = {"retry_on_reset": True}
PATIENT = {"max_concurrent_requests_per_instance": 4, "max_queue_wait_ms": 15000, "request_timeout_ms": 10000}


@pytest.fixture
def town():
    with Town() as made:
        yield made


def fe(town, tmp_path, user="admin", workers=2, **more):
    block = {"kubeconfig": town.kubeconfig(tmp_path, user), "identity": user, "election": QUICK, **more}
    return FeProcess({"kubernetes": block, "endpoints": []}, workers=workers)


def model(town, replicas=3, **spec):
    """An endpoint with one deployment, whose pods run at once."""
    target = {"port": town.port}
    served = online_deployment(target=target, **{"request_settings": PATIENT, **spec})
    town.create(workload(replicas=replicas), online_endpoint(), served)
    town.wait_pods(replicas)


def status(process):
    return json.loads(process.admin("/api/status")[1])


def replicas(process):
    """Address -> state in the table of fe."""
    endpoints = status(process)["endpoints"]
    found = endpoints[0]["deployments"][0]["replicas"] if endpoints and endpoints[0]["deployments"] else []
    return {one["address"].partition(":")[0]: one for one in found}


def wait_ready(process, town):
    """Until fe sends requests to exactly the pods that serve."""

    def same():
        serving = {pod["status"]["podIP"] for pod in town.pods().values() if is_ready(pod)}
        return {one for one, it in replicas(process).items() if it["state"] == "ready"} == serving

    wait_for(same, "fe's replicas are the cluster's ready pods", limit=10)


def is_ready(pod):
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])


def load(process, clients=8):
    return Load(process.client, clients, TARGET, per_connection=50)


# --- from nothing to served and scaled ---


def test_a_model_is_found_scaled_up_and_down(town, tmp_path):
    town.service = 0.05
    with fe(town, tmp_path) as process:
        asked = b"GET /x HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n"
        assert process.client().exchange(asked, "GET").status == 404
        scale = {"max_instances": 6, "scale_down_delay": 1, "polling_interval": "200ms"}
        one = {**PATIENT, "max_concurrent_requests_per_instance": 1}
        model(town, 1, scale_settings=scale, request_settings=one)
        wait_ready(process, town)
        with load(process, 5) as running:
            running.wait_more(20)
            wait_for(lambda: town.replicas() == 6, "5 at once on 70 % need 8, and 6 are the most")
            wait_ready(process, town)
            running.wait_more(200)
        assert not running.failures, running.summary()
        wait_for(lambda: town.replicas() == 1, "nothing is to be done")
        wait_for(lambda: len(replicas(process)) == 1, "the others are gone")
        process.wait_idle()
        wait_for(lambda: "lastDecision" in town.do(town.emulator.get(f"{OURS}/onlinedeployments/m"))["status"], "told")


# --- pods come and go ---


def test_no_request_reaches_a_pod_that_is_not_to_get_any(town, tmp_path):
    with fe(town, tmp_path) as process:
        model(town, 3)
        wait_ready(process, town)
        with load(process) as running:
            running.wait_more(100)
            first, second, _ = town.pods()
            for name, leave in ((first, lambda: town.ready(first, False)), (second, lambda: town.delete(second))):
                address = town.pods()[name]["status"]["podIP"]
                leave()
                wait_for(lambda address=address: is_left(process, address), "drained, and empty")
                before = town.served[address]
                running.wait_more(300)
                assert town.served[address] == before
            town.ready(first, True)
            wait_ready(process, town)
            running.wait_more(100)
        assert not running.failures, running.summary()


def is_left(process, address):
    one = replicas(process).get(address)
    return one is None or (one["state"] in ("draining", "removing") and one["in_flight"] == 0)


def test_a_rollout_and_pods_that_come_and_go_lose_nothing(town, tmp_path):
    with fe(town, tmp_path) as process:
        model(town, 4)
        wait_ready(process, town)
        with load(process) as running:
            for number in range(3):
                template = {"metadata": {"labels": {"app": "m", "v": str(number)}}}
                town.patch(f"{DEPLOYMENTS}/m", {"spec": {"template": template}})
                wait_for(lambda number=number: are(town, str(number)), "rolled out")
                wait_ready(process, town)
                running.wait_more(100)
            for count in (1, 6, 2, 5):
                town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": count}})
                town.wait_pods(count)
                for name in list(town.pods())[: count // 2]:
                    town.delete(name)
                wait_ready(process, town)
                running.wait_more(100)
        assert not running.failures, running.summary()
        process.wait_idle()


def are(town, version):
    pods = town.pods().values()
    return len(pods) == 4 and {pod["metadata"]["labels"].get("v") for pod in pods} == {version}


STEPS = st.lists(
    st.tuples(st.sampled_from(["delete", "unready", "ready", "scale", "rollout", "pause"]), st.integers(0, 5)),
    min_size=1,
    max_size=12,
)


def test_in_any_order_under_traffic(town, tmp_path):
    """Also with no pod ready at all for a moment: then requests wait."""
    with fe(town, tmp_path) as process:
        model(town, 3)
        wait_ready(process, town)
        with load(process, 6) as running:

            @settings(max_examples=12, deadline=None)
            @given(steps=STEPS)
            def play(steps):
                left = set()
                for what, number in steps:
                    left |= one_step(town, running, what, number)
                for number in range(10):
                    town.act("ready", number)
                wait_ready(process, town)
                running.wait_more(20)
                wait_for(lambda: all(is_left(process, address) for address in left), "drained, and empty")
                before = {address: town.served[address] for address in left}
                running.wait_more(50)
                assert {address: town.served[address] for address in left} == before
                assert not running.failures, running.summary()

            play()
        process.wait_idle()


def one_step(town, running, what, number):
    """Addresses of pods that are to get nothing any more."""
    if what == "pause":
        running.wait_more(number)
    elif what == "scale":
        town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": max(1, number)}})
    elif what == "rollout":
        template = {"metadata": {"labels": {"app": "m", "v": str(number)}}}
        town.patch(f"{DEPLOYMENTS}/m", {"spec": {"template": template}})
    else:
        address = town.act(what, number)
        return {address} if address and what == "delete" else set()
    return set()


# --- processes ---


def test_the_controller_is_killed_while_the_cluster_is_away(town, tmp_path):
    with fe(town, tmp_path) as process:
        model(town, 4, request_settings={**PATIENT, **RESENT})
        wait_ready(process, town)
        with load(process) as running:
            running.wait_more(100)
            town.do(town.emulator.away())
            former = process.controller()
            proc.kill(former)
            wait_for(lambda: process.controller() not in (None, former) and process.ready(), "another controller")
            running.wait_more(300)
            assert len(replicas(process)) == 4, "the last that was known"
            gone = next(iter(town.pods()))
            town.delete(gone)
            town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 5}})
            running.wait_more(300)
            town.do(town.emulator.back())
            wait_ready(process, town)
            running.wait_more(100)
        assert not running.failures, running.summary()


def test_the_next_one_takes_over_and_a_leader_that_was_stopped_never_writes(town, tmp_path):
    town.service = 0.05
    scale = {"max_instances": 6, "scale_down_delay": 600, "polling_interval": "200ms"}
    with fe(town, tmp_path, "one", 1) as first:
        model(town, 1, scale_settings=scale, request_settings={**PATIENT, "max_concurrent_requests_per_instance": 1})
        wait_for(lambda: leads(first), "the first leads")
        with fe(town, tmp_path, "two", 1) as second:
            wait_ready(second, town)
            os.kill(first.controller(), signal.SIGSTOP)
            wait_for(lambda: leads(second), "the second leads")
            mark = len(town.emulator.records)
            with load(first, 4) as running, load(second, 2) as others:
                wait_for(lambda: town.replicas() >= 2, "the second scales")
                os.kill(first.controller(), signal.SIGCONT)
                running.wait_more(100)
                others.wait_more(50)
            assert not running.failures, running.summary()
            assert not others.failures, others.summary()
            writes = [
                one for one in town.emulator.records[mark:] if one.path.endswith("/scale") and one.verb == "update"
            ]
            wrote = {one.user for one in writes}
            assert wrote == {"two"}
            assert second.stop() == 0
            wait_for(lambda: leads(first), "released, so the other need not wait for its end", limit=2)


def leads(process):
    return status(process)["kubernetes"]["leading"]


def test_a_thousand_pods_cost_little(town, tmp_path):
    with fe(town, tmp_path, workers=1) as process:
        wait_for(lambda: status(process)["kubernetes"]["leading"], "it is at work")
        before = proc.private_bytes(process.controller())
        town.now(lambda: setattr(town, "prompt", False))
        model_without_servers(town, 1000)
        wait_for(lambda: process.metric("fe_replicas", state="ready") == 1000, "all are replicas", limit=30)
        grown = proc.private_bytes(process.controller()) - before
        assert grown < 30e6, f"{grown / 1e6:.1f} MB"


def model_without_servers(town, count):
    town.create(online_endpoint(), online_deployment(target={"port": 9}))

    def run():
        for number in range(count):
            name = f"p{number}"
            labels = {"app": "m", "pod-template-hash": "5d4f7c6b9", "app.kubernetes.io/name": "m"}
            body = workload()["spec"]["template"]
            metadata = {"name": name, "namespace": "models", "labels": labels}
            pod = {"apiVersion": "v1", "kind": "Pod", **body, "metadata": metadata}
            town.emulator._do("POST", "/api/v1/namespaces/models/pods", pod)
            town.emulator.nodes.running("models", name, [f"127.3.{number // 250}.{number % 250 + 1}"])

    town.create(workload(replicas=0))
    town.now(run)


# --- faults of the API server ---

FAULTS = {
    "410 on every watch": lambda faults: faults.expire(),
    "410 on every list and watch": lambda faults: faults.status(410, chance=0.7),
    "409 on writes": lambda faults: faults.status(409, verb="update"),
    "429 with Retry-After": lambda faults: faults.status(429, retry_after=1, chance=0.7),
    "500": lambda faults: faults.status(500, chance=0.7),
    "503": lambda faults: faults.status(503),
    "resets": lambda faults: faults.reset(after=1),
    "a hanging watch": lambda faults: faults.silent(),
    "calls that hang": lambda faults: faults.hang(chance=0.5),
    "truncated JSON": lambda faults: faults.truncate(after=1),
    "garbled JSON": lambda faults: faults.garble(after=1),
    "one empty list": lambda faults: faults.empty(times=1),
    "slow answers": lambda faults: faults.slow(0.7),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_faults_one_by_one(kind, town, tmp_path):
    with fe(town, tmp_path, workers=1) as process:
        model(town, 3, request_settings={**PATIENT, **RESENT})
        wait_ready(process, town)
        with load(process, 4) as running:
            running.wait_more(50)
            fault = town.now(lambda: FAULTS[kind](town.emulator.faults))
            town.now(town.emulator.end_watches)
            town.now(town.emulator.compact)
            before = Counter(town.emulator.counts)
            began = len(town.emulator.records)
            wait_for(lambda: fault.hits, "met")
            town.delete(next(iter(town.pods())))
            town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 4}})
            running.wait_more(400)
            bounded(town, before, began)
            town.now(lambda: town.emulator.faults.remove(fault))
            wait_ready(process, town)
            running.wait_more(50)
        assert not running.failures, running.summary()
        process.wait_idle()


def bounded(town, before, began):
    """Lists since then: no more than a back-off allows, by the emulator's own clock."""
    records = town.emulator.records[began:]
    if not records:
        return
    seconds = records[-1].at - records[0].at
    for path in {one.path for one in records if one.verb == "list"}:
        lists = sum(one.path == path and one.verb == "list" for one in records)
        # Each of the first five attempts may come early; an empty list is asked for twice.
        assert lists <= 2 * (6 + seconds / 1.5), f"{lists} lists of {path} within {seconds:.1f} s"
    assert sum(before.values()) > 0


def test_faults_mixed_while_pods_come_and_go(town, tmp_path):
    with fe(town, tmp_path) as process:
        model(town, 4, request_settings={**PATIENT, **RESENT})
        wait_ready(process, town)
        faults = town.emulator.faults

        def begin():
            faults.status(500, chance=0.1)
            faults.status(429, retry_after=1, chance=0.05)
            faults.expire(chance=0.2)
            faults.reset(after=3, chance=0.1)
            faults.truncate(after=2, chance=0.1)
            faults.garble(after=2, chance=0.1)
            faults.empty(chance=0.1)
            faults.slow(0.1, chance=0.2)

        began = len(town.emulator.records)
        before = Counter(town.emulator.counts)
        with load(process) as running:
            town.now(begin)
            for count in (2, 6, 3, 5, 4):
                town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": count}})
                town.now(town.emulator.end_watches)
                for name in list(town.pods())[:1]:
                    town.delete(name)
                running.wait_more(300)
                if count == 3:
                    town.do(town.emulator.away())
                    running.wait_more(300)
                    town.do(town.emulator.back())
            bounded(town, before, began)
            town.now(faults.clear)
            wait_ready(process, town)
            running.wait_more(100)
        assert not running.failures, running.summary()
        process.wait_idle()
