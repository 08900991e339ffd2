"""The API server of one cluster: one call, or one stream of lines, within a limit of time.

Owns: the configuration in use, and that it is loaded anew when its credential or authority is refused; a fence that
is asked at the last moment before a write goes out; which streams are still to be trusted. Never: retries or watching
(`watch`), what an answer means. How it is loaded: `fe.control.kubernetes.access`; the exchange itself:
`fe.control.kubernetes.exchange`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from fe.control.kubernetes.access import (
    SERVICE_ACCOUNT,
    Access,
    AccessError,
    UnreachableError,
    UntrustedError,
    load,
)
from fe.control.kubernetes.exchange import (
    CLOSED,
    Answer,
    ApiError,
    Lines,
    Request,
    UnansweredError,
    exchange,
    read_answer,
)
from fe.log import logger

__all__ = ["AccessError", "Answer", "ApiError", "Cluster", "UnansweredError", "UnreachableError"]

log = logger("control.kubernetes")

CALL_WITHIN: Final = 10.0  # seconds for a call, if its caller names none
SILENCE: Final = 4.2  # until an answer begins, connecting included, and within it: a slow server may need 4
RELOAD_AFTER: Final = 1.0  # what was refused is loaded anew at most this often: a new token may come after the refusal
RELOAD_MOST: Final = 30.0  # up to which that doubles where a plugin is run, while what it gives is refused too
DOUBLINGS: Final = 5
REOPEN_AFTER: Final = 2.0  # what could not be loaded is tried again at most this often
EMPTY: Final[Mapping[str, str]] = {}


@dataclass(slots=True)
class _Guard:
    """The fence of the call that this task makes; what it raised, since aiohttp may pass something else on."""

    fence: Callable[[], object]
    refused: BaseException | None = None


_guard: ContextVar[_Guard | None] = ContextVar("guard", default=None)


async def _on_sending() -> None:
    guard = _guard.get()
    if guard is not None:
        try:
            guard.fence()
        except BaseException as error:
            guard.refused = error
            raise


class Cluster:
    """Calls to one API server. Nothing is read or connected before the first one, or `open`."""

    def __init__(
        self,
        kubeconfig: str | None = None,
        context: str | None = None,
        *,
        account: Path = SERVICE_ACCOUNT,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """A kubeconfig or context that is named is taken; else the service account, else the default kubeconfig."""
        self._where = (kubeconfig, context, account, environ)
        self._access: Access | None = None
        self._loading: asyncio.Task[None] | None = None
        self._loaded_at = float("-inf")
        self._loads = 0  # since an answer was last a success
        self._failed: AccessError | None = None  # the last attempt, if there is nothing in use
        self._heard: dict[aiohttp.StreamReader, float] = {}  # when something last came, on each stream
        self._doubting: asyncio.TimerHandle | None = None
        self._closed = False

    async def open(self) -> Access:
        """The configuration in use, which is loaded if there is none yet. Raises AccessError."""
        if self._access is None:
            if self._failed is not None and time.monotonic() < self._loaded_at + REOPEN_AFTER:
                raise AccessError(str(self._failed))
            await self._load()
        if self._access is None:
            raise AccessError(CLOSED)
        return self._access

    async def close(self) -> None:
        """Ends every call that is under way; none can be made afterwards."""
        self._closed = True
        if self._doubting is not None:
            self._doubting.cancel()
        if self._loading is not None:
            self._loading.cancel()
            await asyncio.wait([self._loading])
        access, self._access = self._access, None
        if access is not None:
            await access.close()

    async def call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] = EMPTY,
        body: Any = None,
        content_type: str | None = None,
        timeout: float = CALL_WITHIN,
        fence: Callable[[], object] | None = None,
    ) -> Answer:
        """Asks and returns the answer, within `timeout` seconds. `path` is quoted as it has to be.

        `fence` is called once the connection stands, directly before anything is written to it; if it raises, nothing
        is, and the exception comes out here. Raises ApiError, UnreachableError.
        """
        request = Request(method, path, query, SILENCE, body, content_type)
        guard = None if fence is None else _Guard(fence)
        token = _guard.set(guard)
        try:
            async with asyncio.timeout(timeout), contextlib.AsyncExitStack() as stack:
                return await read_answer(await self._begin(request, stack))
        except TimeoutError:
            raise UnansweredError(f"no answer within {timeout:g} s") from None
        except UnreachableError:
            if guard is not None and guard.refused is not None:
                raise guard.refused from None
            raise
        finally:
            _guard.reset(token)

    async def stream(
        self,
        path: str,
        query: Mapping[str, str] = EMPTY,
        idle_timeout: float = 60.0,
        on_open: Callable[[], None] | None = None,
    ) -> AsyncGenerator[bytes | bytearray, None]:
        """The lines of a watch; ends when the server ends it. Its user closes it (`contextlib.aclosing`).

        `on_open` is called when the server has begun to answer. Raises ApiError; UnreachableError, for a silence of
        `idle_timeout` seconds and for an end within a line, too.
        """
        lines = Lines()
        async with contextlib.AsyncExitStack() as stack:
            request = Request("GET", path, query, idle_timeout, stream=True)
            content = (await self._begin(request, stack)).content
            stack.callback(self._heard.pop, content, None)
            self._heard[content] = time.monotonic()
            if on_open is not None:
                on_open()
            while chunk := await content.readany():
                self._heard[content] = time.monotonic()
                for line in lines.feed(chunk):
                    yield line
            lines.end()

    def doubt(self, since: float) -> None:
        """A call that began then (time.monotonic) was not answered: streams that have been silent since then end.

        A network that has forgotten a connection may never say so: an established watch looks the same dead or alive.
        A stream may have spoken after the call began and before the network went: it has as long again to speak.
        """
        self._end_silent(since)
        if self._doubting is not None:
            self._doubting.cancel()
        now = time.monotonic()
        self._doubting = asyncio.get_running_loop().call_later(now - since, self._end_silent, now)

    def _end_silent(self, since: float) -> None:
        for content, heard in list(self._heard.items()):
            if heard < since:
                content.set_exception(UnreachableError("silent, while a call was not answered"))

    async def _begin(self, request: Request, stack: contextlib.AsyncExitStack) -> aiohttp.ClientResponse:
        """The head of a successful answer, in time."""
        try:
            async with asyncio.timeout(SILENCE):
                return await self._ask(request, stack)
        except TimeoutError:
            raise UnansweredError(f"no answer within {SILENCE:g} s") from None

    async def _ask(self, request: Request, stack: contextlib.AsyncExitStack) -> aiohttp.ClientResponse:
        """Likewise, whenever. What is refused for its credential is asked again with another one."""
        access = await self.open()
        try:
            response = await stack.enter_async_context(exchange(access, request))
        except (ApiError, UntrustedError) as error:
            if isinstance(error, ApiError) and error.status != 401:
                raise
            if not await self._renew(access):
                raise
            response = await stack.enter_async_context(exchange(await self.open(), request))
        self._loads = 0
        return response

    async def _renew(self, refused: Access) -> bool:
        """Whether there is another configuration now than the one that was refused."""
        if self._access is refused and time.monotonic() >= self._loaded_at + self._pause(refused):
            try:
                await self._load()
            except AccessError as error:
                log.warning("what was refused could not be loaded anew", source=refused.source, reason=error)
        return self._access is not None and self._access is not refused

    def _pause(self, refused: Access) -> float:
        """Seconds from one load to the next. Files are read again as often as ever: they may be written at any time."""
        return min(RELOAD_AFTER * 2 ** min(self._loads, DOUBLINGS), RELOAD_MOST) if refused.costly else RELOAD_AFTER

    async def _load(self) -> None:
        """Loads in a task of its own, so that no caller's limit cuts it short for the others."""
        if self._closed:
            return
        if self._loading is None:
            self._loading = asyncio.create_task(self._replace_access())
            self._loading.add_done_callback(self._on_loaded)
        loading = self._loading
        await asyncio.wait([loading])
        if not loading.cancelled():
            loading.result()

    async def _replace_access(self) -> None:
        kubeconfig, context, account, environ = self._where
        access = await load(kubeconfig, context, account, environ, _on_sending)
        old = self._access
        if old is not None and old.is_same(access):  # its streams may still be fine
            await access.close()
            return
        self._access = access
        log.info("the Kubernetes configuration is loaded", source=access.source, server=access.server)
        if old is not None:
            await old.close()

    def _on_loaded(self, task: asyncio.Task[None]) -> None:
        self._loading = None
        self._loaded_at = time.monotonic()
        self._loads += 1
        error = None if task.cancelled() else task.exception()
        self._failed = error if isinstance(error, AccessError) else None
