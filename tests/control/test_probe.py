"""One probe: what is a good answer, what is not, and that it ends in time and reads no more than it needs."""

from __future__ import annotations

import asyncio
import socket

import pytest

from fe.control.addresses import pack_inet, pack_unix
from fe.control.probe import HEAD_BYTES, Ask, Attempt, Outcome
from tests.control.harness import Replica, eventually, in_virtual_time, on_loop, replicas, status
from tests.support.fe_process import dead_port

SHORT = 0.15  # seconds, where the time limit is what is tested


async def attempt(
    sockaddr: bytes, ask: Ask = Ask.HEALTHY, timeout: float = 45.0, path: str = "/"
) -> tuple[Outcome, str]:
    loop = asyncio.get_running_loop()
    verdicts: list[tuple[Outcome, str]] = []
    done = loop.create_future()

    def on_done(outcome: Outcome, why: str) -> None:
        verdicts.append((outcome, why))
        if not done.done():
            done.set_result(None)

    Attempt(loop, sockaddr, ask, timeout, on_done, path)
    assert not verdicts, "a verdict from inside the constructor"
    await done
    await asyncio.sleep(0)
    assert len(verdicts) == 1
    return verdicts[0]


CASES = [
    (status(200), Outcome.OK, Outcome.OK),
    (status(204, b""), Outcome.OK, Outcome.OK),
    (status(302), Outcome.OK, Outcome.OK),
    (status(399), Outcome.OK, Outcome.OK),
    (status(400), Outcome.FAILED, Outcome.OK),
    (status(404), Outcome.FAILED, Outcome.OK),
    (status(501), Outcome.FAILED, Outcome.OK),
    (status(503), Outcome.FAILED, Outcome.FAILED),
    (b"HTTP/1.1 102 P\r\n\r\n" + status(200), Outcome.OK, Outcome.OK),
    (b"HTTP/1.0 200 OK\r\n\r\nuntil the end", Outcome.OK, Outcome.OK),
    (status(200) + b"and more than it declared", Outcome.OK, Outcome.OK),
    (b"HTTP/1.1 101 S\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", Outcome.FAILED, Outcome.FAILED),
    (b"HTTP/1.1 999 X\r\n\r\n", Outcome.FAILED, Outcome.OK),
    (b"SSH-2.0-OpenSSH\r\n", Outcome.FAILED, Outcome.FAILED),
    (b"HTTP/1.1 20 OK\r\n\r\n", Outcome.FAILED, Outcome.FAILED),
    (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", Outcome.FAILED, Outcome.FAILED),
    (b"HTTP/1.1 200 OK\r\nX: y\r\n", Outcome.FAILED, Outcome.FAILED),  # ends within the head
    (b"", Outcome.FAILED, Outcome.FAILED),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * (HEAD_BYTES // 6) + b"\r\n", Outcome.FAILED, Outcome.FAILED),
]


@pytest.mark.parametrize(("answer", "healthy", "serves"), CASES, ids=[repr(case[0][:24]) for case in CASES])
@on_loop
async def test_what_counts_as_an_answer(answer, healthy, serves):
    async with replicas() as [replica]:
        replica.answer = answer
        assert (await attempt(replica.sockaddr, Ask.HEALTHY))[0] is healthy
        assert (await attempt(replica.sockaddr, Ask.SERVES))[0] is serves


@on_loop
async def test_the_request_is_plain_and_asks_for_the_path():
    async with replicas() as [replica]:
        await attempt(replica.sockaddr, path="/health/live?x=1")
        lines = replica.requests[0].decode().split("\r\n")
    assert lines[0] == "GET /health/live?x=1 HTTP/1.1"
    assert f"Host: {replica.address}" in lines
    assert "Connection: close" in lines


@on_loop
async def test_an_answer_may_come_byte_by_byte():
    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        for byte in status(200):
            writer.write(bytes([byte]))
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await attempt(pack_inet("127.0.0.1", port)) == (Outcome.OK, "status 200")
    server.close()


@on_loop
async def test_the_server_may_finish_a_body_after_the_verdict():
    ended = asyncio.get_running_loop().create_future()

    async def serve(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 30000\r\nConnection: close\r\n\r\n")
        await writer.drain()
        await verdict.wait()
        writer.write(bytes(30000))
        try:
            await writer.drain()
            writer.write_eof()
            ended.set_result(await reader.read())  # b"": closed in peace; a reset raises
        except OSError as error:
            ended.set_result(error)
        writer.close()

    verdict = asyncio.Event()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert (await attempt(pack_inet("127.0.0.1", port)))[0] is Outcome.OK
    verdict.set()
    assert await asyncio.wait_for(ended, 45) == b""
    server.close()


@on_loop
async def test_silence_is_a_timeout_and_refusal_a_failure():
    async with replicas() as [replica]:
        replica.answer = None
        assert await attempt(replica.sockaddr, timeout=SHORT) == (Outcome.TIMEOUT, "no answer in time")
    refused = pack_inet("127.0.0.1", dead_port())
    for ask in Ask:
        assert await attempt(refused, ask) == (Outcome.FAILED, "connection refused")


@on_loop
async def test_connecting_is_enough_where_only_that_is_asked():
    async with replicas() as [replica]:
        replica.answer = None
        assert (await attempt(replica.sockaddr, Ask.CONNECT))[0] is Outcome.OK


@on_loop
async def test_ipv6_and_unix_sockets(tmp_path):
    replica = Replica()
    await replica.start(host="::1")
    assert (await attempt(pack_inet("::1", replica.port)))[0] is Outcome.OK
    assert f"Host: [::1]:{replica.port}".encode() in replica.requests[0]
    await replica.stop()
    path = str(tmp_path / "model.sock")
    server = await asyncio.start_unix_server(replica._serve, path)
    assert (await attempt(pack_unix(path)))[0] is Outcome.OK
    server.close()
    assert await attempt(pack_unix(str(tmp_path / "none"))) == (Outcome.FAILED, "no such file or directory")


@on_loop
async def test_a_unix_socket_with_a_full_queue_is_busy(tmp_path):
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen(0)
        taken = []
        while True:
            client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            taken.append(client)
            if client.connect_ex(path):
                break
        assert (await attempt(pack_unix(path), timeout=SHORT))[0] is Outcome.TIMEOUT
        for client in taken:
            client.close()


@in_virtual_time
async def test_a_cancelled_attempt_says_nothing_and_closes():
    async with replicas() as [replica]:
        replica.answer = None
        loop = asyncio.get_running_loop()
        verdicts: list[Outcome] = []
        one = Attempt(loop, replica.sockaddr, Ask.HEALTHY, 10.0, lambda outcome, _why: verdicts.append(outcome))
        await eventually(lambda: replica.asked, "asked")
        one.cancel()
        await asyncio.sleep(20.0)
        assert not verdicts
