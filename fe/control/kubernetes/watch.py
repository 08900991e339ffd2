"""A list of objects that is kept current: list, then watch from there, for as long as it is wanted.

Owns: the store, which only a whole list or a sound event changes; the version to go on from; when to ask again.
Never: what the objects mean (`reduce` makes each as small as it is needed), a call itself (`client`).

While the server is away the store stays as it was. The beginnings of attempts are apart by Backoff's delays: between
1.5 and 3 s once five have failed in a row (5 and 10 s for a list that fe has never been given). An attempt is a watch;
one list precedes it when there is no version to go on from, the version is too old, or MUTE_MOST watches in a row
brought nothing. A watch that lasted for SETTLED lets delays begin anew, so that also a server which comes and goes as
it likes is asked for at most 5 + T / 1.3 lists in T seconds. (aiohttp repeats a GET once whose connection breaks before
it is answered, and an empty list is asked for twice; that is not counted.) A server that returns is found within 5 s:
an attempt that hangs ends after `client.SILENCE`, and the next one begins at once, since the time that it took
counts as its delay; a watch that goes silent with its network ends when the election's next call hangs (`doubt`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, Generic, TypeVar

import msgspec

from fe.control.kubernetes.client import ApiError, Cluster, UnreachableError
from fe.control.kubernetes.exchange import refusal
from fe.log import logger

log = logger("control.kubernetes")

PAGE: Final = 200  # objects a list call: some 1.2 MB of pods
PAGES_MOST: Final = 500
LIST_WITHIN: Final = 10.0  # seconds for a page
IDLE: Final = 30.0  # a watch that is silent for this long is renewed
SETTLED: Final = 5.0  # a watch that lasted this long was a success
CONFIRM_AFTER: Final = 0.5
MUTE_MOST: Final = 3
RETRY_AFTER_MOST: Final = 4.0  # it may be back sooner than it says
FIRST: Final = 0.2
MOST: Final = 3.0
MOST_REFUSED: Final = 10.0
WILL_NOT: Final = frozenset((403, 404))  # nothing that waiting mends, if it has never been otherwise
BUSY: Final = frozenset((429, 503))  # a list instead of a watch would make it worse

Key = tuple[str, str]  # namespace, name
V = TypeVar("V")

_decode = msgspec.json.Decoder().decode


class GarbledError(UnreachableError):
    """What came is not what a server of this kind says."""


class Backoff:
    """Delays that double up to a limit, each of them cut by a random part of up to a half."""

    def __init__(self, first: float = FIRST, most: float = MOST, rng: random.Random | None = None) -> None:
        self._first = first
        self._most = most
        self._random = rng or random.Random()  # noqa: S311 - spreads calls, decides nothing
        self._failures = 0

    def next(self, most: float | None = None) -> float:
        """Seconds until the next attempt; `most` instead of the limit given at construction."""
        delay = min(most or self._most, self._first * 2.0 ** min(self._failures, 30))
        self._failures += 1
        return self._cut(delay)

    def least(self) -> float:
        """The first delay, which spreads what would be due at once."""
        return self._cut(self._first)

    def reset(self) -> None:
        """The last attempt was a success."""
        self._failures = 0

    def _cut(self, delay: float) -> float:
        return delay * (0.5 + 0.5 * self._random.random())


class Reflector(Generic[V]):
    """Keeps {(namespace, name): value} of one path and selector. To be used from the loop only.

    `reduce` gets an object as decoded and returns its value, or None for one that is not wanted; `on_change` gets the
    key, the old and the new value (None: there is none) after the store has changed. `idle` in seconds.
    """

    def __init__(
        self,
        cluster: Cluster,
        path: str,
        reduce: Callable[[dict[str, Any]], V | None],
        on_change: Callable[[Key, V | None, V | None], None],
        *,
        labels: str = "",
        fields: str = "",
        on_sync: Callable[[], None] | None = None,
        idle: float = IDLE,
        page: int = PAGE,
        backoff: Backoff | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cluster = cluster
        self._path = path
        self._reduce = reduce
        self._on_change = on_change
        self._on_sync = on_sync
        self._query = {key: text for key, text in (("labelSelector", labels), ("fieldSelector", fields)) if text}
        self._idle = idle
        self._page = page
        self._backoff = backoff or Backoff()
        self._clock = clock
        self._store: dict[Key, V] = {}
        self._version = ""  # where the next watch begins; "": with a list
        self._mute = 0  # watches in a row that were answered and brought nothing
        self._current_at = float("-inf")  # when the store was last known to be current
        self._open = False  # a watch is
        self._trouble = ""
        self._status = 0  # with which the server refused the last attempt
        self._task: asyncio.Task[None] | None = None

    @property
    def store(self) -> Mapping[Key, V]:
        """A view of what is known."""
        return MappingProxyType(self._store)

    @property
    def synced(self) -> bool:
        """A whole list has been seen at least once."""
        return self._current_at != float("-inf")

    @property
    def trouble(self) -> str:
        """Why there is no view of the cluster; "" while there is one."""
        return "" if self._open else self._trouble

    @property
    def refused(self) -> int | None:
        """403 or 404, if that is what the server says to this list and it has never been otherwise."""
        return self._status if self._status in WILL_NOT and not self.synced else None

    def stale_for(self) -> float:
        """Seconds since the store was last in sync: 0 while a watch is open, infinity before the first list."""
        return 0.0 if self._open else self._clock() - self._current_at

    def start(self) -> None:
        """Begins, in a task of its own that `stop` ends."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Ends it; the store stays as it is."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    async def _run(self) -> None:
        while self._task is not None:
            error: Exception | None = None
            began = time.monotonic()
            try:
                await self._attempt()
            except (ApiError, UnreachableError) as caught:
                error = caught
            except Exception as caught:  # a fault of fe's own must not end the only view of the cluster
                log.exception("watching failed", path=self._path)
                error, self._version = caught, ""
            self._note(error)
            await asyncio.sleep(self._pause(error, time.monotonic() - began))

    async def _attempt(self) -> None:
        if self._version:
            try:
                await self._watch()
            except ApiError as error:
                if error.status != 410:
                    raise
            else:
                return
            await asyncio.sleep(self._backoff.least())  # every watch may have been told so at the same moment
        await self._list()
        await self._watch()

    def _pause(self, error: Exception | None, spent: float) -> float:
        """Seconds until the next attempt, after one that took `spent`."""
        delay = self._backoff.next(MOST_REFUSED if self.refused else None) - spent
        asked = error.retry_after if isinstance(error, ApiError) else None
        return max(delay, self._backoff.least(), min(asked or 0.0, RETRY_AFTER_MOST))

    def _note(self, error: Exception | None) -> None:
        self._status = error.status if isinstance(error, ApiError) else 0
        trouble = "" if error is None else str(error)
        if trouble == self._trouble:
            return
        if self.refused == 404:  # ordinary: it is not installed
            log.info("the cluster does not know this kind of objects", path=self._path)
        elif trouble:
            log.warning("the cluster is not seen; the last state is kept", path=self._path, reason=trouble)
        else:
            log.info("the cluster is seen again", path=self._path)
        self._trouble = trouble

    # --- the list ---

    async def _list(self) -> None:
        fresh, listed, version = await self._read()
        if not listed and self._store:
            # Servers that were starting have been seen to answer so: everything would be dropped.
            await asyncio.sleep(CONFIRM_AFTER)
            fresh, listed, version = await self._read()
            if not listed:
                await self._doubt()
        self._take(fresh)
        self._version, self._mute = version, 0
        self._current_at = self._clock()
        if self._on_sync is not None:
            self._tell(self._on_sync)

    async def _read(self) -> tuple[dict[Key, V], int, str]:
        """A whole list: values, number of objects, version."""
        fresh: dict[Key, V] = {}
        listed, query = 0, {**self._query, "limit": str(self._page)}
        for _ in range(PAGES_MOST):
            count, version, more = await self._read_page(query, fresh)
            listed += count
            if not more:
                return fresh, listed, version
            query["continue"] = more
        raise GarbledError(f"a list of more than {PAGES_MOST} pages")

    async def _doubt(self) -> None:
        """Raises GarbledError if an object that a list should have had is there, when it is asked for by its name."""
        namespace, name = next(iter(self._store))
        folder, _, plural = self._path.rpartition("/")
        if namespace and "/namespaces/" not in folder:
            folder = f"{folder}/namespaces/{namespace}"
        try:
            answer = await self._cluster.call("GET", f"{folder}/{plural}/{name}", timeout=LIST_WITHIN)
        except ApiError as error:
            if error.status in (403, 404):  # may not be asked; is gone
                return
            raise
        if _has_labels(answer.body, self._query.get("labelSelector", "")):
            raise GarbledError(f"the list is empty, but {name} is there")

    async def _read_page(self, query: dict[str, str], fresh: dict[Key, V]) -> tuple[int, str, str]:
        """Adds a page's values; number of objects, version, token of the next page. Its objects do not outlive it."""
        answer = await self._cluster.call("GET", self._path, query, timeout=LIST_WITHIN)
        items, version, more = _page(answer.body)
        for item in items:
            key = _key(item)
            value = self._reduced(key, item)
            if value is not None:
                fresh[key] = value
        return len(items), version, more

    def _reduced(self, key: Key, item: dict[str, Any]) -> V | None:
        try:
            return self._reduce(item)
        except Exception as error:  # one odd object must not hide all others
            log.warning(
                "an object was not understood", path=self._path, object="/".join(key), reason=type(error).__name__
            )
            return self._store.get(key)

    def _take(self, fresh: dict[Key, V]) -> None:
        for key in [key for key in self._store if key not in fresh]:
            self._put(key, None)
        for key, value in fresh.items():
            self._put(key, value)

    def _put(self, key: Key, new: V | None) -> None:
        old = self._store.get(key)
        if new == old:
            return
        if new is None:
            del self._store[key]
        else:
            self._store[key] = new
        self._tell(self._on_change, key, old, new)

    def _tell(self, told: Callable[..., None], *what: object) -> None:
        try:
            told(*what)
        except Exception:
            log.exception("a change was not taken", path=self._path)

    # --- the watch ---

    async def _watch(self) -> None:
        # The server ends it a little before the silence would, with a bookmark in time for that.
        seconds = max(1, int(self._idle * (0.6 + 0.2 * random.random())))  # noqa: S311
        query = {**self._query, "watch": "true", "allowWatchBookmarks": "true", "resourceVersion": self._version}
        query["timeoutSeconds"] = str(seconds)
        self._mute += 1
        stream = self._cluster.stream(self._path, query, self._idle, on_open=self._on_open)
        try:
            async with contextlib.aclosing(stream) as lines:
                async for line in lines:
                    self._on_event(line)
        except ApiError as error:
            if error.status == 410:
                self._version = ""
            elif error.status in BUSY:
                self._mute -= 1
            raise
        except UnreachableError:
            if not self._open:
                self._mute -= 1
            raise
        finally:
            self._on_closed()

    def _on_open(self) -> None:
        self._open = True
        self._current_at = self._clock()

    def _on_closed(self) -> None:
        if self._open:
            now = self._clock()
            if now - self._current_at >= min(SETTLED, self._idle / 2):
                self._backoff.reset()
            self._open, self._current_at = False, now
        if self._mute >= MUTE_MOST:
            self._version = ""

    def _on_event(self, line: bytes | bytearray) -> None:
        kind, item = _event(line)
        version = _version(item)
        if kind != "BOOKMARK":
            key = _key(item)
            self._put(key, None if kind == "DELETED" else self._reduced(key, item))
        self._version, self._mute = version, 0
        self._note(None)


