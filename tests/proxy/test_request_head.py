"""The rules for requests, case by case: what is refused, with which status, and what is understood."""

from __future__ import annotations

import pytest

from fe.proxy._head import describe, read_request
from tests.proxy.heads import HOST, get, head, read
from tests.proxy.request_cases import FIELDS, FRAMINGS, HOSTS, LINES, WS


@pytest.mark.parametrize(("line", "status"), LINES)
def test_request_line(line: str, status: int) -> None:
    request = read_request(get(line=line))
    assert request.status == status, request.problem
    assert (request.problem is None) == (status == 0)


@pytest.mark.parametrize(("host", "modern", "old"), HOSTS)
def test_host(host: str | None, modern: int, old: int) -> None:
    assert read_request(get(host=host)).status == modern
    assert read_request(get(host=host, line="GET / HTTP/1.0")).status == old


@pytest.mark.parametrize(("fields", "status"), FRAMINGS)
@pytest.mark.parametrize("method", ["POST", "GET", "HEAD", "DELETE", "OPTIONS"])
def test_framing(method: str, fields: tuple[str, ...], status: int) -> None:
    assert read_request(get(*fields, line=f"{method} / HTTP/1.1")).status == status


@pytest.mark.parametrize(("fields", "status"), FIELDS)
def test_fields(fields: tuple[str, ...], status: int) -> None:
    request = read_request(get(*fields))
    assert request.status == status, request.problem


@pytest.mark.parametrize("value", ["chunked", "identity", "gzip, chunked"])
def test_old_requests_have_no_transfer_encoding(value: str) -> None:
    assert read_request(get(f"Transfer-Encoding: {value}", line="POST / HTTP/1.0")).status == 400


def test_what_is_not_exactly_one_head_is_refused() -> None:
    good = get()
    assert read_request(good).status == 0
    for bad in (
        good[:-2],
        good[:-1],
        good + b"x",
        good + good,
        b"",
        b"\r\n",
        b"GET / HTTP/1.1\r\n",
        good[:-4] + b"\n\n",
    ):
        assert read_request(bad).status == 400, bad
    assert read_request(get("Content-Length: 1", line="POST / HTTP/1.1") + b"x").status == 400


def test_empty_lines_before_a_request_are_passed_over() -> None:
    assert read_request(b"\r\n\r\n" + get()).status == 0


@pytest.mark.parametrize(
    ("line", "target", "path", "host"),
    [
        ("GET /a/b?c=/d?e HTTP/1.1", b"/a/b?c=/d?e", b"/a/b", b"fe.example"),
        ("GET /? HTTP/1.1", b"/?", b"/", b"fe.example"),
        ("GET //a/../%2e%2E/b HTTP/1.1", b"//a/../%2e%2E/b", b"//a/../%2e%2E/b", b"fe.example"),
        ("GET http://other.example:81/a?b HTTP/1.1", b"/a?b", b"/a", b"other.example:81"),
        ("GET http://other.example HTTP/1.1", b"/", b"/", b"other.example"),
        ("GET hTTps://other.example?a=/b HTTP/1.1", b"/?a=/b", b"/", b"other.example"),
        ("OPTIONS http://other.example HTTP/1.1", b"*", b"*", b"other.example"),
        ("OPTIONS http://other.example/ HTTP/1.1", b"/", b"/", b"other.example"),
        ("OPTIONS * HTTP/1.1", b"*", b"*", b"fe.example"),
    ],
)
def test_targets_are_kept_byte_for_byte(line: str, target: bytes, path: bytes, host: bytes) -> None:
    request = read(line=line)
    assert (request.target, request.path, describe(request)["host"]) == (target, path, host)
    assert request.upstream_target == target


