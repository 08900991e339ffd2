"""`fe check` on one machine: each thing that can be wrong has its own line, mend and exit code; no secret is said."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys

import pytest

from fe.checks import local, plan, reach
from fe.checks.result import exit_code
from tests.commands.running import OnTerminal, fe
from tests.support.backends import Backend
from tests.support.fe_process import FeProcess, dead_port, deployment, endpoint, free_port, wait_for

SECRET = "5ecret-key-which-nobody-may-see"  # noqa: S105 - is looked for in output


@pytest.fixture
def written(tmp_path):
    """Writes a configuration; its path. Addresses are free ones unless it names some."""

    def write(config):
        whole = {"listen": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}", **config}
        (tmp_path / "fe.yaml").write_text(json.dumps(whole))
        return str(tmp_path / "fe.yaml")

    return write


def document(path, code, *options, **environment):
    """What `fe check --json` says, by name, after it has ended with this code."""
    done = fe("check", "--json", "--config", path, *options, **environment)
    assert (done.returncode, done.stderr) == (code, ""), done.stdout + done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["exit_code"], said["config"]) == (code == 0, code, path)
    assert all(set(one) == {"name", "status", "detail", "mend", "items"} for one in said["checks"])
    assert all(bool(one["mend"]) == (one["status"] in ("warn", "fail")) for one in said["checks"])
    return said["checks"]


def of(checks, name):
    return [one for one in checks if one["name"] == name]


def own(command, **replicas):
    """An endpoint with a local replica."""
    process = {"process": {"command": command, **replicas}}
    return {"name": "own", "auth_mode": "none", "deployments": [{"name": "green", "replicas": process}]}


def test_all_is_well(written):
    with Backend() as one:
        path = written(
            {"endpoints": [endpoint([one.address]), own([sys.executable, "{port}"], output="out-{port}.log")]}
        )
        done = fe("check", "--config", path)
    assert (done.returncode, done.stderr) == (0, "")
    *lines, empty, summary = done.stdout.splitlines()
    heads = [line.split()[:2] for line in lines if not line.startswith(" ")]
    assert heads == [["ok", name] for name in ("configuration", "sources", "listen", "commands", "replicas")]
    assert (empty, summary) == ("", "5 results: 5 ok")
    assert lines[0].endswith(f"{path}: 2 endpoints, 2 deployments, without kubernetes")
    assert "keys: none, 1 file can be written to" in lines[1]
    assert lines[-1].endswith("1 replica of 1 deployment: connections are accepted")
    assert not one.connections or not one.requests, "nothing is asked"


def test_a_configuration_that_cannot_be_used(written, tmp_path):
    checks = document(written({"nonsense": 1, "endpoints": [{"name": "x", "auth_mode": "key"}]}), 2)
    assert [one["status"] for one in checks] == ["fail"] + ["skipped"] * (len(plan.CHECKS) - 1)
    assert {one["detail"] for one in checks[1:]} == {"because configuration failed"}
    assert len(checks[0]["items"]) >= 2
    assert any("nonsense" in item for item in checks[0]["items"])
    assert "cannot be read" in document(str(tmp_path / "none.yaml"), 2)[0]["items"][0]


@pytest.mark.parametrize("key", ["file:none", "env:FE_TEST_NOT_SET"])
def test_a_key_that_cannot_be_read(key, written):
    locked = {**endpoint([f"127.0.0.1:{dead_port()}"]), "auth_mode": "key", "keys": {"primary": key}}
    assert key.partition(":")[2] in document(written({"endpoints": [locked]}), 2)[0]["items"][0]


def test_no_secret_is_said(written, tmp_path):
    (tmp_path / "key").write_text(f"{SECRET}-1")
    os.chmod(tmp_path / "key", 0o600)
    keys = {"primary": "file:key", "secondary": f"{SECRET}-2"}
    locked = {**endpoint([f"127.0.0.1:{dead_port()}"]), "auth_mode": "key", "keys": keys}
    other = {**own(["no-such-program", SECRET], env={"TOKEN": SECRET}), "auth_mode": "key"}
    path = written({"endpoints": [locked, {**other, "keys": {"primary": "env:FE_TEST_KEY"}}]})
    said = json.dumps(document(path, 3, FE_TEST_KEY=f"{SECRET}-3"))
    assert "keys: 1 from files, 1 from the environment, 1 in plain text" in said
    assert "no-such-program" in said
    assert SECRET not in said
    assert SECRET not in fe("check", "--config", path, FE_TEST_KEY=f"{SECRET}-3").stdout


def test_replicas_that_are_not_there(written, tmp_path, monkeypatch):
    monkeypatch.setattr(reach, "RESOLVE_WITHIN", 1.0)
    dead, path = dead_port(), f"unix:{tmp_path}/none.sock"
    with Backend() as one:
        results = run(written({"endpoints": [endpoint([one.address, f"127.0.0.1:{dead}", path, "no.invalid:5001"])]}))
    assert exit_code(results) == 3
    unknown, refused, absent = [one for one in results if one.name == "replicas"]
    assert unknown.detail == "1 host name cannot be resolved"
    assert "replicas.static" in unknown.mend
    assert "name servers" in unknown.mend
    assert (refused.detail, refused.items) == (
        "1 of 3 replicas: connection refused", (f"model/blue 127.0.0.1:{dead}",),
    )  # fmt: skip
    assert "start the model server there" in refused.mend
    assert absent.items == (f"model/blue {path}",)


def run(path, limit=60.0):
    results = []
    asyncio.run(plan.run(path, limit, results.append))
    return results


def last_of(results):
    """The last one, where all before it are well."""
    return results[-1] if all(one.status == "ok" for one in results[:-1]) else None


def test_it_ends_in_time(written, monkeypatch):
    """Connections to a socket whose queue is full are neither accepted nor refused."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as deaf, socket.socket() as first, socket.socket() as second:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for sock in (first, second):
            sock.setblocking(False)
            sock.connect_ex(deaf.getsockname())
        path = written({"endpoints": [endpoint([f"127.0.0.1:{deaf.getsockname()[1]}"])]})
        late = wait_for(lambda: last_of(run(path, 0.5)), "a run whose time is over at the last check, not before")
        monkeypatch.setattr(reach, "CONNECT_WITHIN", 0.3)
        silent = run(path)[-1]
    assert (late.status, late.detail, late.mend) == (
        "fail",
        f"1 of 1 replica: {reach.NO_TIME}",
        "give more time: --timeout",
    )
    assert (silent.status, silent.detail) == ("fail", f"1 of 1 replica: {reach.SILENT}")


