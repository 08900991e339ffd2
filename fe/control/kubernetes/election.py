"""Which of several front-ends leads: a Lease, held and taken by the rules of client-go's leader election.

Owns: the Lease object and the answer to "may this process write now?". Never: what the leader does.

Times in the Lease are for people: clocks of other machines are not trusted. Another holder's lease has ended when its
record has not changed for the duration written in it, by this process's own clock. The leader counts from the moment
at which its last successful renewal *began*, and only up to `renew_deadline`, which is shorter: so it has stopped
before anybody else can have begun, also while its calls hang or while it is paused. What a server has already been
sent cannot be called back: a write carries the resourceVersion that it was decided on, too.
"""

from __future__ import annotations

import asyncio
import math
import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fe.control.kubernetes.client import ApiError, Cluster, UnansweredError, UnreachableError
from fe.errors import ConfigError, FeError
from fe.log import logger

log = logger("control.kubernetes")

JITTER: Final = 1.2  # client-go's factor: a try may be this much later than `retry` says
SOON: Final = 0.1  # of a pause: what is left of it after a try that took longer
SPREAD: Final = (0.6, 0.9)  # of `retry`: so a released lease is taken within it, and tries of several do not coincide
PATIENCE: Final = 0.42  # of `renew_deadline`, for an answer: one call may hang, and a slow server still has a leader
RELEASE_TRIES: Final = 4
RELEASE_WITHIN: Final = 2.0  # seconds
JSON: Final = "application/json"

Lease = dict[str, Any]


class NotLeadingError(FeError):
    """A write was not made: this process does not lead, or not any more."""


