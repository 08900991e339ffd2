"""Credentials and TLS: the pod's account, kubeconfigs and their plugins, what is loaded anew when it is refused; and
that nothing secret is said about any of it, nor left behind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import tempfile
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from fe.control.kubernetes import access, client
from fe.control.kubernetes.client import AccessError, ApiError, Cluster, UnreachableError
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import PODS, Clock, eventually, no_tasks_left, on_loop, plain, pod

SECRET = "5ecret-t0ken-which-nobody-may-see"  # noqa: S105 - is looked for in messages


def account(folder: Path, emulator: Emulator, token: str) -> tuple[Path, dict[str, str]]:
    """What a pod finds of its service account, and its environment."""
    (folder / "ca.crt").write_bytes(emulator.ca.read_bytes())
    (folder / "token").write_text(token)
    (folder / "namespace").write_text("models\n")
    port = emulator.url.rpartition(":")[2]
    return folder, {"KUBERNETES_SERVICE_HOST": "127.0.0.1", "KUBERNETES_SERVICE_PORT": port}


@on_loop
async def test_the_service_account_of_a_pod(tmp_path):
    with_line_end = account(tmp_path, emulator := Emulator(tls=True), "")
    async with emulator:
        folder, environ = account(tmp_path, emulator, emulator.token() + "\n")
        assert with_line_end[0] == folder
        cluster = Cluster(account=folder, environ=environ)
        try:
            assert (await cluster.open()).namespace == "models"
            await cluster.call("GET", PODS)
            assert emulator.records[-1].user == "admin"
        finally:
            await cluster.close()


@on_loop
async def test_a_credential_that_is_refused_is_loaded_anew_and_the_call_made_again(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "RELOAD_AFTER", 0.0)
    async with no_tasks_left(), Emulator(tls=True) as emulator:
        folder, environ = account(tmp_path, emulator, "an-old-one")
        cluster = Cluster(account=folder, environ=environ)
        with pytest.raises(ApiError, match="401"):
            await cluster.call("GET", PODS)
        (folder / "token").write_text(emulator.token())
        await cluster.call("GET", PODS)
        async with contextlib.aclosing(cluster.stream(PODS, {"watch": "true"})) as lines:
            await emulator.create(pod("a"))
            assert b'"a"' in await anext(lines)
        await cluster.close()


@on_loop
async def test_refused_credentials_are_loaded_anew_at_most_once_in_a_while(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=Clock()))
    async with Emulator() as emulator:
        counter = tmp_path / "runs"
        plugin = script(tmp_path, f"echo >> {counter}\n" + credential("unknown"))
        cluster = Cluster(plain(tmp_path / "k", emulator.url, {"exec": plugin}))
        for _ in range(5):
            with pytest.raises(ApiError, match="401"):
                await cluster.call("GET", PODS)
        assert counter.read_text().count("\n") == 1
        await cluster.close()


def script(folder: Path, text: str) -> dict[str, str]:
    """A credential plugin of a kubeconfig."""
    path = folder / "plugin"
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": str(path)}


def credential(token: str) -> str:
    status = {"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": token}}
    return f"echo '{json.dumps(status)}'\n"


def in_a_pod(folder: Path, emulator: Emulator) -> Cluster:
    where, environ = account(folder, emulator, emulator.token())
    return Cluster(account=where, environ=environ)


def with_token_file(folder: Path, emulator: Emulator) -> Cluster:
    (folder / "token").write_text(emulator.token())
    server = {"server": emulator.url, "certificate-authority": str(emulator.ca)}
    user = {"tokenFile": str(folder / "token")}
    return Cluster(plain(folder / "k", emulator.url, user, clusters=[{"name": "k", "cluster": server}]))


async def refused(cluster: Cluster) -> None:
    with pytest.raises(ApiError, match="401"):
        await cluster.call("GET", PODS)


@pytest.mark.parametrize("how", [in_a_pod, with_token_file])
@on_loop
async def test_a_token_that_comes_after_the_old_one_was_revoked_is_used_soon(how, tmp_path, monkeypatch):
    """However long the old one was refused, and without an end of what still works with it."""
    clock, file = Clock(), tmp_path / "token"
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=clock))
    async with no_tasks_left(), Emulator(tls=True) as emulator:
        cluster = how(tmp_path, emulator)
        await emulator.create(pod("a"))
        async with contextlib.aclosing(cluster.stream(PODS, {"watch": "true"})) as lines:
            assert b'"a"' in await anext(lines)
            token = emulator.access.rotate("admin")
            for _ in range(20):
                clock.now += 2.0
                await refused(cluster)
            await emulator.create(pod("b"))
            assert b'"b"' in await anext(lines)
        file.write_text(token)
        clock.now += 2.0
        await cluster.call("GET", PODS)
        file.write_text(emulator.access.rotate("admin"))
        clock.now += 2.0
        await cluster.call("GET", PODS)
        await cluster.close()


@on_loop
async def test_a_plugin_whose_credential_is_refused_is_run_later_and_later(tmp_path, monkeypatch):
    clock, counter = Clock(), tmp_path / "runs"
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=clock))
    async with no_tasks_left(), Emulator() as emulator:
        count = f"echo >> {counter}\n"
        cluster = Cluster(plain(tmp_path / "k", emulator.url, {"exec": script(tmp_path, count)}))
        script(tmp_path, count + credential(emulator.token()))
        await cluster.call("GET", PODS)
        token = emulator.access.rotate("admin")
        for _ in range(120):
            clock.now += 1.0
            await refused(cluster)
        assert 5 <= counter.read_text().count("\n") <= 10
        script(tmp_path, count + credential(token))
        clock.now += 30.0
        await cluster.call("GET", PODS)
        script(tmp_path, count + credential(emulator.access.rotate("admin")))
        clock.now += 2.0
        await cluster.call("GET", PODS)
        await cluster.close()


@on_loop
async def test_a_credential_plugin(tmp_path):
    async with no_tasks_left(), Emulator() as emulator:
        plugin = script(tmp_path, credential(emulator.token()))
        cluster = Cluster(plain(tmp_path / "k", emulator.url, {"exec": plugin}))
        await asyncio.gather(*(cluster.call("GET", PODS) for _ in range(5)))
        assert emulator.records[-1].user == "admin"
        await cluster.close()


@on_loop
async def test_a_credential_plugin_that_fails_is_named_and_not_quoted(tmp_path, caplog):
    plugin = script(tmp_path, f"echo {SECRET} >&2; exit 3\n")
    cluster = Cluster(plain(tmp_path / "k", "http://127.0.0.1:1", {"exec": plugin}))
    with pytest.raises(AccessError, match=r"plugin .*/plugin gave no credential"):
        await cluster.call("GET", PODS)
    assert SECRET not in caplog.text
    await cluster.close()


@pytest.mark.parametrize("how", ["limit", "close"])
@on_loop
async def test_a_credential_plugin_that_hangs_is_ended(how, tmp_path, monkeypatch):
    pid = tmp_path / "pid"
    plugin = script(tmp_path, f"echo $$ > {pid}\nexec sleep 600\n")
    cluster = Cluster(plain(tmp_path / "k", "http://127.0.0.1:1", {"exec": plugin}))
    if how == "limit":
        monkeypatch.setattr(access, "LOAD_WITHIN", 0.3)
        monkeypatch.setattr(client, "REOPEN_AFTER", 0.0)
    async with no_tasks_left():
        while not (pid.exists() and pid.read_text()):  # a busy machine may not have begun it within the limit
            with pytest.raises(UnreachableError, match=r"no answer within|gave nothing within"):
                await cluster.call("GET", PODS, timeout=0.05)  # this caller has no more time
        if how == "limit":
            with pytest.raises(AccessError, match=r"gave nothing within 0\.3 s"):
                await cluster.call("GET", PODS)
        await cluster.close()
        await eventually(lambda: not os.path.exists(f"/proc/{pid.read_text().strip()}"), "it has ended")


def test_where_there_is_no_configuration(tmp_path):
    @on_loop
    async def ask(cluster, why):
        for _ in range(2):  # the second time out of what is known
            with pytest.raises(AccessError, match=why):
                await cluster.call("GET", PODS)
        await cluster.close()

    ask(Cluster(str(tmp_path / "none")), "there is no kubeconfig at .*/none")
    ask(Cluster(environ={"KUBECONFIG": str(tmp_path / "no")}), "there is no kubeconfig at .*/no")
    pod_only = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    ask(Cluster(account=tmp_path, environ=pod_only), f"the service account in {tmp_path}: Service token file")


BROKEN = {
    "no server": {"clusters": [{"name": "k", "cluster": {}}]},
    "no cluster": {"clusters": []},
    "no user's content": {"users": [{"name": "u", "token": SECRET}]},
    "a user twice": {"users": [{"name": "u", "user": {"token": SECRET}}, {"name": "u", "user": {"token": SECRET}}]},
    "no context": {"current-context": "other"},
    "no files": {
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "u", "user": {"token": SECRET, "client-certificate": "/none"}}],
    },
    "no certificate": {
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": "YQ=="}}]
    },
    "no base64": {
        "clusters": [{"name": "k", "cluster": {"server": "https://127.0.0.1:1", "certificate-authority-data": "a"}}]
    },
    "a list": {"users": SECRET},
    "a token with a line end": {"users": [{"name": "u", "user": {"token": f"{SECRET}\nX-Other: 1"}}]},
    "a token out of Latin-1": {"users": [{"name": "u", "user": {"token": SECRET + "\u20ac"}}]},
}


@pytest.mark.parametrize("how", BROKEN)
@on_loop
async def test_a_broken_kubeconfig_is_refused_without_its_secrets(how, tmp_path, caplog):
    path = tmp_path / "k"
    document = yaml.safe_load(Path(plain(path, "http://127.0.0.1:1", {"token": SECRET})).read_text())
    path.write_text(yaml.safe_dump(document | BROKEN[how]))
    cluster = Cluster(str(path))
    with pytest.raises(UnreachableError) as caught:
        await cluster.call("GET", PODS)
    await cluster.close()
    shown = caplog.text + "".join(traceback.format_exception(caught.value)) + repr(caught.value)
    assert SECRET not in shown
    assert str(path) in str(caught.value) or "token" in how or how == "no server" or how == "a user twice", how


@on_loop
async def test_text_that_is_no_yaml_is_not_quoted(tmp_path):
    path = tmp_path / "k"
    path.write_text(f"users:\n- token: {SECRET}: :\n  - ]")
    cluster = Cluster(str(path))
    with pytest.raises(AccessError) as caught:
        await cluster.call("GET", PODS)
    await cluster.close()
    assert SECRET not in "".join(traceback.format_exception(caught.value))


# --- TLS ---


@on_loop
async def test_an_authority_that_was_replaced_is_loaded_anew(tmp_path, monkeypatch):
    async with Emulator(tls=True) as emulator, Emulator(tls=True) as other:
        folder, environ = account(tmp_path, emulator, emulator.token())
        (folder / "ca.crt").write_bytes(other.ca.read_bytes())
        cluster = Cluster(account=folder, environ=environ)
        with pytest.raises(UnreachableError, match="certificate is not trusted: "):
            await cluster.call("GET", PODS)
        (folder / "ca.crt").write_bytes(emulator.ca.read_bytes())
        monkeypatch.setattr(client, "RELOAD_AFTER", 0.0)
        await cluster.call("GET", PODS)
        await cluster.close()


@on_loop
async def test_certificates_in_the_kubeconfig_leave_no_file(tmp_path, monkeypatch):
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    async with Emulator(tls=True) as emulator:
        pem = base64.b64encode(emulator.ca.read_bytes()).decode()
        kept = [{"name": "k", "cluster": {"server": emulator.url, "certificate-authority-data": pem}}]
        user = {"token": emulator.token()}
        for _ in range(2):  # the package remembers the files that it has made
            cluster = Cluster(plain(tmp_path / "k", emulator.url, user, clusters=kept))
            await cluster.call("GET", PODS)
            await cluster.close()
    assert list(folder.iterdir()) == []
