"""Capacity, queue and retries, across workers: what azureml-fe's users complain about most.

Owns: at most `capacity` requests at a replica, first come first served, the limits of waiting and their answers, and
what happens when replicas fail. Crashes of fe's own processes are in test_faults.py.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.support import scripts
from tests.support.backends import Backend, Exchange
from tests.support.client import Client, request
from tests.support.fe_process import Config, FeProcess, endpoint, free_port, wait_for
from tests.support.load import Load

OVERLOADED = b"Too many requests for service model (overloaded)"


def _config(replicas: list[Backend], **settings: Any) -> Config:
    settings = {"max_concurrent_requests_per_instance": 1, "max_queue_wait_ms": 20000, **settings}
    return {"endpoints": [endpoint([one.address for one in replicas], **settings)]}


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as one:
        yield one


def _backends(stack: ExitStack, count: int) -> list[Backend]:
    return [stack.enter_context(Backend(name=f"replica {n}")) for n in range(count)]


def _send(
    stack: ExitStack, fe: FeProcess, target: str = "/", count: int = 1, body: bytes | None = b"x"
) -> list[Client]:
    """Clients with one request each, sent and not yet answered."""
    clients = [stack.enter_context(fe.client()) for _ in range(count)]
    for client in clients:
        client.send(request(target, "POST" if body is not None else "GET", body))
    return clients


def _held(backends: list[Backend], target: str = "/") -> threading.Event:
    gate = threading.Event()
    for backend in backends:
        backend.on(target, scripts.held(gate, scripts.answer(backend.name.encode())))
    return gate


@pytest.mark.parametrize("workers", [1, 4])
def test_capacity_is_used_and_never_exceeded(stack: ExitStack, workers: int) -> None:
    backends = _backends(stack, 3)
    gate = _held(backends)
    fe = stack.enter_context(FeProcess(_config(backends, max_concurrent_requests_per_instance=2), workers=workers))
    clients = _send(stack, fe, count=30)
    fe.wait_metric("fe_in_flight", 6)
    fe.wait_metric("fe_queue_depth", 24)
    assert [backend.busy for backend in backends] == [2, 2, 2]
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 30
    with Load(fe.client, 20, per_connection=3) as load:
        load.wait_more(500)
    assert load.failures == []
    assert [backend.peak for backend in backends] == [2, 2, 2]
    fe.wait_idle()


def test_first_come_first_served_across_workers(stack: ExitStack) -> None:
    backends = _backends(stack, 1)
    gate = _held(backends, "/first")
    fe = stack.enter_context(FeProcess(_config(backends), workers=4))
    _send(stack, fe, "/first")
    backends[0].wait_requests(1)
    clients = []
    for number in range(24):
        clients += _send(stack, fe, f"/{number}")
        fe.wait_metric("fe_queue_depth", number + 1)
    assert len({fe.worker_of(client) for client in clients}) > 1
    gate.set()
    for client in clients:
        assert client.read_response().status == 200
    assert [one.target for one in backends[0].requests] == ["/first", *(f"/{n}" for n in range(24))]
    assert backends[0].peak == 1


@pytest.mark.parametrize("wait", [0, 150])
def test_waiting_too_long(stack: ExitStack, wait: int) -> None:
    backends = _backends(stack, 1)
    gate = _held(backends, "/busy")
    fe = stack.enter_context(FeProcess(_config(backends, max_queue_wait_ms=wait), workers=2))
    holder = _send(stack, fe, "/busy")[0]
    backends[0].wait_requests(1)
    for client in _send(stack, fe, count=5):
        answer = client.read_response()
        assert answer.status == 503
        assert OVERLOADED in answer.body
        assert answer.header("retry-after")
    gate.set()
    assert holder.read_response().status == 200
    assert len(backends[0].requests) == 1
    fe.wait_idle()


def test_a_full_queue(stack: ExitStack) -> None:
    backends = _backends(stack, 1)
    gate = _held(backends)
    fe = stack.enter_context(FeProcess(_config(backends, max_queue_length=3), workers=2))
    clients = _send(stack, fe, count=4)
    fe.wait_metric("fe_queue_depth", 3)
    for client in _send(stack, fe, count=5):
        answer = client.read_response()
        assert (answer.status, OVERLOADED in answer.body) == (503, True)
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 4


def test_a_replica_that_takes_too_long(stack: ExitStack) -> None:
    """504; with `finish` its place stays taken until it has answered, with `abort` it is free at once."""
    for mode in ("finish", "abort"):
        backends = _backends(stack, 1)
        gate = _held(backends, "/hangs")
        fe = stack.enter_context(FeProcess(_config(backends, request_timeout_ms=200, on_disconnect=mode)))
        hanging = _send(stack, fe, "/hangs")[0]
        assert hanging.read_response().status == 504
        assert fe.metric("fe_in_flight") == (1 if mode == "finish" else 0)
        assert backends[0].busy == (1 if mode == "finish" else 0)
        gate.set()
        fe.wait_idle()
        assert hanging.post("/", b"x").status == 200
        assert backends[0].peak == 1


def test_an_answer_that_stops_in_the_middle(stack: ExitStack) -> None:
    """After the head the same limit guards every silence; the client sees that the answer is not complete."""
    backends = _backends(stack, 1)
    gates = [threading.Event(), threading.Event()]
    gates[0].set()
    backends[0].on("/stops", scripts.events(gates))
    fe = stack.enter_context(FeProcess(_config(backends, request_timeout_ms=300, on_disconnect="abort")))
    client = _send(stack, fe, "/stops")[0]
    client.read_head()
    assert client.read_chunk() == b"data: 0\n\n"
    client.ended()
    fe.wait_idle()
    gates[1].set()


def test_no_limit(stack: ExitStack) -> None:
    backends = _backends(stack, 2)
    gate = _held(backends)
    fe = stack.enter_context(FeProcess(_config(backends, max_concurrent_requests_per_instance=0), workers=2))
    clients = _send(stack, fe, count=60)
    fe.wait_metric("fe_in_flight", 60)
    assert fe.metric("fe_queue_depth") == 0
    wait_for(lambda: sum(backend.busy for backend in backends) == 60, "all of them are at the replicas")
    assert abs(backends[0].busy - backends[1].busy) <= 2
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 60
    fe.wait_idle()


def test_a_higher_capacity_lets_waiters_in_at_once(stack: ExitStack) -> None:
    backends = _backends(stack, 1)
    gate = _held(backends)
    fe = stack.enter_context(FeProcess(_config(backends), workers=2))
    clients = _send(stack, fe, count=6)
    fe.wait_metric("fe_queue_depth", 5)
    fe.reload(_config(backends, max_concurrent_requests_per_instance=4))
    backends[0].wait_requests(4)
    fe.wait_metric("fe_queue_depth", 2)
    fe.reload(_config(backends, max_concurrent_requests_per_instance=2))
    wait_for(lambda: fe.metric("fe_capacity") == 2, "the lower capacity")
    assert backends[0].busy == 4  # nobody is thrown out
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 6
    assert backends[0].peak == 4


# --- retries and failing replicas ------------------------------------------------------------------------------------


def test_a_replica_that_refuses_costs_nobody_a_request(stack: ExitStack) -> None:
    """What failed before anything was sent goes to another replica, whatever the method."""
    backends = _backends(stack, 2)
    backends[0].refuse()
    fe = stack.enter_context(FeProcess(_config(backends, max_concurrent_requests_per_instance=4), workers=2))
    with Load(fe.client, 8, per_connection=5) as load:
        load.wait_more(200)
    assert load.failures == []
    assert len(backends[0].requests) == 0
    backends[0].listen()
    with Load(fe.client, 8, per_connection=5) as load:
        wait_for(lambda: len(backends[0].requests) > 5, "the replica that is back gets requests again")
    assert load.failures == []
    fe.wait_idle()


def _breaks_when_reused(breaks: list[int]) -> Any:
    """Answers the first request of a connection; closes without an answer on the second."""
    seen: set[int] = set()

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        if exchange.request.connection in seen:
            breaks.append(exchange.request.connection)
            exchange.close()
        else:
            seen.add(exchange.request.connection)
            scripts.answer()(exchange)

    return script


@pytest.mark.parametrize(
    ("method", "retry", "status"),
    [
        ("GET", False, 200),
        ("PUT", False, 200),
        ("DELETE", False, 200),
        ("POST", False, 502),
        ("PATCH", False, 502),
        ("POST", True, 200),
    ],
)
def test_a_reused_connection_that_closes(stack: ExitStack, method: str, retry: bool, status: int) -> None:
    backends = _backends(stack, 1)
    breaks: list[int] = []
    backends[0].script = _breaks_when_reused(breaks)
    fe = stack.enter_context(FeProcess(_config(backends, retry_on_reset=retry)))
    with fe.client() as client:
        data = request("/", method, b"x" if method in ("POST", "PUT", "PATCH") else None)
        assert client.exchange(data, method).status == 200
        assert client.exchange(data, method).status == status
    assert len(breaks) == 1
    fe.wait_idle()


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_new_connection_that_closes_is_not_retried_for_ever(stack: ExitStack, method: str) -> None:
    backends = _backends(stack, 2)
    for backend in backends:
        backend.script = scripts.vanish()
    fe = stack.enter_context(FeProcess(_config(backends, retry_on_reset=True)))
    with fe.client() as client:
        answer = client.exchange(request("/", method, b"x" if method == "POST" else None), method)
    assert answer.status == 502
    assert b"Replica closed connection before replying" in answer.body
    assert sum(len(backend.requests) for backend in backends) <= 3
    fe.wait_idle()


def test_nothing_is_retried_once_the_client_has_seen_a_byte(stack: ExitStack) -> None:
    backends = _backends(stack, 2)
    for backend in backends:
        backend.script = scripts.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", then="close")
    fe = stack.enter_context(FeProcess(_config(backends, retry_on_reset=True)))
    with fe.client() as client:
        client.send(request("/"))
        client.read_head()
        assert client.stream.exactly(4) == b"half"
        client.ended()
    assert sum(len(backend.requests) for backend in backends) == 1


def test_all_replicas_refuse(stack: ExitStack) -> None:
    config = {"endpoints": [endpoint([f"127.0.0.1:{free_port()}" for _ in range(3)])]}
    fe = stack.enter_context(FeProcess(config, workers=2))
    with fe.client() as client:
        statuses = [client.post("/", b"x").status for _ in range(30)]
    assert set(statuses) <= {502, 503}
    assert statuses[-1] == 503
    fe.wait_idle()


def test_waiters_hear_at_once_that_no_replica_is_left(stack: ExitStack) -> None:
    """The last ready replica goes: whoever waits gets an answer in time, and once it is back it serves."""
    backends = _backends(stack, 1)
    gate = threading.Event()
    backends[0].on("/dies", scripts.held(gate, scripts.vanish(reset=True)))
    fe = stack.enter_context(FeProcess(_config(backends, max_queue_wait_ms=1000)))
    first = _send(stack, fe, "/dies")[0]
    backends[0].wait_requests(1)
    waiting = _send(stack, fe, "/waits", count=3)
    fe.wait_metric("fe_queue_depth", 3)
    backends[0].refuse()
    gate.set()
    assert first.read_response().status == 502
    assert {client.read_response().status for client in waiting} <= {502, 503}
    backends[0].listen()
    with fe.client() as client:
        wait_for(lambda: client.post("/", b"x").status == 200, "it is used again")
    fe.wait_idle()
