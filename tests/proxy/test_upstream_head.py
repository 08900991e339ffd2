"""What is sent to a replica: one canonical form, whatever the client's head looked like."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe.proxy import _build, _head
from tests.proxy.heads import Reading, get, read
from tests.support.wire import REQUEST_LINE, Head, body_framing, parse_head

ID = b"01234567-89ab-4def-8123-456789abcdef"
PEER = _build.Peer("192.0.2.7")
PROXY = _build.Peer("192.0.2.7", trusted=True)


def sent(request: _head.RequestHead, body: int = -1, peer: _build.Peer = PEER, **options: Any) -> Head:
    return parse_head(_build.upstream_head(request, peer, ID, body, **options), REQUEST_LINE)


def names(parsed: Head) -> list[str]:
    return [name for name, _ in parsed.headers]


def test_the_canonical_form_to_the_byte() -> None:
    request = read(
        "accept:*/*", "User-Agent:  x/1 \t", "Content-Length: 5", "X-Request-ID: mine", "CONNECTION: close",
        line="POST /score?a=b HTTP/1.1", host="hOsT: fe.example:8080",
    )  # fmt: skip
    assert _build.upstream_head(request, PEER, ID, 5, tail=b"hello") == (
        b"POST /score?a=b HTTP/1.1\r\n"
        b"Host: fe.example:8080\r\n"
        b"accept: */*\r\n"
        b"User-Agent: x/1\r\n"
        b"x-request-id: 01234567-89ab-4def-8123-456789abcdef\r\n"
        b"X-Forwarded-For: 192.0.2.7\r\n"
        b"X-Forwarded-Proto: http\r\n"
        b"X-Real-IP: 192.0.2.7\r\n"
        b'Forwarded: for=192.0.2.7;proto=http;host="fe.example:8080"\r\n'
        b"X-Forwarded-Host: fe.example:8080\r\n"
        b"Content-Length: 5\r\n"
        b"\r\n"
        b"hello"
    )


HOP_BY_HOP = [
    "Connection: keep-alive", "Keep-Alive: timeout=5", "Proxy-Connection: keep-alive", "Proxy-Authorization: Basic a",
    "Proxy-Authenticate: Basic", "TE: trailers", "Trailer: X", "Upgrade: h2c", "HTTP2-Settings: a",
    "Expect: 100-continue", "x-request-id: a", "X-Forwarded-Port: 1", "x-forwarded-prefix: /x",
    *(f"X-Forwarded-{'a' * n}: 1" for n in (18, 19, 20, 4000)), *(f"Proxy-Auth{'a' * n}: 1" for n in (20, 21, 22)),
]  # fmt: skip


@pytest.mark.parametrize("field", HOP_BY_HOP)
def test_fields_of_this_hop_stay_here(field: str) -> None:
    without = _build.upstream_head(read("A: b"), PEER, ID)
    assert _build.upstream_head(read(field, "A: b"), PEER, ID) == without
    assert (
        _build.upstream_head(read("A: b", field.upper().replace("100-CONTINUE", "100-continue")), PEER, ID) == without
    )


def test_fields_listed_in_connection_stay_here() -> None:
    request = read("Connection: a, B", "Connection: c-d", "A: 1", "b: 2", "C-D: 3", "E: 4", "a: 5")
    assert names(sent(request))[:3] == ["Host", "E", "x-request-id"]


def test_what_frames_routes_or_identifies_cannot_be_listed_away() -> None:
    listed = "host, content-length, transfer-encoding, authorization, azureml-model-deployment, x-request-id, forwarded"
    fields = ("Authorization: Bearer k", "azureml-model-deployment: blue", "Content-Length: 3")
    plain, stripped = read(*fields), read(f"Connection: {listed}", *fields)
    assert _build.upstream_head(stripped, PEER, ID, 3) == _build.upstream_head(plain, PEER, ID, 3)


def test_names_with_an_underscore_are_dropped() -> None:
    assert names(sent(read("A_B: 1", "_: 2", "content_length: 3", "C: 4")))[:3] == ["Host", "C", "x-request-id"]


def test_fields_keep_their_order_names_and_repetitions() -> None:
    fields = [
        "Cookie: a",
        "X-a: 1",
        "x-A: 2",
        "cookie: b",
        "Date: x",
        "Accept: y",
        "Via: 1.0 z",
        "Sec-WebSocket-Key: k",
    ]
    assert [f"{name}: {value}" for name, value in sent(read(*fields)).headers][1:9] == fields


@pytest.mark.parametrize("line", ["A:b", "A:  b", "A:\tb", "A: b ", "A:b\t", "A:\t b \t"])
def test_blanks_around_values_are_made_canonical(line: str) -> None:
    assert _build.upstream_head(read(line), PEER, ID) == _build.upstream_head(read("A: b"), PEER, ID)


def test_a_consumed_credential_stays_here() -> None:
    request = read("Authorization: Bearer k")
    assert sent(request).value("authorization") == "Bearer k"
    assert sent(request, strip_authorization=True).values("authorization") == []


@pytest.mark.parametrize(
    ("method", "body", "framing"),
    [
        ("GET", -1, None), ("GET", 0, 0), ("GET", 7, 7), ("HEAD", 7, 7), ("DELETE", -2, "chunked"), ("OPTIONS", 7, 7),
        ("POST", -1, 0), ("PUT", -1, 0), ("PATCH", -1, 0), ("POST", 10**17, 10**17), ("POST", -2, "chunked"),
    ],
)  # fmt: skip
def test_the_body_is_framed_anew(method: str, body: int, framing: str | int | None) -> None:
    assert body_framing(sent(read(line=f"{method} / HTTP/1.1"), body)) == framing


def test_the_target_is_what_routing_has_left() -> None:
    request = read(line="GET /api/v1/endpoint/a/b/../%2F//?c=/d HTTP/1.1")
    assert sent(request).start[1] == "/api/v1/endpoint/a/b/../%2F//?c=/d"
    request.upstream_target = b"/b/../%2F//?c=/d"
    assert sent(request).start == ("GET", "/b/../%2F//?c=/d", "1.1")


def test_absolute_form_brings_its_own_host() -> None:
    parsed = sent(read(line="GET http://other.example:81/a HTTP/1.1"))
    assert (parsed.start[1], parsed.value("host"), parsed.value("x-forwarded-host")) == (
        "/a",
        *["other.example:81"] * 2,
    )


def test_old_clients_may_name_no_host() -> None:
    parsed = sent(read(line="GET / HTTP/1.0", host=None))
    assert (parsed.value("host"), parsed.values("x-forwarded-host")) == ("localhost", [])
    assert parsed.value("forwarded") == "for=192.0.2.7;proto=http"


SPOOFED = (
    "X-Forwarded-For: 10.0.0.1", "X-Forwarded-For: 10.0.0.2, 10.0.0.3", "X-Forwarded-Proto: https",
    "X-Forwarded-Host: a.example", "X-Real-IP: 10.0.0.1", "Forwarded: for=10.0.0.1", "Forwarded: for=10.0.0.2;by=x",
    "X-Forwarded-Port: 444",
)  # fmt: skip


def forwarding(parsed: Head) -> list[str | None]:
    fields = ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded")
    return [parsed.value(name) for name in fields]


def test_strangers_are_not_believed() -> None:
    own = ["192.0.2.7", "http", "fe.example", "192.0.2.7", 'for=192.0.2.7;proto=http;host="fe.example"']
    assert forwarding(sent(read())) == own
    assert forwarding(sent(read(*SPOOFED))) == own


def test_trusted_proxies_are_added_to() -> None:
    assert forwarding(sent(read(*SPOOFED), peer=PROXY)) == [
        "10.0.0.1, 10.0.0.2, 10.0.0.3, 192.0.2.7",
        "https",
        "a.example",
        "10.0.0.1",
        'for=10.0.0.1, for=10.0.0.2;by=x, for=192.0.2.7;proto=http;host="fe.example"',
    ]
    assert sent(read(*SPOOFED), peer=PROXY).value("x-forwarded-port") == "444"
    assert forwarding(sent(read(), peer=PROXY)) == forwarding(sent(read()))
    assert forwarding(sent(read("X-Forwarded-For:", "Forwarded: ", "X-Real-IP:"), peer=PROXY)) == forwarding(
        sent(read())
    )


@pytest.mark.parametrize(
    ("address", "scheme", "plain", "forwarded"),
    [
        ("2001:db8::1", "http", "2001:db8::1", 'for="[2001:db8::1]";proto=http'),
        (None, "http", "unknown", "for=unknown;proto=http"),
        ("10.1.2.3", "https", "10.1.2.3", "for=10.1.2.3;proto=https"),
    ],
)
def test_peers(address: str | None, scheme: str, plain: str, forwarded: str) -> None:
    parsed = sent(read(), peer=_build.Peer(address, scheme=scheme))
    assert (parsed.value("x-forwarded-for"), parsed.value("x-real-ip")) == (plain, plain)
    assert parsed.value("forwarded") == forwarded + ';host="fe.example"'


def test_ids() -> None:
    parsed = sent(read("x-request-id: mine", "x-ms-client-request-id: a;b", "X-MS-Client-Request-Id: c\xe9d"))
    assert parsed.value("x-request-id") == ID.decode()
    assert parsed.value("x-ms-client-request-id") == "cd"
    assert sent(read("x-ms-client-request-id: ;")).values("x-ms-client-request-id") == []


def test_a_websocket_is_asked_for_in_our_own_words() -> None:
    request = read(
        "Connection: foo, Upgrade", "Upgrade: WebSocket", "Sec-WebSocket-Key: k", "Sec-WebSocket-Version: 13"
    )
    parsed = sent(request, websocket=True)
    assert (parsed.value("connection"), parsed.value("upgrade")) == ("Upgrade", "websocket")
    assert parsed.value("sec-websocket-key") == "k"
    assert sent(request).values("upgrade") == []


def test_request_ids_are_fresh_uuids() -> None:
    ids = [_build.request_id() for _ in range(1000)]
    assert len(set(ids)) == 1000
    for each in ids:
        assert [len(part) for part in each.split(b"-")] == [8, 4, 4, 4, 12]
        assert each[14:15] == b"4"
        assert each[19:20] in b"89ab"
        assert set(each) <= set(b"0123456789abcdef-")


NAME = st.text(st.sampled_from("abXY-_1"), min_size=1, max_size=9)
VALUE = st.text(st.sampled_from("a b\t,:\xe9"), max_size=9)
LINES = st.lists(st.tuples(NAME, st.sampled_from([":", ": ", ": \t"]), VALUE).map("".join), max_size=90)


@settings(max_examples=150)
@given(
    LINES,
    st.lists(NAME, max_size=3),
    st.sampled_from([PEER, PROXY, _build.Peer("2001:db8::ffff:1")]),
    st.integers(-2, 99),
)
def test_whatever_passes_is_canonical(lines: list[str], listed: list[str], peer: _build.Peer, body: int) -> None:
    request = _head.read_request(get(f"Connection: {','.join(listed)}", *lines, line="POST /a HTTP/1.1"))
    assert request.status == 0
    raw = _build.upstream_head(request, peer, ID, body)
    parsed = parse_head(raw, REQUEST_LINE)
    expected = [
        (name, value.strip(" \t"))
        for name, _, value in (line.partition(":") for line in lines)
        if "_" not in name and name.lower() not in [each.lower() for each in listed]
    ]
    assert parsed.headers[1 : 1 + len(expected)] == expected
    assert [name for name, _ in parsed.headers[1 + len(expected) :]][:2] == ["x-request-id", "X-Forwarded-For"]
    assert Reading(raw).heads == 1
    again = _head.read_request(raw)
    assert again.status == 0


def test_the_longest_heads_fit() -> None:
    fields = [f"X-Forwarded-For:{'a' * 3000}", *["a:"] * 89, *[f"Forwarded:{'b' * 3000}"] * 8]
    request = read(*fields, line="GET http://" + "h" * 8000 + " HTTP/1.1")
    assert len(sent(request, peer=PROXY).value("forwarded") or "") > 8 * 3000 + 8000
    assert len(_build.upstream_head(request, PROXY, ID, 9, tail=b"x" * 100_000)) > 100_000 + 4 * 8000
    many = _head.read_request(get(*["a:"] * 9000), header_fields=10_000)
    assert _build.upstream_head(many, PEER, ID).count(b"a: \r\n") == 9000
