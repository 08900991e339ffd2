"""Waiting for the first replica of a deployment that scales to zero: what requests do, as their clients see it.

Owns: order, bound, end of the wait, and everything that may happen to those who wait. The test decides when a replica
is there (data_plane.py); who would decide it otherwise, and when, is the autoscaler's business. What the table does is
in tests/core/test_first_replica.py.
"""

from __future__ import annotations

import select
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from tests.e2e.data_plane import DataPlane
from tests.support import scripts
from tests.support.backends import Backend, Exchange, Script
from tests.support.client import Client, request
from tests.support.fe_process import dead_port, stopped, wait_for

LARGE = 1_000_000  # bytes: streamed, more than a worker holds of it while it waits
LEAVE = pytest.mark.parametrize("leave", [Client.close, Client.reset, Client.half_close], ids=["close", "reset", "FIN"])


def _send(plane: DataPlane, stack: ExitStack, target: str, worker: int = 0, body: bytes | None = None) -> Client:
    client = stack.enter_context(plane.client(worker))
    client.send(request(target, "GET" if body is None else "POST", body))
    return client


@contextmanager
def _wait(plane: DataPlane, stack: ExitStack, *targets: str, body: bytes | None = None) -> Iterator[list[Client]]:
    """Clients of these requests, which wait in this order. The worker is stopped within the block: there is time for
    what has to happen before they have waited too long. Where the machine was too slow even to stop it, all is sent
    again."""
    name = targets[0].split("/")[1]
    for _ in range(50):
        clients: list[Client] = []
        for target in targets:
            clients.append(_send(plane, stack, target, body=body))
            wait_for(lambda: plane.queue(name) == len(clients) or _answered(clients), "it waits")  # noqa: B023
        with stopped(plane.processes[0].pid):
            if plane.queue(name) == len(targets):
                yield clients
                return
        assert {client.read_response("GET").status for client in clients} == {503}
    raise AssertionError("nobody ever waits here")


def _answered(clients: list[Client]) -> bool:
    return bool(select.select([client.sock for client in clients], [], [], 0)[0])


def _let_pass(plane: DataPlane) -> None:
    """Returns when the time that a place is waited for has passed for everybody who came before: one waits so long."""
    with Backend() as busy, ExitStack() as stack:
        gate = threading.Event()
        busy.on("/pace/busy", scripts.held(gate, scripts.answer()))
        member = plane.add("pace", busy)
        holder = _send(plane, stack, "/pace/busy")
        busy.wait_requests(1)
        waits = _send(plane, stack, "/pace/x").read_response("GET")
        assert (waits.status, waits.json()["error"]["code"]) == (503, "queue_wait")
        gate.set()
        assert holder.read_response("GET").status == 200
        plane.table.remove_replica(member)


PACE = {"max_queue_wait_ms": 300, "cold_start_timeout_ms": 0}


def test_in_order_and_only_as_many_as_fit() -> None:
    """Fifty of three workers, one place each at two replicas that become ready one after the other."""
    targets = [f"/cold/{number}" for number in range(50)]
    gates = {target: threading.Event() for target in targets}
    seen: list[tuple[str, int]] = []

    def script(number: int) -> Script:
        def record(exchange: Exchange) -> None:
            seen.append((exchange.request.target, number))
            exchange.wait(gates[exchange.request.target])
            scripts.answer()(exchange)

        return record

    with ExitStack() as stack:
        replicas = [stack.enter_context(Backend(script(number), f"replica {number}")) for number in range(2)]
        plane = stack.enter_context(DataPlane(3, cold={}))
        clients = []
        for number, target in enumerate(targets):
            clients.append(_send(plane, stack, target, number % 3))
            plane.wait_queue("cold", number + 1)
        for number, replica in enumerate(replicas):
            plane.add("cold", replica)
            wait_for(lambda: len(seen) > number, "the next one is served")  # noqa: B023 (called at once)
            assert seen == [(targets[0], 0), (targets[1], 1)][: number + 1]
            assert (plane.in_flight("cold"), plane.queue("cold")) == (number + 1, 49 - number)
        for number, client in enumerate(clients):
            gates[targets[number]].set()
            assert client.read_response("GET").status == 200
            due = min(number + 3, 50)
            wait_for(lambda: len(seen) == due, "its place is used again")  # noqa: B023
        assert [target for target, _ in seen] == targets
        assert [replica.peak for replica in replicas] == [1, 1]
        assert plane.counter("cold", "queued") == 50


def test_the_controller_is_called_by_the_first() -> None:
    with DataPlane(2, cold={}) as plane, ExitStack() as stack, Backend() as replica:
        assert not plane.called()
        first = _send(plane, stack, "/cold/1")
        plane.wait_queue("cold", 1)
        wait_for(plane.called, "the controller is rung")
        second = _send(plane, stack, "/cold/2", 1)
        plane.wait_queue("cold", 2)
        assert not plane.called()
        plane.add("cold", replica)
        assert [client.read_response("GET").status for client in (first, second)] == [200, 200]


