"""Capacity, queue and retries, across workers: what azureml-fe's users complain about most.

Owns: at most `capacity` requests at a replica, first come first served, the limits of waiting and their answers, and
what happens when replicas fail. One fe serves all of these tests, each has an endpoint and replicas of its own.
Crashes of fe's own processes are in test_faults.py.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.support import scripts
from tests.support.backends import Backend, Exchange, Script
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess, dead_port, endpoint, wait_for
from tests.support.load import Load
from tests.support.wire import EndedError

WORKERS = 4
SILENCE_MS = 600
ENDPOINTS: dict[str, tuple[int, dict[str, Any]]] = {
    # name: number of replicas, request settings
    "capacity": (3, {"max_concurrent_requests_per_instance": 2}),
    "fifo": (1, {}),
    "wait": (1, {"max_queue_wait_ms": 150}),
    "nowait": (1, {"max_queue_wait_ms": 0}),
    "full": (1, {"max_queue_length": 3}),
    "hang-finish": (1, {"request_timeout_ms": 200}),
    "hang-abort": (1, {"request_timeout_ms": 200, "on_disconnect": "abort"}),
    "stop": (1, {"request_timeout_ms": 300, "on_disconnect": "abort"}),
    "short": (1, {"request_timeout_ms": SILENCE_MS}),
    "unlimited": (2, {"max_concurrent_requests_per_instance": 0}),
    "grow": (1, {}),
    "refuse": (2, {"max_concurrent_requests_per_instance": 4}),
    "reuse": (1, {}),
    "reuse-retry": (1, {"retry_on_reset": True}),
    "vanish": (2, {"retry_on_reset": True}),
    "partial": (2, {"retry_on_reset": True}),
    "last": (1, {"max_queue_wait_ms": 1000}),
}
OVERLOADED = "Too many requests for service {} (overloaded)"


def _endpoint(name: str, backends: list[Backend], **changes: Any) -> dict[str, Any]:
    settings = {"max_concurrent_requests_per_instance": 1, "max_queue_wait_ms": 60000, **ENDPOINTS[name][1], **changes}
    return endpoint([one.address for one in backends], name, f"/{name}", **settings)


@dataclass
class Ground:
    """One endpoint with its replicas, and clients that are closed after the test."""

    name: str
    fe: FeProcess
    backends: list[Backend]
    stack: ExitStack = field(default_factory=ExitStack)

    @property
    def replica(self) -> Backend:
        return self.backends[0]

    def path(self, rest: str) -> str:
        return f"/{self.name}/{rest}"

    def on(self, rest: str, script: Script) -> None:
        for backend in self.backends:
            backend.on(self.path(rest), script)

    def hold(self, rest: str = "x") -> threading.Event:
        gate = threading.Event()
        self.stack.callback(gate.set)
        self.on(rest, scripts.held(gate, scripts.answer()))
        return gate

    def client(self) -> Client:
        return self.stack.enter_context(self.fe.client())

    def send(self, rest: str = "x", count: int = 1) -> list[Client]:
        """Clients with one request each, sent and not yet answered."""
        clients = [self.client() for _ in range(count)]
        for client in clients:
            client.send(request(self.path(rest), "POST", b"x"))
        return clients

    def metric(self, name: str) -> float:
        return self.fe.metric(name, endpoint=self.name)

    def wait(self, name: str, value: float) -> None:
        self.fe.wait_metric(name, value, endpoint=self.name)

    def wait_idle(self) -> None:
        wait_for(lambda: self.metric("fe_in_flight") == 0 == self.metric("fe_queue_depth"), "nothing is held")


@pytest.fixture(scope="module")
def everything() -> Iterator[tuple[FeProcess, dict[str, list[Backend]]]]:
    with ExitStack() as stack:
        backends = {
            name: [stack.enter_context(Backend(name=f"{name} {n}")) for n in range(count)]
            for name, (count, _) in ENDPOINTS.items()
        }
        nobody = endpoint([f"127.0.0.1:{dead_port()}" for _ in range(3)], "nobody", "/nobody")
        config = {"endpoints": [*(_endpoint(name, found) for name, found in backends.items()), nobody]}
        fe = stack.enter_context(FeProcess(config, workers=WORKERS))
        yield fe, backends
        for found in backends.values():
            assert [backend.faults for backend in found] == [[]] * len(found)


@pytest.fixture
def ground(request: pytest.FixtureRequest, everything: tuple[FeProcess, dict[str, list[Backend]]]) -> Iterator[Ground]:
    """The endpoint that the test names with `_on`."""
    fe, backends = everything
    one = Ground(request.param, fe, backends[request.param])
    with one.stack:
        yield one
    one.wait_idle()


def _on(*names: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("ground", names, indirect=True)


@_on("capacity")
def test_capacity_is_used_and_never_exceeded(ground: Ground) -> None:
    gate = ground.hold()
    clients = ground.send(count=30)
    ground.wait("fe_in_flight", 6)
    ground.wait("fe_queue_depth", 24)
    wait_for(lambda: [backend.busy for backend in ground.backends] == [2, 2, 2], "all of them are at the replicas")
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 30
    with Load(ground.fe.client, 20, ground.path("load"), per_connection=3) as load:
        load.wait_more(500)
    assert load.failures == []
    assert [backend.peak for backend in ground.backends] == [2, 2, 2]
    ids = [one.header("x-request-id") for backend in ground.backends for one in backend.requests]
    assert len(set(ids)) == len(ids)  # also across workers, which were forked from one process


@_on("fifo")
def test_first_come_first_served_across_workers(ground: Ground) -> None:
    gate = ground.hold("first")
    ground.send("first")
    ground.replica.wait_requests(1)
    clients = []
    for number in range(24):
        clients += ground.send(str(number))
        ground.wait("fe_queue_depth", number + 1)
    ports = {client.sock.getsockname()[1] for client in clients}
    assert sum(bool(ports & held) for held in ground.fe.connections().values()) > 1
    gate.set()
    for client in clients:
        assert client.read_response().status == 200
    assert [one.target for one in ground.replica.requests] == [
        ground.path(rest) for rest in ("first", *map(str, range(24)))
    ]
    assert ground.replica.peak == 1


@_on("wait", "nowait")
def test_waiting_too_long(ground: Ground) -> None:
    gate = ground.hold("busy")
    holder = ground.send("busy")[0]
    ground.replica.wait_requests(1)
    for client in ground.send(count=5):
        answer = client.read_response()
        assert answer.status == 503
        assert answer.json()["error"]["message"] == OVERLOADED.format(ground.name)
        assert answer.header("retry-after")
    gate.set()
    assert holder.read_response().status == 200
    assert len(ground.replica.requests) == 1


@_on("full")
def test_a_full_queue(ground: Ground) -> None:
    gate = ground.hold()
    clients = ground.send(count=4)
    ground.wait("fe_queue_depth", 3)
    for client in ground.send(count=5):
        answer = client.read_response()
        assert (answer.status, answer.json()["error"]["message"]) == (503, OVERLOADED.format("full"))
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 4


@_on("hang-finish", "hang-abort")
def test_a_replica_that_takes_too_long(ground: Ground) -> None:
    """504; with `finish` its place stays taken until it has answered, with `abort` it is free at once."""
    gate = ground.hold("hangs")
    hanging = ground.send("hangs")[0]
    assert hanging.read_response().status == 504
    left = 1 if ground.name == "hang-finish" else 0
    ground.wait("fe_in_flight", left)
    wait_for(lambda: ground.replica.busy == left, "the connection is closed, or not")
    gate.set()
    ground.wait_idle()
    wait_for(lambda: hanging.post(ground.path("next"), b"x").status == 200, "its place is used again")
    assert ground.replica.peak == 1


@_on("stop")
def test_an_answer_that_stops_in_the_middle(ground: Ground) -> None:
    """After the head the same limit guards every silence; the client sees that the answer is not complete."""
    gate = threading.Event()
    begin = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\npart\r\n"
    ground.on("stops", scripts.pieces([begin, b"0\r\n\r\n"], [gate]))

    def begun() -> Client | None:
        client = ground.send("stops")[0]
        return client if client.read_head().start[1] == "200" else None  # 504: it has stopped too early

    client: Client = wait_for(begun, "an answer that begins in time")
    assert client.read_chunk() == b"part"
    client.ended()
    ground.wait_idle()
    gate.set()


@_on("short")
def test_an_answer_may_take_longer_than_the_limit_of_its_silences(ground: Ground) -> None:
    silences: list[float] = []  # the longest of each answer, or half of it

    def script(exchange: Exchange) -> None:
        exchange.read_body()
        exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        sent = [time.monotonic()]
        while sent[-1] < sent[0] + 2 * SILENCE_MS / 1000:
            time.sleep(0.01)
            exchange.send(b"1\r\nx\r\n")
            sent.append(time.monotonic())
        exchange.finish(b"0\r\n\r\n")
        sent.append(time.monotonic())
        silences.append(max(after - before for before, after in itertools.pairwise(sent)))

    def is_whole() -> bool:
        """Whether it came to its end. If not, the machine has made the replica silent for too long."""
        count = len(silences)
        try:
            whole = ground.client().get(ground.path("long")).status == 200
        except EndedError:
            whole = False
            wait_for(lambda: len(silences) > count, "the replica's end of it")
            assert silences[count] > SILENCE_MS / 2000
        return whole

    ground.on("long", script)
    wait_for(is_whole, "an answer without a long silence")


@_on("unlimited")
def test_no_limit(ground: Ground) -> None:
    gate = ground.hold()
    clients = ground.send(count=60)
    ground.wait("fe_in_flight", 60)
    assert ground.metric("fe_queue_depth") == 0
    wait_for(lambda: sum(backend.busy for backend in ground.backends) == 60, "all of them are at the replicas")
    assert abs(ground.backends[0].busy - ground.backends[1].busy) <= 2
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 60


@_on("grow")
def test_a_higher_capacity_lets_waiters_in_at_once(ground: Ground) -> None:
    gate = ground.hold()
    clients = ground.send(count=6)
    ground.wait("fe_queue_depth", 5)
    _reload(ground, 4)
    ground.replica.wait_requests(4)
    ground.wait("fe_queue_depth", 2)
    _reload(ground, 2)
    ground.wait("fe_capacity", 2)
    assert ground.replica.busy == 4  # nobody is thrown out
    gate.set()
    assert [client.read_response().status for client in clients] == [200] * 6
    assert ground.replica.peak == 4


def _reload(ground: Ground, capacity: int) -> None:
    others = [one for one in ground.fe.config["endpoints"] if one["name"] != ground.name]
    changed = _endpoint(ground.name, ground.backends, max_concurrent_requests_per_instance=capacity)
    ground.fe.reload({"endpoints": [*others, changed]})


# --- retries and failing replicas ------------------------------------------------------------------------------------


@_on("refuse")
def test_a_replica_that_refuses_costs_nobody_a_request(ground: Ground) -> None:
    """What failed before anything was sent goes to another replica, whatever the method."""
    ground.replica.refuse()
    with Load(ground.fe.client, 8, ground.path("x"), per_connection=5) as load:
        load.wait_more(200)
    assert load.failures == []
    assert len(ground.replica.requests) == 0
    ground.replica.listen()
    with Load(ground.fe.client, 8, ground.path("x"), per_connection=5) as load:
        wait_for(lambda: len(ground.replica.requests) > 5, "the replica that is back gets requests again")
    assert load.failures == []


def _breaks_when_reused(breaks: list[int]) -> Script:
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


@_on("reuse", "reuse-retry")
def test_a_reused_connection_that_closes(ground: Ground) -> None:
    """Tried again on a new one where that cannot do harm, or where the deployment says that it does none."""
    statuses = {}
    for method in ("GET", "PUT", "DELETE", "OPTIONS", "POST", "PATCH"):
        breaks: list[int] = []
        ground.on(method, _breaks_when_reused(breaks))
        ground.replica.drop_connections()
        data = request(ground.path(method), method, b"x" if method in ("POST", "PUT", "PATCH") else None)
        client = ground.client()
        while not breaks:
            statuses[method] = client.exchange(data, method).status
        assert len(breaks) == 1
    unsafe = 200 if ground.name == "reuse-retry" else 502
    assert statuses == {"GET": 200, "PUT": 200, "DELETE": 200, "OPTIONS": 200, "POST": unsafe, "PATCH": unsafe}


@_on("vanish")
def test_a_new_connection_that_closes_is_not_retried_for_ever(ground: Ground) -> None:
    ground.on("x", scripts.vanish())
    answer = ground.client().post(ground.path("x"), b"x")
    assert answer.status == 502
    assert answer.json()["error"]["message"] == "Replica closed connection before replying"
    assert sum(len(backend.requests) for backend in ground.backends) <= 3


@_on("partial")
def test_nothing_is_retried_once_the_client_has_seen_a_byte(ground: Ground) -> None:
    ground.on("x", scripts.raw(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", then="close"))
    client = ground.send()[0]
    client.read_head()
    assert client.stream.exactly(4) == b"half"
    client.ended()
    assert sum(len(backend.requests) for backend in ground.backends) == 1


def test_all_replicas_refuse(everything: tuple[FeProcess, dict[str, list[Backend]]]) -> None:
    with everything[0].client() as client:
        statuses = [client.post("/nobody/x", b"x").status for _ in range(30)]
    assert set(statuses) <= {502, 503}
    assert statuses[-1] == 503


@_on("last")
def test_the_last_replica_goes_and_comes_back(ground: Ground) -> None:
    """Whoever waits gets an answer in time, and once the replica is back it serves."""
    gate = threading.Event()
    ground.on("dies", scripts.held(gate, scripts.vanish(reset=True)))
    first = ground.send("dies")[0]
    ground.replica.wait_requests(1)
    waiting = ground.send("waits", 3)
    ground.wait("fe_queued_total", 3)
    ground.replica.refuse()
    gate.set()
    assert first.read_response().status == 502
    assert {client.read_response().status for client in waiting} <= {502, 503}
    ground.replica.listen()
    client = ground.client()
    wait_for(lambda: client.post(ground.path("x"), b"x").status == 200, "it is used again")
