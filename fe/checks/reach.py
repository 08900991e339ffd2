"""Whether a name can be resolved and a port accepts connections, many at once and each within a limit.

Owns: these tries. Nothing is sent over a connection. Never: what follows from the outcome. Whatever may block for
longer than anybody waits runs in a thread that is left behind then, and that the end of the process does not wait for.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from threading import Thread
from typing import Final, TypeVar

from fe.control.addresses import pack_inet, unpack

T = TypeVar("T")

CONNECT_WITHIN: Final = 2.0  # seconds
RESOLVE_WITHIN: Final = 5.0
AT_ONCE: Final = 64
NO_TIME: Final = "not tried: no time was left"
SILENT: Final = f"no answer within {CONNECT_WITHIN:g} s"


async def apart(work: Callable[[], T]) -> T:
    """What `work` returns or raises, in a thread of its own."""
    outcome: Future[T] = Future()
    outcome.set_running_or_notify_cancel()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    Thread(target=run, daemon=True).start()
    return await asyncio.wrap_future(outcome)


async def resolve(host: str, port: int) -> list[bytes]:
    """The addresses of a name, or of an address itself. Raises OSError with the reason."""
    try:
        async with asyncio.timeout(RESOLVE_WITHIN):
            found = await apart(lambda: socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
    except TimeoutError:
        raise OSError(f"no answer within {RESOLVE_WITHIN:g} s") from None
    except (OSError, UnicodeError) as error:
        raise OSError(getattr(error, "strerror", None) or str(error)) from None
    packed = [pack_inet(str(address[0]).partition("%")[0], port) for *_, address in found]
    return list(dict.fromkeys(packed))


async def connect(sockaddr: bytes) -> str:
    """Why no connection comes about; "" where one does."""
    try:
        family, address = unpack(sockaddr)
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            async with asyncio.timeout(CONNECT_WITHIN):
                await asyncio.get_running_loop().sock_connect(sock, address)
    except TimeoutError as error:
        return SILENT if error.errno is None else os.strerror(error.errno)
    except OSError as error:
        return (os.strerror(error.errno) if error.errno else str(error)).lower()
    return ""


async def connect_all(sockaddrs: Iterable[bytes], deadline: float) -> dict[bytes, str]:
    """As `connect`, for each of them; those that there is no time for are NO_TIME."""
    outcomes = dict.fromkeys(sockaddrs, NO_TIME)
    left = iter(outcomes.copy())

    async def take() -> None:
        for sockaddr in left:
            outcomes[sockaddr] = await connect(sockaddr)

    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout_at(deadline):
            await asyncio.gather(*(take() for _ in range(AT_ONCE)))
    return outcomes
