"""The control plane in a whole fe-serve: local replicas under load, a killed controller, traffic moved by reloads.

Owns: what only shows with real workers, a real supervisor and real keepers. The details of each part are tested next
to it; faults of workers are in tests/e2e.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

from tests.control.harness import COMMAND
from tests.support import proc, scripts
from tests.support.backends import Backend
from tests.support.client import Client, request
from tests.support.fe_process import Config, FeProcess, deployment, endpoint, free_port, wait_for
from tests.support.load import Load


def local(mark: str, count: int = 2) -> Config:
    """An endpoint on / whose replicas fe runs itself; they answer with their pid and this mark."""
    made = endpoint([])
    made["deployments"] = [
        {
            "name": "blue",
            "instance_count": count,
            "scale_settings": {"type": "default"},
            "request_settings": {"max_queue_wait_ms": 60000, "request_timeout_ms": 60000},
            "replicas": {"process": {"command": list(COMMAND), "env": {"MARK": mark}, "stop_grace": 5}},
        }
    ]
    return {"endpoints": [made]}


@contextlib.contextmanager
def serving(config: Config, **options: Any) -> Iterator[FeProcess]:
    """A fe-serve whose replicas are ready."""
    with FeProcess(config, **options) as fe:
        wait_ready(fe)
        yield fe


def status(fe: FeProcess) -> Any:
    code, body = fe.admin("/api/status")
    assert code == 200
    return json.loads(body)


def replicas(fe: FeProcess) -> list[dict[str, Any]]:
    """All replicas that the controller knows; none while it is away."""
    try:
        return [one for found in status(fe)["endpoints"] for part in found["deployments"] for one in part["replicas"]]
    except (OSError, AssertionError):
        return []


def wait_ready(fe: FeProcess, count: int | None = None) -> None:
    def ready() -> bool:
        found = replicas(fe)
        return bool(found) and {one["state"] for one in found} == {"ready"} and len(found) == (count or len(found))

    wait_for(ready, "every replica is ready")


def ask(fe: FeProcess) -> tuple[int, str]:
    """One request: pid and mark of the replica that answered."""
    with Client(fe.address) as client:
        answer = client.exchange(request("/", "POST", b"x"), "POST")
    assert answer.status == 200, answer
    pid, _, mark = answer.body.decode().partition(" ")
    return int(pid), mark


def local_pids(fe: FeProcess) -> list[int]:
    """The commands that run under keepers."""
    return sorted(pid for pid in fe.survivors() if "socket.create_server" in proc_command(pid))


def proc_command(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def test_a_roll_out_under_load_loses_nothing() -> None:
    with serving(local("old"), workers=2) as fe:
        old = local_pids(fe)
        assert len(old) == 2
        with Load(lambda: Client(fe.address), 8, per_connection=5) as load:
            load.wait_more(50)
            fe.reload(local("new"))
            wait_for(lambda: len(local_pids(fe)) == 2 and not set(local_pids(fe)) & set(old), "all were replaced")
            load.wait_more(50)
        assert not load.failures, load.summary()
        wait_ready(fe, 2)
        assert ask(fe)[1] == "new"


def test_a_killed_controller_leaves_local_replicas_alone() -> None:
    with serving(local("one"), workers=1) as fe:
        wait_ready(fe, 2)
        before = local_pids(fe)
        with Load(lambda: Client(fe.address), 4) as load:
            load.wait_more(20)
            former = fe.controller()
            assert former is not None
            proc.kill(former)
            wait_for(lambda: fe.controller() not in (None, former) and fe.ready(), "a successor")
            load.wait_more(20)
        assert not load.failures, load.summary()
        wait_ready(fe, 2)
        assert local_pids(fe) == before
        assert {ask(fe)[0] for _ in range(6)} <= set(before)
        proc.kill(before[0])  # the successor looks after them
        wait_for(lambda: len(set(local_pids(fe)) - {before[0]}) == 2, "a replacement")
        wait_ready(fe, 2)
        assert before[1] in local_pids(fe)


def test_a_controller_killed_during_a_roll_out_is_followed_by_one_that_ends_it() -> None:
    with serving(local("old", 3), workers=1) as fe:
        old = set(local_pids(fe))
        with Load(lambda: Client(fe.address), 4) as load:
            load.wait_more(20)
            fe.reload(local("new", 3))
            wait_for(lambda: set(local_pids(fe)) - old, "the first new one")
            former = fe.controller()
            assert former is not None
            proc.kill(former)
            wait_for(lambda: len(local_pids(fe)) == 3 and not set(local_pids(fe)) & old, "all were replaced")
            load.wait_more(20)
        assert not load.failures, load.summary()
        wait_ready(fe, 3)
        assert ask(fe)[1] == "new"


def test_a_replica_that_dies_is_replaced_and_requests_go_on() -> None:
    with serving(local("one"), workers=1) as fe:
        for _ in range(3):
            victim = ask(fe)[0]
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda gone=victim: not proc.alive(gone), "dead")
            assert ask(fe)[0] != victim  # the other one, or its successor
            wait_for(lambda gone=victim: len(set(local_pids(fe)) - {gone}) == 2, "a replacement")
            wait_ready(fe, 2)
        assert len(local_pids(fe)) == 2


def test_traffic_moves_from_blue_to_green_without_a_gap() -> None:
    with Backend(scripts.answer(b"blue")) as blue:
        first = endpoint([blue.address])
        with serving({"endpoints": [first]}, workers=2) as fe:
            green = {**local("green")["endpoints"][0]["deployments"][0], "name": "green"}
            both = {**first, "deployments": [*first["deployments"], green], "traffic": {"green": 100}}
            with Load(lambda: Client(fe.address), 4, per_connection=3) as load:
                load.wait_more(20)
                fe.reload({"endpoints": [both]})
                wait_for(lambda: ask(fe)[1] == "green" if b"blue" not in raw(fe) else False, "green serves")
                load.wait_more(20)
                only = {**both, "deployments": [green]}
                fe.reload({"endpoints": [only]})
                wait_for(lambda: len(status(fe)["endpoints"][0]["deployments"]) == 1, "blue is removed")
                load.wait_more(20)
            assert not load.failures, load.summary()


def raw(fe: FeProcess) -> bytes:
    with Client(fe.address) as client:
        return bytes(client.exchange(request("/", "POST", b"x"), "POST").body)


def test_an_ejected_replica_comes_back_when_it_serves_again() -> None:
    with Backend(scripts.answer(b"one")) as one, Backend(scripts.answer(b"other")) as other:
        one.refuse()
        config = {"endpoints": [endpoint([one.address, other.address], max_concurrent_requests_per_instance=1)]}
        with FeProcess(config) as fe:

            def set_aside() -> bool:
                assert raw(fe) == b"other"  # refused by the one, served by the other, and no client notices
                return fe.metric("fe_replicas", state="ejected") == 1

            wait_for(set_aside, "it is set aside")
            one.listen()
            fe.wait_metric("fe_replicas", 2, state="ready")
            wait_for(lambda: raw(fe) == b"one", "it serves again")


def test_readyz_follows_the_life_of_fe_serve() -> None:
    gate = threading.Event()
    with (
        Backend(scripts.held(gate, scripts.answer(b"late"))) as backend,
        FeProcess({"endpoints": [endpoint([backend.address])]}, workers=2) as fe,
    ):
        assert fe.admin("/readyz") == (200, b"ready\n")
        assert fe.admin("/healthz") == (200, b"ok\n")
        with Client(fe.address) as client:
            client.send(request("/", "POST", b"x"))
            fe.wait_metric("fe_in_flight", 1)
            fe.signal(signal.SIGTERM)
            wait_for(lambda: fe.admin("/readyz")[0] == 503, "not ready while it drains")
            assert b"draining" in fe.admin("/readyz")[1]
            assert fe.admin("/healthz") == (200, b"ok\n")
            gate.set()
            assert client.read_response().status == 200
        assert fe.process.wait(60) == 0


def test_listeners_cannot_be_changed_by_a_reload() -> None:
    with Backend(scripts.answer(b"ok")) as backend, FeProcess({"endpoints": [endpoint([backend.address])]}) as fe:
        fe.reload({"listen": f"127.0.0.1:{free_port()}", "workers": 3, "endpoints": []})
        fe.wait_metric("fe_config_reloads_total", 1, result="refused")
        assert "listen cannot change" in fe.output()
        assert "workers cannot change" in fe.output()
        assert fe.metric("fe_config_last_reload_successful") == 0
        assert raw(fe) == b"ok"
        with socket.socket() as nobody:
            assert nobody.connect_ex(("127.0.0.1", int(fe.config["listen"].rpartition(":")[2]))) != 0


def test_a_replica_can_be_named() -> None:
    with Backend(scripts.answer(b"named")) as backend:
        port = backend.address.rpartition(":")[2]
        config = {"endpoints": [{**endpoint([]), "deployments": [deployment([f"localhost:{port}"])]}]}
        with serving(config) as fe:
            assert raw(fe) == b"named"
