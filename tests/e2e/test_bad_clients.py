"""Clients that are slow, silent or deaf, and very many of them.

Owns: the limits that keep one client from costing others anything. Each limit is set low, so that it binds soon: too
low for a test that gets no processor for a while, so a client's first bytes are there before fe sees the client.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from tests.support import proc, scripts
from tests.support.backends import Backend
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess, endpoint, stopped, wait_for

LIMITS = {
    "header_timeout_ms": 400,
    "idle_timeout_ms": 600,
    "body_timeout_ms": 400,
    "body_min_bytes": 1000,
    "write_timeout_ms": 500,
}
IDLE = 10_000


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    model = endpoint([backend.address], max_concurrent_requests_per_instance=4)
    with FeProcess({"endpoints": [model], "limits": LIMITS}) as one:
        yield one


def _clients(fe: FeProcess, first: bytes, count: int = 1, **options: int) -> list[Client]:
    """Clients that have connected and sent these bytes before any limit began."""
    with stopped(fe.workers()[0]):
        clients = [fe.client(**options) for _ in range(count)]
        for client in clients:
            client.send(first)
    return clients


def _ends(client: Client) -> bytes:
    """What comes before the end of the connection."""
    while client.stream.fill():
        pass
    return bytes(client.stream.buffer)


def test_a_silent_client(fe: FeProcess) -> None:
    with fe.client() as client:
        assert _ends(client) == b""


def test_a_client_that_is_silent_after_a_request(fe: FeProcess) -> None:
    [client] = _clients(fe, request("/"))
    with client:
        assert client.read_response("GET").status == 200
        assert _ends(client) == b""


@pytest.mark.parametrize("part", [b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: t\r\n"])
def test_an_unfinished_head(fe: FeProcess, part: bytes) -> None:
    [client] = _clients(fe, part)
    with client:
        assert _ends(client).startswith(b"HTTP/1.1 408 ")


def test_a_head_that_comes_too_slowly(fe: FeProcess) -> None:
    """Each byte in time, but not the whole: the limit is for the head, not for the silence."""
    data = request("/slow-head", headers={"X": "y" * 200})
    [client] = _clients(fe, data[:1])
    with client:
        for place in range(1, len(data)):
            if client.has_ended():
                break
            client.try_send(data[place : place + 1])
            client.sock.settimeout(0.05)
            try:
                client.stream.fill()
            except TimeoutError:
                continue
        assert _ends(client).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("size", [10_000, 10_000_000], ids=["collected", "streamed"])
def test_a_body_that_stops(fe: FeProcess, backend: Backend, size: int) -> None:
    begun = b"POST /stops HTTP/1.1\r\nHost: t\r\nContent-Length: %d\r\n\r\n" % size + b"x" * 2000
    [client] = _clients(fe, begun)
    with client:
        assert _ends(client).startswith((b"HTTP/1.1 408 ", b"HTTP/1.1 400 "))
    fe.wait_idle()
    assert all(one.body is None for one in backend.seen("/stops"))


def test_a_client_that_never_reads(fe: FeProcess, backend: Backend) -> None:
    """The answer is far larger than all buffers; the replica's place must not be lost to such a client."""
    backend.on("/unread", scripts.source(64 << 20))
    clients = _clients(fe, request("/unread"), 4, rcvbuf=4096)
    backend.wait_requests(4, "/unread")
    fe.wait_idle()
    clients += _clients(fe, request("/"))
    assert clients[-1].read_response("GET").status == 200
    for client in clients:
        client.close()


def test_pipelining_without_reading(fe: FeProcess, backend: Backend) -> None:
    """Requests without end and nobody reads the answers: what is kept is bounded."""
    pid = fe.workers()[0]
    before = proc.private_bytes(pid)
    with Client(fe.address, rcvbuf=4096) as client:
        client.sock.settimeout(1)
        block = request("/pipelined") * 500
        with pytest.raises(OSError, match=r".*"):  # noqa: PT012
            for _ in range(2000):
                client.send(block)
    assert proc.private_bytes(pid) - before < 8 << 20
    fe.wait_idle()
    assert backend.faults == []


def test_ten_thousand_idle_clients(backend: Backend) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients: list[Client] = []
    try:
        with FeProcess({"endpoints": [endpoint([backend.address])]}, workers=2) as fe:
            for number in range(IDLE):
                clients.append(fe.client(source=f"127.0.0.{1 + number % 4}"))
            wait_for(lambda: sum(map(proc.open_files, fe.workers())) >= IDLE, "all are accepted")
            for client in clients[:: IDLE // 200]:
                assert client.get("/").status == 200
            with fe.client() as another:
                assert another.get("/").status == 200
            for client in clients[:: IDLE // 200]:
                assert not client.has_ended()
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
