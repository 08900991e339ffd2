"""The corpora, broken at random: whatever is sent, both sides see nothing but well-formed messages of their own.

Owns: seeded mutations of requests and answers, and what has to hold for all of them. A failure names its bytes: make a
case of them in the corpus it belongs to.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Iterator

import pytest

from tests.e2e import answer_runner
from tests.e2e.corpus import GOOD
from tests.e2e.corpus_answers import ANSWERS
from tests.e2e.corpus_refused import REFUSED
from tests.support import scripts, wire
from tests.support.backends import Backend, Exchange, Request
from tests.support.client import Client, request
from tests.support.fe_process import FeProcess

ROUNDS, BATCH, LARGE = 40, 100, 600
METHODS = {"GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"}
NEVER = {"te", "trailer", "upgrade", "connection", "keep-alive", "expect", "http2-settings", "proxy-authorization"}
PIECES = (
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\0", b":", b";", b",", b"0", b"5", b"_", b"\xff", b"\r\n\r\n", b"0\r\n\r\n",
    b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\nhello\r\n", b"Connection: close\r\n",
    b"HTTP/1.0", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b"HTTP/1.1 100 X\r\n\r\n", b"Host: x\r\n",
    b"GET /smuggled HTTP/1.1\r\nHost: t\r\n\r\n", b"Expect: 100-continue\r\n",
)  # fmt: skip

pytestmark = pytest.mark.timeout(600)  # thousands of connections, on a busy machine


def mutate(chance: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """One to four changes: a byte, a few bytes less, a piece or another message more, something twice."""
    out = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at, end = sorted(chance.randrange(len(out) + 1) for _ in range(2))
        change = chance.randrange(6)
        if change == 0:
            out[at:at] = chance.choice(PIECES)
        elif change == 1:
            del out[at : at + chance.randrange(1, 5)]
        elif change == 2:
            out[at : at + 1] = bytes((chance.randrange(256),))
        elif change == 3:
            out += chance.choice(others)
        elif change == 4:
            out[end:end] = out[at:end]
        else:
            del out[end:]
    return bytes(out)


def _answers(client: Client) -> Iterator[int]:
    """The statuses of all answers up to the end of the connection. A HEAD's has a length and no body: either passes."""
    while client.stream.fill():
        pass
    while client.stream.buffer:
        head = client.read_head()
        status = int(head.start[1])
        yield status
        size = wire.body_framing(head)
        if status < 200 or status in (204, 304):
            continue
        if not (isinstance(size, int) and (client.stream.buffer.startswith(b"HTTP/") or not client.stream.buffer)):
            wire.read_body(client.stream, size)


def _is_canonical(one: Request) -> bool:
    names = [name.lower() for name, _ in one.head.headers]
    framing = names.count("content-length") + names.count("transfer-encoding")
    return (
        one.head.start[2] == "1.1"
        and one.method in METHODS
        and names.count("host") == 1
        and framing <= 1
        and not NEVER & set(names)
        and not any("_" in name for name in names)
    )


@pytest.mark.parametrize("seed", [1, 2])
def test_requests(fe: FeProcess, backend: Backend, seed: int) -> None:
    chance = random.Random(seed)  # noqa: S311
    cases = [case.bytes_for("id") for case in GOOD + REFUSED if len(case.data) < LARGE]
    worker = fe.workers()
    for _ in range(ROUNDS):
        before = len(backend.requests)
        sent = [mutate(chance, chance.choice(cases), cases) for _ in range(BATCH)]
        good = sum(_run_requests(fe, sent))
        seen = [one for one in backend.requests[before:] if one.target != "/barrier"]
        assert [one.head.raw for one in seen if not _is_canonical(one)] == []
        assert len([one for one in seen if one.body is not None]) <= good
    assert backend.faults == []
    assert fe.workers() == worker
    fe.wait_idle()


def _run_requests(fe: FeProcess, sent: list[bytes]) -> list[int]:
    """By connection: how many requests were answered with 200."""
    clients = [fe.client() for _ in sent]
    for client, data in zip(clients, sent, strict=True):
        client.try_send(data)
    with fe.client() as barrier:
        for _ in range(3):  # a client's FIN means that it has gone: not before everything is answered
            assert barrier.get("/barrier").status == 200
            fe.wait_idle()
    good = []
    for client, data in zip(clients, sent, strict=True):
        with contextlib.suppress(OSError):  # it may be closed already
            client.half_close()
        try:
            statuses = list(_answers(client))
        except AssertionError as error:
            raise AssertionError(f"{error} for {data!r}") from error
        assert not [status for status in statuses if status in (500, 502, 503, 504)], (statuses, data)
        good.append(statuses.count(200))
        client.reset()
    return good


@pytest.mark.parametrize("seed", [1])
def test_answers(backend: Backend, seed: int) -> None:
    """Each to a request of its own, with another request behind it on the same connection."""
    chance = random.Random(seed)  # noqa: S311
    bytes_of = [answer.data for answer in ANSWERS if 0 < len(answer.data) < LARGE]
    plans: dict[str, tuple[bytes, str]] = {}

    def script(exchange: Exchange) -> None:
        data, then = plans[exchange.request.target.rpartition("/")[2]]
        scripts.raw(data, then)(exchange)

    numbers = itertools.count()
    batches = 40
    with FeProcess({"endpoints": answer_runner.endpoints(backend, batches)}) as fe:
        worker = fe.workers()
        for batch in range(batches):
            names = [str(next(numbers)) for _ in range(20)]
            for name in names:
                plans[name] = (mutate(chance, chance.choice(bytes_of), bytes_of), chance.choice(("close", "reset")))
                backend.on(f"/bad{batch}/{name}", script)
            _run_answers(fe, [(f"/bad{batch}/{name}", plans[name]) for name in names])
        assert fe.workers() == worker
        fe.wait_idle()


def _run_answers(fe: FeProcess, batch: list[tuple[str, tuple[bytes, str]]]) -> None:
    clients = []
    for target, _ in batch:
        client = fe.client()
        client.send(request(target, "POST", b"x") + request("/canary/x"))
        clients.append(client)
    for client, plan in zip(clients, batch, strict=True):
        try:
            if not client.read_response().closes:
                assert client.read_response("GET").body == b"canary"
        except wire.EndedError:
            pass  # the client knows that the answer is not complete
        except AssertionError as error:
            raise AssertionError(f"{error} for {plan}") from error
        client.reset()
