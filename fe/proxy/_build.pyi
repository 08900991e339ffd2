"""Heads that are sent on, as far as Python sees them (tests)."""

from typing import final

from fe.proxy._head import RequestHead, ResponseHead

@final
class Peer:
    address: bytes
    trusted: bool
    scheme: bytes
    def __init__(self, address: str | None, trusted: bool = False, scheme: str = "http") -> None: ...

def http_date() -> bytes: ...
def request_id() -> bytes: ...
def upstream_head(
    head: RequestHead,
    peer: Peer,
    request_id: bytes,
    body: int = -1,
    *,
    strip_authorization: bool = False,
    websocket: bool = False,
    tail: bytes = b"",
) -> bytes: ...
def downstream_head(
    response: ResponseHead,
    request: RequestHead,
    request_id: bytes,
    deployment_line: bytes = b"",
    *,
    close: bool = False,
    tail: bytes = b"",
    last: bool = False,
) -> bytes: ...
def interim_head(response: ResponseHead) -> bytes: ...
def switch_head(
    response: ResponseHead, request_id: bytes, client_request_id: bytes | None = None, deployment_line: bytes = b""
) -> bytes: ...
