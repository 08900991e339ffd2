"""A worker process: one uvloop loop around the data plane (`fe.proxy`).

Owns: the process's set-up and end. Never: configuration files, Kubernetes, anything of the control plane; what it has
to know arrives as a snapshot in shared memory. Read next: `fe/proxy/_server.pyx`, then docs/architecture.md, "Life of a
request".
"""

from __future__ import annotations

import gc
import logging
import signal

import uvloop

from fe.errors import EXIT_CUT_OFF, EXIT_OK
from fe.model import WorkerRuntime
from fe.proxy._server import Server

log = logging.getLogger("fe.worker")


def main(runtime: WorkerRuntime) -> int:
    """Serves until SIGTERM, then drains. Returns the exit code."""
    # Requests leave no cycles behind: collecting often would only cost time. Now and then is enough for the rest.
    gc.set_threshold(50_000, 50, 100)
    loop = uvloop.new_event_loop()
    cut_off = 0

    def on_end(in_flight: int) -> None:
        nonlocal cut_off
        cut_off = in_flight
        loop.stop()

    server = Server(runtime.table.holder(runtime.index), runtime, on_end)
    loop.add_reader(server.reactor.epoll_fd, server.reactor.turn)
    loop.add_signal_handler(signal.SIGTERM, server.drain)
    try:
        loop.run_forever()
    finally:
        loop.close()
    if cut_off:
        log.warning("drain_timeout ended %d requests that were still in flight", cut_off)
        return EXIT_CUT_OFF
    return EXIT_OK
