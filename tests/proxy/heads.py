"""What the tests of heads share: how a head is put together, and httptools' own reading of one.

Owns: shorthand for bytes. Never: a judgement about fe. The tables of cases are in the tests.
"""

from __future__ import annotations

from typing import Any

import httptools

from fe import model
from fe.proxy import _head

HOST = "Host: fe.example"
DIGEST_KEYS = ("primary-key", "secondary-key")


def head(line: str, *fields: str, host: str | None = HOST) -> bytes:
    """A head from its lines; latin-1, so that any byte can be written as a character."""
    lines = [line, *([host] if host else []), *fields, "", ""]
    return "\r\n".join(lines).encode("latin-1")


def get(*fields: str, line: str = "GET / HTTP/1.1", host: str | None = HOST) -> bytes:
    return head(line, *fields, host=host)


def read(*fields: str, line: str = "GET / HTTP/1.1", host: str | None = HOST) -> _head.RequestHead:
    """A request that has to be good."""
    request = _head.read_request(get(*fields, line=line, host=host))
    assert request.status == 0, (request.status, request.problem)
    return request


def answer(*fields: str, line: str = "HTTP/1.1 200 OK", method: str = "GET", websocket: bool = False) -> Any:
    return _head.read_response(head(line, *fields, host=None), method, websocket)


class Reading:
    """What httptools makes of a head, by its callbacks."""

    def __init__(self, raw: bytes, kind: type = httptools.HttpRequestParser) -> None:
        self.fields: list[tuple[bytes, bytes]] = []
        self.heads = 0
        self.url = b""
        self.upgrade = False
        self.keep_alive = False
        self.parser = kind(self)
        try:
            self.parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            self.upgrade = True

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self.fields.append((name, value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.heads += 1
        self.keep_alive = self.parser.should_keep_alive()  # once the message has ended it always says yes


def deployment(name: str, index: int = 0, **values: Any) -> model.DeploymentView:
    settings: dict[str, Any] = {
        "generation": 1,
        "capacity": 1,
        "request_timeout_ms": 5000,
        "max_queue_wait_ms": 500,
        "max_body_bytes": 1000,
        "on_disconnect": "finish",
        "abandon_timeout_ms": 9000,
        "retry_on_reset": False,
        "websocket": False,
    }
    return model.DeploymentView(name=name, index=index, **(settings | values))


def endpoint(name: str, traffic: dict[str, int], *, routes: tuple[model.RouteView, ...] = (), **values: Any) -> Any:
    settings: dict[str, Any] = {"auth_mode": "none", "key_digests": (), "mirror_traffic": {}}
    deployments = tuple(deployment(each, index) for index, each in enumerate(traffic))
    return model.EndpointView(name=name, traffic=traffic, routes=routes, deployments=deployments, **(settings | values))
