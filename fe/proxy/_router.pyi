"""The router, as far as Python sees it (tests)."""

from typing import final

from fe.model import DeploymentView, EndpointView, Snapshot
from fe.proxy._head import RequestHead

@final
class Deployment:
    name: str
    full_name: str
    header_line: bytes
    index: int
    generation: int
    capacity: int
    request_timeout_ns: int
    queue_wait_ns: int
    cold_start_ns: int
    abandon_timeout_ns: int
    max_body_bytes: int
    finish: bool
    retry_on_reset: bool
    websocket: bool
    def __init__(self, endpoint: str, view: DeploymentView) -> None: ...

@final
class Endpoint:
    name: str
    needs_key: bool
    key_digests: tuple[bytes, ...]
    deployments: tuple[Deployment, ...]
    max_body_bytes: int
    def __init__(self, view: EndpointView) -> None: ...
    def chosen(self, head: RequestHead) -> Deployment | None: ...
    def mirrored(self) -> Deployment | None: ...

@final
class Prefixes: ...

@final
class Router:
    endpoints: tuple[Endpoint, ...]
    def __init__(self, snapshot: Snapshot) -> None: ...
    def routed(self, head: RequestHead) -> Endpoint | None: ...
