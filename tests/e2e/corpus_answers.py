"""The response corpus: bytes that replicas send, and what the client has to see of them.

Owns: the table. How the cases are run stands in answer_runner.py. The request is a POST unless the case says otherwise:
nothing that goes wrong here may be hidden by a retry.
"""

from __future__ import annotations

from dataclasses import dataclass

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Answer:
    """`end`: "good" (a complete answer), "refused" (502), "broken" (the client sees that the answer is not complete)
    or "spoiled" (502 or broken, by how the bytes arrive). `reusable`: fe may send another request on the connection.
    """

    name: str
    data: bytes
    end: str = "good"
    status: int = 200
    body: bytes = b""
    headers: Pairs = ()
    then: str = "keep"
    reusable: bool = True
    method: str = "POST"
    version: str = "1.1"  # of the client's request
    interim: tuple[int, ...] = ()


def head(*lines: str | bytes, first: str | bytes = "HTTP/1.1 200 OK", body: bytes = b"") -> bytes:
    rows = [row.encode("latin-1") if isinstance(row, str) else row for row in (first, *lines)]
    return b"\r\n".join(rows) + b"\r\n\r\n" + body


def length(body: bytes, *lines: str | bytes, first: str = "HTTP/1.1 200 OK") -> bytes:
    return head(*lines, f"Content-Length: {len(body)}", first=first, body=body)


def chunks(payload: bytes, *lines: str | bytes, first: str = "HTTP/1.1 200 OK") -> bytes:
    return head(*lines, "Transfer-Encoding: chunked", first=first, body=payload)


def _fields(name: str, *lines: str | bytes, headers: Pairs = (), reusable: bool = True) -> Answer:
    return Answer(name, length(b"hello", *lines), body=b"hello", headers=headers, reusable=reusable)


def refused(name: str, data: bytes, then: str = "keep") -> Answer:
    return Answer(name, data, "refused", then=then, reusable=False)


def broken(name: str, data: bytes, then: str = "keep", version: str = "1.1") -> Answer:
    return Answer(name, data, "broken", then=then, reusable=False, version=version)


def _framing(name: str, *lines: str | bytes, payload: bytes = b"hello") -> Answer:
    return refused(f"framing: {name}", head(*lines, body=payload))


def _chunked(name: str, payload: bytes, then: str = "keep") -> Answer:
    return Answer(f"chunks: {name}", chunks(payload), "spoiled", then=then, reusable=False)


def _line(first: str | bytes) -> Answer:
    return refused(f"line {first!r}", head("Content-Length: 5", first=first, body=b"hello"))


EVIL = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
HELLO_CHUNKS = b"5\r\nhello\r\n0\r\n\r\n"

