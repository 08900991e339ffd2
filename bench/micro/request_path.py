"""What fe does with a request's bytes, step by step: reading heads, finding the endpoint, writing heads anew.

The heads are those of the macro benchmarks: a POST with seven fields and what a model server answers. All are called
from Python, which adds the same few tens of ns to each. Beside reading stands httptools alone, which is the second
opinion that every head needs (docs/decisions/0003-parsing.md): the difference is fe's own reading and its checks.
"""

from __future__ import annotations

from collections.abc import Iterator

import httptools

from bench.context import Context
from bench.macro import cpu
from bench.micro import perf
from bench.micro.snapshots import snapshot
from bench.parties import ANSWER
from bench.result import Measure
from fe.proxy import _build, _head
from fe.proxy._router import Router

BODY_LENGTH = len(cpu.REQUEST)
TARGET = b"/api/v1/endpoint/endpoint-500/score"
REQUEST = (
    b"POST " + TARGET + b" HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: application/json\r\n"
    b"Accept-Encoding: identity\r\nContent-Length: %d\r\nContent-Type: application/json\r\nUser-Agent: bench/1\r\n"
    b"X-Trace: 0123456789abcdef\r\n\r\n" % BODY_LENGTH
)
RESPONSE = (
    b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nDate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
    b"Content-Type: application/json\r\nContent-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(ANSWER)
)
REQUEST_ID = b"01234567-89ab-4def-8123-456789abcdef"
CALLS = 10_000  # for a value
ENDPOINTS = 1_000


def measure(context: Context) -> Iterator[Measure]:
    """Nanoseconds per call."""
    values = perf.run(context, __name__, 3 if context.quick else 10)
    read = {"request": "read_request", "response": "read_response"}
    alone = {f"{what}, httptools alone": f"httptools_{what}" for what in read}
    yield Measure("head_read", "head read and checked", "ns", perf.flat(values, {**read, **alone}, 1e9))
    written = {"to the replica": "write_request", "to the client": "write_response"}
    yield Measure("head_written", "head written anew", "ns", perf.flat(values, written, 1e9))
    routed = {"AzureML URI": "route_uri", "path prefix": "route_prefix"}
    yield Measure(
        "route", "endpoint and deployment of a request", "ns", perf.flat(values, routed, 1e9),
        note=f"Among {ENDPOINTS:,} endpoints; the path has three segments, its prefix two.",
    )  # fmt: skip


def main() -> None:
    runner = perf.runner(CALLS)
    request, response = _head.read_request(REQUEST), _head.read_response(RESPONSE, "POST")
    peer = _build.Peer("127.0.0.1")
    runner.bench_func("read_request", _head.read_request, REQUEST)
    runner.bench_func("read_response", _head.read_response, RESPONSE, "POST")
    runner.bench_func("httptools_request", lambda: httptools.HttpRequestParser(Ignored()).feed_data(REQUEST))
    runner.bench_func("httptools_response", lambda: httptools.HttpResponseParser(Ignored()).feed_data(RESPONSE))
    runner.bench_func("write_request", _build.upstream_head, request, peer, REQUEST_ID, BODY_LENGTH)
    runner.bench_func("write_response", _build.downstream_head, response, request, REQUEST_ID)
    router = Router(snapshot(ENDPOINTS))
    for name, target in (("route_uri", TARGET), ("route_prefix", b"/models/500/score")):
        head = _head.read_request(REQUEST.replace(TARGET, target))
        runner.bench_func(name, _route, router, head)


class Ignored:
    """A parser's owner that wants to know nothing."""


def _route(router: Router, head: _head.RequestHead) -> None:
    endpoint = router.routed(head)
    assert endpoint is not None
    endpoint.chosen(head)


if __name__ == "__main__":
    main()
