"""Clients that leave: while they wait, while they upload, while they are served.

Owns: what becomes of their place in the queue and of their lease, with `on_disconnect` finish and abort.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support import proc, scripts
from tests.support.backends import Backend, Exchange
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess, endpoint, stopped, wait_for

Leave = Callable[[Client], None]
LARGE = b"POST /late HTTP/1.1\r\nHost: t\r\nContent-Length: 10000000\r\n\r\n" + b"x" * 1_000_000
LEAVE = pytest.mark.parametrize("leave", [Client.close, Client.reset, Client.half_close], ids=["close", "reset", "FIN"])


def _fe(backend: Backend, **settings: Any) -> FeProcess:
    model = endpoint([backend.address], max_concurrent_requests_per_instance=1, max_queue_wait_ms=60000, **settings)
    return FeProcess({"endpoints": [model]}, workers=2)


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    with _fe(backend) as one:
        yield one


@contextmanager
def occupied(fe: FeProcess, backend: Backend) -> Iterator[None]:
    """The only place is taken by a request that ends with the block."""
    gate = threading.Event()
    backend.on("/busy", scripts.held(gate, scripts.answer()))
    with fe.client() as client:
        client.send(request("/busy"))
        fe.wait_metric("fe_in_flight", 1)
        try:
            yield
        finally:
            gate.set()
        assert client.read_response().status == 200
    fe.wait_idle()


@LEAVE
def test_in_the_queue(fe: FeProcess, backend: Backend, leave: Leave) -> None:
    before = len(backend.seen("/late"))
    with occupied(fe, backend), fe.client() as client:
        client.send(request("/late", "POST", b"x"))
        fe.wait_metric("fe_queue_depth", 1)
        leave(client)
        fe.wait_metric("fe_queue_depth", 0)
    assert len(backend.seen("/late")) == before


@pytest.mark.parametrize(
    ("leave", "size"),
    [(Client.close, 50_000), (Client.half_close, 50_000), (Client.reset, 50_000), (Client.close, 1_000_000)],
    ids=["close", "FIN", "reset", "close behind a megabyte"],
)
def test_with_a_large_upload_in_the_queue(fe: FeProcess, backend: Backend, leave: Leave, size: int) -> None:
    """fe keeps no more of a waiting upload than it must; it has to notice the end all the same."""
    before = len(backend.seen("/late"))
    with occupied(fe, backend), fe.client() as client:
        client.send(LARGE[:size])
        fe.wait_metric("fe_queue_depth", 1)
        leave(client)
        fe.wait_metric("fe_queue_depth", 0)
    assert len(backend.seen("/late")) == before


def test_with_more_in_the_queue_than_is_kept() -> None:
    """The end has come with the last bytes, but before all of them are read fe stops reading.

    What the kernel takes of a connection depends on what it has carried before, hence the first request; where it did
    not take everything, the end is not there yet, and the next try counts.
    """
    with Backend(record=False) as backend:
        free = endpoint([backend.address], "free", "/free", max_body_bytes=100_000_000)
        model = endpoint([backend.address], max_concurrent_requests_per_instance=1, max_queue_wait_ms=60000)
        with FeProcess({"endpoints": [free, model]}) as fe, occupied(fe, backend):
            assert any(_leaves_with_its_last_bytes(fe, kept=4 << 20) for _ in range(100))


def _leaves_with_its_last_bytes(fe: FeProcess, kept: int) -> bool:
    """Sends a little more than is kept; whether fe found the last of it and the end at once."""
    with fe.client() as client:
        assert client.post("/free", b"x" * (5 * kept)).status == 200
        client.send(LARGE[:100] + b"x" * (3 * kept // 4))
        fe.wait_metric("fe_queue_depth", 1)
        with stopped(fe.worker_of(client)):
            client.send(b"x" * (kept // 4 + 100_000))
            client.close()
            complete = proc.has_end_unread(fe.port)
        fe.wait_metric("fe_queue_depth", 0)
        return complete


def test_in_the_middle_of_a_queue(fe: FeProcess, backend: Backend) -> None:
    """Who leaves gives up a place; the others keep theirs, in order."""
    clients = [fe.client() for _ in range(9)]
    with occupied(fe, backend):
        for number, client in enumerate(clients):
            client.send(request(f"/order/{number}"))
            fe.wait_metric("fe_queue_depth", number + 1)
        for client in clients[::2]:
            client.close()
        fe.wait_metric("fe_queue_depth", 4)
    for client in clients[1::2]:
        assert client.read_response("GET").status == 200
        client.close()
    assert [one.target for one in backend.requests if one.target.startswith("/order/")] == [
        f"/order/{n}" for n in (1, 3, 5, 7)
    ]


@LEAVE
def test_while_served_the_replica_finishes(fe: FeProcess, backend: Backend, leave: Leave) -> None:
    """`finish`: connection and lease stay until the replica has answered; the next one waits for that."""
    gate = threading.Event()
    target = f"/finish-{id(gate)}"
    backend.on(target, scripts.held(gate, scripts.answer()))
    before = fe.metric("fe_abandoned_total")
    with fe.client() as client, fe.client() as second:
        client.send(request(target))
        backend.wait_requests(1, target)
        leave(client)
        wait_for(lambda: fe.metric("fe_abandoned_total") > before, "the exchange counts as abandoned")
        second.send(request("/after"))
        fe.wait_metric("fe_queue_depth", 1)
        assert backend.busy == 1
        gate.set()
        assert second.read_response("GET").status == 200
    fe.wait_idle()


def test_while_uploading_to_the_replica(fe: FeProcess, backend: Backend) -> None:
    """A truncated upload is never completed: the replica sees the end of the connection."""
    ends = []
    ended = threading.Semaphore(0)

    def read_all(exchange: Exchange) -> None:
        while exchange.stream.fill():
            pass
        ends.append(bytes(exchange.stream.seen))
        ended.release()
        exchange.close()

    backend.on("/truncated", read_all)
    for head in (b"Content-Length: 300000\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n493e0\r\n"):
        with fe.client() as client:
            client.send(b"POST /truncated HTTP/1.1\r\nHost: t\r\n" + head + b"x" * 200_000)
            backend.wait_requests(len(ends) + 1, "/truncated")
        assert ended.acquire(timeout=60)
        assert b"\r\n0\r\n" not in ends[-1]
        fe.wait_idle()


def test_abandoned_for_too_long(backend: Backend) -> None:
    gate = threading.Event()
    backend.on("/never", scripts.silent(gate))
    with _fe(backend, abandon_timeout_ms=300) as fe:
        with fe.client() as client:
            client.send(request("/never"))
            backend.wait_requests(1, "/never")
        fe.wait_idle()
        assert not gate.is_set()
        assert backend.busy == 0
    gate.set()


def test_abort_closes_at_once(backend: Backend) -> None:
    gate = threading.Event()
    backend.on("/aborted", scripts.silent(gate))
    with _fe(backend, on_disconnect="abort") as fe:
        with fe.client() as client:
            client.send(request("/aborted"))
            backend.wait_requests(1, "/aborted")
        fe.wait_idle()
        assert backend.busy == 0
    gate.set()


@pytest.mark.parametrize("mode", ["finish", "abort"])
def test_in_the_middle_of_an_answer(backend: Backend, mode: str) -> None:
    gates = [threading.Event(), threading.Event()]
    backend.on("/middle", scripts.events(gates))
    gates[0].set()
    with _fe(backend, on_disconnect=mode) as fe:
        with fe.client() as client:
            client.send(request("/middle"))
            client.read_head()
            assert client.read_chunk() == b"data: 0\n\n"
        if mode == "finish":
            wait_for(lambda: fe.metric("fe_abandoned_total") > 0, "the exchange counts as abandoned")
            assert backend.busy == 1
            gates[1].set()
        fe.wait_idle()
        assert backend.busy == 0
    gates[1].set()
