"""Calls to the API server and streams from it: answers, refusals, every way of not being answered, and the fence that
is asked at the last moment before a write."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from pathlib import Path

import pytest

from fe.control.kubernetes import client, exchange
from fe.control.kubernetes.client import ApiError, Cluster, UnansweredError, UnreachableError
from tests.control.harness import Replica
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import PODS, connected, connections, eventually, no_tasks_left, on_loop, plain, pod

LEASES = "/apis/coordination.k8s.io/v1/namespaces/models/leases"
LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "fe"}, "spec": {}}


@contextlib.asynccontextmanager
async def scripted(folder: Path, answer: bytes | None):
    """A Cluster whose server answers every request with these bytes; None: with silence."""
    server = Replica()
    server.answer = answer
    await server.start()
    cluster = Cluster(plain(folder / "scripted", f"http://{server.address}", {"token": "t"}))
    try:
        yield cluster, server
    finally:
        await cluster.close()
        await server.stop()


def said(body: bytes, head: bytes = b"Content-Type: application/json\r\n") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(body), body)


# --- answers and refusals ---


@pytest.mark.parametrize("tls", [False, True])
def test_calls_over_http_and_https_on_both_loops(tls, tmp_path):
    async def ask():
        async with no_tasks_left(), Emulator(tls=tls) as emulator, connected(emulator, tmp_path) as cluster:
            assert (await cluster.call("GET", "/version")).body["major"] == "1"
            made = await cluster.call("POST", LEASES, body=LEASE, content_type="application/json")
            assert (made.status, made.body["metadata"]["name"]) == (201, "fe")
            merge = "application/merge-patch+json"
            body = {"spec": {"holderIdentity": "me"}}
            patched = await cluster.call("PATCH", f"{LEASES}/fe", body=body, content_type=merge)
            assert patched.body["spec"]["holderIdentity"] == "me"
            steps = [{"op": "replace", "path": "/spec/holderIdentity", "value": "you"}]
            stepped = await cluster.call(
                "PATCH", f"{LEASES}/fe", body=steps, content_type="application/json-patch+json"
            )
            assert stepped.body["spec"]["holderIdentity"] == "you"
            assert (await cluster.call("GET", "/readyz")).body == {}
            assert {record.user for record in emulator.records[2:]} == {"admin"}

    on_loop(ask)()
    asyncio.run(ask())


@on_loop
async def test_a_query_arrives_as_it_was_meant(tmp_path):
    labels = "app in (m,n),v!=2,!gone,tier=a_b.c"
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await cluster.call("GET", PODS, {"labelSelector": labels, "limit": "2"})
        assert emulator.records[-1].query == {"labelSelector": labels, "limit": "2"}


@on_loop
async def test_connections_are_kept(tmp_path):
    async with Emulator(tls=True) as emulator, connected(emulator, tmp_path) as cluster:
        for _ in range(20):
            await cluster.call("GET", PODS)
        with pytest.raises(ApiError):
            await cluster.call("GET", f"{PODS}/none")
        await cluster.call("GET", PODS)
        assert connections(emulator) == 1


@on_loop
async def test_refusals_are_told_in_the_servers_words(tmp_path):
    async with (
        Emulator() as emulator,
        connected(emulator, tmp_path) as admin,
        connected(emulator, tmp_path, "limited") as limited,
    ):
        with pytest.raises(ApiError, match=r'404 NotFound: leases\.coordination\.k8s\.io "fe" not found'):
            await admin.call("GET", f"{LEASES}/fe")
        with pytest.raises(ApiError, match=r'403 Forbidden: pods is forbidden: User "limited" cannot list'):
            await limited.call("GET", PODS)
        with pytest.raises(ApiError, match="404 Not Found"):  # plain text
            await admin.call("GET", "/apis/nosuch.dev/v1/things")
        with pytest.raises(ApiError) as caught:
            await admin.call("PATCH", f"{PODS}/m", body={}, content_type="application/json")
        assert caught.value.status == 415
        emulator.faults.status(429, retry_after=7, times=1)
        with pytest.raises(ApiError) as caught:
            await admin.call("GET", PODS)
        assert (caught.value.status, caught.value.reason, caught.value.retry_after) == (429, "TooManyRequests", 7.0)


@on_loop
async def test_every_way_of_not_being_answered_is_unreachable(tmp_path, monkeypatch):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await emulator.create(pod("m"))
        for fault, why in (
            (emulator.faults.reset, "onnection"),
            (emulator.faults.truncate, "not JSON"),
            (emulator.faults.garble, "not JSON"),
        ):
            broken = fault()
            with pytest.raises(UnreachableError, match=why):
                await cluster.call("GET", PODS)
            emulator.faults.remove(broken)
        hang = emulator.faults.hang()
        with pytest.raises(UnreachableError, match=r"no answer within 0\.05 s"):
            await cluster.call("GET", PODS, timeout=0.05)
        emulator.faults.remove(hang)
        monkeypatch.setattr(exchange, "BODY_BYTES", 100)
        with pytest.raises(UnreachableError, match="above 100 bytes"):
            await cluster.call("GET", PODS)
        monkeypatch.undo()
        await emulator.away()
        with pytest.raises(UnreachableError, match="cannot connect"):
            await cluster.call("GET", PODS)
        await emulator.back()
        assert (await cluster.call("GET", PODS)).status == 200


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (said(b"[]"), "not a JSON object"),
        (said(b'{"a": '), "not JSON"),
        (said(b"\xff\xfe"), "not JSON"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{}", "cut short"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n", "cut short"),
        (b"HTTP/1.1 200 OK\r\n", "closed before"),
        (b"220 smtp.example.com ready\r\n\r\n", "ClientResponseError|closed before"),
    ],
)
@on_loop
async def test_bytes_that_are_no_answer(answer, why, tmp_path):
    async with scripted(tmp_path, answer) as (cluster, _), no_tasks_left():
        with pytest.raises(UnreachableError, match=why):
            await cluster.call("GET", "/x")


@on_loop
async def test_a_call_that_is_cancelled_leaves_nothing(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        emulator.faults.hang()
        asked = asyncio.create_task(cluster.call("GET", PODS))
        await eventually(lambda: emulator.records, "it is asked")
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked
        await eventually(lambda: not connections(emulator), "its connection is closed")


@on_loop
async def test_close_ends_what_is_under_way(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        emulator.faults.hang()
        asked = asyncio.create_task(cluster.call("GET", PODS))
        await eventually(lambda: emulator.records, "it is asked")
        await cluster.close()
        with pytest.raises(UnreachableError):
            await asked
        with pytest.raises(UnreachableError, match="was closed"):
            await cluster.call("GET", PODS)


@on_loop
async def test_a_configuration_that_was_closed_opens_no_connection(tmp_path):
    """A call may have taken it a moment before."""
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        access = await cluster.open()
        await cluster.close()
        with pytest.raises(UnreachableError, match="was closed"):
            async with exchange.exchange(access, exchange.Request("GET", PODS, {}, 1.0)):
                pass
        assert not emulator.records


# --- streams ---


async def read(cluster: Cluster, seconds: int = 600, **options) -> list[dict]:
    lines, query = [], {"watch": "true", "timeoutSeconds": str(seconds)}
    async with contextlib.aclosing(cluster.stream(PODS, query, **options)) as got:
        async for line in got:
            lines.append(json.loads(line))
    return lines


@on_loop
async def test_a_stream_gives_whole_lines_and_ends_with_the_server(tmp_path):
    async with no_tasks_left(), Emulator(second=0.01) as emulator, connected(emulator, tmp_path) as cluster:
        for name in "abc":
            await emulator.create(pod(name))
        opened = []
        lines = await read(cluster, 2, on_open=lambda: opened.append(True))
        assert [line["object"]["metadata"]["name"] for line in lines] == ["a", "b", "c"]
        assert opened == [True]


@on_loop
async def test_a_stream_that_breaks_off_says_so(tmp_path, monkeypatch):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        for name in "abc":
            await emulator.create(pod(name))
        emulator.faults.truncate(after=2, times=1)
        with pytest.raises(UnreachableError, match="within a line"):
            await read(cluster)
        emulator.faults.reset(after=1, times=1)
        with pytest.raises(UnreachableError):
            await read(cluster)
        silent = emulator.faults.silent()
        with pytest.raises(UnreachableError, match="nothing came in time"):
            await read(cluster, idle_timeout=0.05)
        emulator.faults.remove(silent)
        hang = emulator.faults.hang()
        with pytest.raises(UnansweredError, match="nothing came in time"):
            await read(cluster, idle_timeout=0.05)
        monkeypatch.setattr(client, "SILENCE", 0.05)
        with pytest.raises(UnansweredError, match=r"no answer within 0\.05 s"):
            await read(cluster)
        monkeypatch.undo()
        emulator.faults.remove(hang)
        with pytest.raises(ApiError, match="404"):
            await anext(cluster.stream("/apis/nosuch.dev/v1/things"))
        monkeypatch.setattr(exchange, "LINE_BYTES", 50)
        emulator.faults.truncate(times=1)
        with pytest.raises(UnreachableError, match="a line above 50 bytes"):
            await read(cluster)


@on_loop
async def test_an_answer_that_stalls_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(client, "SILENCE", 0.2)

    async def begin(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said(b"{}").replace(b": 2", b": 9"))
        await reader.read()
        writer.close()

    async with await asyncio.start_server(begin, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        cluster = Cluster(plain(tmp_path / "stalls", f"http://127.0.0.1:{port}", {"token": "t"}))
        # The second where the machine is so busy that the head itself is late.
        with pytest.raises(UnansweredError, match=r"nothing came in time|no answer within 0\.2 s"):
            await cluster.call("GET", PODS, timeout=20)
        await cluster.close()


@contextlib.asynccontextmanager
async def doubting(folder):
    """A cluster, an open stream as a task, and when it was opened; at the end the stream has to end as one in doubt."""
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, folder) as cluster:
        opened = []
        stream = asyncio.create_task(read(cluster, on_open=lambda: opened.append(time.monotonic())))
        await eventually(lambda: opened, "it is open")
        yield cluster, stream, opened[0]
        with pytest.raises(UnreachableError, match="silent, while a call was not answered"):
            await stream
        assert not cluster._heard


@on_loop
async def test_streams_that_were_silent_while_a_call_was_not_answered_end(tmp_path):
    async with doubting(tmp_path) as (cluster, stream, opened):
        cluster.doubt(opened - 600)
        await cluster.call("GET", PODS)
        assert not stream.done(), "it has spoken since then"
        cluster.doubt(time.monotonic())


@on_loop
async def test_a_stream_that_spoke_before_a_call_was_given_up_has_to_speak_again(tmp_path):
    """It may have spoken just before the network went: the call began earlier, and ended later."""
    async with doubting(tmp_path) as (cluster, _, opened):
        cluster.doubt(opened - 0.1)


@on_loop
async def test_a_stream_that_is_closed_or_cancelled_leaves_nothing(tmp_path):
    async with no_tasks_left(), Emulator(tls=True) as emulator, connected(emulator, tmp_path) as cluster:
        await emulator.create(pod("a"))
        async with contextlib.aclosing(cluster.stream(PODS, {"watch": "true"})) as lines:
            async for _ in lines:
                break
        await eventually(lambda: not connections(emulator), "its connection is closed")
        watched = asyncio.create_task(read(cluster))
        await eventually(lambda: emulator.counts["watch", PODS] == 2, "it is asked")
        watched.cancel()
        with pytest.raises(asyncio.CancelledError):
            await watched
        await eventually(lambda: not connections(emulator), "its connection is closed")


# --- the fence ---


class StopError(Exception):
    """What a fence raises."""


@pytest.mark.parametrize("passes", [0, 1])  # asked again before the body: it may have become untrue by then
@pytest.mark.parametrize("kept", [False, True])
@on_loop
async def test_a_write_whose_fence_refuses_is_never_sent(kept, passes, tmp_path):
    async with no_tasks_left(), Emulator(tls=True) as emulator, connected(emulator, tmp_path) as cluster:
        if kept:
            await cluster.call("GET", PODS)
        asked = 0

        def fence():
            nonlocal asked
            asked += 1
            if asked > passes:
                raise StopError

        before = len(emulator.records)
        with pytest.raises(StopError):
            await cluster.call("POST", LEASES, body=LEASE, content_type="application/json", fence=fence)
        await cluster.call("GET", f"{LEASES}", fence=lambda: None)
        assert [record.verb for record in emulator.records[before:]] == ["list"]
        assert asked == passes + 1


@on_loop
async def test_the_fence_is_asked_once_there_is_a_connection(tmp_path):
    """Connecting may take as long as a leadership."""
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        found = []
        fence = lambda: found.append(connections(emulator))  # noqa: E731
        await emulator.away()
        with pytest.raises(UnreachableError):
            await cluster.call("DELETE", f"{LEASES}/fe", fence=fence)
        assert not found
        await emulator.back()
        with pytest.raises(ApiError):
            await cluster.call("DELETE", f"{LEASES}/fe", fence=fence)
        assert 0 not in found
        assert found