BODIES = [
    Answer("length", length(b"hello"), body=b"hello"),
    Answer("length 0", length(b"")),
    Answer("chunked", chunks(HELLO_CHUNKS), body=b"hello"),
    Answer("chunked in five", chunks(b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n"), body=b"hello"),
    Answer("chunked, nothing", chunks(b"0\r\n\r\n")),
    Answer("chunked, leading zeros", chunks(b"0005\r\nhello\r\n000\r\n\r\n"), body=b"hello"),
    Answer("chunked, extension", chunks(b"5;a=b\r\nhello\r\n0;c\r\n\r\n"), body=b"hello"),
    Answer("chunked, trailers", chunks(b"5\r\nhello\r\n0\r\nX-T: 1\r\nSet-Cookie: evil\r\n\r\n"), body=b"hello"),
    Answer("chunked in capitals", head("TRANSFER-ENCODING:CHUNKED", body=HELLO_CHUNKS), body=b"hello"),
    Answer("until close", head(body=b"hello"), body=b"hello", then="close", reusable=False),
    Answer(
        "until close, announced", head("Connection: close", body=b"hello"), body=b"hello", then="close", reusable=False
    ),
    Answer("until close, nothing", head(), then="close", reusable=False),
    Answer("connection close", length(b"hello", "Connection: close"), body=b"hello", then="close", reusable=False),
    Answer("close said, not done", length(b"hello", "Connection: close"), body=b"hello", reusable=False),
    Answer("close in a list", length(b"hello", "Connection: x, CLOSE"), body=b"hello", reusable=False),
    Answer("chunked and close", chunks(HELLO_CHUNKS, "Connection: close"), body=b"hello", then="close", reusable=False),
    Answer("1.0 with a length", length(b"hello", first="HTTP/1.0 200 OK"), body=b"hello", reusable=False),
    Answer(
        "1.0 until close", head(first="HTTP/1.0 200 OK", body=b"hello"), body=b"hello", then="close", reusable=False
    ),
    Answer(
        "1.0 with keep-alive",
        length(b"hello", "Connection: keep-alive", first="HTTP/1.0 200 OK"),
        body=b"hello",
        reusable=False,
    ),
    Answer("body of every byte", length(bytes(range(256))), body=bytes(range(256))),
    Answer("body like an answer", length(EVIL), body=EVIL),
    Answer("kept, then closed", length(b"hello"), body=b"hello", then="close", reusable=False),
]

OLD_CLIENTS = [
    Answer("1.0 client, length", length(b"hello"), body=b"hello", version="1.0"),
    Answer("1.0 client, chunked", chunks(HELLO_CHUNKS), body=b"hello", version="1.0"),
    Answer("1.0 client, until close", head(body=b"hello"), body=b"hello", then="close", reusable=False, version="1.0"),
    Answer("1.0 client, 103", head(first="HTTP/1.1 103 Early") + length(b"hello"), body=b"hello", version="1.0"),
]

FIELDS = [
    _fields("ordinary fields", "Server: x", "X-A: 1", headers=(("server", "x"), ("x-a", "1"))),
    _fields("twice", "Set-Cookie: a", "Set-Cookie: b", headers=(("set-cookie", "a"), ("set-cookie", "b"))),
    _fields("empty value", "X-A:", headers=(("x-a", ""),)),
    _fields("blanks", "X-A: \t 1 \t", headers=(("x-a", "1"),)),
    _fields("high bytes", b"X-A: \xe4\xff", headers=(("x-a", "\xe4\xff"),)),
    _fields("underscore", "X_A: 1", headers=(("x_a", "1"),)),
    _fields("hop-by-hop", "Keep-Alive: timeout=5", "TE: x", "Trailer: X", "Proxy-Authenticate: Basic", "Upgrade: h2c"),
    _fields("listed in connection", "X-A: 1", "Connection: x-a, x-b", "X-B: 2", "X-C: 3", headers=(("x-c", "3"),)),
    _fields("identity", "x-request-id: evil", "azureml-model-deployment: evil"),
    _fields("encoded line ends", "X-A: a%0d%0aX-B: b", headers=(("x-a", "a%0d%0aX-B: b"),)),
    _fields("content type", "Content-Type: text/html", headers=(("content-type", "text/html"),)),
    Answer("fields in odd letters", head("cOnTeNt-LeNgTh:5", body=b"hello"), body=b"hello"),
]

STATUSES = [
    *(
        Answer(f"status {code}", length(b"hello", first=f"HTTP/1.1 {code} X"), status=code, body=b"hello")
        for code in (200, 201, 203, 206, 226, 299, 300, 302, 399, 400, 401, 404, 418, 429, 499, 500, 502, 503, 504, 599)
    ),
    Answer("no reason", length(b"hello", first="HTTP/1.1 200 "), body=b"hello"),
    Answer("a long reason", length(b"hello", first="HTTP/1.1 200 " + "very " * 20 + "good"), body=b"hello"),
    Answer("reason with high bytes", length(b"hello", first="HTTP/1.1 200 \xe4\xff"), body=b"hello"),
    Answer("204", head(first="HTTP/1.1 204 No Content"), status=204),
    Answer("204 with a length", head("Content-Length: 0", first="HTTP/1.1 204 No Content"), status=204, reusable=False),
    Answer("204 with a body", length(b"hello", first="HTTP/1.1 204 No Content"), status=204, reusable=False),
    Answer("204, chunked", chunks(HELLO_CHUNKS, first="HTTP/1.1 204 No Content"), status=204, reusable=False),
    Answer("304", head('ETag: "x"', first="HTTP/1.1 304 X"), status=304, headers=(("etag", '"x"'),)),
    Answer("304 with a length", head("Content-Length: 5", first="HTTP/1.1 304 X"), status=304),
    Answer("304 with a body", length(b"hello", first="HTTP/1.1 304 X"), status=304, reusable=False),
    Answer("head", head("Content-Length: 5"), method="HEAD"),
    Answer("head without a length", head(), method="HEAD", reusable=False),
    Answer("head, chunked", head("Transfer-Encoding: chunked"), method="HEAD"),
    Answer("head with a body", length(b"hello"), method="HEAD", reusable=False),
    Answer("head with a chunked body", chunks(HELLO_CHUNKS), method="HEAD", reusable=False),
    Answer("head, 404", head("Content-Length: 9", first="HTTP/1.1 404 X"), status=404, method="HEAD"),
    Answer("head and an answer behind", head("Content-Length: 83") + EVIL, method="HEAD", reusable=False),
]

INTERIM = [
    Answer("100", head(first="HTTP/1.1 100 Continue") + length(b"hello"), body=b"hello"),
    Answer("102", head("X-A: 1", first="HTTP/1.1 102 Processing") + length(b"hello"), body=b"hello"),
    Answer("103", head("Link: </a>", first="HTTP/1.1 103 Early") + length(b"hello"), body=b"hello", interim=(103,)),
    Answer("ten", head(first="HTTP/1.1 100 X") * 10 + length(b"hello"), body=b"hello"),
    Answer("100 with a length", head("Content-Length: 5", first="HTTP/1.1 100 X") + length(b"hello"), body=b"hello"),
    Answer("103 and 204", head(first="HTTP/1.1 103 X") + head(first="HTTP/1.1 204 X"), status=204, interim=(103,)),
    refused("eleven", head(first="HTTP/1.1 100 X") * 11 + length(b"hello")),
    refused("a flood", head("X-A: " + "a" * 100, first="HTTP/1.1 102 X") * 40),
    refused("100 and the end", head(first="HTTP/1.1 100 X"), then="close"),
    refused(
        "101 that nobody asked for",
        head("Upgrade: websocket", "Connection: Upgrade", first="HTTP/1.1 101 X", body=b"hello"),
    ),
    refused("101 bare", head(first="HTTP/1.1 101 X") + length(b"hello")),
]

LEFT_OVER = [
    Answer("one byte behind", length(b"hello") + b"!", body=b"hello", reusable=False),
    Answer("line end behind", length(b"hello") + b"\r\n", body=b"hello", reusable=False),
    Answer("an answer behind", length(b"hello") + EVIL, body=b"hello", reusable=False),
    Answer("an answer behind chunks", chunks(HELLO_CHUNKS) + EVIL, body=b"hello", reusable=False),
    Answer("an answer behind nothing", length(b"") + EVIL, reusable=False),
    Answer("more than declared", head("Content-Length: 5", body=b"hello world"), body=b"hello", reusable=False),
    Answer("an answer behind 204", head(first="HTTP/1.1 204 X") + EVIL, status=204, reusable=False),
]

LINES = [
    _line(first)
    for first in (
        "HTTP/1.1 099 X", "HTTP/1.1 600 X", "HTTP/1.1 999 X", "HTTP/1.1 000 X", "HTTP/1.1 1000 X", "HTTP/1.1 20 X",
        "HTTP/1.1 2 X", "HTTP/1.1 -20 X", "HTTP/1.1 +20 X", "HTTP/1.1 20x X", "HTTP/1.1  200 X", "HTTP/1.1 200X",
        "HTTP/1.1\t200 X", "HTTP/1.1 X", "HTTP/1.1", "HTTP/2 200 X", "HTTP/2.0 200 X", "HTTP/1.2 200 X",
        "HTTP/1.10 200 X",
        "http/1.1 200 X", "ICY 200 OK", "RTSP/1.1 200 X", "HTTPS/1.1 200 X", " HTTP/1.1 200 X", "X", "GET / HTTP/1.1",
        b"HTTP/1.1 200 a\0b", b"HTTP/1.1 200 a\rb", b"\x16\x03\x01\x02", "\r\nHTTP/1.1 200 OK",
    )
]  # fmt: skip

HEADS = [
    refused("bare LF after the line", b"HTTP/1.1 200 OK\nContent-Length: 5\r\n\r\nhello"),
    refused("bare LF everywhere", b"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello"),
    refused("bare LF in a field", length(b"hello", b"X-A: 1\nX-B: 2")),
    refused("bare CR in a field", length(b"hello", b"X-A: 1\rX-B: 2")),
    refused("split by CR LF LF", length(b"hello", b"X-A: 1\n\nHTTP/1.1 200 OK")),
    refused("folded", length(b"hello", "X-A: 1\r\n 2")),
    refused("blank before the colon", length(b"hello", "X-A : 1")),
    refused("no colon", length(b"hello", "X-A")),
    refused("no name", length(b"hello", ": 1")),
    refused("blank in a name", length(b"hello", "X A: 1")),
    refused("null in a value", length(b"hello", b"X-A: \x00")),
    refused("control in a value", length(b"hello", b"X-A: \x01")),
    refused("head too large", length(b"hello", *(f"X-{n}: {'a' * 3000}" for n in range(30)))),
    refused("field without an end", head()[:-2] + b"X: " + b"a" * 70000),
    refused("line without an end", b"HTTP/1.1 200 " + b"a" * 70000),
    refused("garbage", b"\xff" * 1000),
    refused("nothing, closed", b"", then="close"),
    refused("nothing, reset", b"", then="reset"),
    refused("half a head, closed", length(b"hello")[:30], then="close"),
    refused("half a head, reset", length(b"hello")[:30], then="reset"),
]

FRAMING = [
    _framing("both", "Content-Length: 5", "Transfer-Encoding: chunked", payload=HELLO_CHUNKS),
    _framing("both, the other way", "Transfer-Encoding: chunked", "Content-Length: 15", payload=HELLO_CHUNKS),
    _framing("two lengths", "Content-Length: 5", "Content-Length: 6"),
    *(
        _framing(f"length {text!r}", f"Content-Length: {text}")
        for text in ("5,6", "+5", "-5", "0x5", "five", "", "5 5", "05", "9" * 30)
    ),
    *(
        _framing(f"coding {text!r}", f"Transfer-Encoding: {text}", payload=HELLO_CHUNKS)
        for text in (
            "gzip, chunked",
            "chunked, gzip",
            "identity",
            "xchunked",
            "chunked, chunked",
            "",
            ",chunked",
            "chunked;a",
        )
    ),
    _framing("two codings", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", payload=HELLO_CHUNKS),
    refused("framing: coding on 1.0", chunks(HELLO_CHUNKS, first="HTTP/1.0 200 OK")),
]

CHUNKS = [
    _chunked("no size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunked("not hex", b"g\r\nhello\r\n0\r\n\r\n"),
    _chunked("0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunked("LF", b"5\nhello\n0\n\n"),
    _chunked("no line end", b"5\r\nhello0\r\n\r\n"),
    _chunked("too much", b"5\r\nhello!\r\n0\r\n\r\n"),
    _chunked("64 bits", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    _chunked("17 digits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _chunked("LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    _chunked("trailers without an end", b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20000),
    _chunked("bad trailer", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    _chunked("cut in a size", b"5", then="close"),
    _chunked("cut in a chunk", b"5\r\nhel", then="close"),
    _chunked("cut behind a chunk", b"5\r\nhello", then="close"),
    _chunked("cut before the last", b"5\r\nhello\r\n", then="close"),
    _chunked("cut in the last", b"5\r\nhello\r\n0\r\n", then="close"),
    _chunked("reset in a chunk", b"5\r\nhel", then="reset"),
]

TRUNCATED = [
    broken("length, cut", head("Content-Length: 50", body=b"hello"), then="close"),
    broken("length, cut at once", head("Content-Length: 50"), then="close"),
    broken("length, cut by one", head("Content-Length: 6", body=b"hello"), then="close"),
    broken("length, reset", head("Content-Length: 50", body=b"hello"), then="reset"),
    broken("until close, reset", head(body=b"hello"), then="reset"),
    broken("1.0 client, length, cut", head("Content-Length: 50", body=b"hello"), then="close", version="1.0"),
    broken("1.0 client, until close, reset", head(body=b"hello"), then="reset", version="1.0"),
    broken("1.0 client, chunks, cut", chunks(b"5\r\nhello\r\n"), then="close", version="1.0"),
]

ANSWERS = BODIES + OLD_CLIENTS + FIELDS + STATUSES + INTERIM + LEFT_OVER + LINES + HEADS + FRAMING + CHUNKS + TRUNCATED
