"""Corners of the data path: two things at once on one connection, refusals in mid-upload, resources that run out.

Owns: cases in which an exchange ends within a call from one of its own connections, or in which several events meet
in one turn of a worker's loop (a worker that is stopped and goes on finds them together). A worker must survive them
all: its process id is the same afterwards, its leases are back.
"""

from __future__ import annotations

import resource
import select
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support import proc, scripts, wire
from tests.support.backends import Backend, Exchange
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess, dead_port, deployment, endpoint, stopped, wait_for
from tests.support.wire import EndedError

WRITE_TIMEOUT = 1.0  # seconds
IDLE_TIMEOUT = 1.0  # seconds
LARGE = 200_000  # more than is collected
UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "a" * 24,
}


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    model = endpoint([backend.address], websocket=True)
    down = endpoint([f"127.0.0.1:{dead_port()}"], "down", "/down")
    with FeProcess({"endpoints": [model, down], "limits": {"upstream_idle_ms": 60_000}}) as one:
        yield one


@pytest.fixture(scope="module")
def impatient(backend: Backend) -> Iterator[FeProcess]:
    """With a write_timeout that is soon over."""
    limits = {"write_timeout_ms": int(WRITE_TIMEOUT * 1000)}
    with FeProcess({"endpoints": [endpoint([backend.address])], "limits": limits}) as one:
        yield one


@pytest.fixture(autouse=True)
def survived(fe: FeProcess) -> Iterator[None]:
    before = fe.workers()
    yield
    fe.wait_idle()
    assert fe.workers() == before


def _large(target: str, framing: str) -> bytes:
    if framing == "length":
        return request(target, "POST", b"x" * LARGE)
    head = request(target, "POST", headers={"Transfer-Encoding": "chunked"})
    return head + _chunk(LARGE) + b"0\r\n\r\n"


def _chunk(size: int) -> bytes:
    return b"%x\r\n%s\r\n" % (size, b"x" * size)


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_large_upload_that_is_refused_at_once(fe: FeProcess, framing: str) -> None:
    """No replica, so the answer comes from within the asking; the rest of the body is read and the connection kept."""
    with fe.client() as client:
        for _ in range(3):
            assert client.exchange(_large("/down", framing)).status == 503
        assert client.get("/canary/refused").body == b"canary"


@pytest.mark.parametrize("target", ["/down", "/api/v1/endpoint/unknown/score"])
@pytest.mark.parametrize("where", ["at once", "later"])
def test_the_unwanted_rest_of_a_body_is_malformed(fe: FeProcess, target: str, where: str) -> None:
    """The answer has gone already: nothing is left but to close."""
    head = request(target, "POST", headers={"Transfer-Encoding": "chunked"})
    with fe.client() as client:
        if where == "later":
            assert client.exchange(head + _chunk(LARGE)).status >= 404
            client.try_send(b"no chunk" + request("/canary/hidden"))
        else:
            client.send(head + _chunk(LARGE) + b"no chunk" + request("/canary/hidden"))
            assert client.read_response().status >= 404
        assert client.ended()


