"""Where fe listens and whom it reaches: IPv4, IPv6, unix sockets; and what it writes about each request.

Owns: addresses of both sides, and the access log as a file.
"""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

from tests.support import scripts
from tests.support.backends import Backend
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess, endpoint, free_port, wait_for


def test_unix_sockets_on_both_sides(tmp_path: Path) -> None:
    path = str(tmp_path / "fe.sock")
    with Backend(path=str(tmp_path / "replica.sock")) as replica:
        config = {"endpoints": [endpoint([replica.address])]}
        with FeProcess(config, workers=2, also_listen=[f"unix:{path}"]) as fe:
            for address in (path, fe.address):
                with Client(address) as client:
                    for _ in range(3):
                        assert client.post("/x", b"hello").body == b"ok"
        assert not Path(path).exists()
    assert replica.faults == []
    assert {one.header("x-forwarded-for") for one in replica.requests} == {"unknown", "127.0.0.1"}


def test_ipv6(tmp_path: Path) -> None:
    with socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))  # a machine without IPv6 fails here, with a clear reason
    port = free_port()
    with Backend() as replica, FeProcess({"endpoints": [endpoint([replica.address])]}, also_listen=[f"[::1]:{port}"]):
        with socket.create_connection(("::1", port)) as sock:
            sock.sendall(request("/six", headers={"Connection": "close"}, host="[::1]"))
            assert sock.makefile("rb").read().startswith(b"HTTP/1.1 200 ")
        seen = replica.seen("/six")[0]
        assert (seen.header("x-forwarded-for"), seen.header("host")) == ("::1", "[::1]")
        assert 'for="[::1]"' in (seen.header("forwarded") or "")
    assert not list(tmp_path.iterdir())


def test_a_second_one_on_the_same_unix_socket_is_refused(tmp_path: Path) -> None:
    path = f"unix:{tmp_path / 'fe.sock'}"
    with Backend() as replica:
        config = {"endpoints": [endpoint([replica.address])]}
        with FeProcess(config, also_listen=[path]), FeProcess(config, also_listen=[path], wait=False) as second:
            assert second.process.wait(60) == 3
            assert "fe.sock" in second.output()


def test_the_access_log_has_a_line_for_each_request(tmp_path: Path) -> None:
    file = tmp_path / "fe.log"
    with Backend() as replica:
        replica.on("/gone", scripts.answer(b"", "404 Not Found"))
        log = {"format": "json", "access": True, "file": str(file)}
        config = {"endpoints": [endpoint([replica.address])], "log": log}
        with FeProcess(config) as fe, fe.client() as client:
            first = client.post("/x?secret=1", b"hello", User_Agent="test/1", x_ms_client_request_id="mine")
            client.get("/gone")
            client.get("/api/v1/endpoint/nobody/score")
            wait_for(lambda: len(_access_lines(file)) == 3, "three lines")
        one, two, three = _access_lines(file)
    assert one["id"] == first.header("x-request-id")
    assert (one["endpoint"], one["deployment"], one["status"], two["status"]) == ("model", "blue", 200, 404)
    assert (one["client_id"], one["path"], one["request_bytes"]) == ("mine", "/x", 5)
    assert (three["status"], three["reason"]) == (404, "no_route")
    assert "secret" not in file.read_text()


def test_time_spent_in_vain_is_time_too(tmp_path: Path) -> None:
    """Who did not get a place has waited for it all the same, and a replica that never answers has had its time."""
    file = tmp_path / "fe.log"
    gate = threading.Event()
    limits: dict[str, Any] = {
        "max_concurrent_requests_per_instance": 1,
        "max_queue_wait_ms": 200,
        "request_timeout_ms": 300,
    }
    with Backend() as replica:
        replica.on("/never", scripts.silent(gate))
        log = {"format": "json", "access": True, "file": str(file)}
        with FeProcess({"endpoints": [endpoint([replica.address], **limits)], "log": log}) as fe, fe.client() as first:
            first.send(request("/never"))
            fe.wait_metric("fe_in_flight", 1)
            with fe.client() as second:
                assert second.get("/waits").status == 503
            assert first.read_response().status == 504
            wait_for(lambda: len(_access_lines(file)) == 2, "two lines")
            assert fe.metric("fe_queue_duration_seconds_sum") >= 0.2
            gate.set()
        waited, hung = sorted(_access_lines(file), key=lambda line: int(line["status"]))
    assert 200 <= waited["queue_ms"] <= waited["total_ms"]
    assert waited["model_ms"] == 0
    assert 300 <= hung["model_ms"] <= hung["total_ms"]


def _access_lines(file: Path) -> list[dict[str, Any]]:
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""  # the last line may be under way
    lines = [json.loads(line) for line in whole.splitlines()]
    return [line for line in lines if "total_ms" in line]
