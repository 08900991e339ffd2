"""What an access line says, and that nothing a client sends can forge one."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe.proxy import _access, _build, _head
from tests.proxy.heads import get, head, read

ID = b"01234567-89ab-4def-8123-456789abcdef"
LOAD = {"in_flight", "capacity", "ready", "queue_length"}
PEER = _build.Peer("2001:db8::1")

HOSTILE = [
    "a\",\"status\":200,\"b\":\"", "a\" status=500 id=2", "\\", "\\\"", "\t", "\x80\x9b31m\xff", "\u00e9", "a b=c",
]  # fmt: skip


def text(request: _head.RequestHead, **facts: Any) -> str:
    raw = _access.line(request, PEER, ID, **facts)
    assert re.fullmatch(rb"[ -~]+", raw)
    assert len(raw) < 4096
    return raw.decode()


def test_a_served_request() -> None:
    request = read("User-Agent: x/1", "x-ms-client-request-id: me", line="POST /a/score?key=secret HTTP/1.1")
    facts = {
        "endpoint": "e", "deployment": "d", "status": 201, "model_status": 200, "request_bytes": 5,
        "response_bytes": 10**12, "total_ns": 1_234_567_899, "queue_ns": 999, "model_ns": 60_000,
    }  # fmt: skip
    fields = json.loads(text(request, **facts))
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", fields.pop("time"))
    assert fields == {
        "status": 201, "method": "POST", "path": "/a/score", "endpoint": "e", "deployment": "d", "model_status": 200,
        "request_bytes": 5, "response_bytes": 10**12, "total_ms": 1234.567, "queue_ms": 0.0, "model_ms": 0.06,
        "id": ID.decode(), "client_id": "me", "peer": "2001:db8::1", "user_agent": "x/1",
    }  # fmt: skip
    assert text(request, json=False, **facts).partition(" ")[2] == (
        'status=201 method="POST" path="/a/score" endpoint=e deployment=d model_status=200 request_bytes=5 '
        "response_bytes=1000000000000 total_ms=1234.567 queue_ms=0.000 model_ms=0.060 "
        f'id={ID.decode()} client_id=me peer=2001:db8::1 user_agent="x/1"'
    )


def test_an_answer_of_fe() -> None:
    fields = json.loads(text(read(), endpoint="e", reason="queue_wait", status=503))
    assert (fields["status"], fields["reason"]) == (503, "queue_wait")
    assert {"deployment", "model_status", "client_id", "user_agent"}.isdisjoint(fields)


def test_the_load_that_a_refused_request_has_met() -> None:
    request, facts = read(), {"status": 503, "reason": "queue_full"}
    fields = json.loads(text(request, **facts, met=(7, 4, 2, 3, 100)))
    assert {key: fields[key] for key in LOAD} == {"in_flight": 7, "capacity": 8, "ready": 2, "queue_length": 3}
    assert " in_flight=7 capacity=8 ready=2 queue_length=3 " in text(request, **facts, met=(7, 4, 2, 3, 9), json=False)
    unlimited = json.loads(text(request, **facts, met=(7, 0, 2, 3, 100)))
    assert LOAD & unlimited.keys() == LOAD - {"capacity"}
    assert LOAD.isdisjoint(json.loads(text(request, **facts)))


def test_a_request_that_was_refused() -> None:
    request = _head.read_request(get(line="GET /a b HTTP/1.1"))
    assert "path" not in json.loads(text(request, status=400, reason="bad_request"))
    assert json.loads(text(_head.read_request(b""), status=400))["method"] == ""


@pytest.mark.parametrize(
    "secret", ["Authorization: Bearer s3cret", "Cookie: s3cret", "azureml-model-deployment: s3cret"]
)
@pytest.mark.parametrize("as_json", [True, False])
def test_no_credential_is_logged(secret: str, as_json: bool) -> None:
    request = read(secret, line="GET http://fe.example/a?token=s3cret HTTP/1.1")
    assert "s3cret" not in text(request, json=as_json)


@pytest.mark.parametrize("value", HOSTILE)
def test_an_agent_is_one_value(value: str) -> None:
    request = read(f"User-Agent: x{value}x")
    assert json.loads(text(request))["user_agent"] == f"x{value}x"
    line = text(request, json=False)
    assert json.loads(line[line.index("user_agent=") + 11 :]) == f"x{value}x"


def test_a_path_is_one_value() -> None:
    target = '/"status=500","a":"\'<>{}`^|'
    assert json.loads(text(read(line=f"GET {target} HTTP/1.1")))["path"] == target


def test_long_values_are_cut_so_that_a_pipe_takes_a_line_whole() -> None:
    request = read(
        "User-Agent: " + "\xff" * 9000, "x-ms-client-request-id: " + "a" * 99, line="GET /" + '"' * 8000 + " HTTP/1.1"
    )
    name, most = "n" * 99, (2**32 - 1, 2**32 - 1, 2**20, 2**32 - 1, 2**32 - 1)
    fields = json.loads(
        text(request, endpoint=name, deployment=name, reason=name, total_ns=2**62, response_bytes=2**62, met=most)
    )
    assert (len(fields["path"]), fields["user_agent"]) == (1000, "\xff" * 200)
    text(request, json=False, endpoint=name, deployment=name, reason=name, met=most)


@settings(max_examples=100)
@given(st.binary(max_size=40), st.booleans())
def test_no_bytes_do_harm(data: bytes, as_json: bool) -> None:
    raw = head("GET / HTTP/1.1", "User-Agent: " + data.decode("latin-1"))
    line = text(_head.read_request(raw), json=as_json)
    if as_json:
        json.loads(line)