def test_a_websocket_whose_client_vanishes_while_the_replica_sends(fe: FeProcess, backend: Backend) -> None:
    def flood(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while True:
            exchange.send(b"x" * 20_000)

    backend.on("/flood", flood)
    for _ in range(10):
        with fe.client() as client:
            client.send(request("/flood", headers=UPGRADE))
            assert client.read_head().start[1] == "101"
            client.stream.exactly(100_000)
            client.reset()
        fe.wait_idle()


def test_a_websocket_whose_client_leaves_a_replica_that_does_not_read(fe: FeProcess, backend: Backend) -> None:
    """The place is free again, so the replica must have been told: not behind all that it has not read."""
    gate = threading.Event()

    def deaf(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        exchange.wait(gate)

    backend.on("/deaf", deaf)
    with fe.client() as client:
        client.send(request("/deaf", headers=UPGRADE))
        assert client.read_head().start[1] == "101"
        _fill(client)
        client.reset()
    fe.wait_idle()
    assert backend.busy == 0
    gate.set()


def _fill(client: Client) -> None:
    """Sends until nobody takes more."""
    client.sock.setblocking(False)
    while select.select([], [client.sock], [], 0.5)[1]:
        client.sock.send(b"x" * 65536)
    client.sock.settimeout(20)


def test_a_slow_reader_is_not_cut_off(impatient: FeProcess, backend: Backend) -> None:
    """It takes little, but always something: the limit is for those that take nothing."""
    backend.on("/slowly", scripts.source(32 << 20))
    wait_for(lambda: _reads_slowly(impatient), "a reader that the machine never holds up")
    impatient.wait_idle()


def _reads_slowly(fe: FeProcess) -> bool:
    """Whether all went well; if not, this reader itself has once taken nothing for too long."""
    longest, last = 0.0, time.monotonic()
    with Client(fe.address, rcvbuf=16384) as client:
        client.stream.record = False
        client.send(request("/slowly"))
        try:
            client.read_head()
            end = time.monotonic() + 3 * WRITE_TIMEOUT
            while last < end:
                client.stream.exactly(8192)
                last, before = time.monotonic(), last
                longest = max(longest, last - before)
                time.sleep(WRITE_TIMEOUT / 50)
            client.stream.exactly(8 << 20)
        except EndedError:
            longest = max(longest, time.monotonic() - last)
            assert longest > WRITE_TIMEOUT / 2, "it has always taken something"
            return False
    return True


def test_an_early_answer_that_nobody_takes(impatient: FeProcess, backend: Backend) -> None:
    """The upload ends while the client owes fe the taking of its answer: that limit still holds."""
    blocked = threading.Event()

    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        left = 64 << 20
        while left:
            if not select.select([], [exchange.sock], [], 0.3)[1]:
                blocked.set()
            exchange.send(b"x" * (1 << 20))
            left -= 1 << 20
        exchange.close()

    backend.on("/early-unread", early)
    with Client(impatient.address, rcvbuf=4096) as client:
        client.send(request("/early-unread", "POST", headers={"Content-Length": str(LARGE)}) + b"x" * (LARGE // 2))
        assert blocked.wait(60)
        client.try_send(b"x" * (LARGE // 2))
        impatient.wait_idle()


def test_a_reset_found_by_writing_is_no_end_of_an_answer(fe: FeProcess, backend: Backend) -> None:
    """The answer's end would be the connection's, the upload is stuck: the reset is first seen by the write."""
    gate = threading.Event()

    def early(exchange: Exchange) -> None:
        exchange.send(b"HTTP/1.1 200 OK\r\n\r\npart")
        exchange.wait(gate)
        exchange.reset()

    backend.on("/early-reset", early)
    with fe.client() as client:
        client.send(request("/early-reset", "POST", headers={"Content-Length": str(80 << 20)}))
        client.read_head()
        assert client.read_chunk() == b"part"
        _fill(client)
        gate.set()
        with pytest.raises(EndedError):
            client.read_chunk()


@pytest.mark.parametrize("rest", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstale"], ids=["close", "bytes"])
def test_an_unused_connection_speaks_as_a_request_comes(fe: FeProcess, backend: Backend, rest: bytes) -> None:
    """One that closes, or says something unasked, is not taken for the request that is found beside it."""
    connections: list[wire.Stream] = []

    def remember(exchange: Exchange) -> None:
        connections.append(exchange.stream)
        scripts.answer(b"right")(exchange)

    backend.on("/beside", remember)
    with fe.client() as client:
        for _ in range(5):
            assert client.post("/beside", b"x").body == b"right"
            with stopped(fe.worker_of(client)):
                client.send(request("/beside", "POST", b"x"))
                if rest:
                    connections[-1].sock.sendall(rest)
                else:
                    connections[-1].sock.shutdown(1)
            assert client.read_response().body == b"right"


def test_requests_that_came_before_the_end_of_idle_connections(backend: Backend) -> None:
    """More of them than a worker learns of at once, which first finds that it is late to close those connections."""
    model = endpoint([backend.address], max_concurrent_requests_per_instance=0)
    config = {"endpoints": [model], "limits": {"idle_timeout_ms": int(IDLE_TIMEOUT * 1000)}}
    with FeProcess(config) as fe, ExitStack() as stack:
        clients = _stop_while_idle(fe, stack, 400)
        for client in clients:
            client.send(request("/kept"))
        late = time.monotonic() + IDLE_TIMEOUT + 0.1  # of the worker's own clock, whatever the machine does meanwhile
        wait_for(lambda: time.monotonic() > late, "the connections have been idle for too long")
        stack.close()
        assert [client.read_response("GET").status for client in clients] == [200] * len(clients)
        for client in clients:
            client.close()


def _stop_while_idle(fe: FeProcess, stack: ExitStack, count: int) -> list[Client]:
    """So many accepted connections of a worker that is stopped until the stack is closed. If the machine was so slow
    that some of them had been idle for too long before the stop, all are made anew."""
    (pid,) = fe.workers()
    for _ in range(50):
        with stopped(pid):
            clients = [fe.client() for _ in range(count)]
        own = {client.sock.getsockname()[1] for client in clients}
        wait_for(lambda: own <= fe.connections()[pid] or any(c.has_ended() for c in clients), "all are accepted")  # noqa: B023
        stack.enter_context(stopped(pid))
        if own <= fe.connections()[pid]:
            return clients
        stack.close()
        for client in clients:
            client.close()
    raise AssertionError("connections are never idle for less than a second here")


def test_no_descriptor_for_a_client(fe: FeProcess) -> None:
    """The system has none although fe counts on some: it waits for one, it does not ask for it all the time."""
    (pid,) = fe.workers()
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, hard))
    began = time.monotonic()
    try:
        with fe.client() as client:
            client.send(request("/canary/descriptor"))
            wait_for(lambda: "accepting pauses" in fe.output(), "accepting pauses")
            before = proc.sleeps(pid)
            wait_for(lambda: proc.sleeps(pid) >= before + 5, "the worker sleeps meanwhile")
            said = fe.output().count("accepting pauses")
            assert said <= 1 + (time.monotonic() - began) // 10, "once in ten seconds"
            resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))
            assert client.read_response("GET").body == b"canary"
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


def test_a_deployment_is_removed_while_many_wait(backend: Backend) -> None:
    """All of its waiters learn so in one turn and go to wait for the other, which is busy too: each has its own place.

    The controller gives a queue some time to empty before it removes it: as long as a request may take, here short. The
    request that keeps the replica busy times out before that, but the replica goes on with it.
    """
    gates = {name: threading.Event() for name in ("blue", "green")}
    for name, gate in gates.items():
        backend.on(f"/{name}", scripts.held(gate, scripts.answer()))
    settings = {"max_concurrent_requests_per_instance": 1, "max_queue_wait_ms": 60_000}
    times = {"blue": 500, "green": 60_000}
    both = [deployment([backend.address], name, request_timeout_ms=ms, **settings) for name, ms in times.items()]
    model = {"name": "model", "auth_mode": "none", "routes": [{"path_prefix": "/"}]}
    before = {**model, "traffic": {"blue": 100}, "deployments": both}
    after = {**model, "traffic": {"green": 100}, "deployments": both[1:]}
    with FeProcess({"endpoints": [before], "drain_timeout": 1}) as fe, ExitStack() as stack:
        busy = {name: stack.enter_context(fe.client()) for name in gates}
        busy["green"].send(request("/green", headers={"azureml-model-deployment": "green"}))
        fe.wait_metric("fe_in_flight", 1, deployment="green")
        assert busy["blue"].get("/blue", azureml_model_deployment="blue").status == 504
        clients = [stack.enter_context(fe.client()) for _ in range(6)]
        for number, client in enumerate(clients):
            client.send(request(f"/moved/{number}"))
        fe.wait_metric("fe_queue_depth", 6)
        fe.reload({"endpoints": [after]})
        fe.wait_metric("fe_queue_depth", 6, deployment="green")
        for gate in gates.values():
            gate.set()
        assert [client.read_response("GET").status for client in clients] == [200] * 6
        assert all(len(backend.seen(f"/moved/{number}")) == 1 for number in range(6))
        fe.wait_idle()
