"""`python -m loadtest.server`: listens on its ports and serves until SIGTERM or SIGINT.

Owns: the loop, the listening sockets, start-up and end. A line on stdout says each address once it is served. At the
end requests under way get their answers, for GRACE seconds at most. Read `options.py` for what it can be told.
"""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import signal
import sys
from typing import Final

import uvloop

from loadtest.server.connection import Connection
from loadtest.server.options import Settings, parse
from loadtest.server.replica import Replica

GRACE: Final = 5.0
BACKLOG: Final = 4096


def main() -> int:
    """0 after a signal, 1 when a port cannot be had, 2 for wrong usage."""
    settings = parse()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # a connection each: the soft limit is for select()
    return uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> int:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    if await _stopped_within(stop, settings.listen_after):
        return 0
    connections: set[Connection] = set()
    servers: list[asyncio.Server] = []
    for index, port in enumerate(settings.ports):
        replica = Replica(settings, index)
        build = functools.partial(Connection, loop, replica, connections)
        try:
            server = await loop.create_server(build, settings.host, port, backlog=BACKLOG)
        except OSError as error:
            number = error.errno or 0  # below 0: a name that is not found
            reason = os.strerror(number) if number > 0 else error.strerror or error
            print(f"loadtest.server: {settings.host}:{port} cannot be had: {reason}", file=sys.stderr)
            return 1
        replica.port = server.sockets[0].getsockname()[1]
        servers.append(server)
        print(f"loadtest.server: serving on {settings.host}:{replica.port}", flush=True)
    await stop.wait()
    for server in servers:
        server.close()
    await _drain(connections)
    return 0


async def _drain(connections: set[Connection]) -> None:
    """Idle connections close at once, the others with their answers."""
    for connection in list(connections):
        connection.end()
    end = asyncio.get_running_loop().time() + GRACE
    while connections and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(0.01)


async def _stopped_within(stop: asyncio.Event, seconds: float) -> bool:
    """Whether the signal came in that time."""
    if not seconds:
        return False
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
