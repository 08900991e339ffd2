"""Where a head ends, and what is refused before it has ended."""

from __future__ import annotations

import pytest

from fe.proxy._head import HeadFinder
from tests.proxy.heads import get, head

WHOLE = get("Accept: */*", "Content-Length: 3", line="POST /score HTTP/1.1")
TARGET = 8192 + 64  # of the first line, before it has ended
BLOCK = 32768


def bytewise(data: bytes, **limits: int) -> int:
    finder = HeadFinder(**limits)
    for at in range(len(data)):
        result = finder.feed(data[at : at + 1])
        if result:
            return result
    return 0


@pytest.mark.parametrize("rest", [b"", b"abc", b"GET / HTTP/1.1\r\n\r\n", b"\r\n", b"\0" * 9])
def test_ends_at_the_empty_line_whatever_follows(rest: bytes) -> None:
    assert HeadFinder().feed(WHOLE + rest) == len(WHOLE)
    assert bytewise(WHOLE + rest) == len(WHOLE)


def test_is_found_however_it_is_split() -> None:
    for at in range(1, len(WHOLE)):
        finder = HeadFinder()
        assert finder.feed(WHOLE[:at]) == 0
        assert finder.feed(WHOLE[at:] + b"body") == len(WHOLE)


@pytest.mark.parametrize(("lines", "result"), [(1, 2), (4, 8), (5, None)])
def test_a_few_empty_lines_may_stand_before_a_request(lines: int, result: int | None) -> None:
    data = b"\r\n" * lines + WHOLE
    expected = -400 if result is None else result + len(WHOLE)
    assert HeadFinder().feed(data) == expected
    assert bytewise(data) == expected


@pytest.mark.parametrize(
    "data",
    [
        b"\n",
        b"\nGET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\n",
        b"GET / HTTP/1.1\r\nHost: a\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00",  # a TLS handshake
        b" GET / HTTP/1.1",
        b"\x00",
        b"(",
        b"A" * (TARGET + 1),  # no target in sight
    ],
)
def test_refused_as_soon_as_it_is_seen(data: bytes) -> None:
    assert HeadFinder().feed(data) == -400
    assert bytewise(data) == -400


def test_a_carriage_return_may_be_the_start_of_an_empty_line_but_not_of_a_request() -> None:
    finder = HeadFinder()
    assert finder.feed(b"\r") == 0
    assert finder.feed(b"\n" + WHOLE) == 2 + len(WHOLE)


def test_a_target_without_end_is_refused_before_it_ends() -> None:
    data = b"GET /" + b"a" * TARGET
    assert HeadFinder().feed(data[:TARGET]) == 0
    assert HeadFinder().feed(data) == -414
    assert HeadFinder().feed(data + b" HTTP/1.1\r\n\r\n") == -414
    assert bytewise(data[:200], target_bytes=64) == -414


def test_a_block_of_fields_may_be_as_large_as_the_limit() -> None:
    fixed = len("Host: fe.example\r\nX: \r\n\r\n")
    assert HeadFinder().feed(get("X: " + "a" * (BLOCK - fixed))) > BLOCK
    assert HeadFinder().feed(get("X: " + "a" * (BLOCK - fixed + 1))) == -431


@pytest.mark.parametrize("field", ["X: ", "X", "X: a\r\nY: "])
def test_a_block_of_fields_without_end_is_refused_before_it_ends(field: str) -> None:
    data = b"GET / HTTP/1.1\r\n" + field.encode() + b"a" * 300
    assert HeadFinder(header_bytes=256).feed(data[:200]) == 0
    assert HeadFinder(header_bytes=256).feed(data) == -431
    assert bytewise(data, header_bytes=256) == -431


def test_fields_are_counted_while_they_come() -> None:
    data = get(*["a: b"] * 99)
    assert HeadFinder().feed(data) == len(data)
    assert HeadFinder().feed(get(*["a: b"] * 100)[:-2]) == -431
    assert bytewise(get(*["a: b"] * 7), header_fields=7) == -431


def test_responses_have_the_same_bounds_and_no_empty_line_before_them() -> None:
    data = head("HTTP/1.1 200 OK", "Content-Length: 0", host=None)
    assert HeadFinder(response=True).feed(data + b"x") == len(data)
    assert HeadFinder(response=True).feed(b"\r\n" + data) == -400
    assert HeadFinder(response=True).feed(b"HTTP/1.1 200 " + b"a" * TARGET) == -400
    assert HeadFinder(response=True).feed(b"\0") == -400
    assert HeadFinder(response=True, header_fields=3).feed(head("HTTP/1.1 200 OK", *["a: b"] * 4, host=None)) == -431


def test_bytes_are_looked_at_once() -> None:
    """A head of 32 KiB that comes byte by byte would take minutes if each byte cost a search from the start."""
    finder = HeadFinder()
    finder.feed(b"GET / HTTP/1.1\r\n")
    for _ in range(30_000):
        assert finder.feed(b"a") == 0
