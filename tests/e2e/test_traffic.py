"""Which deployment gets a request: by weights, by name, as a mirror; and WebSockets where they are allowed.

Owns: the split of traffic between deployments. Queues are in test_queue.py.
"""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from tests.support import scripts
from tests.support.backends import Backend
from tests.support.client import request
from tests.support.fe_process import Config, FeProcess, dead_port, deployment, wait_for


@dataclass
class Set:
    """Four deployments behind one fe: blue 70 %, green 30 %, shadow (mirror) and dead (no replica listens)."""

    fe: FeProcess
    blue: Backend
    green: Backend
    shadow: Backend


def _config(blue: Backend, green: Backend, shadow: Backend) -> Config:
    split = {
        "name": "split",
        "auth_mode": "none",
        "traffic": {"blue": 70, "green": 30},
        "routes": [{"path_prefix": "/split"}],
        "deployments": [
            deployment([blue.address], "blue"),
            deployment([green.address], "green"),
            deployment([f"127.0.0.1:{dead_port()}"], "dead"),
        ],
    }
    mirrored = {
        "name": "mirrored",
        "auth_mode": "none",
        "traffic": {"blue": 100},
        "mirror_traffic": {"shadow": 100},
        "routes": [{"path_prefix": "/mirrored"}],
        "deployments": [
            deployment([blue.address], "blue"),
            deployment([shadow.address], "shadow", max_concurrent_requests_per_instance=2),
        ],
    }
    sockets = {
        "name": "sockets",
        "auth_mode": "none",
        "traffic": {"blue": 100},
        "routes": [{"path_prefix": "/ws"}],
        "deployments": [deployment([blue.address], "blue", websocket=True, max_concurrent_requests_per_instance=1)],
    }
    return {"endpoints": [split, mirrored, sockets]}


@pytest.fixture(scope="module")
def four() -> Iterator[Set]:
    with ExitStack() as stack:
        blue, green, shadow = (stack.enter_context(Backend(name=name)) for name in ("blue", "green", "shadow"))
        fe = stack.enter_context(FeProcess(_config(blue, green, shadow)))
        yield Set(fe, blue, green, shadow)
        for backend in (blue, green, shadow):
            assert backend.faults == []


def test_the_split_is_exact_over_each_hundred(four: Set) -> None:
    with four.fe.client() as client:
        for count in (1, 2):
            names = [client.get("/split/x").header("azureml-model-deployment") for _ in range(100)]
            assert (names.count("blue"), names.count("green")) == (70, 30)
            assert (len(four.blue.seen("/split/x")), len(four.green.seen("/split/x"))) == (70 * count, 30 * count)


def test_a_deployment_asked_for_by_name(four: Set) -> None:
    with four.fe.client() as client:
        for name, backend in (("blue", four.blue), ("green", four.green)):
            before = len(backend.seen("/split/named"))
            for _ in range(10):
                answer = client.get("/split/named", azureml_model_deployment=name)
                assert (answer.status, answer.header("azureml-model-deployment")) == (200, name)
            assert len(backend.seen("/split/named")) == before + 10
        assert client.get("/split/named", azureml_model_deployment="nobody").status == 404
        assert client.get("/split/named", azureml_model_deployment="").status in (200, 404)


def test_a_named_deployment_without_replicas_is_not_replaced_by_another(four: Set) -> None:
    with four.fe.client() as client:
        answers = [client.get("/split/dead", azureml_model_deployment="dead") for _ in range(20)]
    assert {answer.status for answer in answers} <= {502, 503}
    assert answers[-1].status == 503
    assert b"No ready replicas for service split." in answers[-1].body
    assert four.blue.seen("/split/dead") == four.green.seen("/split/dead") == []


def test_a_mirror_gets_a_copy(four: Set) -> None:
    with four.fe.client() as client:
        answer = client.post("/mirrored/copy", b"hello", X_A="1")
    assert answer.header("azureml-model-deployment") == "blue"
    four.shadow.wait_until(lambda: [one.body for one in four.shadow.seen("/mirrored/copy")] == [b"hello"], "the copy")
    assert four.shadow.seen("/mirrored/copy")[0].header("x-a") == "1"
    assert len(four.blue.seen("/mirrored/copy")) == 1