def boot_clock() -> float:
    """Seconds that pass while the process is stopped and while the machine is suspended, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Timing:
    """In seconds. Raises ConfigError unless duration > renew_deadline > retry * 1.2."""

    duration: float = 15.0  # that others wait before they take the lease
    renew_deadline: float = 10.0  # that the leader goes on without a renewal
    retry: float = 2.0

    def __post_init__(self) -> None:
        problems = []
        if self.duration < 1:
            problems.append(f"election.duration: {self.duration:g} s: a Lease counts whole seconds, at least 1")
        if self.duration <= self.renew_deadline:
            problems.append(
                f"election.duration: {self.duration:g} s has to be longer than renew_deadline"
                f" ({self.renew_deadline:g} s): a leader stops before another one may begin"
            )
        if self.retry <= 0:
            problems.append(f"election.retry: {self.retry:g} s has to be more than 0")
        if self.renew_deadline <= self.retry * JITTER:
            problems.append(
                f"election.renew_deadline: {self.renew_deadline:g} s has to be longer than {JITTER:g} times retry"
                f" ({self.retry:g} s): one late try must not end the leadership"
            )
        if problems:
            raise ConfigError(problems)


class Elector:
    """Takes part in an election. To be used from the loop only.

    `on_change(leading)` is called on every change, with False before the lease is given up or has ended. `identity`
    is for people; the holder written is it and a random part, so that two processes of one name are not both leaders.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        lease: str,
        identity: str,
        on_change: Callable[[bool], None],
        *,
        timing: Timing | None = None,
        clock: Callable[[], float] = boot_clock,
        rng: random.Random | None = None,
    ) -> None:
        self._cluster = cluster
        self._folder = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._name = lease
        self._path = f"{self._folder}/{lease}"
        self._timing = timing or Timing()
        self._clock = clock
        self._random = rng or random.Random()  # noqa: S311 - spreads tries, decides nothing
        self._on_change = on_change
        self.holder = f"{identity}_{secrets.token_hex(4)}"
        self._lease: Lease | None = None  # as last read or written
        self._seen_at = -math.inf  # when its record last changed, by our clock
        self._leads_until = -math.inf
        self._wrote = False  # a write was tried: the lease may be ours without our knowing
        self._told = False
        self._trouble = ""
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """This process leads now. Turns false by the clock alone."""
        return self._clock() < self._leads_until

    @property
    def leader(self) -> str:
        """The holder that was last seen, with its random part; "" if there was none."""
        return "" if self._lease is None else _holder(self._lease)

    @property
    def trouble(self) -> str:
        """Why the last try failed; "" if it did not."""
        return self._trouble

    def fence(self) -> float:
        """Seconds for which this process still leads, for a write to be finished in. Raises NotLeadingError.

        To be asked directly before a write: `Cluster.call(..., timeout=elector.fence(), fence=elector.fence)`.
        """
        left = self._leads_until - self._clock()
        if left <= 0:
            raise NotLeadingError("this front-end does not lead")
        return left

    def start(self) -> None:
        """Begins, in a task of its own that `stop` ends."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Stops leading, then gives the lease up, so that the next one need not wait for its end. Within seconds."""
        self._lead(-math.inf)
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait([task])
        self._lead(-math.inf)
        if self._wrote:
            try:
                async with asyncio.timeout(min(RELEASE_WITHIN, self._timing.renew_deadline)):
                    await self._release()
            except (ApiError, UnreachableError, TimeoutError) as error:
                log.warning("the lease was not given up; it ends by itself", lease=self._name, reason=str(error))

    async def _run(self) -> None:
        while self._task is not None:
            wait, began = 0.0, time.monotonic()
            try:
                await self._try()
                self._trouble = ""
            except ApiError as error:
                if error.status != 409:  # another one was faster
                    self._note(str(error))
                wait = min(error.retry_after or 0.0, self._timing.duration)
            except UnreachableError as error:
                self._note(str(error))
                if isinstance(error, UnansweredError):
                    self._cluster.doubt(began)
            except Exception:
                log.exception("a try for the lease failed", lease=self._name)
            self._lead(self._leads_until)  # the loop's timers do not count the time of a suspended machine
            await asyncio.sleep(max(self._pause(time.monotonic() - began), wait))

    def _pause(self, spent: float) -> float:
        """Seconds until the next try: tries begin `retry` apart, and one that hung is followed soon."""
        low, high = SPREAD
        retry = self._timing.retry * (low + (high - low) * self._random.random())
        return max(retry - spent, retry * SOON)

    def _note(self, trouble: str) -> None:
        if trouble != self._trouble:
            log.warning("the lease cannot be read or written", lease=self._name, reason=trouble)
        self._trouble = trouble

    # --- one try ---

    async def _try(self) -> None:
        """Renews the lease if it is held here, else looks whether it is free, and takes it then."""
        if self.leading and self._lease is not None:
            try:
                await self._write(self._lease, self._record(self._lease), self.fence)
                return
            except NotLeadingError:
                log.debug("a renewal was not sent: it came too late", lease=self._name)
            except ApiError as error:
                if error.status not in (404, 409):
                    raise
        lease = await self._read()
        if lease is None:
            self._lead(-math.inf)  # deleted: whoever makes it anew leads
            await self._create()
            return
        self._observe(lease)
        holder = _holder(lease)
        if holder != self.holder:
            self._lead(-math.inf)
            if holder and self._clock() < self._seen_at + _duration(lease, self._timing.duration):
                return
        await self._write(lease, self._record(lease))

    async def _read(self) -> Lease | None:
        try:
            answer = await self._cluster.call("GET", self._path, timeout=self._patience)
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return _sound(answer.body)

    async def _create(self) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._name},
            "spec": self._record(None),
        }
        await self._send("POST", self._folder, body)

    async def _write(self, lease: Lease, record: dict[str, Any], fence: Callable[[], object] | None = None) -> None:
        await self._send("PUT", self._path, {**lease, "spec": record}, fence)

    async def _send(self, method: str, path: str, body: Lease, fence: Callable[[], object] | None = None) -> None:
        self._wrote = True
        began = self._clock()
        answer = await self._cluster.call(method, path, {}, body, JSON, self._patience, fence)
        lease = _sound(answer.body)
        self._observe(lease)
        if _holder(lease) == self.holder:
            self._lead(began + self._timing.renew_deadline)

    @property
    def _patience(self) -> float:
        return self._timing.renew_deadline * PATIENCE

    def _record(self, lease: Lease | None) -> dict[str, Any]:
        """The spec by which this process holds the lease from now on."""
        old = {} if lease is None else lease["spec"]
        now = _microtime()
        mine = old.get("holderIdentity") == self.holder
        transitions = old.get("leaseTransitions") or 0
        return {
            **old,
            "holderIdentity": self.holder,
            "leaseDurationSeconds": math.ceil(self._timing.duration),
            "acquireTime": old.get("acquireTime") if mine else now,
            "renewTime": now,
            "leaseTransitions": transitions if mine or lease is None else transitions + 1,
        }

    def _observe(self, lease: Lease) -> None:
        if self._lease is None or self._lease["spec"] != lease["spec"]:
            self._seen_at = self._clock()
        self._lease = lease

    async def _release(self) -> None:
        """Writes an empty holder, if the lease is ours; a renewal that was under way may have to be overtaken."""
        for _ in range(RELEASE_TRIES):
            lease = await self._read()
            if lease is None or _holder(lease) != self.holder:
                return
            now = _microtime()
            empty = {"holderIdentity": "", "leaseDurationSeconds": 1, "acquireTime": now, "renewTime": now}
            try:
                await self._write(lease, {**lease["spec"], **empty})
            except ApiError as error:
                if error.status != 409:
                    raise
            else:
                log.info("the lease is given up", lease=self._name)
                return

    # --- leading ---

    def _lead(self, until: float) -> None:
        """Leads until this moment of the clock; says so if that is a change."""
        self._leads_until = until
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        leading = self.leading
        if leading:
            self._timer = asyncio.get_running_loop().call_later(until - self._clock(), self._on_deadline)
        if leading == self._told:
            return
        self._told = leading
        log.info("this front-end leads" if leading else "this front-end does not lead any more", holder=self.holder)
        try:
            self._on_change(leading)
        except Exception:
            log.exception("a change of the leader was not taken", lease=self._name)

    def _on_deadline(self) -> None:
        self._timer = None
        self._lead(self._leads_until)


def _sound(body: Lease) -> Lease:
    """The Lease. Raises UnreachableError if the answer is none."""
    meta, spec = body.get("metadata"), body.get("spec")
    if body.get("kind") != "Lease" or not isinstance(meta, dict) or not meta.get("resourceVersion"):
        raise UnreachableError("the answer is not a Lease")
    if spec is not None and not isinstance(spec, dict):
        raise UnreachableError("the answer is not a Lease")
    return {**body, "spec": spec or {}}


def _holder(lease: Lease) -> str:
    return str(lease["spec"].get("holderIdentity") or "")


def _duration(lease: Lease, otherwise: float) -> float:
    seconds = lease["spec"].get("leaseDurationSeconds")
    return float(seconds) if isinstance(seconds, int | float) else otherwise


def _microtime() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
