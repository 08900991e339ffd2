"""Replicas at configured addresses: literal ones, and names that are resolved now and then.

Owns: the list of addresses behind `replicas.static`, with every A and AAAA record of each name. Never: removes what a
failed or empty resolution no longer shows: the last known addresses stay. A changed list adds before it drains, so that
there is never less to serve with than before. See `base` for the interface.
"""

from __future__ import annotations

import asyncio
import enum
import random
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from fe.config.addresses import parse_address
from fe.control.addresses import display, literal, pack_inet
from fe.control.providers.base import Fleet, Provider, Room
from fe.log import logger

log = logger("control.static")

Resolve = Callable[[str, int], Awaitable[Sequence[bytes]]]

RESOLVE_PERIOD: Final = 10.0  # seconds between resolutions of a name, jittered
RESOLVE_RETRY: Final = 1.0  # after a failure, doubling up to the period
RESOLVE_TIMEOUT: Final = 5.0
RESOLVE_TOGETHER: Final = 4  # the loop resolves in four threads; more would only wait there
REPLACE_WITHIN: Final = 30.0  # an address off the list serves until its successors are ready, at most this long


class SystemResolver:
    """Names through getaddrinfo, a few at a time."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._together = asyncio.Semaphore(RESOLVE_TOGETHER)

    async def __call__(self, host: str, port: int) -> list[bytes]:
        async with self._together:
            found = await asyncio.wait_for(
                self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP), RESOLVE_TIMEOUT
            )
        packed = []
        for family, _, _, _, address in found:
            if family in (socket.AF_INET, socket.AF_INET6):
                scope = address[3] if len(address) == 4 else 0
                packed.append(pack_inet(str(address[0]).partition("%")[0], port, scope))
        return list(dict.fromkeys(packed))


class Presence(enum.Enum):
    """Where an address is between the list and the table."""

    LISTED = 1  # in use
    LEAVING = 2  # off the list, serves until its successors are ready
    DRAINING = 3  # gets nothing new


class StaticProvider(Provider):
    """The addresses of one deployment."""

    kind = "static"

    def __init__(
        self,
        fleet: Fleet,
        loop: asyncio.AbstractEventLoop,
        addresses: Sequence[str],
        resolve: Resolve,
        period: float = RESOLVE_PERIOD,
    ) -> None:
        self._fleet = fleet
        self._room = Room(fleet)
        self._loop = loop
        self._resolve = resolve
        self._period = period
        self._addresses = tuple(addresses)
        self._known: dict[str, tuple[bytes, ...]] = {}  # configured text -> its addresses
        self._present: dict[str, Presence] = {}  # display text of an address -> where it is
        self._deadline = 0.0  # for what is LEAVING
        self._tasks: dict[str, asyncio.Task[None]] = {}  # configured name -> its resolution
        self._timer: asyncio.TimerHandle | None = None
        self._retired = False

    # --- the provider's interface ---

    def start(self) -> None:
        self._follow_list()

    def adopt(self, sockaddrs: Sequence[bytes]) -> None:
        """Before `start`: what a former controller had in the table for this deployment."""
        for sockaddr in sockaddrs:
            usable = self._fleet.adopt_record(display(sockaddr), sockaddr, local=False)
            self._present[display(sockaddr)] = Presence.LISTED if usable else Presence.DRAINING

    def update(self, addresses: Sequence[str]) -> None:
        """Another list from now on; names that stand in both keep what is known of them."""
        self._addresses = tuple(addresses)
        self._follow_list()

    def scale(self, count: int) -> None:
        pass

    def on_change(self) -> None:
        self._step()

    def holds(self, key: str) -> bool:
        return key in self._present

    def retire(self) -> None:
        self._retired = True
        self._stop_tasks(set())
        for key in self._present:
            self._fleet.discard(key)  # its leases stay until they are given back; nothing of ours has to wait
        self._present.clear()
        self._arm(None)

    @property
    def retired(self) -> bool:
        return self._retired

    @property
    def wanted(self) -> int:
        unresolved = sum(text not in self._known for text in self._addresses)
        return len(self._listed()) + unresolved

    # --- the list ---

    def _follow_list(self) -> None:
        names = set()
        for text in self._addresses:
            packed = literal(text)
            if packed is not None:
                self._known[text] = (packed,)
            else:
                names.add(text)
        self._known = {text: known for text, known in self._known.items() if text in self._addresses}
        self._stop_tasks(names)
        for name in names - self._tasks.keys():
            self._tasks[name] = self._loop.create_task(self._follow_name(name))
        self._step()

    def _stop_tasks(self, keep: set[str]) -> None:
        for name in [name for name in self._tasks if name not in keep]:
            self._tasks.pop(name).cancel()

    async def _follow_name(self, name: str) -> None:
        _, host, port = parse_address(name)
        retry = RESOLVE_RETRY
        while True:
            delay = self._period
            try:
                found = tuple(await self._resolve(host, port))
            except (OSError, TimeoutError, UnicodeError) as error:
                found = ()
                self._note_failure(name, str(error) or "no answer in time")
            else:
                if not found:
                    self._note_failure(name, "the answer is empty")
            if found:
                retry = RESOLVE_RETRY
                self._on_resolved(name, found)
            else:
                delay = min(retry, self._period)
                retry *= 2
            await asyncio.sleep(delay * (0.9 + 0.2 * random.random()))  # noqa: S311 - spreads look-ups

    def _note_failure(self, name: str, why: str) -> None:
        kept = len(self._known.get(name, ()))
        log.warning("a name cannot be resolved", deployment=self._fleet.name, name=name, reason=why, kept=kept)

    def _on_resolved(self, name: str, found: tuple[bytes, ...]) -> None:
        if set(found) != set(self._known.get(name, ())):
            self._known[name] = found
            addresses = ", ".join(map(display, found))
            log.info("a name is resolved", deployment=self._fleet.name, name=name, addresses=addresses)
        self._step()

    def _listed(self) -> dict[str, bytes]:
        return {display(raw): raw for text in self._addresses for raw in self._known.get(text, ())}

    # --- bringing the table in line with it ---

    def _step(self) -> None:
        if self._retired:
            return
        listed = self._listed()
        for key, sockaddr in listed.items():
            where = self._present.get(key)
            if where is not Presence.LISTED and (where is Presence.LEAVING or self._add(key, sockaddr)):
                self._present[key] = Presence.LISTED
        self._room.note(len(listed.keys() - self._present.keys()))
        self._let_go(listed)
        busy = False
        for key in [key for key, where in self._present.items() if where is Presence.DRAINING]:
            if self._fleet.in_flight(key) == 0:
                self._fleet.discard(key)
                del self._present[key]
            else:
                busy = True
        leaving = Presence.LEAVING in self._present.values()
        self._arm(0.2 if busy or leaving or len(self._present) < len(listed) else None)

    def _add(self, key: str, sockaddr: bytes) -> bool:
        return self._fleet.add(key, sockaddr, local=False)

    def _let_go(self, listed: dict[str, bytes]) -> None:
        """Starts to drain what is off the list, once what is on it is ready, or to make room for that."""
        off = [key for key, where in self._present.items() if key not in listed and where is not Presence.DRAINING]
        if not off:
            self._deadline = 0.0
            return
        if any(text not in self._known for text in self._addresses):
            return  # a name that was never resolved may stand for what is here
        now = self._loop.time()
        self._deadline = self._deadline or now + REPLACE_WITHIN
        off.sort(key=self._fleet.is_ready)
        going = len(off) if now >= self._deadline else self._replaced(off, listed)
        for at, key in enumerate(off):
            self._present[key] = Presence.LEAVING
            if at < going:
                self._present[key] = Presence.DRAINING
                self._fleet.drain(key)
                self._fleet.note("drain", "off the list", replica=key, in_flight=self._fleet.in_flight(key))

    def _replaced(self, off: list[str], listed: dict[str, bytes]) -> int:
        """How many of those off the list are not needed any more, or have to make room in a full table."""
        here = [key for key in listed if key in self._present]
        ready = [self._fleet.is_ready(key) for key in here]
        if ready and all(ready):
            return len(off)
        leave = list(self._present.values()).count(Presence.DRAINING)
        most = len(off) if any(ready) or len(off) == 1 else len(off) - 1  # one serves until another can
        return min(most, max(0, len(listed) - len(here) - leave))

    def _arm(self, delay: float | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if delay is not None:
            self._timer = self._loop.call_later(delay, self._step)
