"""The admin server over real sockets: health, readiness and why not, metrics, the page, and how it is bounded.

What it refuses for where it comes from is in test_admin_guard.py, what lies below /api in test_admin_api.py.
"""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from fe import model
from fe.control import admin
from fe.control.admin_guard import HEADERS
from tests.control.harness import COMMAND, eventually, on_loop
from tests.control.world import endpoint, world

A = "127.0.0.1:7001"


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fe.yaml"


def config():
    secret = endpoint("keyed", {"blue": [A]}, auth_mode="key", keys={"primary": "the-secret-key"})
    process = {"command": list(COMMAND), "env": {"TOKEN": "the-secret-token"}}
    return {"endpoints": [secret, endpoint("own", {"blue": {"instance_count": 1, "replicas": {"process": process}}})]}


@on_loop
async def test_readyz_says_why_not(file):
    async with world(file, config()) as w:
        head, body = await w.get("/readyz")
        assert (head.start[1], body) == ("503", b"worker 0 is free\nworker 1 is free\n")
        holders = [w.table.holder(index) for index in range(2)]
        assert (await w.get("/readyz"))[1] == b"worker 0 is starting\nworker 1 is starting\n"
        for holder in holders:
            holder.set_active()
        head, body = await w.get("/readyz")
        assert (head.start[1], body) == ("200", b"ready\n")
        w.table.mark_absent(1)
        head, body = await w.get("/readyz")
        assert (head.start[1], body) == ("503", b"worker 1 is absent\n")
        w.table.holder(1).set_active()
        assert await w.reload("nonsense: 1")
        assert (await w.get("/readyz"))[0].start[1] == "200"  # the running configuration serves on
        w.peer.host.say(model.Drain())
        await eventually(lambda: w.plane.draining, "heard")
        head, body = await w.get("/readyz")
        assert (head.start[1], body) == ("503", b"draining: fe-serve is ending\n")
        assert (await w.get("/healthz"))[0].start[1] == "200"


@on_loop
async def test_a_controller_without_a_configuration_is_not_ready(file):
    async with world(file, config()) as w:
        w.plane.config = None
        assert b"no configuration is applied yet\n" in (await w.get("/readyz"))[1]


@pytest.mark.parametrize("path", ["/", "/healthz", "/readyz", "/metrics", "/api/status", "/api/none", "/none"])
@on_loop
async def test_headers_of_every_answer(file, path):
    async with world(file, config()) as w:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            head, body = await w.get(path, method)
            policy = (
                admin.PAGE_POLICY if path == "/" and method in ("GET", "HEAD") else HEADERS["Content-Security-Policy"]
            )
            for name, value in {**HEADERS, "Content-Security-Policy": policy}.items():
                assert head.value(name) == value
            if method == "HEAD":
                assert body == b""
            else:
                assert len(body) == int(head.value("content-length") or -1)


@on_loop
async def test_what_is_not_there_is_refused(file):
    async with world(file, config()) as w:
        assert (await w.get("/none"))[0].start[1] == "404"
        assert (await w.get("/metrics/../none"))[0].start[1] == "404"
        for method in ("POST", "PUT", "DELETE", "PATCH"):
            head, _ = await w.get("/metrics", method)
            assert (head.start[1], head.value("allow")) == ("405", "GET,HEAD")


@on_loop
async def test_bad_requests_are_answered_and_bounded(file):
    async with world(file, config()) as w:
        for raw in (
            b"GET /" + b"x" * 20_000 + b" HTTP/1.1\r\nHost: t\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost: t\r\nX: " + b"x" * 20_000 + b"\r\n\r\n",
            b"GET /healthz HTTP/1.1\r\nHost : t\r\n\r\n",
            b"nonsense\r\n\r\n",
        ):
            assert (await w.get("", raw=raw))[0].start[1] == "400"
        body = b"POST /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello"
        assert (await w.get("", raw=body))[0].start[1] == "405"
        assert (await w.get("/healthz"))[0].start[1] == "200"


@on_loop
async def test_status_shows_what_runs_and_no_secret(file):
    async with world(file, config()) as w:
        await eventually(lambda: w.states("own/blue") == ["ready"], "ready")
        head, body = await w.get("/api/status")
        assert head.value("content-type") == "application/json; charset=utf-8"
        status = json.loads(body)
        keyed, own = status["endpoints"]
        assert keyed["deployments"][0]["replicas"][0] == {
            "address": A, "state": "ready", "in_flight": 0, "failures": 0, "last_probe": "not probed yet",
            "held": False,
        }  # fmt: skip
        assert own["deployments"][0]["kind"] == "process"
        assert own["deployments"][0]["replicas"][0]["last_probe"] == "status 200"
        assert (own["deployments"][0]["ready"], own["deployments"][0]["wanted"]) == (1, 1)
        assert status["not_ready"] == ["worker 0 is free", "worker 1 is free"]
        for path in ("/api/status?history=1", "/api/config", "/api/events", "/metrics", "/readyz"):
            everything = b"".join(part if isinstance(part, bytes) else part.raw for part in await w.get(path))
            assert b"secret" not in everything
            digest = w.snapshot.endpoints[0].key_digests[0]
            assert digest.hex().encode() not in everything


@on_loop
async def test_metrics_are_served_and_name_what_runs(file):
    async with world(file, config()) as w:
        head, body = await w.get("/metrics")
        assert head.value("content-type") == admin.METRICS_TYPE
        assert b'fe_replicas_desired{deployment="blue",endpoint="own"} 1.0\n' in body
        assert b"fe_config_version 1.0\n" in body
        assert await w.reload("nonsense: 1")
        assert b'fe_config_reloads_total{result="refused"} 1.0\n' in (await w.get("/metrics"))[1]


@on_loop
async def test_the_page_and_its_files(file):
    async with world(file, config()) as w:
        head, page = await w.get("/")
        assert (head.start[1], head.value("content-type")) == ("200", "text/html; charset=utf-8")
        assert page == (admin.PAGE / "index.html").read_bytes()
        for path in sorted(admin.PAGE.iterdir()):
            head, body = await w.get(f"/page/{path.name}")
            kind = f"{admin.PAGE_TYPES[path.suffix]}; charset=utf-8"
            assert (head.start[1], head.value("content-type"), body) == ("200", kind, path.read_bytes())
            assert head.value("content-security-policy") == admin.PAGE_POLICY


@pytest.mark.parametrize("named", ["none.js", "..%2fadmin.py", "%2e%2e/admin.py", "../admin.py", "page.py", "%00", ""])
@on_loop
async def test_what_is_no_file_of_the_page_is_not_found(file, named):
    async with world(file, config()) as w:
        assert (await w.get(f"/page/{named}"))[0].start[1] == "404"


@on_loop
async def test_many_at_once_are_answered(file, monkeypatch):
    monkeypatch.setattr(admin, "CONNECTIONS", 5)
    async with world(file, config()) as w:
        answers = await asyncio.gather(*(w.get("/metrics") for _ in range(40)))
        codes = {head.start[1] for head, _ in answers}
        assert "200" in codes
        assert codes <= {"200", "503"}
        assert (await w.get("/metrics"))[0].start[1] == "200"


@on_loop
async def test_the_loop_turns_on_while_clients_are_silent(file):
    async with world(file, config()) as w:
        silent = [socket.create_connection(w.admin_socket.getsockname()) for _ in range(20)]
        assert (await w.get("/healthz"))[0].start[1] == "200"
        for one in silent:
            one.close()
