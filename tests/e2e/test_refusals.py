"""Why a request was refused: the load it met stands in fe's own answer and in its access line.

Owns: that the numbers are those of the deployment at that moment, for each answer that has them and in each form. The
form itself is in tests/proxy/test_answers.py and test_access_line.py.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.e2e.data_plane import LIMITS, DataPlane
from tests.support import scripts
from tests.support.backends import Backend, Script
from tests.support.client import Response, request
from tests.support.fe_process import dead_port, wait_for

DEPLOYMENTS: dict[str, dict[str, Any]] = {
    "full": {"capacity": 2, "max_queue": 0},
    "wait": {"max_queue": 7, "max_queue_wait_ms": 100},
    "bad": {"capacity": 0},
    "slow": {"capacity": 3, "request_timeout_ms": 100},
    "none": {},
    "slots": {"max_queue": 1000, "cold_start_timeout_ms": 60_000},
}


@pytest.fixture(scope="module")
def plane() -> Iterator[DataPlane]:
    with DataPlane(**{name: {"cold_start_timeout_ms": 0, **changes} for name, changes in DEPLOYMENTS.items()}) as one:
        yield one


def _state(plane: DataPlane, answer: Response, status: int, code: str) -> dict[str, Any]:
    """The state in the answer, which the access line has as well; how long it waited is looked at here."""
    error = answer.json()["error"]
    assert (answer.status, error["code"]) == (status, code)
    state: dict[str, Any] = error["state"]
    line = plane.line(answer.header("x-request-id"))
    assert line["reason"] == code
    assert (line["in_flight"], line.get("capacity")) == (state["in_flight"], state["capacity"])
    assert (line["ready"], line["queue_length"]) == (state["ready_replicas"], state["queue_length"])
    assert 0 <= state.pop("waited_ms") <= line["total_ms"]
    return state


def _numbers(in_flight: int, capacity: int | None, ready: int, queue: int, max_queue: int = 100) -> dict[str, Any]:
    return {
        "in_flight": in_flight, "capacity": capacity, "ready_replicas": ready, "queue_length": queue,
        "max_queue_length": max_queue,
    }  # fmt: skip


@contextmanager
def _busy(plane: DataPlane, name: str, replicas: int = 2) -> Iterator[None]:
    """Every place of so many replicas is taken."""
    gate = threading.Event()
    script = scripts.held(gate, scripts.answer())
    with ExitStack() as stack:
        members = [plane.add(name, stack.enter_context(Backend(script))) for _ in range(replicas)]
        clients = [stack.enter_context(plane.client()) for _ in range(replicas * plane.views[name].capacity)]
        for client in clients:
            client.send(request(f"/{name}/held"))
        wait_for(lambda: plane.in_flight(name) == len(clients), "every place is taken")
        yield
        gate.set()
        assert {client.read_response("GET").status for client in clients} == {200}
        for member in members:
            plane.table.remove_replica(member)


@contextmanager
def _replica(plane: DataPlane, name: str, script: Script) -> Iterator[None]:
    with Backend(script) as backend:
        member = plane.add(name, backend)
        yield
        plane.table.remove_replica(member)


def test_a_full_queue(plane: DataPlane) -> None:
    with _busy(plane, "full"), plane.client() as client:
        answer = client.get("/full/x")
        assert _state(plane, answer, 503, "queue_full") == _numbers(4, 4, 2, 0, 0)


def test_a_wait_that_was_too_long(plane: DataPlane) -> None:
    """Others wait as well; the one that is told has left the queue by then."""
    with _busy(plane, "wait"), plane.client() as client, plane.client() as other:
        for one in (client, other):
            one.send(request("/wait/x"))
        answers = [one.read_response("GET") for one in (client, other)]
        assert all(answer.json()["error"]["state"]["waited_ms"] >= 100 for answer in answers)
        states = [_state(plane, answer, 503, "queue_wait") for answer in answers]
        lengths = {state["queue_length"] for state in states}
        assert lengths in ({0}, {0, 1})
        assert states == [_numbers(2, 2, 2, state["queue_length"], 7) for state in states]


def test_no_replica(plane: DataPlane) -> None:
    with plane.client() as client:
        assert _state(plane, client.get("/none/x"), 503, "no_replica") == _numbers(0, 0, 0, 0)


def test_every_slot_in_use(plane: DataPlane) -> None:
    with ExitStack() as stack:
        for _ in range(LIMITS.slots):
            stack.enter_context(plane.client()).send(request("/slots/x"))
        plane.wait_queue("slots", LIMITS.slots)
        answer = stack.enter_context(plane.client()).get("/slots/x")
        assert _state(plane, answer, 503, "no_slot") == _numbers(0, 0, 0, LIMITS.slots, 1000)
    plane.wait_queue("slots", 0)


@pytest.mark.parametrize(
    ("script", "code"), [(scripts.vanish(), "replica_closed"), (scripts.raw(b"garbage\r\n\r\n"), "replica_invalid")]
)
def test_a_replica_that_breaks_it(plane: DataPlane, script: Script, code: str) -> None:
    """While it is told, its own place is still taken. There is no limit, so there is no capacity."""
    with _replica(plane, "bad", script), plane.client() as client:
        assert _state(plane, client.post("/bad/x", b"x"), 502, code) == _numbers(1, None, 1, 0)


def test_replicas_that_cannot_be_reached(plane: DataPlane) -> None:
    """Each that refuses is set aside, until it has been tried often enough; some are left then."""
    members = [plane.add("bad", dead_port()) for _ in range(18)]
    with plane.client() as client:
        assert _state(plane, client.post("/bad/x", b"x"), 502, "connect_failed") == _numbers(1, None, 2, 0)
    for member in members:
        plane.table.remove_replica(member)


def test_a_replica_that_takes_too_long(plane: DataPlane) -> None:
    gate = threading.Event()
    with _replica(plane, "slow", scripts.silent(gate)), plane.client() as client:
        assert _state(plane, client.get("/slow/x"), 504, "replica_timeout") == _numbers(1, 3, 1, 0)
        gate.set()


def test_in_words(plane: DataPlane) -> None:
    with _busy(plane, "full"), plane.client() as client:
        answer = client.get("/full/x", Accept="text/plain")
        message, state = answer.body.decode().splitlines()
        assert message == "Too many requests for service full (overloaded)"
        assert re.fullmatch(
            r"In flight: 4 of 4; ready replicas: 2; waiting: 0 of 0; this request waited \d+\.\d ms\.", state
        )
        client.send(request("/full/x", "HEAD"))
        head = client.read_response("HEAD")
        assert (head.status, head.body) == (503, b"")


def test_no_state_where_it_explains_nothing(plane: DataPlane) -> None:
    """What was wrong with a request has nothing to do with the load; nor has an answer of the replica's own."""
    with plane.client() as client:
        answer = client.get("/nowhere")
        assert "state" not in answer.json()["error"]
        assert "ready" not in plane.line(answer.header("x-request-id"))
    with _replica(plane, "full", scripts.answer(b"busy", "503 Service Unavailable")), plane.client() as client:
        answer = client.get("/full/x")
        assert (answer.status, answer.body) == (503, b"busy")
        assert "ready" not in plane.line(answer.header("x-request-id"))