def test_a_mirror_s_answer_is_dropped(four: Set) -> None:
    four.shadow.on("/mirrored/differs", scripts.answer(b"shadow" * 1000, "500 Oops"))
    with four.fe.client() as client:
        for _ in range(10):
            answer = client.post("/mirrored/differs", b"x")
            assert (answer.status, answer.body) == (200, b"ok")
    four.fe.wait_idle()


def test_a_mirror_that_hangs_delays_nobody(four: Set) -> None:
    gate = threading.Event()
    four.shadow.on("/mirrored/hangs", scripts.silent(gate))
    skipped = four.fe.metric("fe_mirror_skipped_total")
    with four.fe.client() as client:
        for _ in range(20):
            assert client.post("/mirrored/hangs", b"x").status == 200
    assert len(four.shadow.seen("/mirrored/hangs")) <= 2
    assert four.fe.metric("fe_mirror_skipped_total") >= skipped + 18
    gate.set()
    four.fe.wait_idle()


def test_a_mirror_that_breaks_harms_nobody(four: Set) -> None:
    four.shadow.on("/mirrored/breaks", scripts.vanish(reset=True))
    with four.fe.client() as client:
        for _ in range(20):
            assert client.post("/mirrored/breaks", b"x").status == 200
        four.shadow.refuse()
        four.shadow.drop_connections()
        for _ in range(20):
            assert client.post("/mirrored/breaks", b"x").status == 200
    four.fe.wait_idle()
    four.shadow.listen()


def test_a_large_body_is_not_mirrored(four: Set) -> None:
    with four.fe.client() as client:
        assert client.post("/mirrored/large", b"x" * 300_000).status == 200
    four.fe.wait_idle()
    assert four.shadow.seen("/mirrored/large") == []


# --- WebSocket -------------------------------------------------------------------------------------------------------

KEY = base64.b64encode(b"sixteen bytes...").decode()
HANDSHAKE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": KEY,
    "Sec-WebSocket-Protocol": "chat",
}


def test_a_websocket_passes_bytes_both_ways(four: Set) -> None:
    four.blue.on("/ws/echo", scripts.websocket_echo)
    with four.fe.client() as client:
        client.send(request("/ws/echo", headers=HANDSHAKE))
        head = client.read_head()
        assert head.start[1] == "101"
        assert (head.value("upgrade") or "").lower() == "websocket"
        assert (head.value("connection") or "").lower() == "upgrade"
        assert head.value("sec-websocket-accept")
        seen = four.blue.seen("/ws/echo")[-1]
        assert seen.header("sec-websocket-key") == KEY
        assert seen.header("sec-websocket-protocol") == "chat"
        for data in (b"\x81\x05hello", b"GET / HTTP/1.1\r\n\r\n", bytes(range(256)) * 400):
            client.send(data)
            assert client.stream.exactly(len(data)) == data
        assert four.fe.metric("fe_in_flight") == 1  # it keeps its place as long as it is open
    four.fe.wait_idle()


def test_a_websocket_ends_when_the_replica_ends(four: Set) -> None:
    fields = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"
    four.blue.on("/ws/end", scripts.raw(b"HTTP/1.1 101 X\r\n" + fields + b"bye", then="close"))
    with four.fe.client() as client:
        client.send(request("/ws/end", headers=HANDSHAKE))
        assert client.read_head().start[1] == "101"
        assert client.stream.rest() == b"bye"
    four.fe.wait_idle()


def test_a_replica_may_decline_a_websocket(four: Set) -> None:
    with four.fe.client() as client:
        for _ in range(2):
            answer = client.exchange(request("/ws/declined", headers=HANDSHAKE), "GET")
            assert (answer.status, answer.body) == (200, b"ok")


def test_no_websocket_where_none_is_allowed(four: Set) -> None:
    with four.fe.client() as client:
        assert client.exchange(request("/split/ws", headers=HANDSHAKE), "GET").status == 200
    seen = (four.blue.seen("/split/ws") + four.green.seen("/split/ws"))[-1]
    assert seen.header("upgrade") is None


def test_a_websocket_is_closed_when_its_client_leaves(four: Set) -> None:
    four.blue.on("/ws/left", scripts.websocket_echo)
    with four.fe.client() as client:
        client.send(request("/ws/left", headers=HANDSHAKE))
        assert client.read_head().start[1] == "101"
        client.reset()
    wait_for(lambda: four.blue.busy == 0, "the replica's side is closed")
    four.fe.wait_idle()
