"""The chunked coding: strict, bounded, cut anywhere; httptools as a second opinion on every body it accepts."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe.proxy._chunked import Decoder, chunk_head

GOOD = [
    (b"0\r\n\r\n", b""),
    (b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
    (b"005\r\nhello\r\n000\r\n\r\n", b"hello"),
    (b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", b"0123456789" * 2),
    (b"2\r\n\r\n\r\n0\r\n\r\n", b"\r\n"),
    (b"5;a=b\r\nhello\r\n0;c\r\n\r\n", b"hello"),
    (b'5;a="b;c \\" \xe9\t";d\r\nhello\r\n0\r\n\r\n', b"hello"),
    (b'5;a="";b=c;d\r\nhello\r\n0\r\n\r\n', b"hello"),
    (b"1\r\na\r\n0\r\nA: b\r\nC-d:\r\n\r\n", b"a"),
    (b"1\r\na\r\n0\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", b"a"),
]

# The last byte of each is the one at fault: everything before it is still possible.
BAD = [
    b"\r", b"\n", b" ", b";", b"x", b"-", b"+", b"5\n", b"5 ", b"5\t", b"5x", b"0x", b"5\r\r", b"5\r5", b"5\r\nhello\n",
    b"5\r\nhellox", b"5\r\nhello\rx", b"5\r\nhello\r\n\r", b"5\r\nhello\r\n ", b"5;a\n", b"5;a\x00", b"5;a\x7f",
    b"5;a\r;", b"5;\r", b"5;=", b"5;;", b"5; ", b"5;a ", b"5;a;\r", b"5;a=\r", b"5;a=;", b"5;a==", b"5;a=b=", b"5;a=b ",
    b'5;"', b'5;a="b"c', b'5;a="b\r', b'5;a="b\\\r', b'5;a="b" ', b"5;a\xe9", b'5;a=b"',
    b"0\r\n\n", b"0\r\n\rx", b"0\r\n ", b"0\r\n\t", b"0\r\n:", b"0\r\nA\r", b"0\r\nA ", b"0\r\nA: b\n", b"0\r\nA: b\rc",
    b"0\r\nA: b\x00", b"0\r\nA: b\r\n ", b"0\r\nA: b\r\n\t", b"0\r\n\x80", b"0\r\nA: b\r\n\n",
    b"1234567890abcdef", b"0000000000000005", b"ffffffffffffffff",
]  # fmt: skip


def whole(data: bytes, bounded: bool = True) -> tuple[bytes, int, str]:
    pieces, consumed, result = Decoder(bounded).feed(data)
    return b"".join(pieces), consumed, result


def bytewise(data: bytes) -> tuple[bytes, int, str]:
    decoder, body, total, result = Decoder(), b"", 0, "more"
    for at in range(len(data)):
        pieces, consumed, result = decoder.feed(data[at : at + 1])
        body += b"".join(pieces)
        total += consumed
        if result != "more":
            break
    return body, total, result


@pytest.mark.parametrize(("data", "body"), GOOD)
@pytest.mark.parametrize("rest", [b"", b"GET / HTTP/1.1\r\n", b"\r\n", b"0\r\n\r\n"])
def test_good_bodies(data: bytes, body: bytes, rest: bytes) -> None:
    assert whole(data + rest) == (body, len(data), "done")
    assert bytewise(data + rest) == (body, len(data), "done")


@pytest.mark.parametrize(("data", "body"), GOOD)
def test_split_at_every_byte(data: bytes, body: bytes) -> None:
    for at in range(1, len(data)):
        decoder = Decoder()
        first, consumed, result = decoder.feed(data[:at])
        assert (consumed, result) == (at, "more")
        second, consumed, result = decoder.feed(data[at:] + b"rest")
        assert (b"".join(first + second), consumed, result) == (body, len(data) - at, "done")


@pytest.mark.parametrize("data", BAD)
def test_faults_are_seen_at_their_byte(data: bytes) -> None:
    assert whole(data)[1:] == (len(data) - 1, "error")
    assert bytewise(data)[1:] == (len(data) - 1, "error")
    assert whole(data[:-1])[2] == "more"


def test_a_fault_is_for_good() -> None:
    decoder = Decoder()
    assert decoder.feed(b"x")[2] == "error"
    assert decoder.feed(b"5\r\nhello\r\n0\r\n\r\n") == ([], 0, "error")


def test_what_follows_the_end_is_not_the_bodys() -> None:
    decoder = Decoder()
    assert decoder.feed(b"0\r\n\r\n")[2] == "done"
    assert decoder.feed(b"5\r\nhello") == ([], 0, "done")


def test_extensions_and_trailers_are_bounded() -> None:
    assert whole(b"5;" + b"a" * 256 + b"\r\n")[2] == "more"
    assert whole(b"5;" + b"a" * 257)[2] == "error"
    assert whole((b"400;" + b"a" * 200 + b"\r\n" + b"x" * 1024 + b"\r\n") * 9)[2] == "more"
    assert whole(b"0\r\n" + b"A: b\r\n" * 1300 + b"\r\n")[2] == "done"
    assert whole(b"0\r\n" + b"A: b\r\n" * 1400)[2] == "error"
    assert whole(b"0\r\nA: " + b"b" * 9000)[2] == "error"


def test_framing_has_to_be_in_proportion() -> None:
    tiny = b"1\r\na\r\n"
    assert whole(tiny * 3000)[2] == "more"
    assert whole(tiny * 10_000)[2] == "error"
    assert whole(tiny * 10_000, bounded=False)[2] == "more"
    assert whole(b"4\r\nabcd\r\n" * 100_000)[2] == "more"
    assert whole((b"4;" + b"x" * 200 + b"\r\nabcd\r\n") * 100)[2] == "error"


def test_sizes_are_bounded() -> None:
    assert whole(b"fffffffffffffff\r\n")[2] == "more"
    pieces, consumed, result = Decoder().feed(b"fffffffffffffff\r\nabc")
    assert (pieces, consumed, result) == ([b"abc"], 20, "more")


@pytest.mark.parametrize("length", [1, 9, 15, 16, 255, 4096, 65535, 2**31, 2**62])
def test_chunk_heads(length: int) -> None:
    assert chunk_head(length) == b"%x\r\n" % length


class Reading:
    """httptools' reading of a request with this body."""

    def __init__(self, data: bytes) -> None:
        self.body = b""
        self.complete = 0
        parser = httptools.HttpRequestParser(self)
        parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + data)

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete += 1


