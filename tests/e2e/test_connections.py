"""Connections and streams: kept, pooled, closed, streamed with back-pressure, passed on at once.

Owns: what happens to connections on both sides over several requests, and to bodies on their way. What clients see of
queues is in test_queue.py, what happens when they leave in test_clients_leave.py.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator

import pytest

from tests.support import proc, scripts
from tests.support.backends import Backend, Exchange
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess, endpoint, wait_for

GIGABYTE = 1 << 30
BLOCK = b"\0" * (1 << 20)
GROWTH = 8 << 20  # of a worker's own memory, at most, whatever passes through it


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    settings = {"max_concurrent_requests_per_instance": 4, "max_body_bytes": 2 * GIGABYTE}
    times = {"max_queue_wait_ms": 60_000, "request_timeout_ms": 110_000}  # a gigabyte may take long
    model = endpoint([backend.address], **settings, **times)
    with FeProcess({"endpoints": [model], "limits": {"upstream_idle_ms": 60_000}}) as one:
        yield one


def _connection(backend: Backend, target: str) -> list[int]:
    return [one.connection for one in backend.seen(target)]


def test_one_connection_on_each_side_serves_many_requests(fe: FeProcess, backend: Backend) -> None:
    with fe.client() as client:
        for _ in range(50):
            assert client.post("/kept", b"x").status == 200
    assert len(_connection(backend, "/kept")) == 50
    assert len(set(_connection(backend, "/kept"))) == 1


def test_servers_that_close_after_each_answer(fe: FeProcess, backend: Backend) -> None:
    backend.on("/closing", scripts.answer(b"bye", close=True))
    with fe.client() as client:
        for _ in range(20):
            answer = client.post("/closing", b"x")
            assert (answer.status, answer.body, answer.closes) == (200, b"bye", False)
    assert len(set(_connection(backend, "/closing"))) == 20


def test_a_close_is_noticed_before_reuse(fe: FeProcess, backend: Backend) -> None:
    """A POST is not retried, so it must not be sent on a connection that the replica has closed since."""
    noticed = threading.Semaphore(0)

    def close_unannounced(exchange: Exchange) -> None:
        scripts.answer(b"bye")(exchange)
        exchange.sock.shutdown(1)  # SHUT_WR
        assert not exchange.stream.fill()  # fe has closed its side: it has seen our end
        noticed.release()
        exchange.close()

    backend.on("/unannounced", close_unannounced)
    with fe.client() as client:
        for _ in range(5):
            assert client.post("/unannounced", b"x").body == b"bye"
            assert noticed.acquire(timeout=60)


def test_unused_connections_to_replicas_are_closed(backend: Backend) -> None:
    config = {"endpoints": [endpoint([backend.address])], "limits": {"upstream_idle_ms": 300}}
    with FeProcess(config) as fe, fe.client() as client:
        client.post("/unused", b"x")
        stream = backend.connections[_connection(backend, "/unused")[0]]
        wait_for(lambda: stream.ended == "eof", "fe closes the connection that it no longer uses")


def _peak_growth(fe: FeProcess, work: Callable[[], None]) -> int:
    """By how much the worker's own memory grew at most while `work` ran."""
    pid = fe.workers()[0]
    before = peak = proc.private_bytes(pid)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    while thread.is_alive():
        peak = max(peak, proc.private_bytes(pid))
        thread.join(0.02)
    return peak - before


