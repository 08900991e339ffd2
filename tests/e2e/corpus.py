"""The request corpus: bytes that clients send, and what has to come of them.

Owns: the table. `@ID@` in the bytes is replaced by a name of the attempt, by which the back-end's record is searched:
so a smuggled request is seen too. Refused requests come from corpus_refused.py; how cases are run is in runner.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Statuses = tuple[int | tuple[int, ...], ...]


@dataclass(frozen=True)
class Forwarded:
    """A request as the replica has to see it. `headers` are the end-to-end ones, all of them, in order."""

    method: str
    target: str = "/c/@ID@"
    body: bytes = b""
    host: str = "t"
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Case:
    """`answers`: the statuses that come back, a tuple where the rules leave a choice. `open`: the connection stays."""

    name: str
    data: bytes
    answers: Statuses
    forwarded: tuple[Forwarded, ...] = ()
    open: bool = True
    methods: tuple[str, ...] = field(default=())  # of the requests, where an answer cannot be read without

    def bytes_for(self, mark: str) -> bytes:
        return self.data.replace(b"@ID@", mark.encode())


def head(
    *lines: str | bytes, first: str | bytes = "POST /c/@ID@ HTTP/1.1", host: bool = True, body: bytes = b""
) -> bytes:
    """A request of these header lines, exactly as they are."""
    rows = [first, *(["Host: t"] if host else []), *lines]
    return b"\r\n".join(row.encode("latin-1") if isinstance(row, str) else row for row in rows) + b"\r\n\r\n" + body


def sent(name: str, data: bytes, *forwarded: Forwarded, open: bool = True, answers: Statuses | None = None) -> Case:
    """A good request (or several)."""
    return Case(name, data, answers or (200,) * len(forwarded), forwarded, open, tuple(one.method for one in forwarded))


def get(*lines: str | bytes, version: str = "1.1", target: str = "/c/@ID@", host: bool = True) -> bytes:
    return head(*lines, first=f"GET {target} HTTP/{version}", host=host)


def post(body: bytes, *lines: str | bytes) -> bytes:
    return head(*lines, f"Content-Length: {len(body)}", body=body)


def chunked(payload: bytes, *lines: str | bytes) -> bytes:
    return head(*lines, "Transfer-Encoding: chunked", body=payload)


def _passes(name: str, *lines: str | bytes, headers: tuple[tuple[str, str], ...] = ()) -> Case:
    """A GET with these header lines, of which `headers` reach the replica."""
    return sent(name, get(*lines), Forwarded("GET", headers=headers))


def _target(name: str, target: str) -> Case:
    """A target that is forwarded byte by byte as it came."""
    return sent(name, get(target=target), Forwarded("GET", target))


GET = Forwarded("GET")
HELLO = Forwarded("POST", body=b"hello")

METHODS = [
    sent("get", get(), GET),
    sent("head", head(first="HEAD /c/@ID@ HTTP/1.1"), Forwarded("HEAD")),
    sent("post", post(b"hello"), HELLO),
    sent("post without a body", head(), Forwarded("POST")),
    sent("post of length 0", post(b""), Forwarded("POST")),
    *(
        sent(
            f"{m} with a body",
            head("Content-Length: 3", first=f"{m} /c/@ID@ HTTP/1.1", body=b"abc"),
            Forwarded(m, body=b"abc"),
        )
        for m in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS")
    ),
    sent(
        "get with a chunked body",
        head("Transfer-Encoding: chunked", first="GET /c/@ID@ HTTP/1.1", body=b"3\r\nabc\r\n0\r\n\r\n"),
        Forwarded("GET", body=b"abc"),
    ),
    sent("body of every byte", post(bytes(range(256)) * 2), Forwarded("POST", body=bytes(range(256)) * 2)),
    sent("body like a request", post(get(target="/c")), Forwarded("POST", body=get(target="/c"))),
]

TARGETS = [
    _target("query", "/c/@ID@?a=b&c=%20d"),
    _target("empty query", "/c/@ID@?"),
    _target("query with slashes", "/c/@ID@?x=/../../y?z"),
    _target("percent encoded dots", "/c/@ID@/%2e%2e/%2f"),
    _target("dots", "/c/../c/./@ID@"),
    _target("double slashes", "//c///@ID@//"),
    _target("encoded line ends", "/c/@ID@%0d%0aX:%20y"),
    _target("encoded null", "/c/@ID@%00"),
    _target("parameters", "/c/@ID@;v=1,2;w"),
    _target("all allowed punctuation", "/c/@ID@/-._~!$&'()*+,;=:@"),
    _target("percent at the end", "/c/@ID@%"),
    sent("absolute form", get(target="http://other/c/@ID@"), Forwarded("GET", host="other")),
    sent(
        "absolute form with a port",
        get(target="http://other:81/c/@ID@?q"),
        Forwarded("GET", "/c/@ID@?q", host="other:81"),
    ),
    sent("absolute form, https", get(target="https://other/c/@ID@"), Forwarded("GET", host="other")),
    sent("absolute form, scheme in capitals", get(target="HTTP://other/c/@ID@"), Forwarded("GET", host="other")),
    sent("absolute form without a path", get(target="http://other?@ID@"), Forwarded("GET", "/?@ID@", host="other")),
]

HOSTS = [
    sent(f"host {text!r}", get(f"Host:{text}", host=False), Forwarded("GET", host=text.strip()))
    for text in (" t", " t:8080", "t", "  \t t \t ", " [::1]", " [::1]:80", " 127.0.0.1", " a-b.c_d.e", " XN--a.B")
]

VERSIONS = [
    sent("1.0", get("Host: t", version="1.0", host=False), GET, open=False),
    sent("1.0 with keep-alive", get("Connection: keep-alive", version="1.0"), GET, open=False),
    sent("1.0 with a body", head("Content-Length: 5", first="POST /c/@ID@ HTTP/1.0", body=b"hello"), HELLO, open=False),
    sent(
        "1.0 with an expectation",
        head("Expect: 100-continue", "Content-Length: 5", first="POST /c/@ID@ HTTP/1.0", body=b"hello"),
        HELLO,
        open=False,
    ),
    sent("empty line before", b"\r\n" + get(), GET),
]

FIELDS = [
    _passes("ordinary fields", "Accept: */*", "X-A: 1", headers=(("Accept", "*/*"), ("X-A", "1"))),
    _passes("twice the same field", "X-A: 1", "X-A: 2", headers=(("X-A", "1"), ("X-A", "2"))),
    _passes("empty value", "X-A:", "X-B: ", headers=(("X-A", ""), ("X-B", ""))),
    _passes("blanks around a value", "X-A:\t  a  b \t", headers=(("X-A", "a  b"),)),
    _passes("high bytes in a value", b"X-A: \xe4\xff\x80", headers=(("X-A", "\xe4\xff\x80"),)),
    _passes("every character of a name", "!#$%&'*+-.^`|~09AZaz: 1", headers=(("!#$%&'*+-.^`|~09AZaz", "1"),)),
    _passes("names with _ are dropped", "Content_Length: 5", "X_A: 1", "_: 2", "X-B: 3", headers=(("X-B", "3"),)),
    _passes("transfer_encoding is dropped", "Transfer_Encoding: chunked"),
    _passes("cookies", "Cookie: a=b", "Cookie: c=d; e", headers=(("Cookie", "a=b"), ("Cookie", "c=d; e"))),
    _passes("value like a header", "X-A: Host: x", headers=(("X-A", "Host: x"),)),
    _passes("authorization without a gate", "Authorization: Bearer x", headers=(("Authorization", "Bearer x"),)),
    _passes("connection cannot remove host", "Connection: host"),
    _passes(
        "connection cannot remove authorization",
        "Connection: authorization",
        "Authorization: x",
        headers=(("Authorization", "x"),),
    ),
    _passes(
        "connection removes what it lists",
        "Connection: x-a, X-B",
        "X-A: 1",
        "x-b: 2",
        "X-C: 3",
        headers=(("X-C", "3"),),
    ),
    _passes("connection removes what stands before it", "X-A: 1", "Connection: ,x-a,", headers=()),
    _passes("two connection fields", "X-A: 1", "X-B: 2", "Connection: x-a", "Connection: x-b"),
    _passes("connection keep-alive", "Connection: keep-alive", "Keep-Alive: timeout=5"),
    _passes(
        "hop-by-hop fields",
        "TE: trailers",
        "Trailer: X",
        "Proxy-Connection: keep-alive",
        "Proxy-Authorization: x",
        "Proxy-Authenticate: x",
        "Keep-Alive: 1",
        "HTTP2-Settings: AAMAAABk",
        "X-A: 1",
        headers=(("X-A", "1"),),
    ),
    _passes(
        "forwarding fields of a stranger",
        "X-Forwarded-For: 1.2.3.4",
        "X-Forwarded-Proto: https",
        "X-Forwarded-Host: evil",
        "Forwarded: for=1.2.3.4",
        "X-Real-IP: 1.2.3.4",
        "X-Forwarded-For: 5.6.7.8",
    ),
    _passes("request id of a stranger", "X-Request-Id: 1", "x-request-id: 2"),
    _passes("client request id", "x-ms-client-request-id: a b\tc/é-_9" + "x" * 50),
    _passes(
        "a hundred fields", *(f"X-{n}: {n}" for n in range(99)), headers=tuple((f"X-{n}", str(n)) for n in range(99))
    ),
    _passes("a long value", "X-A: " + "a" * 30000, headers=(("X-A", "a" * 30000),)),
    _target("a long target", "/c/@ID@/" + "a" * 8000),
    sent("connection cannot remove the length", post(b"hello", "Connection: content-length"), HELLO),
    sent(
        "connection cannot remove the coding",
        chunked(b"5\r\nhello\r\n0\r\n\r\n", "Connection: transfer-encoding"),
        HELLO,
    ),
    sent("connection close", get("Connection: close"), GET, open=False),
    sent("connection close in capitals", post(b"hello", "CONNECTION: CLOSE"), HELLO, open=False),
    sent("connection close in a list", get("Connection: x-a ,\tclose", "X-A: 1"), GET, open=False),
]

LENGTHS = [
    sent("length in odd letters", head("cOnTeNt-LeNgTh:5", body=b"hello"), HELLO),
    sent("length with blanks", head("Content-Length: \t5\t ", body=b"hello"), HELLO),
    sent("content_length beside the length", head("Content_Length: 50", "Content-Length: 5", body=b"hello"), HELLO),
    sent(
        "transfer_encoding beside the length",
        head("Transfer_Encoding: chunked", "Content-Length: 5", body=b"hello"),
        HELLO,
    ),
    sent("te is not transfer-encoding", head("TE: chunked", "Content-Length: 5", body=b"hello"), HELLO),
]

CHUNKS = [
    sent(f"chunked, {name}", chunked(payload), HELLO)
    for name, payload in {
        "one": b"5\r\nhello\r\n0\r\n\r\n",
        "five": b"1\r\nh\r\n1\r\ne\r\n1\r\nl\r\n1\r\nl\r\n1\r\no\r\n0\r\n\r\n",
        "leading zeros": b"0005\r\nhello\r\n0000\r\n\r\n",
        "extension": b"5;a=b\r\nhello\r\n0;last\r\n\r\n",
        "quoted extension": b'5;a="b c"\r\nhello\r\n0\r\n\r\n',
        "trailers": b"5\r\nhello\r\n0\r\nX-T: 1\r\nContent-Length: 7\r\n\r\n",
        "trailer host": b"5\r\nhello\r\n0\r\nHost: evil\r\nTransfer-Encoding: chunked\r\n\r\n",
    }.items()
] + [
    sent("chunked, nothing", chunked(b"0\r\n\r\n"), Forwarded("POST")),
    sent(
        "chunked, hex letters",
        chunked(b"A\r\n0123456789\r\n0b\r\n0123456789a\r\n0\r\n\r\n"),
        Forwarded("POST", body=b"01234567890123456789a"),
    ),
    sent(
        "chunked, data like chunks",
        chunked(b"d\r\n0\r\n\r\nGET / HTT\r\n0\r\n\r\n".replace(b"d\r\n", b"e\r\n")),
        Forwarded("POST", body=b"0\r\n\r\nGET / HTT"),
    ),
    sent("chunked in capitals", head("Transfer-Encoding: CHUNKED", body=b"5\r\nhello\r\n0\r\n\r\n"), HELLO),
    sent("chunked with blanks", head("transfer-encoding: \tchunked", body=b"5\r\nhello\r\n0\r\n\r\n"), HELLO),
]

EXPECT = [
    sent("expectation", post(b"hello", "Expect: 100-continue"), HELLO),
    sent("expectation in capitals", post(b"hello", "EXPECT: 100-CONTINUE"), HELLO),
    sent("expectation, chunked", chunked(b"5\r\nhello\r\n0\r\n\r\n", "Expect: 100-continue"), HELLO),
    sent("expectation without a body", get("Expect: 100-continue"), GET),
]

UPGRADES = [
    _passes("websocket where none is allowed", "Connection: Upgrade", "Upgrade: websocket"),
    _passes("h2c", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__"),
    _passes("upgrade without connection", "Upgrade: anything"),
    _passes("connection upgrade alone", "Connection: upgrade"),
    sent("upgrade, then pipelined", get("Connection: Upgrade", "Upgrade: h2c") + get(), GET, GET),
]

PIPELINES = [
    sent("two gets", get() + get(), GET, GET),
    sent("post and get", post(b"hello") + get(), HELLO, GET),
    sent("chunked and post", chunked(b"5\r\nhello\r\n0\r\n\r\n") + post(b"hello"), HELLO, HELLO),
    sent("twelve", get() * 6 + post(b"hello") * 6, *[GET] * 6, *[HELLO] * 6),
    sent("head and get", head(first="HEAD /c/@ID@ HTTP/1.1") + get(), Forwarded("HEAD"), GET),
    sent("empty lines between", get() + b"\r\n" + post(b"hello") + b"\r\n" + get(), GET, HELLO, GET),
    sent("close in the first hides the second", get("Connection: close") + get(), GET, open=False),
    sent("1.0 hides the second", get(version="1.0") + get(), GET, open=False),
]

GOOD = METHODS + TARGETS + HOSTS + VERSIONS + FIELDS + LENGTHS + CHUNKS + EXPECT + UPGRADES + PIPELINES