def test_addresses_that_are_in_use(written, monkeypatch):
    monkeypatch.setattr(local, "ANSWER_WITHIN", 60.0)
    with Backend() as one, Backend() as other, FeProcess({"endpoints": [endpoint([one.address])]}) as running:
        (found,) = [one for one in run(str(running.file)) if one.name == "listen"]
        assert found.status == "ok"
        assert f"its controller is process {running.controller()}: 127.0.0.1:{running.port}" in found.detail
        busy = f"127.0.0.1:{other.port}"
        (said,) = of(document(written({"listen": busy, "endpoints": [endpoint([one.address])]}), 0), "listen")
    assert said["status"] == "warn"
    assert said["items"][0] == f"{busy}: in use"
    assert "ss -ltnp" in said["mend"]


def test_addresses_that_cannot_be_had(written, tmp_path):
    (tmp_path / "file").write_text("")
    listen = ["192.0.2.1:8080", f"unix:{tmp_path}/none/fe.sock", f"unix:{tmp_path}/\x1b[2Jfree.sock"]
    with Backend() as one:
        path = written({"listen": listen, "endpoints": [endpoint([one.address])]})
        (said,) = of(document(path, 3), "listen")
        shown = fe("check", "--config", path).stdout
    assert said["items"] == [
        "192.0.2.1:8080: this machine has no such address",
        f"unix:{tmp_path}/none/fe.sock: its folder does not exist",
    ]
    assert all(line.isprintable() for line in shown.splitlines())


