"""Whom the admin server answers: not a page that has made its name lead here, no change that another site sends."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fe.control import admin_api
from fe.control.admin_guard import is_own_name
from tests.control.admin_client import ask, post
from tests.control.harness import on_loop
from tests.control.world import endpoint, world

A = "127.0.0.1:7001"
DRAIN = "/api/deployments/model/blue/drain"
CONFIG = {"admin_actions": True, "endpoints": [endpoint("model", {"blue": [A]})]}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fe.yaml"


@pytest.mark.parametrize(
    "name",
    [
        "localhost", "localhost:9901", "LOCALHOST:1", "127.0.0.1", "127.0.0.1:9901", "10.1.2.3:80", "[::1]",
        "[::1]:9901", "[fe80::1]:80", socket.gethostname(), f"{socket.gethostname()}:9901", "localhost:",
    ],
)  # fmt: skip
def test_own_names(name):
    assert is_own_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "evil.example", "evil.example:9901", "localhost.evil.example", "127.0.0.1.evil.example", "evil", "[evil]:80",
        "", "localhost:9901:80", "127.0.0.1@evil.example", "[::1", "1.2.3", "user@localhost",
    ],
)  # fmt: skip
def test_names_that_a_stranger_may_have(name):
    assert not is_own_name(name)


@on_loop
async def test_another_name_gets_nothing_but_health_and_metrics(file):
    async with world(file, CONFIG) as w:
        for path in ("/", "/page/app.js", "/api/status", "/api/config", "/api/events", "/api/openapi.json", "/none"):
            answer = await ask(w, path, Host="evil.example:9901")
            assert answer.status == 421, path
            assert ("evil" in answer.text) is False
        assert (await ask(w, "/api/status", Host="evil.example")).code == "unknown_host"
        assert (await post(w, DRAIN, {"replica": A}, Host="evil.example")).status == 421
        for path in ("/healthz", "/metrics"):
            assert (await ask(w, path, Host="fe.monitoring.svc:9901")).status == 200
        assert (await ask(w, "/readyz", Host="fe.monitoring.svc:9901")).status == 503


@on_loop
async def test_over_a_unix_socket_any_name_will_do(file, tmp_path):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "admin.sock"))
    listener.listen()
    async with world(file, CONFIG) as w:
        beside = admin_server(w, listener)
        await beside.start()
        reader, writer = await asyncio.open_unix_connection(str(tmp_path / "admin.sock"))
        writer.write(b"GET /api/status HTTP/1.1\r\nHost: anything\r\nConnection: close\r\n\r\n")
        assert (await asyncio.wait_for(reader.read(), 45)).startswith(b"HTTP/1.1 200 ")
        writer.close()
        await beside.stop()


def admin_server(w, listener):
    from fe.control.admin import AdminServer

    return AdminServer(w.plane, (listener,))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Origin": "localhost"},
        {"Sec_Fetch_Site": "cross-site"},
        {"Sec_Fetch_Site": "same-site"},
        {"Sec_Fetch_Site": "same-origin", "Origin": "http://evil.example"},
        {"Sec_Fetch_Site": "nonsense"},
    ],
    ids=str,
)
@on_loop
async def test_changes_from_another_site_are_refused(file, headers):
    async with world(file, CONFIG) as w:
        answer = await post(w, DRAIN, {"replica": A}, **headers)
        assert (answer.status, answer.code) == (403, "cross_site")
        assert w.states("model/blue") == ["ready"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Origin": "https://localhost", "Sec_Fetch_Site": "same-origin"},
        {"Sec_Fetch_Site": "none"},
        {"Content_Type": "application/json; charset=utf-8"},
    ],
    ids=str,
)
@on_loop
async def test_changes_from_the_page_and_from_programs_are_taken(file, headers):
    async with world(file, CONFIG) as w:
        assert (await post(w, DRAIN, {"replica": A}, **headers)).status == 200
        assert w.states("model/blue") == ["draining"]


@pytest.mark.parametrize("kind", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"])
@on_loop
async def test_what_a_form_could_send_is_refused(file, kind):
    async with world(file, CONFIG) as w:
        answer = await post(w, DRAIN, {"replica": A}, Content_Type=kind)
        assert (answer.status, answer.code) == (415, "media_type")
        assert w.states("model/blue") == ["ready"]


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"null", b"{", b'{"replica": 1}', b'{"replica": ""}', b"{}", b'{"replica": "a", "more": 1}',
        b'{"replica": null}', b"\xff\xfe", b'{"replica": "' + b"x" * 201 + b'"}', b"[" * 2000,
    ],
    ids=lambda body: repr(body[:20]),
)  # fmt: skip
@on_loop
async def test_bodies_of_another_shape_are_refused(file, body):
    async with world(file, CONFIG) as w:
        answer = await post(w, DRAIN, body)
        assert (answer.status, answer.code) == (400, "bad_request")
        assert w.states("model/blue") == ["ready"]


@on_loop
async def test_a_large_body_is_refused_and_a_slow_one_given_up(file, monkeypatch):
    async with world(file, CONFIG) as w:
        answer = await post(w, DRAIN, b'{"replica": "' + b"x" * 10_000 + b'"}')
        assert (answer.status, answer.code) == (413, "request_entity_too_large")
        monkeypatch.setattr(admin_api, "BODY_WITHIN", 0.05)
        answer = await post(w, DRAIN, b'{"rep', Content_Length="100")
        assert (answer.status, answer.code) == (408, "timeout")
        assert w.states("model/blue") == ["ready"]
        assert (await ask(w, "/healthz")).status == 200


@on_loop
async def test_methods_and_paths_that_there_are_not(file):
    async with world(file, CONFIG) as w:
        for method in ("GET", "HEAD", "PUT", "DELETE"):
            head, _ = await w.get(DRAIN, method)
            assert (head.start[1], head.value("allow")) == ("405", "POST")
        answer = await ask(w, "/api/status", "DELETE")
        assert (answer.status, answer.code) == (405, "method_not_allowed")
        for path in ("/api/none", "/api/deployments/model/drain", "/api/deployments/model/blue/explode"):
            answer = await post(w, path, {"replica": A})
            assert (answer.status, answer.code) == (404, "not_found")
