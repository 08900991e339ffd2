"""Access lines and the state in a refusal, as far as Python sees them (tests)."""

from fe.proxy._build import Peer
from fe.proxy._head import RequestHead

# `met` is what fe._core.Table.glance says.
def line(
    head: RequestHead,
    peer: Peer,
    request_id: bytes,
    *,
    json: bool = True,
    endpoint: str | None = None,
    deployment: str | None = None,
    reason: str | None = None,
    status: int = 200,
    model_status: int = 0,
    request_bytes: int = 0,
    response_bytes: int = 0,
    total_ns: int = 0,
    queue_ns: int = 0,
    model_ns: int = 0,
    met: tuple[int, int, int, int, int] | None = None,
) -> bytes: ...
def state(met: tuple[int, int, int, int, int], waited_ns: int = 0, *, plain: bool = False) -> bytes: ...
