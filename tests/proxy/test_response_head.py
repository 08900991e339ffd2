"""The rules for responses: what of a replica's head is believed, and what the client is sent for it."""

from __future__ import annotations

import time
from email.utils import parsedate_to_datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe.proxy import _build, _head
from tests.proxy.heads import answer, read
from tests.support.wire import STATUS_LINE, Head, body_framing, parse_head

ID = b"01234567-89ab-4def-8123-456789abcdef"
LINE = b"azureml-model-deployment: main\r\n"

GOOD_LINES = [
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200 ",
    "HTTP/1.1 200",
    "HTTP/1.0 404 Not \t\xe9 Found",
    "HTTP/1.1 599 x",
    "HTTP/1.1 100 ",
]
BAD_LINES = [
    "HTTP/1.1 099 x", "HTTP/1.1 000 x", "HTTP/1.1 600 x", "HTTP/1.1 999 x", "HTTP/1.1 20 x", "HTTP/1.1 2000 x",
    "HTTP/1.1 2x0 x", "HTTP/1.1  200 OK", "HTTP/1.1\t200 OK", " HTTP/1.1 200 OK", "HTTP/1.2 200 OK", "HTTP/2 200 OK",
    "HTTP/2.0 200 OK", "HTTP/0.9 200 OK", "http/1.1 200 OK", "ICY 200 OK", "HTTP/1.1 200OK", "HTTP/1.1", "", "200 OK",
    "HTTP/1.1 200 O\x00K", "HTTP/1.1 200 O\rK", "HTTP/1.1 200 O\x7fK", "HTTP/1.1 -20 x", "HTTP/1.1 +20 x", "<html>",
]  # fmt: skip