@pytest.mark.parametrize(
    ("fields", "framing", "length"),
    [
        ((), "none", -1),
        (("Content-Length: 0",), "length", 0),
        (("Content-Length: 17",), "length", 17),
        (("Transfer-Encoding: chunked",), "chunked", -1),
    ],
)
def test_bodies_are_framed_whatever_the_method(fields: tuple[str, ...], framing: str, length: int) -> None:
    for method in ("GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        request = read(*fields, line=f"{method} / HTTP/1.1")
        assert (describe(request)["framing"], request.content_length) == (framing, length)
        assert request.method_bytes == method.encode()


@pytest.mark.parametrize(
    ("version", "fields", "keep"),
    [
        ("1.1", (), True),
        ("1.1", ("Connection: keep-alive",), True),
        ("1.1", ("Connection: close",), False),
        ("1.1", ("Connection: keep-alive, Close",), False),
        ("1.1", ("Connection: a", "Connection: CLOSE"), False),
        ("1.1", ("Connection: closed",), True),
        ("1.0", (), False),
        ("1.0", ("Connection: keep-alive",), False),
    ],
)
def test_keep_alive(version: str, fields: tuple[str, ...], keep: bool) -> None:
    assert read(*fields, line=f"GET / HTTP/{version}").keep_alive is keep


@pytest.mark.parametrize(
    ("version", "fields", "waits"),
    [
        ("1.1", ("Content-Length: 5",), True),
        ("1.1", ("Transfer-Encoding: chunked",), True),
        ("1.1", ("Content-Length: 0",), False),
        ("1.1", (), False),
        ("1.0", ("Content-Length: 5",), False),
    ],
)
def test_expect_matters_where_a_body_waits(version: str, fields: tuple[str, ...], waits: bool) -> None:
    assert read("Expect: 100-continue", *fields, line=f"POST / HTTP/{version}").expect_continue is waits


def test_a_proper_websocket_request() -> None:
    request = read(*WS)
    assert (request.websocket, request.upgrade_ignored) == (True, False)
    assert read("Connection: keep-alive, upgrade", *WS[1:]).websocket


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        ("POST / HTTP/1.1", WS),
        ("GET / HTTP/1.0", WS),
        ("GET / HTTP/1.1", (WS[0], *WS[2:], "Upgrade: h2c")),
        ("GET / HTTP/1.1", (*WS, "Upgrade: h2c")),
        ("GET / HTTP/1.1", ("Upgrade: h2c", *WS)),
        ("GET / HTTP/1.1", (*WS[:2], WS[3])),
        ("GET / HTTP/1.1", WS[:3]),
        ("GET / HTTP/1.1", (*WS[:3], "Sec-WebSocket-Version: 8")),
        ("GET / HTTP/1.1", (*WS, WS[2])),
    ],
)
def test_other_upgrades_are_ignored(line: str, fields: tuple[str, ...]) -> None:
    request = read(*fields, line=line)
    assert (request.websocket, request.upgrade_ignored) == (False, True)


def test_upgrade_without_connection_is_nothing() -> None:
    request = read("Upgrade: websocket", *WS[2:])
    assert (request.websocket, request.upgrade_ignored) == (False, False)


@pytest.mark.parametrize(
    ("value", "cleaned"),
    [
        ("abc-DEF_09", b"abc-DEF_09"),
        ("a b<c>\xe9;d", b"abcd"),
        ("a" * 41, b"a" * 40),
        ("\u00e9" * 50 + "a", b"a"),
        ("", None),
        ("<>", None),
    ],
)
def test_client_request_id_is_cleaned(value: str, cleaned: bytes | None) -> None:
    assert read(f"x-ms-client-request-id: {value}").client_request_id == cleaned


@pytest.mark.parametrize(
    ("accept", "plain"),
    [
        ((), False),
        (("*/*",), False),
        (("application/json",), False),
        (("text/plain",), True),
        (("text/*",), True),
        (("text/plain, application/json",), False),
        (("text/plain;q=0.5, application/json;q=0.4",), True),
        (("text/plain; q=0.4, */*; q=0.5",), False),
        (("application/json;q=0", "text/plain"), True),
        (("text/html, text/plain;q=0.9, */*;q=0.1",), True),
        (("text/plain;q=x",), False),
        (("text/plain;q=nan",), False),
        ((",,;;=",), False),
    ],
)
def test_who_would_rather_read_text(accept: tuple[str, ...], plain: bool) -> None:
    assert read(*[f"Accept: {value}" for value in accept]).wants_plain() is plain


def test_what_routing_and_keys_look_at() -> None:
    request = read("Authorization: Bearer k", "AzureML-Model-Deployment:  blue ", "User-Agent: x/1")
    understood = describe(request)
    assert (understood["authorization"], understood["pinned"]) == (b"Bearer k", b"blue")
    assert request.user_agent_bytes == b"x/1"


def test_names_with_an_underscore_mean_nothing() -> None:
    request = read(
        "azureml_model_deployment: blue", "x_ms_client_request_id: a", "Content_Length: 5", "Auth_orization: b"
    )
    assert (describe(request)["pinned"], request.client_request_id, request.content_length) == (b"", None, -1)


def test_many_fields_are_kept() -> None:
    fields = [f"X-Number-{n}: {n}" for n in range(300)]
    request = read_request(head("GET / HTTP/1.1", HOST, *fields, host=None), header_fields=301)
    assert request.status == 0
    assert read_request(head("GET / HTTP/1.1", *["a:"] * 65536), header_fields=100_000).status == 431
    assert describe(request)["fields"][1:] == [(f"X-Number-{n}".encode(), str(n).encode()) for n in range(300)]
