"""Requests, case by case: what reaches the replica has one form, whatever the client sent and however it was cut.

Owns: the runs over the request corpus. The cases are in corpus.py and corpus_refused.py, the judgement in runner.py.
"""

from __future__ import annotations

import pytest

from tests.e2e import runner
from tests.e2e.corpus import GOOD, Case
from tests.e2e.corpus_refused import REFUSED
from tests.support.backends import Backend
from tests.support.client import request
from tests.support.fe_process import FeProcess

pytestmark = pytest.mark.timeout(600)  # tens of thousands of connections, on a busy machine

GROUPS = pytest.mark.parametrize("cases", [GOOD, REFUSED], ids=["good", "refused"])


@GROUPS
def test_whole(fe: FeProcess, backend: Backend, cases: list[Case]) -> None:
    assert runner.run(fe, backend, runner.whole(cases)) == 2 * len(cases)
    fe.wait_idle()


@GROUPS
def test_cut_at_every_byte(fe: FeProcess, backend: Backend, cases: list[Case]) -> None:
    assert runner.run(fe, backend, runner.split(cases)) > 50 * len(cases)
    fe.wait_idle()


@GROUPS
def test_byte_by_byte(fe: FeProcess, backend: Backend, cases: list[Case]) -> None:
    assert runner.run(fe, backend, runner.bytewise(cases)) == len(cases)
    fe.wait_idle()


def test_unfinished_requests_leave_nothing(fe: FeProcess, backend: Backend) -> None:
    """A client that ends in the middle of a head or of a collected body: not a byte of it reaches a replica."""
    before = len(backend.requests)
    data = request("/unfinished", "POST", b"hello world")
    for place in range(1, len(data)):
        with fe.client() as client:
            client.send(data[:place])
            client.half_close() if place % 2 else client.reset()
            if place % 2:
                client.stream.rest()  # nothing, or an error answer; then the end
    fe.wait_idle()
    assert [one.target for one in backend.requests[before:] if one.target == "/unfinished"] == []


@pytest.mark.parametrize("size", [1001, 5000])
def test_a_collected_body_that_grows_too_large(fe: FeProcess, backend: Backend, size: int) -> None:
    """413 at the byte that is too many; the replica hears nothing of it."""
    with fe.client() as client:
        client.send(b"POST /small/grows HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        client.send(b"64\r\n" + b"x" * 100 + b"\r\n")
        client.try_send(b"%x\r\n" % (size - 100) + b"x" * (size - 100) + b"\r\n0\r\n\r\n")
        answer = client.read_response()
        assert (answer.status, answer.closes) == (413, True)
        client.ended()
    assert backend.seen("/small/grows") == []
    with fe.client() as client:
        assert client.post("/small/fits", b"x" * 1000).status == 200


def test_a_streamed_body_that_grows_too_large(fe: FeProcess, backend: Backend) -> None:
    """413, and the replica sees one request that does not end."""
    with fe.client() as client:
        client.send(b"POST /grows HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(21):
            client.try_send(b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
        client.try_send(b"0\r\n\r\n")
        answer = client.read_response()
        assert (answer.status, answer.closes) == (413, True)
        client.ended()
    fe.wait_idle()
    assert [one.body for one in backend.seen("/grows")] in ([], [None])
