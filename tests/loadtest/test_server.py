"""The simulated model server on real sockets: what it answers, how it fails, what it counts."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time

import pytest

from loadtest.server.options import parse
from loadtest.server.replica import Replica
from tests.loadtest.simulator import COMMAND, LIMIT, Simulator
from tests.project import tree
from tests.support.client import Client, EndedError, request
from tests.support.fe_process import free_port, wait_for
from tests.support.wire import MalformedError

FOREVER = {"X-Service-Time": "600s"}
NOW = ("--service-time", "0ms")


@pytest.fixture(scope="module")
def simulator():
    with Simulator("--concurrency", "2", "--response-bytes", "300", *NOW) as one:
        yield one


def score(client: Client, body: bytes = b"{}", **fields: str):
    return client.post("/score", body, **fields)


def test_score(simulator):
    with simulator.client() as client:
        before = simulator.stats()
        first, second = score(client), score(client, b"12345")
        answer = score(client, X_Service_Time="30ms")
    after = simulator.stats()
    assert (first.status, len(first.body), list(first.json())) == (200, 300, ["pad"])
    assert (second.status, first.header("content-type")) == (200, "application/json")
    assert int(answer.header("x-service-us")) >= 29_500, "never earlier than told, but for half a tick"
    assert after["requests"] - before["requests"] == 3
    assert after["request_bytes"] - before["request_bytes"] == 2 + 5 + 2
    assert after["response_bytes"] - before["response_bytes"] == 3 * 300
    assert after["outcomes"]["ok"] - before["outcomes"].get("ok", 0) == 3
    assert after["port"] == simulator.port


def test_probes_and_everything_else(simulator):
    with simulator.client() as client:
        requests = simulator.stats()["requests"]
        for path in ("/", "/health", "/?x=1"):
            assert client.get(path).json() == {"ready": True}
        assert client.exchange(request("/", "HEAD"), "HEAD").status == 200
        assert client.get("/other").status == 404
        assert client.exchange(request("/", "PUT", b"")).header("allow") == "GET, HEAD, POST"
        assert simulator.stats()["requests"] == requests, "only scores count"


def test_what_is_sent_ahead_is_answered_in_order(simulator):
    with simulator.client() as client:
        client.send(request("/score", "POST", b"{}") + request("/other") + request("/score", "POST", b"{}"))
        assert [client.read_response().status for _ in range(3)] == [200, 404, 200]


def test_http_1_0_is_answered_once(simulator):
    with simulator.client() as client:
        client.send(b"POST /score HTTP/1.0\r\nContent-Length: 0\r\n\r\n")
        assert client.read_response().closes
        assert client.ended() == "eof"


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"nonsense\r\n\r\n", 400), (request("/score", "POST", b"", {"X-Service-Time": "soon"}), 400)],
)
def test_mistakes_are_answered(simulator, sent, status):
    with simulator.client() as client:
        assert client.exchange(sent).status == status


def test_a_request_above_the_limit_is_a_violation(simulator):
    violations = simulator.stats()["violations"]
    with simulator.client() as first, simulator.client() as second, simulator.client() as third:
        for client in (first, second):
            client.send(request("/score", "POST", b"{}", FOREVER))
        assert simulator.wait_stats(in_flight=2)["violations"] == violations
        assert score(third).status == 200, "it is served all the same"
        stats = simulator.stats()
        assert (stats["violations"], stats["peak"], stats["concurrency"]) == (violations + 1, 3, 2)
    left = simulator.wait_stats(in_flight=0)["outcomes"]["client_left"]
    assert left >= 2


def test_a_request_above_the_limit_can_be_refused():
    with Simulator("--concurrency", "1", "--over-capacity", "refuse", *NOW) as simulator:
        with simulator.client() as first, simulator.client() as second:
            first.send(request("/score", "POST", b"{}", FOREVER))
            simulator.wait_stats(in_flight=1)
            assert score(second).status == 500
        stats = simulator.wait_stats(in_flight=0)
        assert (stats["violations"], stats["outcomes"]) == (1, {"client_left": 1, "over_capacity": 1})


# --- failures ---------------------------------------------------------------------------------------------------------


def answered(client: Client) -> str:
    client.send(request("/score", "POST", b"{}"))
    try:
        return str(client.read_response().status)
    except EndedError as error:
        return f"{error.how} after {len(error.got)}"
    except MalformedError:
        return "malformed"


@pytest.mark.parametrize(
    ("mode", "seen"),
    [
        ("status:418", "418"),
        ("status:599", "599"),
        ("slow:1ms", "200"),
        ("reset", "reset after 0"),
        ("close", "eof after 0"),
        ("close-mid-answer", "eof after 128"),
        ("garbage", "malformed"),
    ],
)
def test_failures(mode, seen):
    with Simulator("--fail", f"{mode}=1", *NOW) as simulator:
        with simulator.client() as client:
            assert answered(client) == seen
        assert simulator.wait_stats(in_flight=0)["outcomes"] == {mode: 1}


def test_hanging_takes_a_place_until_the_client_leaves():
    with Simulator("--fail", "hang=1", *NOW) as simulator:
        with simulator.client() as client:
            client.send(request("/score", "POST", b"{}"))
            assert simulator.wait_stats(in_flight=1)["outcomes"] == {}
        assert simulator.wait_stats(in_flight=0)["outcomes"] == {"hang": 1}


def test_the_same_seed_fails_the_same_requests():
    def statuses(seed: str) -> list[str]:
        with Simulator("--fail", "status:500=0.5", "--seed", seed, *NOW) as simulator, simulator.client() as client:
            return [answered(client) for _ in range(64)]

    assert statuses("a") == statuses("a") != statuses("b")


def test_dice_depend_on_seed_and_port_only():
    def drawn(index: int, *options: str) -> list[float]:
        replica = Replica(parse(["--seed", "s", "--service-time", "lognormal:20ms,0.8", *options]), index)
        return [(replica.draw_fault(), replica.draw_time())[1] for _ in range(20)]

    assert drawn(0) == drawn(0, "--fail", "reset=0.5", "--stream", "3", "--stream-interval", "exponential:1ms")
    assert drawn(0) != drawn(1)


# --- events -----------------------------------------------------------------------------------------------------------


def test_stream():
    options = ("--stream", "5", "--stream-interval", "1ms", "--response-bytes", "60", *NOW)
    with Simulator(*options) as simulator, simulator.client() as client:
        for _ in range(2):
            client.send(request("/score", "POST", b"{}"))
            head = client.read_head()
            events = [client.read_chunk() for _ in range(6)]
            assert head.value("content-type") == "text/event-stream"
            assert events.pop() == b"", "the end of the body"
            data = [json.loads(event.removeprefix(b"data: ")) for event in events]
            assert [one["n"] for one in data] == list(range(5))
            assert sorted(one["at_us"] for one in data) == [one["at_us"] for one in data]
            assert {len(event) for event in events} == {60 + len("data: \n\n")}
        assert simulator.stats()["outcomes"] == {"ok": 2}


def test_stream_cut_short():
    with Simulator("--stream", "4", "--stream-interval", "1ms", "--fail", "close-mid-answer=1", *NOW) as simulator:
        with simulator.client() as client:
            client.send(request("/score", "POST", b"{}"))
            client.read_head()
            assert client.read_chunk().startswith(b'data: {"n":0')
            with pytest.raises(EndedError):
                client.read_chunk()
        assert simulator.stats()["outcomes"] == {"close-mid-answer": 1}


def test_a_long_stream_without_pauses_leaves_room_for_others():
    """Events are turns of the loop, not calls within calls."""
    options = ("--stream", "20000", "--stream-interval", "0ms", "--response-bytes", "10", *NOW)
    with Simulator(*options) as simulator, simulator.client() as client:
        assert score(client).body.count(b"data: ") == 20_000


# --- start and end ----------------------------------------------------------------------------------------------------


def test_start_up():
    began = time.monotonic()
    with Simulator("--listen-after", "300ms", "--ready-after", "600s") as simulator, simulator.client() as client:
        assert time.monotonic() - began >= 0.3
        assert (client.get("/").status, client.get("/health").status, score(client).status) == (503, 503, 503)
        assert simulator.stats()["outcomes"] == {"not_ready": 1}


def test_ready_in_the_end():
    with Simulator("--ready-after", "50ms") as simulator, simulator.client() as client:
        wait_for(lambda: client.get("/health").status == 200, "it is ready")


def test_close():
    with Simulator("--close", *NOW) as simulator, simulator.client() as client:
        assert score(client).closes
        assert client.ended() == "eof"


def test_several_ports_count_apart():
    first = free_port()
    second = next(port for port in iter(free_port, None) if port != first)
    with Simulator("--ports", f"{first},{second}", *NOW, ports=2) as simulator:
        assert simulator.ports == [first, second]
        with simulator.client(second) as client:
            score(client)
        assert [simulator.stats(port)["requests"] for port in simulator.ports] == [0, 1]


def test_port_of_the_environment():
    port = free_port()
    with Simulator(PORT=str(port)) as simulator:
        assert simulator.port == port


def test_the_end_waits_for_answers():
    with Simulator("--service-time", "300ms") as simulator, simulator.client() as client:
        client.send(request("/score", "POST", b"{}"))
        simulator.wait_stats(requests=1)
        assert simulator.stop() == 0
        assert client.read_response().status == 200


def start(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=LIMIT, cwd=tree.ROOT, stdin=subprocess.DEVNULL,
        env={**os.environ, **environment},
    )  # fmt: skip


def test_a_port_that_is_taken():
    with contextlib.closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        result = start("--port", str(port))
    assert (result.returncode, result.stderr) == (
        1,
        f"loadtest.server: 127.0.0.1:{port} cannot be had: Address already in use\n",
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--service-time", "fast"], "argument --service-time: 'fast' is no duration"),
        (["--fail", "reset=0.7", "--fail", "close=0.7"], "the probabilities are 1.4 together"),
        (["--port", "70000"], "no whole number from 0 to 65535"),
        (["--ports", "5003-5001"], "'5003-5001' is no port"),
        (["--ports", "5001,5001"], "names a port twice"),
        (["--response-bytes", "9"], "is no size"),
        (["--over-capacity", "drop"], "invalid choice"),
        (["--conc", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(options, said, capsys):
    with pytest.raises(SystemExit) as caught:
        parse(options)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_a_variable_that_is_no_port(capsys, monkeypatch):
    monkeypatch.setenv("PORT", "http")
    with pytest.raises(SystemExit):
        parse([])
    assert "the variable PORT is 'http'" in capsys.readouterr().err
