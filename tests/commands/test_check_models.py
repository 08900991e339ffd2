"""`fe check` on what stands in a cluster: front-ends, objects and their pods."""

from __future__ import annotations

import socket
import time

from fe.checks import models, reach, replicas
from tests.commands.checking import check, front_end, lease, listening
from tests.kubernetes.harness import on_loop
from tests.kubernetes.scene import OURS, addresses, cluster, online_deployment, online_endpoint, workload
from tests.support.fe_process import dead_port, free_port

LEASES = "/apis/coordination.k8s.io/v1/namespaces/models/leases"


def autoscaler(name, target):
    reference = {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}
    return {
        "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "models"}, "spec": {"maxReplicas": 3, "scaleTargetRef": reference},
    }  # fmt: skip


# --- front-ends ---


@on_loop
async def test_a_lease_that_nobody_renews(tmp_path):
    async with cluster() as emulator:
        await lease(emulator, time.time() - 300)
        stale = (await check(emulator, tmp_path)).the("election")
        await emulator.patch(f"{LEASES}/fe", {"spec": {"holderIdentity": ""}})
        free = (await check(emulator, tmp_path)).the("election")
    assert stale.status == "warn"
    assert "is any fe-serve running" in stale.mend
    assert (free.status, free.detail) == ("ok", "the Lease models/fe is held by nobody: the next fe-serve takes it")


@on_loop
async def test_front_ends_that_cannot_be_reached(tmp_path):
    async with cluster() as emulator:
        port = dead_port()
        await front_end(emulator, "fe-0", "127.0.0.1")
        await front_end(emulator, "fe-1", "127.0.0.1")
        said = await check(emulator, tmp_path, files={"listen": f"0.0.0.0:{free_port()}"}, identity="fe-0")
        assert said.the("siblings").status == "warn"
        assert said.the("siblings").items[0].startswith("fe-1 at 127.0.0.1, port ")
        assert "NetworkPolicy" in said.the("siblings").mend
        alone = await check(emulator, tmp_path, files={"listen": f"127.0.0.1:{port}"}, identity="fe-0")
    assert alone.the("siblings").status == "ok", "one that listens on loopback is not to be reached"


# --- models and pods ---


@on_loop
async def test_objects_with_problems(tmp_path):
    async with cluster() as emulator:
        emulator.nodes.run(addresses())
        for body in (
            online_endpoint(), online_deployment("gone"), online_deployment("lost", "nowhere"),
            workload("m"), online_deployment("m"), workload("wait", port=1),
            autoscaler("hpa", "m"),
        ):  # fmt: skip
            await emulator.create(body)
        await emulator.settled()
        for one in emulator.pods(selector="app=wait"):
            emulator.nodes.crash("models", one["metadata"]["name"])
        await emulator.settled()
        said = await check(emulator, tmp_path)
    assert said.code == 1
    served, problems, missing, unready, claimed = said["models"]
    assert [one.status for one in said["models"]] == ["ok", "fail", "fail", "warn", "warn"]
    assert len(served.items) == 2
    assert problems.items[0].startswith("OnlineDeployment models/lost: spec.endpoint_name: there is no endpoint")
    assert missing.items == ("one/gone: the Deployment models/gone is not there",)
    assert unready.items == ("wait/wait: the Deployment models/wait, 0 of 1 pod ready, port 1 (1 CrashLoopBackOff)",)
    assert claimed.items == ("one/m: HorizontalPodAutoscaler hpa",)
    assert len({one.mend for one in said["models"]}) == 5
    assert said.the("pods").status == "fail", "what is ready is tried all the same"


@on_loop
async def test_a_cluster_that_cannot_be_seen(tmp_path, monkeypatch):
    async with cluster() as emulator:
        emulator.faults.status(500, path="onlineendpoints", verb="list")
        for within in (0.3, 3.0, 30.0):  # more, where the machine needs it for the other lists
            monkeypatch.setattr(models, "SEEN_WITHIN", within)
            said = await check(emulator, tmp_path)
            if "no answer in time" not in said.the("models").detail:
                break
    assert said.code == 1
    assert said.the("models").detail.startswith(f"the cluster is not seen: {OURS}/onlineendpoints: 500")


@on_loop
async def test_pods_that_accept_no_connection(tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "CONNECT_WITHIN", 0.3)
    async with cluster() as emulator:
        port = free_port()
        emulator.nodes.run(addresses())
        await emulator.create(workload("one", replicas=3, port=port))
        await emulator.settled()
        with listening(("127.1.0.1", port)), socket.create_server(("127.1.0.2", port), backlog=0) as deaf:
            full = [socket.socket() for _ in range(2)]
            for sock in full:
                sock.setblocking(False)
                sock.connect_ex(deaf.getsockname())
            said = await check(emulator, tmp_path)
            for sock in full:
                sock.close()
    assert said.code == 3
    refused, silent = said["pods"]
    assert (refused.detail, refused.items) == (
        "1 of 3 ready pods: connection refused", (f"one/one 127.1.0.3:{port}",),
    )  # fmt: skip
    assert refused.mend == replicas.OTHER_PORT
    assert silent.items == (f"one/one 127.1.0.2:{port}",)
    assert silent.mend == replicas.KEPT_OUT
