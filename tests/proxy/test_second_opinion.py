"""Two readers of one head: what fe understands is what httptools reads, and where httptools is lenient fe is not.

The heads are made from a grammar with faults mixed in, so that most of them are nearly good.
"""

from __future__ import annotations

import httptools
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from fe.proxy import _head
from tests.proxy.heads import Reading, get

QUICK = settings(max_examples=300)

# What httptools lets through although a proxy must not: the reason why there is a reader in front of it.
LENIENT = [
    get(line="GET / HTTP/0.9"),
    get(line="GET / HTTP/2.0"),
    get(line="SETUP / RTSP/1.0"),
    get(line="SOURCE / ICE/1.0"),
    get(host=None),
    get("Host: b"),
    get("Transfer-Encoding: chunked", line="POST / HTTP/1.0"),
    get("Transfer-Encoding: gzip, chunked", line="POST / HTTP/1.1"),
    get("Transfer-Encoding: ,chunked", line="POST / HTTP/1.1"),
    get("Transfer-Encoding: gzip", "Transfer-Encoding: chunked", line="POST / HTTP/1.1"),
    get("Content-Length: 010", line="POST / HTTP/1.1"),
    get("Content-Length: 18446744073709551615", line="POST / HTTP/1.1"),
    get(line="GET * HTTP/1.1"),
    get(line="GET /a#b HTTP/1.1"),
    get(line="GET /a\\b HTTP/1.1"),
    get(line="GET  / HTTP/1.1"),
    get(line="TRACE / HTTP/1.1"),
    get(line="PROPFIND / HTTP/1.1"),
    get("X: " + "a" * 100_000),
    get(*["a: b"] * 1000),
    get(line="GET /" + "a" * 100_000 + " HTTP/1.1"),
    get("Connection: Upgrade", "Upgrade: h2c", "Content-Length: 5", line="POST / HTTP/1.1"),
    get(line="CONNECT a:443 HTTP/1.1"),
]


@pytest.mark.parametrize("raw", LENIENT, ids=lambda raw: repr(raw[:40]))
def test_what_httptools_lets_through_is_refused(raw: bytes) -> None:
    assert Reading(raw).heads == 1
    if (found := _head.HeadFinder().feed(raw)) > 0:
        assert found == len(raw)
        assert _head.read_request(raw).status >= 400
    else:
        assert found <= -400


TEXT = st.text(st.sampled_from('aZ09 \t,;:=/?#\\"(){}[]<>@%_-.\x00\x0b\x7f\x80\xff\r\n'), max_size=12)
METHODS = st.sampled_from(
    ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "get", "TRACE", "CONNECT", "PRI", ""]
)
VERSIONS = st.sampled_from(["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/1.2", "RTSP/1.1", ""])
TARGETS = st.one_of(
    st.sampled_from(["/", "*", "/a/b?c", "http://h.example/x", "http://h", "a", "//", "/%2e", "/a#b", "/\\"]),
    TEXT.map("/{}".format),
)
NAMES = st.sampled_from([
    "Host", "Content-Length", "Transfer-Encoding", "Connection", "Upgrade", "Expect", "Authorization", "Accept", "A",
    "content_length", "Sec-WebSocket-Key", "X-Forwarded-For", "TE", "Keep-Alive", "a b", "",
])  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        ["h.example", "5", "0", "chunked", "close", "keep-alive", "upgrade", "websocket", "100-continue", ""]
    ),
    TEXT,
)
COLONS = st.sampled_from([": ", ":", ":\t ", " : "])
ENDS = st.sampled_from(["\r\n"] * 12 + ["\n", "\r", "\r\n "])
FIELDS = st.lists(st.tuples(NAMES, COLONS, VALUES, ENDS).map("".join), max_size=6)


@QUICK
@given(METHODS, TARGETS, VERSIONS, st.booleans(), FIELDS)
@example("GET", "/", "HTTP/1.1", True, ["Connection: close\r\n"])
@example("GET", "/", "HTTP/1.1", True, ["Connection: keep-alive\r\n"])
def test_accepted_requests_are_read_alike(
    method: str, target: str, version: str, host: bool, fields: list[str]
) -> None:
    text = f"{method} {target} {version}\r\n" + ("Host: fe.example\r\n" if host else "") + "".join(fields) + "\r\n"
    raw = text.encode("latin-1")
    request = _head.read_request(raw)
    found = _head.HeadFinder().feed(raw)
    if request.status == 0:
        assert found == len(raw)
        _compare(request, raw)
    else:
        assert request.status in (400, 405, 414, 417, 431, 501, 505)
        assert not request.keep_alive
        assert request.problem


def _compare(request: _head.RequestHead, raw: bytes) -> None:
    other = Reading(raw)
    assert other.heads == 1
    assert _head.describe(request)["fields"] == other.fields
    assert other.parser.get_method() == request.method_bytes
    assert other.parser.get_http_version() == f"1.{request.minor}"
    if not other.url.startswith(b"http"):
        assert other.url == request.target
    names = [name.lower() for name, _ in other.fields]
    assert names.count(b"content-length") == (request.content_length >= 0)
    if request.minor == 1 and not other.upgrade and _head.describe(request)["framing"] == "none":
        assert request.keep_alive == other.keep_alive


@QUICK
@given(st.binary(max_size=80), st.sampled_from([b"", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: a\r\n"]))
@example(b"\r\n" * 9, b"")
def test_no_bytes_do_harm(data: bytes, before: bytes) -> None:
    raw = before + data
    request = _head.read_request(raw)
    if request.status == 0:
        _compare(request, raw.lstrip(b"\r\n"))
    found = _head.HeadFinder().feed(raw)
    finder = _head.HeadFinder()
    bytewise = next((result for at in range(len(raw)) if (result := finder.feed(raw[at : at + 1]))), 0)
    assert found == bytewise
    _head.read_response(raw)


RESPONSE_NAMES = st.sampled_from(["Content-Length", "Transfer-Encoding", "Connection", "Date", "A", "Upgrade", ""])
RESPONSE_FIELDS = st.lists(st.tuples(RESPONSE_NAMES, COLONS, VALUES, ENDS).map("".join), max_size=5)
STATUSES = st.sampled_from(
    ["100", "101", "103", "200", "204", "304", "404", "599", "600", "099", "20", "2000", "-20", ""]
)


@QUICK
@given(VERSIONS, STATUSES, st.sampled_from(["", " ", " OK", "  a\tb", " \x00"]), RESPONSE_FIELDS, METHODS)
def test_accepted_responses_are_read_alike(
    version: str, status: str, reason: str, fields: list[str], method: str
) -> None:
    raw = f"{version} {status}{reason}\r\n{''.join(fields)}\r\n".encode("latin-1")
    response = _head.read_response(raw, "HEAD" if method == "HEAD" else "GET", websocket=True)
    if response.problem is not None:
        assert not response.keep_alive
        return
    other = Reading(raw, httptools.HttpResponseParser)
    assert other.heads == 1
    assert _head.describe(response)["fields"] == other.fields
    assert other.parser.get_status_code() == response.status
    assert _head.HeadFinder(response=True).feed(raw) == len(raw)
