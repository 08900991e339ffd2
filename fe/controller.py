"""The controller process: the control plane on an event loop of its own, started by the supervisor after the fork.

Owns: the loop, the signals and the exit code of this process. Never: requests; workers serve on while it is away, and
its successor takes up what it left. The control plane itself is `fe.control.plane`, its server `fe.control.admin`.
"""

from __future__ import annotations

import asyncio
import os
import signal

import uvloop

from fe.control.admin import AdminServer
from fe.control.plane import ControlPlane
from fe.errors import EXIT_INTERNAL
from fe.log import logger, set_process
from fe.model import ControllerRuntime

log = logger("controller")


def main(runtime: ControllerRuntime) -> int:
    """Runs the control plane until the supervisor ends it or goes away. Returns the exit code of the process."""
    set_process("controller")
    os.set_blocking(runtime.eventfd, False)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to the whole group; the supervisor decides
    try:
        return uvloop.run(_run(runtime))
    except Exception:
        log.exception("the controller has failed")
        return EXIT_INTERNAL


async def _run(runtime: ControllerRuntime) -> int:
    loop = asyncio.get_running_loop()
    plane = ControlPlane(loop, runtime)
    loop.add_signal_handler(signal.SIGHUP, plane.on_hangup)
    loop.add_signal_handler(signal.SIGTERM, plane.end)
    admin = AdminServer(plane, runtime.admin)
    await admin.start()
    try:
        return await plane.run()
    finally:
        await admin.stop()