# (fields, framing of a 200 to GET, or None: refused; may the connection be used again)
FRAMINGS: list[tuple[tuple[str, ...], str | None, bool]] = [
    (("Content-Length: 5",), "length", True),
    (("Content-Length: 0",), "length", True),
    (("Transfer-Encoding: chunked",), "chunked", True),
    (("Transfer-Encoding: CHUNKED",), "chunked", True),
    ((), "close", False),
    (("Content-Length: 5", "Connection: close"), "length", False),
    (("Content-Length: 5", "Connection: a, Close"), "length", False),
    (("Content-Length: 5", "Connection: keep-alive"), "length", True),
    (("Content-Length: 5", "Connection: a b"), "length", False),
    (("Content-Length: 5", "Content-Length: 5"), None, False),
    (("Content-Length: 5", "Content-Length: 6"), None, False),
    (("Content-Length: 5, 5",), None, False),
    (("Content-Length: 05",), None, False),
    (("Content-Length: +5",), None, False),
    (("Content-Length: -5",), None, False),
    (("Content-Length: 0x5",), None, False),
    (("Content-Length:",), None, False),
    (("Content-Length: 99999999999999999999",), None, False),
    (("Content-Length: 5", "Transfer-Encoding: chunked"), None, False),
    (("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), None, False),
    (("Transfer-Encoding: gzip, chunked",), None, False),
    (("Transfer-Encoding: chunked, gzip",), None, False),
    (("Transfer-Encoding: identity",), None, False),
    (("Transfer-Encoding:",), None, False),
]

BAD_FIELDS = [
    "A",
    ": b",
    "A : b",
    " A: b",
    "A: b\r\n c",
    "A: b\x00",
    "A: b\rc",
    "A b: c",
    "A\x00: b",
    "A: b\nC: d",
    "A: \x1b",
]


@pytest.mark.parametrize("line", GOOD_LINES)
def test_good_status_lines(line: str) -> None:
    response = answer("Content-Length: 0", line=line)
    assert response.problem is None
    assert response.status == int(line[9:12])
    assert _head.describe(response)["reason"] == line[13:].encode("latin-1")


@pytest.mark.parametrize("line", BAD_LINES)
def test_bad_status_lines(line: str) -> None:
    response = answer("Content-Length: 0", line=line)
    assert response.problem
    assert not response.keep_alive


@pytest.mark.parametrize(("fields", "framing", "keep"), FRAMINGS)
def test_framing(fields: tuple[str, ...], framing: str | None, keep: bool) -> None:
    response = answer(*fields)
    assert (response.problem is None) == (framing is not None), response.problem
    assert response.keep_alive == keep
    if framing:
        assert _head.describe(response)["framing"] == framing


@pytest.mark.parametrize("field", BAD_FIELDS)
def test_bad_fields(field: str) -> None:
    assert answer("Content-Length: 0", field).problem


def test_old_servers_are_served_once() -> None:
    response = answer("Content-Length: 5", "Connection: keep-alive", line="HTTP/1.0 200 OK")
    assert (response.problem, response.keep_alive) == (None, False)
    assert answer("Transfer-Encoding: chunked", line="HTTP/1.0 200 OK").problem


@pytest.mark.parametrize(
    ("line", "method"),
    [("HTTP/1.1 200 OK", "HEAD"), ("HTTP/1.1 204 x", "GET"), ("HTTP/1.1 304 x", "GET"), ("HTTP/1.1 103 x", "GET")],
)
@pytest.mark.parametrize(
    ("fields", "keep"),
    [
        ((), None),
        (("Content-Length: 0",), True),
        (("Content-Length: 5",), False),
        (("Transfer-Encoding: chunked",), False),
    ],
)
def test_answers_without_a_body(line: str, method: str, fields: tuple[str, ...], keep: bool | None) -> None:
    """Whatever the fields say. A server that may send a declared body all the same is not used again, nor one whose
    answer to HEAD gives no length: its bodies may end with the connection, and so may this answer."""
    response = answer(*fields, line=line, method=method)
    assert response.problem is None
    assert _head.describe(response)["framing"] == "none"
    assert response.keep_alive == (keep if keep is not None else method != "HEAD")


@pytest.mark.parametrize("value", ["5x", "5, 6"])
def test_fields_are_checked_even_without_a_body(value: str) -> None:
    assert answer(f"Content-Length: {value}", method="HEAD").problem
    assert answer(f"Transfer-Encoding: {value}", line="HTTP/1.1 204 x").problem


SWITCH = ("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Accept: x")


def test_switching_protocols() -> None:
    line = "HTTP/1.1 101 Switching Protocols"
    assert answer(*SWITCH, line=line, websocket=True).switches
    assert answer(*SWITCH, line=line).problem
    assert answer("Connection: Upgrade", "Upgrade: h2c", line=line, websocket=True).problem
    assert answer("Upgrade: websocket", line=line, websocket=True).problem
    assert answer("Connection: Upgrade", line=line, websocket=True).problem
    assert not answer("Content-Length: 0", websocket=True).switches


def passed(response: Any, line: str = "GET / HTTP/1.1", *fields: str, **options: Any) -> Head:
    assert response.problem is None
    return parse_head(_build.downstream_head(response, read(*fields, line=line), ID, LINE, **options), STATUS_LINE)


def test_the_canonical_form_to_the_byte() -> None:
    response = answer("server:x", "Date:  y ", "content-length: 5", "Connection: keep-alive, A", "A: b", "X_y: z")
    request = read("x-ms-client-request-id: me")
    assert _build.downstream_head(response, request, ID, LINE, tail=b"hello") == (
        b"HTTP/1.1 200 OK\r\n"
        b"server: x\r\n"
        b"Date: y\r\n"
        b"X_y: z\r\n"
        b"azureml-model-deployment: main\r\n"
        b"x-request-id: 01234567-89ab-4def-8123-456789abcdef\r\n"
        b"x-ms-client-request-id: me\r\n"
        b"Content-Length: 5\r\n"
        b"\r\n"
        b"hello"
    )


@pytest.mark.parametrize(
    "field",
    [
        "Connection: x", "Keep-Alive: timeout=5", "Proxy-Connection: x", "Proxy-Authenticate: Basic", "TE: x",
        "Trailer: x", "Upgrade: h2c", "HTTP2-Settings: x", "azureml-model-deployment: other", "x-request-id: other",
        "x-ms-client-request-id: other",
    ],
)  # fmt: skip
def test_fields_of_the_hop_and_of_fe_are_not_passed(field: str) -> None:
    assert (
        passed(answer(field, "Date: x", "Content-Length: 0")).headers
        == passed(answer("Date: x", "Content-Length: 0")).headers
    )


def test_what_a_replica_may_say_passes() -> None:
    fields = [
        "Set-Cookie: a",
        "set-cookie: b",
        "X-Forwarded-For: c",
        "Forwarded: d",
        "Accept: e",
        "Authorization: f",
        "Via: g",
    ]
    parsed = passed(answer(*fields, "Date: x", "Content-Length: 0"))
    assert [f"{name}: {value}" for name, value in parsed.headers][:7] == fields


def test_an_answer_without_a_date_is_dated() -> None:
    parsed = passed(answer("Content-Length: 0"))
    assert (parsed.value("date") or "").endswith(" GMT")
    assert abs(parsedate_to_datetime(_build.http_date().decode()).timestamp() - time.time()) < 60
    assert len(_build.http_date()) == 29


@pytest.mark.parametrize(
    ("fields", "version", "framing", "closes"),
    [
        (("Content-Length: 5",), "1.1", 5, False),
        (("Content-Length: 5",), "1.0", 5, True),
        (("Transfer-Encoding: chunked",), "1.1", "chunked", False),
        (("Transfer-Encoding: chunked",), "1.0", None, True),
        ((), "1.1", "chunked", False),
        ((), "1.0", None, True),
    ],
)
def test_the_body_is_framed_for_the_client(fields: tuple[str, ...], version: str, framing: Any, closes: bool) -> None:
    response = answer(*fields)
    parsed = passed(response, f"GET / HTTP/{version}")
    assert body_framing(parsed) == framing
    assert (parsed.value("connection") == "close") == closes
    assert (response.send_chunked, response.send_close) == (framing == "chunked", closes)


@pytest.mark.parametrize(
    ("line", "method", "fields", "length"),
    [
        ("HTTP/1.1 200 OK", "HEAD", ("Content-Length: 5",), 5),
        ("HTTP/1.1 200 OK", "HEAD", ("Transfer-Encoding: chunked",), None),
        ("HTTP/1.1 200 OK", "HEAD", (), None),
        ("HTTP/1.1 304 x", "GET", ("Content-Length: 5",), 5),
        ("HTTP/1.1 204 x", "GET", ("Content-Length: 5",), None),
        ("HTTP/1.1 204 x", "HEAD", ("Content-Length: 0",), None),
    ],
)
def test_lengths_without_a_body(line: str, method: str, fields: tuple[str, ...], length: int | None) -> None:
    response = answer(*fields, line=line, method=method)
    parsed = passed(response, f"{method} / HTTP/1.1")
    assert body_framing(parsed) == length
    assert (response.send_chunked, response.send_close) == (False, False)


def test_closing_is_said() -> None:
    response = answer("Content-Length: 0")
    assert passed(response, close=True).value("connection") == "close"
    assert response.send_close
    assert passed(response, "GET / HTTP/1.1", "Connection: close").value("connection") == "close"
    assert passed(response).values("connection") == []
    assert not response.send_close


def test_a_first_piece_goes_out_with_the_head() -> None:
    response = answer("Transfer-Encoding: chunked")
    whole = _build.downstream_head(response, read(), ID, LINE, tail=b"x" * 300, last=True)
    assert whole.endswith(b"\r\n\r\n12c\r\n" + b"x" * 300 + b"\r\n0\r\n\r\n")
    assert _build.downstream_head(response, read(), ID, LINE, tail=b"ab").endswith(b"\r\n\r\n2\r\nab\r\n")
    assert _build.downstream_head(response, read(), ID, LINE, last=True).endswith(b"\r\n\r\n0\r\n\r\n")
    assert _build.downstream_head(response, read(), ID, LINE).endswith(b"Transfer-Encoding: chunked\r\n\r\n")
    old = read(line="GET / HTTP/1.0")
    assert _build.downstream_head(response, old, ID, LINE, tail=b"ab", last=True).endswith(b"close\r\n\r\nab")


def test_early_hints_pass() -> None:
    response = answer("Link: </a>", "Connection: x", "X: y", "Content-Length: 3", line="HTTP/1.1 103 Early Hints")
    assert _build.interim_head(response) == b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"


def test_a_switch_is_said_in_our_own_words() -> None:
    response = answer(*SWITCH, "Keep-Alive: x", "Date: x", line="HTTP/1.1 101 Switching", websocket=True)
    assert _build.switch_head(response, ID, b"me", LINE) == (
        b"HTTP/1.1 101 Switching\r\nSec-WebSocket-Accept: x\r\nDate: x\r\nazureml-model-deployment: main\r\n"
        b"x-request-id: 01234567-89ab-4def-8123-456789abcdef\r\nx-ms-client-request-id: me\r\n"
        b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )


NAME = st.text(st.sampled_from("abXY-_1"), min_size=1, max_size=9)
VALUE = st.text(st.sampled_from("a b\t,:\xe9"), max_size=9)


@settings(max_examples=150)
@given(st.lists(st.tuples(NAME, VALUE), max_size=90), st.integers(200, 599), st.booleans())
def test_whatever_passes_is_canonical(fields: list[tuple[str, str]], status: int, close: bool) -> None:
    lines = [f"{name}:{value}" for name, value in fields]
    parsed = passed(answer(*lines, "Date: x", "Content-Length: 3", line=f"HTTP/1.1 {status} x"), close=close)
    expected = [(name, value.strip(" \t")) for name, value in fields]
    assert parsed.headers[: len(expected) + 1] == [*expected, ("Date", "x")]
