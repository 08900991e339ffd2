"""Requests that fe has to refuse: nothing of them reaches a replica, no lease is taken, the connection is closed.

Owns: the table of bad requests, smuggling attempts first of all. Each carries `@ID@` in every request that a lenient
parser could see in it. Read corpus.py for the vocabulary.
"""

from __future__ import annotations

from tests.e2e.corpus import Case, Forwarded, Statuses, chunked, get, head, post

SMUGGLED = b"GET /smuggled/@ID@ HTTP/1.1\r\nHost: t\r\n\r\n"
OLD = "POST /c/@ID@ HTTP/1.0"
BAD = (400,)
BAD_OR_CODING = ((400, 501),)


def refused(name: str, data: bytes, answers: Statuses = BAD) -> Case:
    return Case(name, data, answers, (), open=False)


def _coding(name: str, *lines: str | bytes, payload: bytes = b"0\r\n\r\n") -> Case:
    """A Transfer-Encoding that is not exactly one `chunked`, with a request smuggled behind its end."""
    return refused(f"coding: {name}", head(*lines, body=payload + SMUGGLED), BAD_OR_CODING)


def _length(name: str, *lines: str | bytes, answers: Statuses = BAD) -> Case:
    return refused(f"length: {name}", head(*lines, body=b"hello" + SMUGGLED), answers)


def _field(name: str, line: str | bytes) -> Case:
    return refused(f"field: {name}", get(line) + SMUGGLED)


def _chunks(name: str, payload: bytes) -> Case:
    return refused(f"chunks: {name}", chunked(payload))


def _line(name: str, line: str | bytes, answers: Statuses = BAD) -> Case:
    return refused(f"line: {name}", head(first=line), answers)