def test_a_gigabyte_up(fe: FeProcess, backend: Backend) -> None:
    backend.on("/up", scripts.sink)
    answers = []

    def upload() -> None:
        with fe.client() as client:
            client.send(b"POST /up HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % GIGABYTE)
            for _ in range(GIGABYTE // len(BLOCK)):
                client.send(BLOCK)
            answers.append(client.read_response())

    growth = _peak_growth(fe, upload)
    assert [answer.body for answer in answers] == [str(GIGABYTE).encode()]
    assert growth < GROWTH


def test_a_gigabyte_down(fe: FeProcess, backend: Backend) -> None:
    backend.on("/down", scripts.source(GIGABYTE))
    received = []

    def download() -> None:
        with fe.client() as client:
            client.stream.record = False
            client.send(request("/down"))
            assert client.read_head().value("content-length") == str(GIGABYTE)
            received.append(_read(client, GIGABYTE))

    growth = _peak_growth(fe, download)
    assert received == [GIGABYTE]
    assert growth < GROWTH


def _read(client: Client, size: int) -> int:
    total = len(client.stream.take(size))
    scratch = bytearray(len(BLOCK))
    while total < size and (got := client.sock.recv_into(scratch)):
        total += got
    return total


def _send_until_stalled(client: Client, size: int) -> int:
    """Sends until nobody takes more: how much went out of `size` bytes."""
    client.sock.setblocking(False)
    poller = select.poll()
    poller.register(client.sock, select.POLLOUT)
    sent = 0
    while sent < size and poller.poll(1000):
        sent += client.sock.send(BLOCK[: size - sent])
    client.sock.settimeout(20)
    return sent


def test_a_replica_that_does_not_read_stops_the_client(fe: FeProcess, backend: Backend) -> None:
    gate = threading.Event()
    size = 256 << 20

    def read_late(exchange: Exchange) -> None:
        exchange.wait(gate)
        scripts.sink(exchange)

    backend.on("/stalled-up", read_late)
    with fe.client() as client:
        before = proc.private_bytes(fe.workers()[0])
        client.send(b"POST /stalled-up HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size)
        sent = _send_until_stalled(client, size)
        assert sent < size // 2
        assert proc.private_bytes(fe.workers()[0]) - before < GROWTH
        gate.set()
        for start in range(sent, size, len(BLOCK)):
            client.send(BLOCK[: size - start])
        assert client.read_response().body == str(size).encode()


def test_a_client_that_does_not_read_stops_the_replica(fe: FeProcess, backend: Backend) -> None:
    size = 256 << 20
    sent = []

    def send_counting(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(BLOCK)):
            exchange.send(BLOCK)
            sent.append(len(BLOCK))

    backend.on("/stalled-down", send_counting)
    with fe.client() as client:
        client.stream.record = False
        before = proc.private_bytes(fe.workers()[0])
        client.send(request("/stalled-down"))
        client.read_head()
        _wait_still(sent)
        assert sum(sent) < size // 2
        assert proc.private_bytes(fe.workers()[0]) - before < GROWTH
        assert _read(client, size) == size


def _wait_still(progress: list[int]) -> None:
    """Until a second has passed without progress: fe takes no more."""
    waiting = threading.Event()
    seen = -1
    while len(progress) != seen:
        seen = len(progress)
        waiting.wait(1)


@pytest.mark.parametrize("chunked", [True, False])
def test_server_sent_events_are_passed_on_at_once(fe: FeProcess, backend: Backend, chunked: bool) -> None:
    gates = [threading.Event() for _ in range(5)]
    backend.on("/events", scripts.events(gates, chunked=chunked))
    with fe.client() as client:
        client.send(request("/events"))
        assert client.read_head().value("content-type") == "text/event-stream"
        for number, gate in enumerate(gates):
            gate.set()
            assert client.read_chunk() == b"data: %d\n\n" % number
        assert client.read_chunk() == b""


def test_a_streamed_upload_reaches_the_replica_at_once(fe: FeProcess, backend: Backend) -> None:
    """A body over `collect_bytes` is passed on as it comes, chunked or not."""
    seen = threading.Semaphore(0)

    def first_bytes(exchange: Exchange) -> None:
        while len(exchange.stream.buffer) < 100_000:
            assert exchange.stream.fill()
        seen.release()
        exchange.read_body()
        scripts.answer(b"ok")(exchange)

    backend.on("/streamed", first_bytes)
    with fe.client() as client:
        client.send(b"POST /streamed HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"30d40\r\n" + b"x" * 200_000)
        assert seen.acquire(timeout=60)
        client.send(b"\r\n0\r\n\r\n")
        assert client.read_response().status == 200
    assert backend.seen("/streamed")[-1].body == b"x" * 200_000


def test_expectation_for_a_small_body_is_met_at_once(fe: FeProcess, backend: Backend) -> None:
    with fe.client() as client:
        client.send(b"POST /expect HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert client.read_head().start[1] == "100"
        assert backend.seen("/expect") == []
        client.send(b"hello")
        assert client.read_response().status == 200
    one = backend.seen("/expect")[0]
    assert (one.body, one.header("expect")) == (b"hello", None)


def test_expectation_for_a_large_body_is_met_with_the_lease(fe: FeProcess, backend: Backend) -> None:
    gate = threading.Event()
    backend.on("/busy", scripts.held(gate, scripts.answer()))
    busy = [fe.client() for _ in range(4)]
    for one in busy:
        one.send(request("/busy"))
    fe.wait_metric("fe_in_flight", 4)
    with fe.client() as client:
        client.send(b"POST /expect-large HTTP/1.1\r\nHost: t\r\nContent-Length: 200000\r\nExpect: 100-continue\r\n\r\n")
        fe.wait_metric("fe_queue_depth", 1)
        assert not select.select([client.sock], [], [], 0)[0]
        gate.set()
        assert client.read_head().start[1] == "100"
        client.send(b"x" * 200_000)
        assert client.read_response().status == 200
    for one in busy:
        assert one.read_response().status == 200
        one.close()
    fe.wait_idle()


def test_an_early_answer_reaches_the_client(fe: FeProcess, backend: Backend) -> None:
    """The replica answers after the head of a large upload; its connection is not used again."""

    def early(exchange: Exchange) -> None:
        exchange.finish(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno")
        exchange.stream.record = False
        while exchange.stream.fill():
            exchange.stream.buffer.clear()
        exchange.close()

    backend.on("/early", early)
    with fe.client() as client:
        client.send(b"POST /early HTTP/1.1\r\nHost: t\r\nContent-Length: 50000000\r\n\r\n" + b"x" * 100_000)
        answer = client.read_response()
        assert (answer.status, answer.body) == (403, b"no")
    fe.wait_idle()
    number = _connection(backend, "/early")[0]
    assert [one.target for one in backend.requests if one.connection == number][-1] == "/early"


def test_an_early_answer_while_the_client_sends(fe: FeProcess, backend: Backend) -> None:
    """The client sends all of its body before it reads: the answer is not lost to a reset."""
    backend.on("/early-close", _answer_and_close)
    with fe.client() as client:
        client.send(b"POST /early-close HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 100_000)
        client.try_send(b"x" * 900_000)
        answer = client.read_response()
        assert (answer.status, answer.body) == (413, b"no")
    fe.wait_idle()


def _answer_and_close(exchange: Exchange) -> None:
    exchange.finish(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
    exchange.sock.shutdown(1)  # SHUT_WR: as a careful server ends
    while exchange.stream.fill():
        exchange.stream.buffer.clear()
    exchange.close()
