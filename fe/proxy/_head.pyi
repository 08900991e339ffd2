"""Heads of requests and responses, as far as Python sees them (tests)."""

from typing import Any, final

@final
class RequestHead:
    status: int
    problem: str | None
    minor: int
    content_length: int
    keep_alive: bool
    expect_continue: bool
    websocket: bool
    upgrade_ignored: bool
    target: bytes
    path_length: int
    upstream_target: bytes
    client_request_id: bytes | None
    @property
    def method_bytes(self) -> bytes: ...
    @property
    def path(self) -> bytes: ...
    @property
    def user_agent_bytes(self) -> bytes: ...
    def wants_plain(self) -> bool: ...

@final
class ResponseHead:
    problem: str | None
    minor: int
    status: int
    content_length: int
    keep_alive: bool
    switches: bool
    send_chunked: bool
    send_close: bool

@final
class HeadFinder:
    def __init__(
        self, *, target_bytes: int = 8192, header_bytes: int = 32768, header_fields: int = 100, response: bool = False
    ) -> None: ...
    def feed(self, data: bytes) -> int: ...

def read_request(
    data: bytes, *, target_bytes: int = 8192, header_bytes: int = 32768, header_fields: int = 100
) -> RequestHead: ...
def read_response(data: bytes, method: str = "GET", websocket: bool = False) -> ResponseHead: ...
def describe(head: RequestHead | ResponseHead) -> dict[str, Any]: ...