@pytest.mark.parametrize("place_ms", [0, 60_000])
def test_in_vain(place_ms: int) -> None:
    """How long a place is waited for has nothing to do with it."""
    settings = {"cold_start_timeout_ms": 200, "max_queue_wait_ms": place_ms}
    with (
        DataPlane(cold=settings, never={"cold_start_timeout_ms": 0}) as plane,
        ExitStack() as stack,
    ):
        answer = _send(plane, stack, "/cold/x").read_response("GET")
        error = answer.json()["error"]
        assert (answer.status, error["code"]) == (503, "no_replica")
        assert error["detail"] == "No replica became ready within cold_start_timeout (200 ms)."
        assert error["state"].pop("waited_ms") >= 200
        assert error["state"] == {
            "in_flight": 0, "capacity": 0, "ready_replicas": 0, "queue_length": 0, "max_queue_length": 100,
        }  # fmt: skip
        line = plane.line(answer.header("x-request-id"))
        assert (line["reason"], line["ready"], line["capacity"]) == ("no_replica", 0, 0)
        assert line["queue_ms"] >= 200
        assert plane.queue("cold") == 0
        at_once = _send(plane, stack, "/never/x").read_response("GET").json()["error"]
        assert (at_once["code"], "detail" in at_once) == ("no_replica", False)


def test_the_setting_that_was_waited_for_is_named() -> None:
    """Pods that are gone for a moment are waited for as a place is, and so is one that came late and was busy."""
    gate = threading.Event()
    settings = {"cold_start_timeout_ms": 200, "max_queue_wait_ms": 200}
    with DataPlane(pods=settings, late={"cold_start_timeout_ms": 100, "max_queue_wait_ms": 500}) as plane:
        with plane.client() as client:
            error = client.get("/pods/x").json()["error"]
            assert error["code"] == "no_replica"
            assert error["detail"] == "No replica became ready within max_queue_wait_ms (200 ms)."
        with ExitStack() as stack, Backend(scripts.held(gate, scripts.answer())) as replica:
            with _wait(plane, stack, "/late/1", "/late/2") as (_, second):
                plane.add("late", replica)
            error = second.read_response("GET").json()["error"]
            assert error["code"] == "queue_wait"
            assert error["detail"] == "No replica became free within max_queue_wait_ms (500 ms)."
            gate.set()


def test_a_place_is_waited_for_longer_than_a_replica() -> None:
    """Once there is one, the other time counts."""
    gate = threading.Event()
    settings = {"cold_start_timeout_ms": 500, "max_queue_wait_ms": 60_000}
    with DataPlane(cold=settings, pace=PACE) as plane, ExitStack() as stack, Backend() as replica:
        replica.on("/cold/1", scripts.held(gate, scripts.answer()))
        with _wait(plane, stack, "/cold/1", "/cold/2") as clients:
            plane.add("cold", replica)
        _let_pass(plane)
        _let_pass(plane)
        assert plane.queue("cold") == 1
        gate.set()
        assert [client.read_response("GET").status for client in clients] == [200, 200]


def test_a_replica_that_came_and_had_no_place() -> None:
    """Who met no replica keeps the longer time, also when one is there and busy."""
    gate = threading.Event()
    with DataPlane(cold={"cold_start_timeout_ms": 500}) as plane, ExitStack() as stack, Backend() as replica:
        replica.on("/cold/1", scripts.held(gate, scripts.answer()))
        with _wait(plane, stack, "/cold/1", "/cold/2") as (first, second):
            plane.add("cold", replica)
        error = second.read_response("GET").json()["error"]
        assert error["code"] == "queue_wait"
        assert error["detail"] == "No replica became free within cold_start_timeout (500 ms)."
        assert (error["state"]["ready_replicas"], error["state"]["in_flight"]) == (1, 1)
        gate.set()
        assert first.read_response("GET").status == 200


def test_the_bound_holds() -> None:
    with DataPlane(cold={"max_queue": 2}) as plane, ExitStack() as stack, Backend() as replica:
        waiting = [_send(plane, stack, "/cold/x") for _ in range(2)]
        plane.wait_queue("cold", 2)
        answer = _send(plane, stack, "/cold/x").read_response("GET")
        assert (answer.status, answer.json()["error"]["code"]) == (503, "queue_full")
        assert answer.json()["error"]["state"]["queue_length"] == 2
        plane.add("cold", replica)
        assert [client.read_response("GET").status for client in waiting] == [200, 200]


@LEAVE
@pytest.mark.parametrize("body", [None, b"x" * LARGE], ids=["small", "large"])
def test_a_client_that_leaves(leave: Callable[[Client], None], body: bytes | None) -> None:
    with DataPlane(cold={}) as plane, ExitStack() as stack, Backend() as replica:
        leaving = _send(plane, stack, "/cold/leaves", body=body)
        plane.wait_queue("cold", 1)
        staying = _send(plane, stack, "/cold/stays")
        plane.wait_queue("cold", 2)
        leave(leaving)
        plane.wait_queue("cold", 1)
        plane.add("cold", replica)
        assert staying.read_response("GET").status == 200
        assert [one.target for one in replica.requests] == ["/cold/stays"]