def _page(body: dict[str, Any]) -> tuple[list[Any], str, str]:
    """Items, version and continue token. Raises GarbledError: it is not a list, or not all of one."""
    meta = body.get("metadata")
    items = body.get("items", ...)
    if not str(body.get("kind", "")).endswith("List") or not isinstance(meta, dict) or items is ...:
        raise GarbledError("the answer is not a list")
    if items is None:  # Go's empty list
        items = []
    version, more = meta.get("resourceVersion"), meta.get("continue") or ""
    if not isinstance(items, list) or not isinstance(version, str) or not version or not isinstance(more, str):
        raise GarbledError("the answer is not a whole list")
    return items, version, more


def _event(line: bytes | bytearray) -> tuple[str, dict[str, Any]]:
    """Type and object. Raises GarbledError; ApiError for what the server reports as one."""
    try:
        event = _decode(line)
    except msgspec.MsgspecError:
        raise GarbledError("an event is not JSON") from None
    kind = event.get("type") if isinstance(event, dict) else None
    item = event.get("object") if isinstance(event, dict) else None
    if not isinstance(item, dict):
        raise GarbledError("an event without an object")
    if kind == "ERROR":
        code = item.get("code")
        raise refusal(item, code if isinstance(code, int) else 500)
    if kind not in ("ADDED", "MODIFIED", "DELETED", "BOOKMARK"):
        raise GarbledError("an event of an unknown type")
    return kind, item


def _meta(item: Any) -> dict[str, Any]:
    meta = item.get("metadata") if isinstance(item, dict) else None
    if not isinstance(meta, dict):
        raise GarbledError("an object without metadata")
    return meta


def _has_labels(item: Any, selector: str) -> bool:
    """Whether no "label=value" of the selector speaks against it; what else a selector may say is not understood."""
    labels = _meta(item).get("labels") or {}
    wanted = [] if "(" in selector else [part.partition("=") for part in selector.split(",") if "!" not in part]
    return all(labels.get(label.strip()) == value.strip("= ") for label, equals, value in wanted if equals)


def _key(item: Any) -> Key:
    meta = _meta(item)
    name, namespace = meta.get("name"), meta.get("namespace", "")
    if not isinstance(name, str) or not name or not isinstance(namespace, str):
        raise GarbledError("an object without a name")
    return namespace, name


def _version(item: Any) -> str:
    version = _meta(item).get("resourceVersion")
    if not isinstance(version, str) or not version:
        raise GarbledError("an object without a version")
    return version
