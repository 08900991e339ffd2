"""Answers that have begun and cannot be completed: no client may take a part for the whole.

Owns: the ends of connections where the end of the connection is the end of the answer, as it is for an HTTP/1.0 client.
How a replica's broken answers are passed on is in test_http_responses.py.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.support.backends import Backend, Exchange
from tests.support.client import Client
from tests.support.fe_process import FeProcess, endpoint, wait_for

BEGINS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n"


@contextmanager
def answering(backend: Backend, **settings: Any) -> Iterator[FeProcess]:
    """Every answer begins at once, and goes on when the block has ended."""
    gate = threading.Event()

    def begin(exchange: Exchange) -> None:
        exchange.send(BEGINS)
        exchange.wait(gate)

    backend.on("/begins", begin)
    try:
        with FeProcess({"endpoints": [endpoint([backend.address])], **settings}) as fe:
            yield fe
    finally:
        gate.set()


def read_hello(client: Client) -> None:
    client.stream.until(b"\r\n\r\n", 10_000)
    while client.stream.buffer != b"hello":
        assert client.stream.fill(), client.stream.ended
    client.stream.buffer.clear()


def test_an_upload_that_goes_wrong_behind_its_answer(backend: Backend) -> None:
    with answering(backend, limits={"body_timeout_ms": 1000}) as fe, fe.client() as client:
        client.send(b"POST /begins HTTP/1.0\r\nHost: t\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 200_000)
        read_hello(client)
        assert client.ended() == "reset"
        fe.wait_idle()


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_the_end_of_fe_in_the_middle_of_it(backend: Backend, version: bytes) -> None:
    with answering(backend, drain_timeout=0.5) as fe, fe.client() as client:
        client.send(b"GET /begins HTTP/" + version + b"\r\nHost: t\r\n\r\n")
        client.stream.until(b"\r\n\r\n", 10_000)
        wait_for(lambda: b"hello" in client.stream.buffer or not client.stream.fill(), "a part of the answer")
        client.stream.buffer.clear()
        fe.signal(signal.SIGTERM)
        assert client.ended() == "reset"
        assert fe.process.wait(60) == 5
