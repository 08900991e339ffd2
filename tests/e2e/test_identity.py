"""Who asks, for whom, and what fe says by itself: ids, forwarding headers, keys, paths, error bodies.

Owns: what fe adds to messages and the answers it gives without a replica. Framing is judged in test_http_*.py.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.runner import GUID
from tests.support import scripts
from tests.support.backends import Backend, Request
from tests.support.client import Client, request
from tests.support.fe_process import Config, FeProcess, dead_port, deployment, endpoint

KEYS = {"primary": "first-key-of-alpha-0123456789", "secondary": "second-key-of-alpha-0123456789"}
FOREIGN = "the-key-of-beta-0123456789"


def _endpoints(backend: Backend) -> list[Config]:
    dead = f"127.0.0.1:{dead_port()}"
    return [
        endpoint([backend.address]),
        {**endpoint([backend.address], "alpha", "/alpha"), "auth_mode": "key", "keys": KEYS},
        {**endpoint([backend.address], "beta", "/beta"), "auth_mode": "key", "keys": {"primary": FOREIGN}},
        {
            **endpoint(
                [backend.address], "narrow", "/narrow", max_concurrent_requests_per_instance=1, max_queue_length=0
            ),
            "auth_mode": "key",
            "keys": KEYS,
        },
        endpoint([dead], "refused", "/refused"),
        {**endpoint([backend.address], "idle", "/idle"), "traffic": {"blue": 0}},
        {
            "name": "hosted",
            "auth_mode": "none",
            "routes": [{"host": "ml.example", "path_prefix": "/only"}],
            "deployments": [deployment([backend.address], "only")],
        },
        {
            **endpoint([backend.address], "slow", "/slow"),
            "deployments": [deployment([backend.address], request_timeout_ms=100)],
        },
    ]


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    with FeProcess({"endpoints": _endpoints(backend), "log": {"level": "debug", "access": True}}) as one:
        yield one


@pytest.fixture
def client(fe: FeProcess) -> Iterator[Client]:
    with fe.client() as one:
        yield one


def _last(backend: Backend, target: str) -> Request:
    return backend.seen(target)[-1]


# --- ids -------------------------------------------------------------------------------------------------------------


def test_a_request_gets_a_new_id_that_both_sides_see(client: Client, backend: Backend) -> None:
    ids = set()
    for _ in range(20):
        answer = client.get("/id", x_request_id="mine")
        identity = answer.header("x-request-id") or ""
        assert GUID.fullmatch(identity)
        assert _last(backend, "/id").header("x-request-id") == identity
        ids.add(identity)
    assert len(ids) == 20


@pytest.mark.parametrize(
    ("given", "kept"),
    [("abc-DEF_019", "abc-DEF_019"), ('a b<c>/é"d', "abcd"), ("x" * 41, "x" * 40), ("a." * 50, "a" * 40), ("!!", None)],
)
def test_the_clients_own_id_is_cleaned(client: Client, backend: Backend, given: str, kept: str | None) -> None:
    answer = client.get("/own-id", x_ms_client_request_id=given)
    assert answer.header("x-ms-client-request-id") == kept
    assert _last(backend, "/own-id").header("x-ms-client-request-id") == kept


def test_fe_s_own_answers_carry_ids_too(client: Client) -> None:
    answer = client.get("/api/v1/endpoint/nobody/score", x_ms_client_request_id="mine")
    assert answer.status == 404
    assert GUID.fullmatch(answer.header("x-request-id") or "")
    assert answer.header("x-ms-client-request-id") == "mine"
    assert answer.json()["error"]["request_id"] == answer.header("x-request-id")


# --- forwarding headers ----------------------------------------------------------------------------------------------

CLAIMS = {
    "X-Forwarded-For": "203.0.113.7",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Host": "public.example",
    "Forwarded": "for=203.0.113.7;proto=https",
    "X-Real-IP": "203.0.113.7",
}


def test_a_stranger_s_claims_are_overwritten(client: Client, backend: Backend) -> None:
    client.exchange(request("/claims", headers=CLAIMS, host="here:1"), "GET")
    seen = _last(backend, "/claims")
    assert seen.header("x-forwarded-for") == "127.0.0.1"
    assert seen.header("x-forwarded-proto") == "http"
    assert seen.header("x-forwarded-host") == "here:1"
    assert seen.header("host") == "here:1"
    assert "203.0.113.7" not in seen.head.raw.decode()


def test_a_trusted_proxy_s_claims_are_extended(backend: Backend) -> None:
    config = {"endpoints": [endpoint([backend.address])], "trusted_proxies": ["127.0.0.2/32"]}
    with FeProcess(config) as fe:
        with fe.client(source="127.0.0.2") as trusted:
            trusted.exchange(request("/trusted", headers=CLAIMS), "GET")
        with fe.client(source="127.0.0.3") as stranger:
            stranger.exchange(request("/stranger", headers=CLAIMS), "GET")
    seen = _last(backend, "/trusted")
    assert seen.header("x-forwarded-for") == "203.0.113.7, 127.0.0.2"
    assert seen.header("x-forwarded-proto") == "https"
    assert seen.header("x-forwarded-host") == "public.example"
    assert re.fullmatch(r"for=203\.0\.113\.7;proto=https, for=\"?127\.0\.0\.2\"?.*", seen.header("forwarded") or "")
    assert _last(backend, "/stranger").header("x-forwarded-for") == "127.0.0.3"


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS)
def test_either_key_opens_and_is_not_passed_on(client: Client, backend: Backend, key: str) -> None:
    assert client.get("/alpha/x", Authorization=f"Bearer {key}").status == 200
    assert key not in _last(backend, "/alpha/x").head.raw.decode()


@pytest.mark.parametrize(
    "credential",
    [None, "", "Bearer", "Bearer ", "Bearer wrong", f"Bearer {FOREIGN}", f"Basic {KEYS['primary']}", KEYS["primary"],
     f"Bearer {KEYS['primary']}x", f"Bearer {KEYS['primary'][:-1]}", f"Bearer {KEYS['primary'].upper()}"],
)  # fmt: skip
def test_anything_else_is_refused_alike(client: Client, backend: Backend, credential: str | None) -> None:
    headers = {} if credential is None else {"Authorization": credential}
    answer = client.get("/alpha/refused", **headers)
    assert answer.status == 401
    assert (answer.header("www-authenticate") or "").startswith("Bearer")
    bodies = [answer.json()["error"], client.get("/beta/refused").json()["error"]]
    assert [body.pop("request_id") for body in bodies]
    assert bodies[0] == bodies[1]
    assert backend.seen("/alpha/refused") == []


def test_the_scheme_s_name_is_read_in_any_case(client: Client) -> None:
    assert client.get("/alpha/y", Authorization=f"bearer {KEYS['primary']}").status == 200


def test_two_credentials_are_refused(fe: FeProcess) -> None:
    lines = "".join(f"Authorization: Bearer {key}\r\n" for key in KEYS.values())
    with fe.client() as client:
        assert client.exchange(f"GET /alpha/z HTTP/1.1\r\nHost: t\r\n{lines}\r\n".encode(), "GET").status == 400


def test_the_key_is_checked_before_the_body_is_read(fe: FeProcess) -> None:
    with fe.client() as client:
        client.send(b"POST /alpha/body HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 50000000\r\n\r\n")
        answer = client.read_response()
        assert (answer.status, answer.interim) == (401, [])


def test_the_key_is_checked_before_a_place_is_asked_for(fe: FeProcess, backend: Backend) -> None:
    gate = threading.Event()
    backend.on("/narrow/held", scripts.held(gate, scripts.answer()))
    good = {"Authorization": f"Bearer {KEYS['primary']}"}
    with fe.client() as holder, fe.client() as second:
        holder.send(request("/narrow/held", headers=good))
        backend.wait_requests(1, "/narrow/held")
        assert second.get("/narrow/held").status == 401
        assert second.get("/narrow/held", **good).status == 503
        gate.set()
        assert holder.read_response("GET").status == 200


def test_no_key_is_in_the_log(fe: FeProcess) -> None:
    with fe.client() as client:
        client.get("/alpha/log", Authorization=f"Bearer {KEYS['primary']}")
        client.get("/alpha/log", Authorization="Bearer a-wrong-key-0123456789")
    text = fe.log.read_text()
    assert not [key for key in (*KEYS.values(), FOREIGN, "a-wrong-key-0123456789") if key in text]


def test_a_key_in_the_environment_does_not_reach_workers(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY_OF_ALPHA", KEYS["primary"])
    guarded = {
        **endpoint([backend.address], "alpha", "/alpha"),
        "auth_mode": "key",
        "keys": {"primary": "env:KEY_OF_ALPHA"},
    }
    with FeProcess({"endpoints": [guarded]}) as fe, fe.client() as client:
        assert client.get("/alpha/env", Authorization=f"Bearer {KEYS['primary']}").status == 200
        for worker in fe.workers():
            environment = Path(f"/proc/{worker}/environ").read_bytes()
            assert b"FE_E2E_MARK" in environment
            assert KEYS["primary"].encode() not in environment


# --- paths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("/api/v1/endpoint/model/score", "/score"),
        ("/api/v1/service/model/score", "/score"),
        ("/api/v1/endpoint/model/swagger.json", "/swagger.json"),
        ("/api/v1/endpoint/model/a/b%20c/?q=/x", "/a/b%20c/?q=/x"),
        ("/api/v1/endpoints/model/score", "/api/v1/endpoints/model/score"),
        ("/any/other", "/any/other"),
        ("/alphabet", "/alphabet"),
    ],
)
def test_where_a_path_goes(client: Client, backend: Backend, target: str, seen: str) -> None:
    assert client.get(target).status == 200
    assert backend.requests[-1].target == seen


@pytest.mark.parametrize(
    "target",
    ["/api/v1/endpoint/nobody/score", "/api/v1/service/nobody/score", "/api/v1/endpoint/nobody", "/api/v1/endpoint//x"],
)
def test_an_unknown_endpoint_is_not_found_beside_a_route_for_everything(client: Client, target: str) -> None:
    assert client.get(target).status == 404


def test_a_route_by_host(client: Client, backend: Backend) -> None:
    for host, name in (("ml.example", "only"), ("ML.EXAMPLE:8080", "only"), ("other.example", "blue")):
        answer = client.exchange(request("/only/x", host=host), "GET")
        assert answer.header("azureml-model-deployment") == name
        assert backend.requests[-1].target == "/only/x"


# --- error bodies ----------------------------------------------------------------------------------------------------


def test_texts_that_clients_match_on(client: Client, backend: Backend) -> None:
    gate = threading.Event()
    backend.on("/vanish", scripts.vanish())
    backend.on("/slow/hang", scripts.silent(gate))
    answer = client.post("/vanish", b"x")
    assert answer.header("content-type") == "application/json"
    assert (answer.status, answer.json()["error"]["message"]) == (502, "Replica closed connection before replying")
    assert client.post("/slow/hang", b"x").status == 504
    assert client.get("/idle/x").status == 404
    gate.set()


def test_no_replica(fe: FeProcess) -> None:
    """A replica that refuses is tried, then set aside; then there is none."""
    with fe.client() as client:
        for _ in range(20):
            answer = client.get("/refused/x")
            if answer.status == 503:
                break
            assert answer.status == 502
        assert answer.status == 503
        assert answer.json()["error"]["message"] == "No ready replicas for service refused."
        assert answer.header("retry-after")


def test_overloaded(fe: FeProcess, backend: Backend) -> None:
    gate = threading.Event()
    backend.on("/narrow/full", scripts.held(gate, scripts.answer()))
    good = {"Authorization": f"Bearer {KEYS['secondary']}"}
    with fe.client() as holder, fe.client() as second:
        holder.send(request("/narrow/full", headers=good))
        backend.wait_requests(1, "/narrow/full")
        answer = second.get("/narrow/full", **good)
        assert answer.status == 503
        assert answer.json()["error"]["message"] == "Too many requests for service narrow (overloaded)"
        assert answer.header("retry-after")
        gate.set()
        assert holder.read_response("GET").status == 200


def test_plain_text_where_it_is_asked_for(client: Client) -> None:
    answer = client.get("/api/v1/endpoint/nobody/x", Accept="text/plain")
    assert (answer.header("content-type") or "").startswith("text/plain")
    with pytest.raises(json.JSONDecodeError):
        answer.json()
    for accept in ("*/*", "application/json", "text/html, */*;q=0.1"):
        assert client.get("/api/v1/endpoint/nobody/x", Accept=accept).header("content-type") == "application/json"


def test_an_error_for_head_has_no_body(client: Client) -> None:
    for _ in range(2):  # the second would start with the first one's body
        assert client.exchange(request("/api/v1/endpoint/nobody/x", "HEAD"), "HEAD").status == 404
