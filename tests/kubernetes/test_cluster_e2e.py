"""A real fe-serve beside an emulated cluster, under load: models are found, scaled, rolled out, and nothing is lost."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.kubernetes.scene import DEPLOYMENTS, OURS, online_deployment, online_endpoint, workload
from tests.kubernetes.serving import PATIENT, RESENT, fe, is_ready, leads, load, model, replicas, wait_ready
from tests.kubernetes.town import Town
from tests.support import proc
from tests.support.fe_process import wait_for


@pytest.fixture
def town():
    with Town() as made:
        yield made


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


@pytest.mark.timeout(400)  # of all the examples
def test_in_any_order_under_traffic(town, tmp_path):
    """Also with no pod ready at all for a moment: then requests wait."""
    with fe(town, tmp_path) as process:
        model(town, 3)
        wait_ready(process, town)
        with load(process, 6) as running:

            @settings(max_examples=12)
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
        if any(is_ready(pod) for pod in town.pods().values()):  # else every request waits, for longer than any may
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
            town.end(gone)
            town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": 5}})
            running.wait_more(300)
            town.do(town.emulator.back())
            wait_ready(process, town)
            running.wait_more(100)
        assert not running.failures, running.summary()


def test_a_thousand_pods_cost_little(town, tmp_path):
    with fe(town, tmp_path, workers=1) as process:
        wait_for(lambda: leads(process), "it is at work")
        before = proc.private_bytes(process.controller())
        town.now(lambda: setattr(town, "prompt", False))
        model_without_servers(town, 1000)
        wait_for(lambda: process.metric("fe_replicas", state="ready") == 1000, "all are replicas", limit=90)
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
