"""`fe check` on the way to a cluster: every step fails in its own words, and what needs it is skipped."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
import yaml

from fe.checks import cluster as way
from fe.checks import models, plan, reach
from tests.commands.checking import check, front_end, installed, lease, listening, run
from tests.commands.running import stranger
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import on_loop, plain
from tests.kubernetes.scene import addresses, cluster, in_file, online_deployment, online_endpoint, workload
from tests.support.fe_process import dead_port, free_port

STEPS = [check.name for check in plan.CHECKS if check.name not in ("commands", "replicas")]
IN_CLUSTER = STEPS[STEPS.index("credentials") :]


# --- as it should be ---


@on_loop
async def test_all_is_well(tmp_path):
    """As the account of an installation: what it may is what is asked for."""
    port, own = free_port(), free_port()
    async with cluster(tls=True) as emulator:
        emulator.nodes.run(addresses())
        await emulator.create(workload(replicas=2))
        await emulator.create(online_endpoint())
        await emulator.create(online_deployment(target={"port": port}))
        await emulator.settled()
        emulator.nodes.run(None)
        await front_end(emulator, "fe-0", "127.3.0.1")
        await front_end(emulator, "fe-1", "127.3.0.2")
        await lease(emulator, time.time())
        user = await installed(emulator)
        with listening(("127.1.0.1", port), ("127.1.0.2", port), ("127.3.0.2", own)):
            said = await check(emulator, tmp_path, user, {"listen": f"0.0.0.0:{own}"}, identity="fe-0")
    assert (said.bad(), said.code, list(said)) == ([("listen", "warn")], 0, STEPS)  # fe-1 is on this machine, too
    assert said.the("api").detail.endswith("TLS, its certificate is trusted")
    assert "are defined; HorizontalPodAutoscaler beside fe" in said.the("kinds").detail
    assert "held by fe-1, renewed " in said.the("election").detail
    assert said.the("siblings").detail == "2 front-ends in models, 2 ready"
    assert said.the("siblings").items[0].startswith("fe-0 at 127.3.0.1 since 20")
    assert said.the("models").items == (f"one/m: the Deployment models/m, 2 of 2 pods ready, port {port}",)
    assert said.the("pods").detail == "2 ready pods of 1 deployment: connections are accepted"


@on_loop
async def test_a_cluster_without_anything_yet(tmp_path):
    async with Emulator() as emulator:
        said = await check(emulator, tmp_path)
    assert (said.bad(), said.code) == ([("kinds", "warn"), ("siblings", "warn"), ("models", "warn")], 0)
    assert said.the("kinds").mend == "kubectl apply -f deploy/kubernetes/base/crds"
    assert "the first fe-serve makes it" in said.the("election").detail
    assert "label a Deployment" in said.the("models").mend
    assert "outside the cluster" in said.the("siblings").mend
    assert said.the("pods").detail == "there is no ready pod to connect to"


@on_loop
async def test_all_namespaces_and_files(tmp_path):
    """The pods that a file names are looked at, too, in whatever namespace."""
    async with cluster(namespaces=("models", "more")) as emulator:
        emulator.nodes.run(addresses())
        await emulator.create(workload("one", port=5001, max_instances=2, namespace="more"))
        await emulator.create(workload("m", namespace="more"))
        await emulator.settled()
        files = in_file("m", "file")
        files["endpoints"][0]["deployments"][0]["replicas"]["kubernetes"] |= {"namespace": "more", "port": 5001}
        with listening(("127.1.0.1", 5001), ("127.1.0.2", 5001)):
            everywhere = await check(emulator, tmp_path, files=files, namespaces=["*"])
            named = await check(emulator, tmp_path, files=files)
    assert everywhere.bad() == named.bad() == [("siblings", "warn")]
    assert " rights in models, all namespaces" in everywhere.the("permissions").detail
    assert everywhere.the("pods").detail == "2 ready pods of 2 deployments: connections are accepted"
    assert " rights in models, more" in named.the("permissions").detail
    assert named.the("models").items == ("file/m: the Deployment more/m, 1 of 1 pod ready, port 5001",)


# --- the way there ---


def fails_at(said, name, code=3):
    """The one check that fails; what needs it is skipped for that reason."""
    assert said.code == code
    failed = said.the(name)
    assert failed.status == "fail"
    assert [one for one, status in said.bad() if status == "skipped"] == IN_CLUSTER[IN_CLUSTER.index(name) + 1 :]
    assert {one.detail for results in said.values() for one in results if one.status == "skipped"} <= {
        f"because {name} failed"
    }
    return failed


@on_loop
async def test_no_credentials(tmp_path):
    said = await run(tmp_path, {"kubernetes": {"kubeconfig": "none"}})
    failed = fails_at(said, "credentials")
    assert "there is no kubeconfig at" in failed.detail
    assert "kubernetes.kubeconfig" in failed.mend


@pytest.mark.parametrize(
    ("server", "why", "mend"),
    [
        ("https://user:5ecret-passw0rd@no.invalid", "the API server no.invalid: ", "name servers"),
        ("127.0.0.1:6443", "has no host", "mend `server`"),
        ("https://127.0.0.1:x", "no port", "mend `server`"),
    ],
)
@on_loop
async def test_no_name(server, why, mend, tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "RESOLVE_WITHIN", 1.0)
    said = await run(tmp_path, {"kubernetes": {"kubeconfig": plain(tmp_path / "k", server, {"token": "t"})}})
    failed = fails_at(said, "dns")
    assert why in failed.detail
    assert mend in failed.mend
    assert "passw0rd" not in said.text


@on_loop
async def test_no_port(tmp_path):
    async with Emulator() as emulator:
        await emulator.away()
        failed = fails_at(await check(emulator, tmp_path), "port")
    assert failed.detail.endswith(": connection refused")
    assert "the server is down" in failed.mend
    proxied = [
        {"name": "k", "cluster": {"server": "https://no.invalid", "proxy-url": f"http://127.0.0.1:{dead_port()}"}}
    ]
    path = plain(tmp_path / "k", "", {"token": "t"}, clusters=proxied)
    assert (
        "the proxy before the API server"
        in fails_at(await run(tmp_path, {"kubernetes": {"kubeconfig": path}}), "port").detail
    )


@on_loop
async def test_an_authority_that_is_not_the_servers(tmp_path):
    async with Emulator(tls=True) as emulator, Emulator(tls=True) as other:
        path = emulator.kubeconfig(tmp_path / "kubeconfig")
        path.write_text(path.read_text().replace(str(emulator.ca), str(other.ca)))
        said = await run(tmp_path, {"kubernetes": {"kubeconfig": str(path)}})
        failed = fails_at(said, "api")
        assert "certificate is not trusted" in failed.detail
        assert "certificate-authority" in failed.mend
        document = yaml.safe_load(path.read_text())
        document["clusters"][0]["cluster"] = {"server": emulator.url, "insecure-skip-tls-verify": True}
        path.write_text(yaml.safe_dump(document))
        said = await run(tmp_path, {"kubernetes": {"kubeconfig": str(path)}})
        assert said.the("credentials").status == "warn"
        assert "insecure-skip-tls-verify" in said.the("credentials").mend


@on_loop
async def test_a_token_that_is_refused(tmp_path):
    async with Emulator() as emulator:
        path = emulator.kubeconfig(tmp_path / "kubeconfig")
        emulator.access.rotate("admin")
        failed = fails_at(await run(tmp_path, {"kubernetes": {"kubeconfig": str(path)}}), "api")
    assert failed.detail.startswith("401 Unauthorized")
    assert "log in again" in failed.mend


@on_loop
async def test_a_server_that_does_not_answer(tmp_path, monkeypatch):
    monkeypatch.setattr(way, "CALL_WITHIN", 0.2)
    async with Emulator() as emulator:
        emulator.faults.hang()
        assert fails_at(await check(emulator, tmp_path), "api").detail == "nothing came in time"
        emulator.faults.clear()
        emulator.faults.garble()
        monkeypatch.setattr(way, "CALL_WITHIN", 60.0)
        assert fails_at(await check(emulator, tmp_path), "api").detail == "the answer is not JSON"


@on_loop
async def test_the_time_is_over_whatever_hangs(tmp_path):
    async with cluster() as emulator:
        emulator.faults.hang(path="selfsubject")
        for limit in (1.0, 4.0, 16.0):  # more, where the machine needs all of it to come as far as that
            said = await check(emulator, tmp_path, limit=limit)
            if said.the("kinds").status == "ok":
                break
    assert said.code == 1
    assert f"the {limit:g} s for all checks were over" in said.the("permissions").detail
    assert "--timeout" in said.the("permissions").mend
    assert said.the("pods").status == "fail", "what was not looked at is not well"


@on_loop
async def test_clocks_that_differ(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "SEEN_WITHIN", 0.1)
    date = formatdate(time.time() + 100, usegmt=True)
    body = b'{"gitVersion": "v1.36.0"}'
    head = f"HTTP/1.1 200 OK\r\nDate: {date}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    with stranger(None, raw=head.encode() + body) as other:
        path = plain(tmp_path / "k", f"http://{other.address}", {"token": "t"})
        said = await run(tmp_path, {"kubernetes": {"kubeconfig": path}})
    assert said.the("api").status == "warn"
    assert "Kubernetes v1.36.0" in said.the("api").detail
    assert " s behind the server's" in said.the("api").detail
    assert "set the clock" in said.the("api").mend


# --- rights ---


@on_loop
async def test_rights_that_are_missing(tmp_path):
    async with cluster() as emulator:
        said = await check(emulator, tmp_path, "limited")
    assert said.code == 1
    grave, slight = said["permissions"]
    assert (grave.status, slight.status) == ("fail", "warn")
    assert (
        "models: {apiGroups: [apps], resources: [deployments/scale], verbs: [get, update]}: else nothing is scaled"
        in grave.items
    )
    assert any("resourceNames: [fe]" in item for item in grave.items)
    assert not set(grave.items) & set(slight.items)
    assert "deploy/kubernetes/base/access.yaml" in grave.mend
    assert said.the("election").detail.startswith("the Lease models/fe: 403 Forbidden")
    assert said.the("siblings").status == said.the("models").status == "fail"
    assert said.the("pods").detail == "because the pods are not seen"


@on_loop
async def test_rights_that_fe_can_do_without(tmp_path):
    """Autoscalers, events and conditions. KEDA's are not asked for where it is not installed."""
    slight = ("horizontalpodautoscalers", "scaledobjects", "events", "onlineendpoints/status")
    async with cluster() as emulator:
        user = await installed(emulator, lambda _, resource: resource in slight)
        said = await check(emulator, tmp_path, user)
    assert said.code == 0
    missing = said.the("permissions")
    assert missing.status == "warn"
    assert [one.partition("resources: [")[2].partition("]")[0] for one in missing.items] == [
        "horizontalpodautoscalers", "events", "onlineendpoints/status",
    ]  # fmt: skip


@on_loop
async def test_someone_who_may_not_even_ask(tmp_path):
    async with cluster() as emulator:
        emulator.faults.status(403, path="selfsubject")
        said = await check(emulator, tmp_path)
        assert "may not even ask" in said.the("permissions").mend
        emulator.faults.clear()
        emulator.faults.status(500, path="selfsubject")
        said = await check(emulator, tmp_path)
    assert said.the("permissions").detail.startswith("500 InternalError")
    assert said.the("models").status == "warn", "the others go on"
