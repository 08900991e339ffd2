"""The answers that fe gives by itself: each with a status, a code to match on, a text, and a reason to count it under.

Owns: their wording, the shape of the error body, the fields that belong to a status. Never: deciding which one a
request gets, sockets. An answer for one service is rendered once and kept; a request only puts its ids and numbers in.
Read `fe.model.REASONS` for what the reasons are counted as, `fe/proxy/_access.pyx` for how the numbers look.

The body is {"error": {"code", "message", "detail", "request_id", "state"}}, or as text/plain, for a client that prefers
it, the message and a line with the state. `code` is stable; `message` has the texts that clients of AzureML match on;
`detail` explains; `state` is the load that a request has met which was refused for it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from fe.proxy._build import http_date

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, DELETE, PATCH, OPTIONS\r\n"
RETRY: Final = b"Retry-After: 1\r\n"
ID_LENGTH: Final = 36  # of a request id

PHRASES: Final = {
    400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed", 408: "Request Timeout",
    413: "Content Too Large", 414: "URI Too Long", 417: "Expectation Failed", 431: "Request Header Fields Too Large",
    500: "Internal Server Error", 501: "Not Implemented", 502: "Bad Gateway", 503: "Service Unavailable",
    504: "Gateway Timeout", 505: "HTTP Version Not Supported",
}  # fmt: skip


# Each is one of its kind. Without eq=False the look-up of what is rendered would hash all these texts each time.
@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One of fe's answers. `{name}` in a message is the endpoint's name; `close`: the connection is of no more use."""

    status: int
    code: str
    reason: str
    message: str
    detail: str = ""
    fields: bytes = b""
    close: bool = False


def _bad(status: int, code: str, message: str, fields: bytes = b"") -> Answer:
    return Answer(status, code, "bad_request", message, fields=fields, close=True)


OVERLOADED: Final = "Too many requests for service {name} (overloaded)"

_ALL: Final = (
    _bad(400, "bad_request", "The request is malformed."),
    _bad(405, "method_not_allowed", "This method is not allowed.", ALLOW),
    _bad(414, "target_too_long", "The request target is too long."),
    _bad(417, "expectation_failed", "The only expectation that is understood is 100-continue."),
    _bad(431, "head_too_large", "The header fields are too large or too many."),
    _bad(501, "not_implemented", "The request asks for something that is not implemented."),
    _bad(505, "version_not_supported", "This server speaks HTTP/1.1 and HTTP/1.0."),
    Answer(401, "unauthorized", "unauthorized", "A valid key is needed.",
           "Send it as `Authorization: Bearer <key>`.", b"WWW-Authenticate: Bearer\r\n"),
    Answer(404, "no_route", "no_route", "There is no such endpoint."),
    Answer(404, "no_deployment", "no_deployment", "There is no deployment for this request in service {name}.",
           "No deployment has traffic, or the one named by azureml-model-deployment does not exist."),
    Answer(408, "client_timeout", "client_timeout", "The request took too long to arrive.", close=True),
    Answer(413, "body_too_large", "body_too_large", "The request body is too large for service {name}.",
           "The limit is max_body_bytes.", close=True),
    Answer(503, "queue_full", "queue_full", OVERLOADED, "max_queue_length requests are waiting already.", RETRY),
    Answer(503, "queue_wait", "queue_wait", OVERLOADED,
           "No replica became free within max_queue_wait_ms.", RETRY),
    Answer(503, "no_slot", "no_slot", OVERLOADED, "This worker has as many requests as limits.slots allows.", RETRY),
    Answer(503, "no_replica", "no_replica", "No ready replicas for service {name}.", "", RETRY),
    Answer(503, "draining", "draining", "The server is shutting down.", "", RETRY, close=True),
    Answer(502, "connect_failed", "connect_failed", "Cannot connect to a replica of service {name}."),
    Answer(502, "replica_closed", "replica_closed", "Replica closed connection before replying"),
    Answer(502, "replica_invalid", "replica_invalid", "Replica sent an answer that is not valid HTTP."),
    Answer(504, "replica_timeout", "replica_timeout", "No reply from a replica of service {name} in time.",
           "The limit is request_timeout_ms."),
    Answer(500, "internal", "internal", "An internal error occurred.", close=True),
)  # fmt: skip

ANSWERS: Final = {answer.code: answer for answer in _ALL}
_BY_STATUS: Final = {answer.status: answer for answer in reversed(_ALL)}


def refusal(status: int) -> Answer:
    """The answer for a `RequestHead.status` or a negated result of `find_head_end`; `problem` is its message."""
    return _BY_STATUS.get(status, ANSWERS["bad_request"])


@lru_cache(maxsize=4096)
def _render(
    answer: Answer, name: str, message: str, detail: str, plain: bool, head_only: bool, close: bool
) -> tuple[bytes, bytes, int, bytes, bytes, bytes, bytes]:
    """The answer in parts. What comes between them: Date, length and id in the head; id and state in the body.

    The number is the body's length without a state.
    """
    text = (message or answer.message).replace("{name}", name)
    if plain:
        body, kind, length = (f"{text}\n", "", ""), "text/plain; charset=utf-8", 0
    else:
        error = {"code": answer.code, "message": text, "detail": detail or answer.detail}
        opened = json.dumps({"error": {key: value for key, value in error.items() if value}})[:-2]
        body, kind, length = (f'{opened}, "request_id": "', '"', "}}"), "application/json", ID_LENGTH
    length += len("".join(body).encode())
    start = f"HTTP/1.1 {answer.status} {PHRASES[answer.status]}\r\nDate: "
    fields = answer.fields.decode() + ("Connection: close\r\n" if close or answer.close else "")
    before, behind, end = ("", "", "") if head_only else body
    return (
        start.encode(), f"\r\nContent-Type: {kind}\r\nContent-Length: ".encode(), length,
        f"\r\n{fields}x-request-id: ".encode(), before.encode(), behind.encode(), end.encode(),
    )  # fmt: skip


def build_answer(
    answer: Answer,
    request_id: bytes,
    *,
    name: str = "",
    message: str = "",
    detail: str = "",
    state: bytes = b"",
    plain: bool = False,
    head_only: bool = False,
    close: bool = False,
    client_request_id: bytes | None = None,
    deployment_line: bytes = b"",
) -> bytes:
    """The whole answer as it goes on the wire; `message` and `detail` take the place of the answer's own when given.

    They are kept with the answer, so pass constants only. `state`: as `fe/proxy/_access.pyx` builds it, for people when
    `plain`. `head_only`: the request was a HEAD.
    """
    start, kind, length, fields, before, behind, end = _render(answer, name, message, detail, plain, head_only, close)
    own = b"" if client_request_id is None else b"\r\nx-ms-client-request-id: " + client_request_id
    size = b"%d" % (length + len(state))
    return b"".join((
        start, http_date(), kind, size, fields, request_id, own, b"\r\n", deployment_line, b"\r\n",
        before, request_id if behind else b"", behind, b"" if head_only else state, end,
    ))  # fmt: skip