PARTS = st.sampled_from([
    b"5\r\nhello\r\n", b"1\r\na\r\n", b"0\r\n\r\n", b"0\r\n", b"\r\n", b"A: b\r\n", b"5;a=b\r\nhello\r\n", b"\n", b"\r",
    b" ", b"5", b"hello", b"0", b";", b"5\r\nhello", b"A", b"\x00", b"f\r\n", b"=", b'"', b"\\", b"5;a=", b'5;a="',
])  # fmt: skip


@settings(max_examples=400)
@given(st.lists(PARTS, max_size=8).map(b"".join), st.data())
def test_accepted_bodies_are_read_alike(data: bytes, draw: st.DataObject) -> None:
    body, consumed, result = whole(data)
    assert bytewise(data) == (body, consumed, result)
    if result == "done":
        other = Reading(data[:consumed])
        assert (other.body, other.complete) == (body, 1)
    elif result == "more":
        assert Reading(data).complete == 0
    at = draw.draw(st.integers(0, len(data)))
    decoder = Decoder()
    first, used, halfway = decoder.feed(data[:at])
    if halfway == "more":
        second, more, end = decoder.feed(data[at:])
        assert (b"".join(first + second), used + more) == (body, consumed)
        assert end == result or at == len(data)


@settings(max_examples=100)
@given(st.lists(st.binary(min_size=1, max_size=40), max_size=8))
def test_what_is_encoded_is_decoded(chunks: list[bytes]) -> None:
    data = b"".join(chunk_head(len(chunk)) + chunk + b"\r\n" for chunk in chunks) + b"0\r\n\r\n"
    assert Decoder().feed(data) == (chunks, len(data), "done")
    assert Reading(data).body == b"".join(chunks)
