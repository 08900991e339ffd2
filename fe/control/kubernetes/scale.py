"""How many pods a Deployment should have: what the cluster says, and the writes of its `scale` by which fe changes it.

Owns: the one write that may be under way for a Deployment, the version that each is based on, what follows from a
refusal. Never: the decision (`fe.control.scaler`), whether there may be one (`targets`).

A write carries the resourceVersion of what was decided on and passes the elector's fence at the last moment, so that
neither a number that somebody else has set meanwhile nor a successor's is overwritten. After a conflict the number is
read again, and the next look at the load decides anew, without a back-off. An answer that comes late, after another
number was asked for or the lead was lost, changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final, NamedTuple, Protocol

from fe.control.kubernetes.client import Answer, ApiError, Cluster, UnreachableError
from fe.control.kubernetes.election import NotLeadingError
from fe.control.kubernetes.slim import Workload
from fe.control.kubernetes.watch import Backoff, Key
from fe.control.providers.base import Fleet
from fe.log import logger

log = logger("control.kubernetes")

WRITE_WITHIN: Final = 5.0  # seconds
AGAIN_FIRST: Final = 0.25  # seconds, halved at random, after a refusal; less than a usual polling interval
AGAIN_MOST: Final = 60.0
CONFLICTS_TOLD: Final = 5  # conflicts in a row after which an event tells of them, once
ECHO_WITHIN: Final = 10.0  # what an answer said holds against older news from the watch for so long
SETTLED: Final = 5.0  # a number that changes so soon after this front-end began to lead may be its predecessor's
JSON: Final = "application/json"


class Seen(NamedTuple):
    """What a Deployment was seen to want, in which version."""

    uid: str
    version: str
    replicas: int


class Writer(Protocol):
    """What a write needs: the way to the API server, and the right to use it."""

    writes: Counter[str]  # by what became of them

    @property
    def cluster(self) -> Cluster: ...

    def fence(self) -> float:
        """Seconds for which this front-end leads, for certain. Raises NotLeadingError."""

    def led_for(self) -> float:
        """Seconds since this front-end began to lead; below 0: it does not."""


class Scale:
    """The number of one Deployment's pods."""

    def __init__(self, key: Key, writer: Writer, clock: Callable[[], float] = time.monotonic) -> None:
        namespace, name = key
        self._key = key
        self._path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}/scale"
        self._writer = writer
        self._clock = clock
        self._seen: Seen | None = None
        self._known = False  # whether there is such a Deployment
        self._answered_at = float("-inf")  # when an answer, and not the watch, said so
        self._asked: int | None = None  # by the write that is under way
        self._wrote: int | None = None  # the last number that came from here
        self._hand: tuple[int, int] | None = None
        self._task: asyncio.Task[None] | None = None
        self._backoff = Backoff(AGAIN_FIRST, AGAIN_MOST)
        self._conflicts = 0  # in a row
        self._trouble = ""
        self._again_at = float("-inf")

    @property
    def wanted(self) -> int | None:
        """How many there should be; None: not known yet. 0 where there is no such Deployment."""
        if self._asked is not None:
            return self._asked
        if self._seen is None:
            return 0 if self._known else None
        return self._seen.replicas

    def trouble(self) -> str:
        """Why nothing is written for a while; "" where it may be."""
        return self._trouble if self._clock() < self._again_at else ""

    def take_hand(self) -> tuple[int, int] | None:
        """Before and after, where somebody else has set the number; told once."""
        hand, self._hand = self._hand, None
        return hand

    def on_workload(self, workload: Workload | None) -> None:
        """What the watch says."""
        self._known = True
        if workload is None:
            self._seen = None
            return
        seen = Seen(workload.uid, workload.version, workload.replicas)
        recent = self._clock() < self._answered_at + ECHO_WITHIN
        if self._seen is None or not recent or not _is_older(seen, self._seen):
            self._see(seen)

    def ask(self, count: int, fleet: Fleet) -> None:
        """Writes this number, in place of one that is still being written."""
        self.drop()
        if self._seen is not None:
            self._asked = self._wrote = count
            self._task = asyncio.get_running_loop().create_task(self._write(count, self._seen, fleet))

    def drop(self) -> None:
        """Whatever is being written: its outcome does not matter any more."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._asked = None

    def _see(self, seen: Seen) -> None:
        before, self._seen = self._seen, seen
        if before is None or before.uid != seen.uid or before.replicas == seen.replicas:
            return
        if seen.replicas != self._wrote and self._writer.led_for() > SETTLED:
            self._hand = (before.replicas if self._hand is None else self._hand[0], seen.replicas)
            self._wrote = None

    # --- one write ---

    async def _write(self, count: int, seen: Seen, fleet: Fleet) -> None:
        try:
            answer = await self._put(count, seen)
        except NotLeadingError:
            self._end("fenced")
        except ApiError as error:
            if error.status == 409:
                await self._on_conflict(error, count, fleet)
            else:
                self._refused(error, count, fleet)
                self._end("refused")
        except UnreachableError as error:  # it may have been carried out: the watch will tell
            log.warning("a number of replicas may not have been written", deployment=fleet.name, reason=error)
            self._wait(str(error))
            self._end("unreachable")
        else:
            self._backoff.reset()
            self._take(answer)
            self._end("written")

    async def _on_conflict(self, error: ApiError, count: int, fleet: Fleet) -> None:
        """Ordinary where others write, too, and no reason to wait: the next look at the load decides anew."""
        await self._read()
        if self._seen is not None and self._seen.replicas == count:
            self._end("written")  # the answer to the first try was lost with its connection
            return
        log.info("changed meanwhile, read again", deployment=fleet.name, replicas=count)
        self._end("conflict")
        if self._conflicts == CONFLICTS_TOLD:
            text = f"changed meanwhile, {CONFLICTS_TOLD} times in a row"
            fleet.note("refused", text, why=str(error), replicas=count)

    async def _put(self, count: int, seen: Seen) -> Answer:
        namespace, name = self._key
        meta = {"name": name, "namespace": namespace, "uid": seen.uid, "resourceVersion": seen.version}
        body = {"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": meta, "spec": {"replicas": count}}
        writer = self._writer
        return await writer.cluster.call(
            "PUT", self._path, {"fieldManager": "fe"}, body, JSON, min(WRITE_WITHIN, writer.fence()), writer.fence
        )

    async def _read(self) -> None:
        """The number as it is now, so that the next decision is about that one."""
        try:
            self._take(await self._writer.cluster.call("GET", self._path, timeout=WRITE_WITHIN))
        except (ApiError, UnreachableError) as error:
            log.debug("a number of replicas was not read again", target="/".join(self._key), reason=error)

    def _take(self, answer: Answer) -> None:
        seen = _seen(answer.body)
        if seen is not None and (self._seen is None or not _is_older(seen, self._seen)):
            self._see(seen)
            self._answered_at = self._clock()

    def _refused(self, error: ApiError, count: int, fleet: Fleet) -> None:
        self._wait(str(error), error.retry_after)
        fleet.note("refused", f"the cluster refuses {count} replicas", why=str(error), replicas=count)

    def _wait(self, trouble: str, least: float | None = None) -> None:
        self._trouble = trouble
        self._again_at = self._clock() + max(self._backoff.next(), min(least or 0.0, AGAIN_MOST))

    def _end(self, outcome: str) -> None:
        self._writer.writes[outcome] += 1
        self._conflicts = self._conflicts + 1 if outcome == "conflict" else 0
        self._task = self._asked = None


def _seen(body: dict[str, Any]) -> Seen | None:
    """Of a Scale; None: the answer is none. No replicas at all are left out of it."""
    meta, spec = body.get("metadata"), body.get("spec") or {}
    if body.get("kind") != "Scale" or not isinstance(meta, dict) or not isinstance(spec, dict):
        return None
    uid, version, replicas = meta.get("uid"), meta.get("resourceVersion"), spec.get("replicas", 0)
    if not isinstance(uid, str) or not isinstance(version, str) or not isinstance(replicas, int):
        return None
    return Seen(uid, version, replicas)


def _is_older(one: Seen, other: Seen) -> bool:
    """As far as that can be known: versions of one object grow, where they are numbers."""
    if one.uid != other.uid or not (one.version.isdigit() and other.version.isdigit()):
        return False
    return int(one.version) < int(other.version)
