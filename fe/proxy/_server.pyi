"""One worker's data plane, as `fe.worker` sees it."""

from collections.abc import Callable

from fe._core import Holder
from fe.model import WorkerRuntime
from fe.proxy._exchange import Proxy

class Server(Proxy):
    @property
    def clients(self) -> int: ...
    # `on_end` is called with the number of requests that a drain cut off
    def __init__(self, holder: Holder, runtime: WorkerRuntime, on_end: Callable[[int], None]) -> None: ...
    def set_access_log(self, wanted: bool) -> None: ...
    def drain(self) -> None: ...