VERSIONS = [
    _line(f"version {version!r}", f"GET /c/@ID@ {version}", ((400, 505),))
    for version in (
        "HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3", "HTTP/1", "HTTP/1.10", "HTTP/01.1", "HTTP/1.01", "http/1.1",
        "HTTP/1.1 ", "HTTP/1.1x", "HTTP /1.1", "RTSP/1.1", "RTSP/1.0", "ICE/1.0", "HTTPS/1.1", "HTTP/-1.1", "X",
    )
] + [
    refused("0.9", b"GET /c/@ID@\r\n\r\n", ((400, 505),)),
    refused("http/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED, ((400, 501, 505),)),
]  # fmt: skip

METHODS = [_line(f"method {name!r}", f"{name} /c/@ID@ HTTP/1.1", ((400, 501),)) for name in (
    "FOO", "get", "Post", "SOURCE", "PRI", "LOCK", "PROPFIND", "GETX", "G", "QUERY", "M-SEARCH", "GE:T", "G\xc4T",
    "X" * 200,
)] + [
    _line("trace", "TRACE /c/@ID@ HTTP/1.1", (405,)),
    refused("connect", head(first="CONNECT t:80 HTTP/1.1", body=SMUGGLED), (405,)),
    refused("connect, body", head("Content-Length: 1", first="CONNECT t:80 HTTP/1.1", body=b"!" + SMUGGLED), (405,)),
]  # fmt: skip

LINES = [
    _line("no method", " /c/@ID@ HTTP/1.1"),
    _line("two blanks", "GET  /c/@ID@ HTTP/1.1"),
    _line("two blanks before the version", "GET /c/@ID@  HTTP/1.1"),
    _line("tab", "GET\t/c/@ID@ HTTP/1.1", ((400, 501),)),
    _line("tab before the version", "GET /c/@ID@\tHTTP/1.1", ((400, 505),)),
    _line("leading blank", " GET /c/@ID@ HTTP/1.1", ((400, 501),)),
    _line("no target", "GET HTTP/1.1", ((400, 505),)),
    _line("nothing but a method", "GET", ((400, 505),)),
    _line("blank in the target", "GET /c/ @ID@ HTTP/1.1", ((400, 505),)),
    _line("fragment", "GET /c/@ID@#x HTTP/1.1"),
    _line("backslash", "GET /c\\@ID@ HTTP/1.1"),
    _line("asterisk", "GET * HTTP/1.1"),
    _line("asterisk and more", "OPTIONS *x HTTP/1.1"),
    _line("no leading slash", "GET c/@ID@ HTTP/1.1"),
    _line("authority form", "GET t:80 HTTP/1.1"),
    _line("null in the target", b"GET /c/@ID@\0 HTTP/1.1"),
    _line("control in the target", b"GET /c/@ID@\x01 HTTP/1.1"),
    _line("delete in the target", b"GET /c/@ID@\x7f HTTP/1.1"),
    _line("return in the target", b"GET /c/@ID@\rX HTTP/1.1"),
    _line("other scheme", "GET ftp://t/c/@ID@ HTTP/1.1"),
    _line("no authority", "GET http:///c/@ID@ HTTP/1.1"),
    _line("user in the authority", "GET http://u@t/c/@ID@ HTTP/1.1"),
    _line("bad authority", "GET http://a b/c/@ID@ HTTP/1.1", ((400, 505),)),
    _line("absolute without slashes", "GET http:/c/@ID@ HTTP/1.1"),
    refused("bare LF after the line", b"GET /c/@ID@ HTTP/1.1\nHost: t\r\n\r\n", ((400, 505),)),
    refused("bare LF everywhere", b"GET /c/@ID@ HTTP/1.1\nHost: t\n\n", ((400, 505),)),
    refused("bare CR after the line", b"GET /c/@ID@ HTTP/1.1\rHost: t\r\n\r\n", ((400, 505),)),
    refused("binary", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03@ID@\r\n\r\n", ((400, 501, 505),)),
    refused("status line", b"HTTP/1.1 200 OK\r\nHost: t\r\n\r\n", ((400, 501, 505),)),
    refused("mail", b"EHLO @ID@\r\n\r\n", ((400, 501, 505),)),
]

HOSTS = [
    refused("no host", get(host=False)),
    refused("two hosts", get("Host: t")),
    refused("two hosts that differ", get("host: u")),
    refused("no host, absolute form", get(target="http://t/c/@ID@", host=False)),
    refused("host dropped for its name", get("Ho_st: t", host=False)),
    *(
        refused(f"host {text!r}", get(b"Host:" + text.encode("latin-1"), host=False))
        for text in (
            "", " ", " a b", " a,b", " a/b", " a@b", " a?b", " a#b", " a\\b", " t:x", " t:80:80", " [::1", " ::1",
            " [::1]x", " <t>", ' "t"', " t;x", " t\xe4", " :80", " [zz]",
        )
    ),
]  # fmt: skip

FIELDS = [
    _field("bare LF", b"X-A: 1\nX-B: 2"),
    _field("bare CR", b"X-A: 1\rX-B: 2"),
    _field("LF before CRLF", b"X-A: 1\n"),
    _field("CR before CRLF", b"X-A: 1\r"),
    _field("folded", "X-A: 1\r\n 2"),
    _field("folded with a tab", "X-A: 1\r\n\t2"),
    _field("folded empty", "X-A: 1\r\n "),
    _field("blank before the colon", "X-A : 1"),
    _field("tab before the colon", "X-A\t: 1"),
    _field("no colon", "X-A"),
    _field("no name", ": 1"),
    _field("blank in the name", "X A: 1"),
    _field("blank before the name", " X-A: 1"),
    _field("null in the name", b"X\0A: 1"),
    _field("null in the value", b"X-A: 1\x002"),
    _field("control in the value", b"X-A: \x01"),
    _field("vertical tab in the value", b"X-A: 1\x0b2"),
    _field("delete in the value", b"X-A: \x7f"),
    _field("high byte in the name", b"X\xe4: 1"),
    _field("brackets in the name", "X(A): 1"),
    _field("at in the name", "X@A: 1"),
    _field("quote in the name", '"X": 1'),
    _field("slash in the name", "X/A: 1"),
    refused("blank before the first field", b"GET /c/@ID@ HTTP/1.1\r\n Host: t\r\n\r\n" + SMUGGLED),
    refused("folded into the first field", b"GET /c/@ID@ HTTP/1.1\r\n\tX: y\r\nHost: t\r\n\r\n" + SMUGGLED),
    refused("too many fields", get(*(f"X-{n}: {n}" for n in range(101))), (431,)),
    refused("fields too large", get(*(f"X-{n}: {'a' * 3000}" for n in range(12))), (431,)),
    refused("one field without an end", get()[:-2] + b"X-A: " + b"a" * 40000, (431,)),
    refused("target too long", get(target="/c/@ID@/" + "a" * 9000), (414,)),
    refused("target without an end", b"GET /c/@ID@" + b"a" * 40000, (414,)),
    refused("method without an end", b"A" * 40000, ((400, 414, 431, 501),)),
]

LENGTHS = [
    _length("twice the same", "Content-Length: 5", "Content-Length: 5"),
    _length("twice, differing", "Content-Length: 5", "Content-Length: 6"),
    _length("twice, in odd letters", "content-length: 5", "CONTENT-LENGTH: 0"),
    _length("a list", "Content-Length: 5, 5"),
    _length("a list that differs", "Content-Length: 5,6"),
    *(
        _length(repr(text), b"Content-Length: " + text.encode("latin-1"))
        for text in (
            "+5", "-5", "-0", "0x5", "5 5", "05", "00", "5.0", "5e0", "", "five", "5\t5", "5;", "\u00b25", "5_0",
            "18446744073709551621", "'5'", "5h", "9" * 40,
        )
    ),
    _length("null behind", b"Content-Length: 5\0"),
    _length("over the limit", "Content-Length: 2000001", answers=(413,)),
    _length("far over the limit", "Content-Length: 9223372036854775807", answers=((400, 413),)),
    _length("over the limit, expecting", "Content-Length: 2000001", "Expect: 100-continue", answers=(413,)),
    _length("blank before the colon", "Content-Length : 5"),
    _length("folded", "Content-Length:\r\n 5"),
    _length("behind a bare LF", "X: 1\nContent-Length: 5"),
    _length("behind a bare CR", "X: 1\rContent-Length: 5"),
]  # fmt: skip

CODINGS = [
    _coding("length first", "Content-Length: 5", "Transfer-Encoding: chunked"),
    _coding("length last", "Transfer-Encoding: chunked", "Content-Length: 5"),
    _coding("length 0", "Transfer-Encoding: chunked", "Content-Length: 0"),
    _coding("length and unknown coding", "Content-Length: 5", "Transfer-Encoding: x", payload=b"hello"),
    _coding("length and identity", "Content-Length: 5", "Transfer-Encoding: identity", payload=b"hello"),
    _coding("two lines", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
    _coding("two lines, one identity", "Transfer-Encoding: identity", "Transfer-Encoding: chunked"),
    _coding("two lines, one unknown", "Transfer-Encoding: chunked", "Transfer-Encoding: x"),
    _coding("two lines, one empty", "Transfer-Encoding:", "Transfer-Encoding: chunked"),
    *(
        _coding(repr(text), b"Transfer-Encoding: " + text.encode("latin-1"))
        for text in (
            "gzip, chunked", "chunked, gzip", ",chunked", "chunked,", "chunked, chunked", "chunked,,", "identity",
            "gzip", "xchunked", "chunkedx", "chunked;a=b", "chunked a", '"chunked"', "'chunked'", "",
            "chunked, identity", "identity, chunked", "x, chunked", "chun ked", "[chunked]",
            "chunKed\xa0", "\xa0chunked",
        )
    ),
    _coding("vertical tab", b"Transfer-Encoding: \x0bchunked"),
    _coding("null", b"Transfer-Encoding: chunked\0"),
    _coding("form feed", b"Transfer-Encoding: chunked\x0c"),
    _coding("blank before the colon", "Transfer-Encoding : chunked"),
    _coding("blank before the colon, with a length", "Transfer-Encoding : chunked", "Content-Length: 5"),
    _coding("folded", "Transfer-Encoding:\r\n chunked"),
    _coding("folded behind chunked", "Transfer-Encoding: chunked\r\n , identity"),
    _coding("behind a bare LF", "X: 1\nTransfer-Encoding: chunked", "Content-Length: 5"),
    _coding("behind a bare CR", "X: 1\rTransfer-Encoding: chunked", "Content-Length: 5"),
    _coding("folded behind another", "X: 1\r\n Transfer-Encoding: chunked", "Content-Length: 5"),
    refused("1.0: coding", head("Transfer-Encoding: chunked", first=OLD, body=b"0\r\n\r\n" + SMUGGLED), BAD_OR_CODING),
    refused(
        "coding and length on 1.0",
        head("Transfer-Encoding: chunked", "Content-Length: 5", first=OLD, body=b"0\r\n\r\n" + SMUGGLED),
        BAD_OR_CODING,
    ),
]  # fmt: skip

CHUNKS = [
    _chunks("no size", b"\r\nhello\r\n0\r\n\r\n"),
    _chunks("not hex", b"g\r\nhello\r\n0\r\n\r\n"),
    _chunks("prefix 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunks("sign", b"+5\r\nhello\r\n0\r\n\r\n"),
    _chunks("minus", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunks("blank before", b" 5\r\nhello\r\n0\r\n\r\n"),
    _chunks("underscore", b"0_5\r\nhello\r\n0\r\n\r\n"),
    _chunks("LF behind the size", b"5\nhello\r\n0\r\n\r\n"),
    _chunks("CR behind the size", b"5\rhello\r\n0\r\n\r\n"),
    _chunks("LF behind the data", b"5\r\nhello\n0\r\n\r\n"),
    _chunks("nothing behind the data", b"5\r\nhello0\r\n\r\n"),
    _chunks("more data than said", b"5\r\nhello!\r\n0\r\n\r\n"),
    _chunks("less data than said", b"6\r\nhello\r\n0\r\n\r\n"),
    _chunks("64 bits", b"ffffffffffffffff\r\nhello\r\n0\r\n\r\n"),
    _chunks("17 digits", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _chunks("LF in an extension", b"5;a\nb\r\nhello\r\n0\r\n\r\n"),
    _chunks("LF in an extension, smuggled", b"2;\nxx\r\n4c\r\n0\r\n\r\n" + SMUGGLED),
    _chunks("CR in an extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    _chunks("null in an extension", b"5;\0\r\nhello\r\n0\r\n\r\n"),
    _chunks("extension without an end", b"5;" + b"a" * 40000),
    _chunks(
        "extensions out of proportion", b"".join(b"1;%s\r\na\r\n" % (b"x" * 1000) for _ in range(200)) + b"0\r\n\r\n"
    ),
    _chunks("LF for the end", b"5\r\nhello\r\n0\n\n"),
    _chunks("LF in trailers", b"5\r\nhello\r\n0\r\nX: 1\nY: 2\r\n\r\n"),
    _chunks("trailer without a colon", b"5\r\nhello\r\n0\r\nX\r\n\r\n"),
    _chunks("trailer with a blank name", b"5\r\nhello\r\n0\r\nX : 1\r\n\r\n"),
    _chunks("trailer with a null", b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n"),
    _chunks("folded trailer", b"5\r\nhello\r\n0\r\nX: 1\r\n 2\r\n\r\n"),
    refused("chunks: trailers without an end", chunked(b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 20000), ((400, 431),)),
    refused("chunks: a chunk that announces too much", chunked(b"1e8481\r\nx"), (413,)),
    refused("chunks: a chunk far over the limit", chunked(b"7fffffffffffffff\r\n"), ((400, 413),)),
]

OTHERS = [
    refused("unknown expectation", post(b"hello", "Expect: 200-ok"), (417,)),
    refused("two expectations", post(b"hello", "Expect: 100-continue", "Expect: x"), ((400, 417),)),
    refused("upgrade with a body", post(b"hello", "Connection: Upgrade", "Upgrade: websocket") + SMUGGLED),
    refused(
        "upgrade to h2c with a body",
        post(SMUGGLED, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AA"),
    ),
    refused(
        "upgrade with a chunked body",
        chunked(b"5\r\nhello\r\n0\r\n\r\n", "Connection: Upgrade", "Upgrade: x") + SMUGGLED,
    ),
    Case("bad behind good", get() + head(" X: 1") + SMUGGLED, (200, 400), (Forwarded("GET"),), open=False),
    Case(
        "bad behind a body",
        post(b"hello") + b"X" + SMUGGLED,
        (200, (400, 501)),
        (Forwarded("POST", body=b"hello"),),
        open=False,
    ),
    Case(
        "one byte too many",
        post(b"hello")[:-1] + b"o!" + SMUGGLED,
        (200, (400, 501)),
        (Forwarded("POST", body=b"hello"),),
        open=False,
    ),
    refused("many empty lines", b"\r\n" * 3000 + b"x", ((400, 414, 431, 501),)),
]

REFUSED = VERSIONS + METHODS + LINES + HOSTS + FIELDS + LENGTHS + CODINGS + CHUNKS + OTHERS