def test_a_large_upload() -> None:
    body = bytes(range(256)) * (LARGE // 256)
    with DataPlane(cold={}) as plane, ExitStack() as stack, Backend() as replica:
        client = stack.enter_context(plane.client())
        sending = threading.Thread(target=client.send, args=(request("/cold/upload", "POST", body),))
        sending.start()
        plane.wait_queue("cold", 1)
        plane.add("cold", replica)
        assert client.read_response().status == 200
        sending.join(60)
        assert replica.requests[0].body == body


@pytest.mark.parametrize("body", [None, b"x" * LARGE], ids=["small", "large"])
def test_the_last_replica_goes_while_requests_wait(body: bytes | None) -> None:
    """They wait on, beyond the time that a place is waited for."""
    gate = threading.Event()
    settings = {"max_queue_wait_ms": 300}
    with DataPlane(cold=settings, pace=PACE) as plane, ExitStack() as stack, Backend() as first, Backend() as second:
        first.on("/cold/busy", scripts.held(gate, scripts.answer()))
        member = plane.add("cold", first)
        holder = _send(plane, stack, "/cold/busy")
        first.wait_requests(1)
        with _wait(plane, stack, "/cold/waits", body=body) as (waiting,):
            plane.table.remove_replica(member)
        _let_pass(plane)
        assert plane.queue("cold") == 1
        gate.set()
        assert holder.read_response("GET").status == 200
        assert plane.queue("cold") == 1
        plane.add("cold", second)
        assert waiting.read_response().status == 200
        assert [one.target for one in second.requests] == ["/cold/waits"]


def test_the_only_replica_cannot_be_reached() -> None:
    """Nothing was sent, so nothing is lost: it waits for another one, and its time at a replica begins there."""
    gate = threading.Event()
    settings = {"request_timeout_ms": 250}
    silent = Backend(scripts.silent(gate))
    with DataPlane(cold=settings, pace=PACE) as plane, ExitStack() as stack, silent as replica:
        plane.add("cold", dead_port())
        client = _send(plane, stack, "/cold/x", body=b"once")
        plane.wait_queue("cold", 1)
        assert plane.called()
        _let_pass(plane)
        plane.add("cold", replica)
        answer = client.read_response()
        assert answer.status == 504
        line = plane.line(answer.header("x-request-id"))
        assert line["queue_ms"] >= 250
        assert line["model_ms"] >= 250
        replica.wait_until(lambda: [one.body for one in replica.requests] == [b"once"], "the request")
        assert plane.counter("cold", "retries") == 1
        gate.set()


def test_another_deployment_takes_over() -> None:
    """Its own was removed while it waited: the configuration of now has another, which is cold as well."""
    with DataPlane(cold={}) as plane, ExitStack() as stack, Backend() as replica:
        client = _send(plane, stack, "/cold/x")
        plane.wait_queue("cold", 1)
        old = plane.views.pop("cold")
        plane.publish(cold={})
        plane.table.remove_deployment(old.index)
        assert plane.views["cold"].index != old.index
        plane.wait_queue("cold", 1)
        plane.add("cold", replica)
        assert client.read_response("GET").status == 200


def test_a_worker_dies() -> None:
    """What it held is gone; those of the others keep their order."""
    with DataPlane(2, cold={}) as plane, ExitStack() as stack, Backend() as replica:
        lost, kept = [], []
        for number in range(6):
            worker = number % 2
            (kept if worker else lost).append(_send(plane, stack, f"/cold/{number}", worker))
            plane.wait_queue("cold", number + 1)
        plane.called()
        assert plane.kill(0) == 3
        assert plane.called()
        assert plane.queue("cold") == 3
        late = _send(plane, stack, "/cold/late", 0)
        plane.wait_queue("cold", 4)
        plane.add("cold", replica)
        for client in [*kept, late]:
            assert client.read_response("GET").status == 200
        assert [one.target for one in replica.requests] == ["/cold/1", "/cold/3", "/cold/5", "/cold/late"]
        for client in lost:
            client.ended()


def test_the_end_waits_for_those_who_wait() -> None:
    with DataPlane(cold={}) as plane, ExitStack() as stack, Backend() as replica:
        clients = [_send(plane, stack, "/cold/x") for _ in range(3)]
        plane.wait_queue("cold", 3)
        plane.processes[0].terminate()
        wait_for(plane.drains, "it drains")
        plane.add("cold", replica)
        assert [client.read_response("GET").status for client in clients] == [200] * 3
        assert plane.processes[0].wait(60) == 0


def test_the_end_does_not_wait_for_ever() -> None:
    with DataPlane(drain_timeout=0.3, cold={}) as plane, ExitStack() as stack:
        client = _send(plane, stack, "/cold/x")
        plane.wait_queue("cold", 1)
        plane.processes[0].terminate()
        answer = client.read_response("GET")
        assert (answer.status, answer.json()["error"]["code"], answer.closes) == (503, "draining", True)
        assert plane.processes[0].wait(60) == 0
        client.ended()
        assert plane.queue("cold") == 0