def test_sockets_that_are_left_behind_and_others(written, tmp_path):
    left, used = tmp_path / "left.sock", tmp_path / "used.sock"
    with socket.socket(socket.AF_UNIX) as one, socket.socket(socket.AF_UNIX) as two, Backend() as back:
        one.bind(str(left))
        two.bind(str(used))
        two.listen()
        path = written({"listen": [f"unix:{left}", f"unix:{used}"], "endpoints": [endpoint([back.address])]})
        (said,) = of(document(path, 0), "listen")
    assert said["items"][:2] == [f"unix:{left}: free", f"unix:{used}: in use"]
    assert left.exists(), "fe-serve removes it, this does not"


def test_local_replicas_that_cannot_be_started(written, tmp_path):
    (tmp_path / "not-executable").write_text("#!/bin/sh\n")
    commands = {"a": ["no-such-program"], "b": ["./not-executable"], "c": ["true"]}
    named = [{**own(command)["deployments"][0], "name": name} for name, command in commands.items()]
    named.append({**own(["true"], cwd="none")["deployments"][0], "name": "d"})
    config = {"endpoints": [{"name": "own", "auth_mode": "none", "traffic": {"a": 100}, "deployments": named}]}
    (said,) = of(document(written(config), 3), "commands")
    assert said["detail"] == "3 local commands cannot be started"
    assert said["items"] == [
        "own/a: there is no program no-such-program that this user may run",
        f"own/b: there is no program {tmp_path}/not-executable that this user may run",
        f"own/d: there is no folder {tmp_path}/none",
    ]
    assert "replicas.process.command" in said["mend"]


def test_files_that_cannot_be_written_to(written, tmp_path):
    config = {"log": {"file": "none/fe.log"}, "endpoints": [own(["true"], output=str(tmp_path))]}
    (said,) = of(document(written(config), 3), "sources")
    assert said["items"] == [f"{tmp_path}/none/fe.log: its folder does not exist", f"{tmp_path}: is a folder"]
    assert "log.file" in said["mend"]


def test_many_lines_are_cut_short(written):
    bad = [f"127.0.0.1:{dead_port()}" for _ in range(30)]
    path = written({"endpoints": [{**endpoint([]), "deployments": [deployment(bad)]}]})
    assert "and 10 more" in fe("check", "--config", path).stdout
    assert len(document(path, 3)[-1]["items"]) == 30


def test_on_a_terminal_it_is_in_colour(written):
    with OnTerminal("check", "--config", written({"endpoints": [endpoint([f"127.0.0.1:{dead_port()}"])]})) as terminal:
        terminal.wait_for(lambda seen: "4 results: 3 ok, 1 failed" in seen, "the summary")
        assert terminal.end(signal.SIGCONT) == 3
    assert "\x1b[32mok" in terminal.seen
    assert "\x1b[1;31mFAIL" in terminal.seen


@pytest.mark.parametrize("words", [[], ["--config", "x", "--timeout", "0"], ["--config", "x", "--timeout", "nan"]])
def test_wrong_usage(words):
    done = fe("check", *words)
    assert (done.returncode, done.stdout) == (2, "")


def test_the_package_of_the_cluster_is_loaded_for_a_cluster_only(written):
    code = "import sys; from fe.commands.main import main; main(sys.argv[1:]); print('kubernetes' in sys.modules)"
    path = written({"endpoints": [endpoint([f"127.0.0.1:{dead_port()}"])]})
    command = [sys.executable, "-c", code, "check", "--config", path]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert done.stdout.splitlines()[-1] == "False"
