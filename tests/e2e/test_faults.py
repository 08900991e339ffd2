"""Faults under load: killed workers, a killed controller, reloads, the end; and what the machine does not give.

Owns: the promise that a fault costs what it must and nothing more. The load is steady: more clients than places, so
that replicas are full and the queue is in use the whole time.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support import proc, scripts
from tests.support.backends import Backend, Exchange
from tests.support.client import Client, request
from tests.support.fe_process import Config, FeProcess, deployment, endpoint, free_port, stopped, wait_for
from tests.support.load import Load
from tests.support.wire import EndedError

WORKERS, REPLICAS, CAPACITY, CLIENTS = 4, 20, 4, 100
SERVICE_TIME = 0.05  # of a request at a replica
EJECTED_AFTER = 3  # failures in a row


def _works(exchange: Exchange) -> None:
    exchange.read_body()
    time.sleep(SERVICE_TIME)
    scripts.answer(b"done")(exchange)


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[Backend]]:
    with ExitStack() as stack:
        backends = [stack.enter_context(Backend(_works, f"replica {n}", record=False)) for n in range(REPLICAS)]
        yield backends
        assert [one.faults for one in backends] == [[]] * REPLICAS
        assert max(one.peak for one in backends) == CAPACITY


def _config(replicas: list[Backend], **settings: Any) -> Config:
    settings = {"max_concurrent_requests_per_instance": CAPACITY, "max_queue_wait_ms": 60000, **settings}
    return {"endpoints": [endpoint([one.address for one in replicas], **settings)]}


@pytest.fixture(scope="module")
def fe(replicas: list[Backend]) -> Iterator[FeProcess]:
    with FeProcess(_config(replicas), workers=WORKERS) as one:
        yield one


@contextmanager
def _load(fe: FeProcess, **options: Any) -> Iterator[Load]:
    """The load, running since 200 requests; afterwards leases and queue are back to nothing."""
    with Load(fe.client, CLIENTS, **options) as load:
        load.wait_more(200)
        yield load
    fe.wait_idle()


def _is_replaced(fe: FeProcess, victim: int, count: int = WORKERS) -> bool:
    workers = fe.workers()
    return victim not in workers and len(workers) == count and fe.metric("fe_workers", state="active") == count


def _controller(fe: FeProcess) -> int:
    return int(wait_for(fe.controller, "a controller"))


def test_a_killed_worker_costs_only_what_it_held(fe: FeProcess, replicas: list[Backend]) -> None:
    held: list[int] = []  # source ports of connections
    with _load(fe) as load:
        for _ in range(3):
            victim = fe.workers()[0]
            with stopped(victim):  # so that what it holds does not change any more
                held += fe.connections()[victim]
                proc.kill(victim)
            load.wait_more(300)
            wait_for(partial(_is_replaced, fe, victim), "the worker is replaced")
    assert {one.connection for one in load.failures} <= set(held), load.summary()
    assert len(load.failures) <= len(held)
    _check_whole(fe, replicas)


def _check_whole(fe: FeProcess, replicas: list[Backend]) -> None:
    """Every place at every replica can be taken, and none twice."""
    gate = threading.Event()
    for replica in replicas:
        replica.on("/whole", scripts.held(gate, scripts.answer()))
    with ExitStack() as stack:
        clients = [stack.enter_context(fe.client()) for _ in range(REPLICAS * CAPACITY + 5)]
        for client in clients:
            client.send(request("/whole"))
        fe.wait_metric("fe_queue_depth", 5)
        assert fe.metric("fe_in_flight") == REPLICAS * CAPACITY
        gate.set()
        assert {client.read_response("GET").status for client in clients} == {200}
    fe.wait_idle()


def _clients_of(fe: FeProcess, stack: ExitStack, worker: int, count: int) -> list[Client]:
    """Clients whose connections this worker holds."""
    clients = [stack.enter_context(fe.client()) for _ in range(16 * count)]
    own = {client.sock.getsockname()[1] for client in clients}
    wait_for(lambda: own <= set().union(*fe.connections().values()), "all are accepted")
    ports = fe.connections()[worker]
    found = [client for client in clients if client.sock.getsockname()[1] in ports][:count]
    assert len(found) == count
    return found


def test_leases_come_back_before_the_worker_does(replicas: list[Backend]) -> None:
    """A worker that fails to start again cannot keep anybody waiting: its places are free at once."""
    gate = threading.Event()
    replicas[0].on("/held", scripts.held(gate, scripts.answer()))
    with FeProcess(_config(replicas[:1]), workers=2) as fe, ExitStack() as stack:
        victim, survivor = fe.workers()
        for client in _clients_of(fe, stack, victim, CAPACITY):
            client.send(request("/held"))
        fe.wait_metric("fe_in_flight", CAPACITY)
        waiting = _clients_of(fe, stack, survivor, 3)
        for client in waiting:
            client.send(request("/next"))
        fe.wait_metric("fe_queue_depth", 3)
        os.kill(victim, signal.SIGKILL)
        assert [client.read_response("GET").status for client in waiting] == [200] * 3
        gate.set()
        fe.wait_idle()


def test_connections_in_a_dead_workers_accept_queue_are_served(fe: FeProcess) -> None:
    victim = fe.workers()[0]
    with ExitStack() as stack:
        with stopped(victim):
            clients = [stack.enter_context(fe.client()) for _ in range(64)]
            for client in clients:
                client.send(request("/queued"))
            proc.kill(victim)
        for client in clients:
            assert client.read_response("GET").status == 200
    wait_for(lambda: _is_replaced(fe, victim), "the worker is replaced")


def test_a_hung_worker_is_replaced(replicas: list[Backend]) -> None:
    with FeProcess({**_config(replicas), "worker_timeout": 1}, workers=2) as fe:
        victim = fe.workers()[0]
        os.kill(victim, signal.SIGSTOP)
        wait_for(lambda: _is_replaced(fe, victim, 2), "the hung worker is replaced")
        wait_for(lambda: _serves(fe), "it serves")  # a busy machine makes others hang, too, who are replaced as well


def _serves(fe: FeProcess) -> bool:
    with fe.client() as client:
        try:
            return client.get("/").status == 200
        except EndedError:
            return False


def test_a_killed_controller_costs_nothing(fe: FeProcess) -> None:
    with _load(fe, per_connection=10) as load:
        for _ in range(3):
            victim = _controller(fe)
            os.kill(victim, signal.SIGKILL)
            load.wait_more(200)
            wait_for(partial(_new_controller, fe, victim), "a new controller")
    assert load.failures == []


def _new_controller(fe: FeProcess, old: int) -> bool:
    return fe.controller() not in (None, old) and fe.ready()


def test_fifty_reloads_cost_nothing(fe: FeProcess, replicas: list[Backend]) -> None:
    with Backend(_works) as other, _load(fe, per_connection=10) as load:
        for number in range(50):
            config = _config(replicas[number % 5 :], max_concurrent_requests_per_instance=CAPACITY - number % 2)
            config["endpoints"].append(endpoint([other.address], f"mark{number}", None))
            if number % 3 == 0:
                config["endpoints"][0]["deployments"].append(deployment([other.address], "green"))
                config["endpoints"][0]["traffic"] = {"blue": 90, "green": 10}
            fe.reload(config)
            _wait_applied(fe, f"mark{number}")
        load.wait_more(100)
        fe.reload(_config(replicas))
        _wait_gone(fe, "mark49")
    assert load.failures == []
    assert max(one.peak for one in replicas) == CAPACITY  # also of those that went and came back


def _wait_applied(fe: FeProcess, name: str) -> None:
    def found() -> bool:
        with fe.client() as client:
            return client.get(f"/api/v1/endpoint/{name}/x").status == 200

    wait_for(found, f"the configuration with {name} is in use")


def _wait_gone(fe: FeProcess, name: str) -> None:
    wait_for(lambda: fe.metric("fe_queue_limit", endpoint=name) == 0, f"{name} is gone")


def test_a_bad_configuration_changes_nothing(fe: FeProcess) -> None:
    good = fe.file.read_text()
    with _load(fe, per_connection=10) as load:
        failed = fe.metric("fe_config_reloads_total", result="refused")
        for number, text in enumerate(
            ("{", "endpoints: [{name: x}]", good.replace('"blue"', '"bl ue"'), good.replace("4", "-4", 1))
        ):
            fe.file.write_text(text)
            fe.reload()
            fe.wait_metric("fe_config_reloads_total", failed + number + 1, result="refused")
        fe.file.unlink()
        fe.reload()
        fe.wait_metric("fe_config_reloads_total", failed + 5, result="refused")
        load.wait_more(100)
    assert load.failures == []
    assert str(fe.file) in fe.output()
    fe.write(fe.config)
    fe.reload()
    wait_for(lambda: fe.metric("fe_config_last_reload_successful") == 1, "the good one is taken")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_end_costs_nothing_that_was_accepted(replicas: list[Backend], number: signal.Signals) -> None:
    # A client that gets no processor for long must not find its connection closed: that would be nobody's fault.
    config = {**_config(replicas), "drain_timeout": 200}
    with FeProcess(config, workers=WORKERS) as fe, Load(fe.client, CLIENTS) as load:
        load.wait_more(300)
        fe.signal(number)
        assert fe.process.wait(90) == 0
        load.stopping.set()
    assert load.failures == [], load.summary()
    assert fe.survivors() == []


def test_the_end_waits_for_those_who_wait(replicas: list[Backend]) -> None:
    """Requests that are served or stand in the queue when the signal comes are answered."""
    gate = threading.Event()
    replicas[0].on("/waits", scripts.held(gate, scripts.answer()))
    with FeProcess({**_config(replicas[:1]), "drain_timeout": 60}, workers=2) as fe, ExitStack() as stack:
        clients = [stack.enter_context(fe.client()) for _ in range(CAPACITY * 3)]
        for client in clients:
            client.send(request("/waits"))
        fe.wait_metric("fe_queue_depth", CAPACITY * 2)
        fe.signal(signal.SIGTERM)
        wait_for(lambda: not fe.ready(), "it drains")
        gate.set()
        for client in clients:
            assert client.read_response("GET").status == 200
            client.close()
        assert fe.process.wait(90) == 0


def test_a_second_signal_ends_it_at_once(replicas: list[Backend]) -> None:
    gate = threading.Event()
    replicas[0].on("/never", scripts.silent(gate))
    with FeProcess({**_config(replicas[:1]), "drain_timeout": 60}, workers=2) as fe, fe.client() as client:
        client.send(request("/never"))
        replicas[0].wait_requests(1, "/never")
        fe.signal(signal.SIGTERM)
        wait_for(lambda: not fe.ready(), "it drains")
        fe.signal(signal.SIGTERM)
        assert fe.process.wait(60) != 0
        client.ended()
    gate.set()


def test_drain_timeout_cuts_off(replicas: list[Backend]) -> None:
    gate = threading.Event()
    replicas[0].on("/cut", scripts.silent(gate))
    with FeProcess({**_config(replicas[:1]), "drain_timeout": 0.5}, workers=2) as fe, fe.client() as client:
        client.send(request("/cut"))
        replicas[0].wait_requests(1, "/cut")
        fe.signal(signal.SIGTERM)
        assert fe.process.wait(60) == 5
        client.ended()
    gate.set()


def test_a_drain_does_not_wait_for_replicas_that_nobody_listens_to(replicas: list[Backend]) -> None:
    """Its client has had its 504: nothing is cut off, although the replica still works on it."""
    gate = threading.Event()
    replicas[0].on("/late", scripts.silent(gate))
    model = endpoint([replicas[0].address], request_timeout_ms=200)
    with FeProcess({"endpoints": [model]}, workers=2) as fe:
        with fe.client() as client:
            assert client.get("/late").status == 504
        assert fe.metric("fe_in_flight") == 1
        assert fe.stop() == 0
    gate.set()


def test_killed_itself_it_leaves_nothing(replicas: list[Backend]) -> None:
    with FeProcess(_config(replicas), workers=2) as fe:
        os.kill(fe.process.pid, signal.SIGKILL)
        fe.process.wait(60)
        wait_for(lambda: not fe.survivors(), "no process is left")


# --- what the machine does not give ----------------------------------------------------------------------------------


def test_descriptors_run_out() -> None:
    """Who was accepted is served, the others wait; nobody is dropped."""
    gate = threading.Event()
    with ExitStack() as stack:
        replica = stack.enter_context(Backend())
        replica.on("/fd", scripts.held(gate, scripts.answer()))
        config = _config([replica], max_concurrent_requests_per_instance=500)
        fe = stack.enter_context(FeProcess(config, workers=1, open_files=128))
        clients = [stack.enter_context(fe.client()) for _ in range(300)]
        for client in clients:
            client.send(request("/fd", headers={"Connection": "close"}))
        wait_for(lambda: replica.busy > 10, "some are at the replica")
        for _ in range(20):
            assert not any(client.has_ended() for client in clients)
        gate.set()
        for client in clients:
            answer = client.read_response("GET")
            assert answer.status == 200
            client.close()
        fe.wait_idle()


def _run(fe: FeProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [fe.command, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=fe.env)


def test_a_busy_port(fe: FeProcess) -> None:
    ended = _run(fe, "--config", str(fe.file))
    assert ended.returncode == 3
    assert str(fe.port) in ended.stderr
    with fe.client() as client:
        assert client.get("/").status == 200


def test_too_little_memory(fe: FeProcess, tmp_path: Path) -> None:
    """The table does not fit: said at the start, with figures, instead of a death in the middle of the work."""
    where = {"listen": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}"}
    greedy = {**fe.config, **where, "limits": {"replicas": 1_000_000, "holders": 40, "slots": 1 << 20}}
    file = tmp_path / "greedy.yaml"
    file.write_text(json.dumps(greedy))
    command = ["prlimit", "--as=1000000000", fe.command, "--config", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, env=fe.env)
    assert ended.returncode == 3
    assert "memory" in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    "text", ["", "{", "endpoints: 3", "nonsense: 1", "endpoints: [{name: x, auth_mode: none, deployments: []}]"]
)
def test_a_configuration_that_cannot_be_used(fe: FeProcess, text: str) -> None:
    file = fe.file.with_name("bad.yaml")
    file.write_text(text)
    ended = _run(fe, "--config", str(file))
    assert ended.returncode == 2
    assert str(file) in ended.stderr
    assert "Traceback" not in ended.stderr


def test_no_such_configuration(fe: FeProcess) -> None:
    ended = _run(fe, "--config", "/nowhere/fe.yaml")
    assert (ended.returncode, "/nowhere/fe.yaml" in ended.stderr) == (2, True)


# --- bad replicas among good ones ------------------------------------------------------------------------------------


def test_one_bad_replica_among_good_ones(replicas: list[Backend]) -> None:
    """It costs the requests that it breaks, until it is set aside; nobody waits for it for ever."""
    kinds = itertools.cycle(
        [
            scripts.vanish(),
            scripts.vanish(reset=True),
            scripts.raw(b"garbage\r\n\r\n"),
            scripts.raw(b"HTTP/1.1 200 OK\r\n", "close"),
        ]
    )
    with ExitStack() as stack:
        bad = stack.enter_context(Backend(lambda exchange: next(kinds)(exchange), "bad"))
        fe = stack.enter_context(FeProcess(_config([bad, *replicas]), workers=WORKERS))
        with _load(fe, per_connection=10) as load:
            load.wait_more(500)
        assert {one.status for one in load.failures} <= {502}, load.summary()
        turns = fe.metric("fe_ejections_total") + 1  # it is tried again and again
        assert len(load.failures) <= turns * (EJECTED_AFTER + CAPACITY)
