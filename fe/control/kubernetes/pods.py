"""Pods as replicas: what is kept of each, which of them belong to a Deployment, and the provider that follows them.

Owns: when a pod gets requests. Only one that is ready, not being deleted and has an address gets new ones; one that is
not ready any more, or is being deleted, keeps what it has; one that has ended or is gone is discarded. The kubelet's
word decides, not a probe of fe's; what workers see of failures still sets a pod aside. Never: how many pods there
should be (`scale`), how they are found (`view`). Read next: targets.py.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fe.config.schema import KubernetesReplicas
from fe.control.addresses import display, pack_inet
from fe.control.kubernetes.targets import Bar, Target
from fe.control.plan import DeploymentPlan
from fe.control.providers.base import Fleet, Room
from fe.control.sources import PodProvider
from fe.log import logger

log = logger("control.kubernetes")

ROOM_AGAIN: Final = 1.0  # seconds until a pod that found the table full is tried again


@dataclass(eq=False)
class Member:
    """A pod in the table."""

    key: str
    sockaddr: bytes
    used: bool  # it may get new requests


class PodsProvider(PodProvider):
    """The pods of one deployment."""

    kind = "kubernetes"
    scalable = True

    def __init__(
        self,
        fleet: Fleet,
        loop: asyncio.AbstractEventLoop,
        target: Target,
        plan: DeploymentPlan,
        count: int,
        on_number: Callable[[], None],
    ) -> None:
        """count: how many there should be, until the cluster has said; on_number: it has."""
        assert isinstance(plan.source, KubernetesReplicas)
        self._fleet = fleet
        self._room = Room(fleet)
        self._loop = loop
        self._port = plan.source.port
        self._count = count  # wanted, as last known
        self._on_number = on_number
        self._members: dict[str, Member] = {}  # uid of the pod
        self._inherited: dict[bytes, Member] = {}  # of a former controller, until the cluster has been seen
        self._timer: asyncio.TimerHandle | None = None
        self._poked = False
        self._started = False
        self._retired = False
        self._in_conflict = False
        self.target = target
        self.plan = plan

    # --- the provider's interface ---

    def start(self) -> None:
        self._started = True
        self.target.users.append(self)
        self._step()

    def adopt(self, sockaddrs: Sequence[bytes]) -> None:
        for sockaddr in sockaddrs:
            key = f"{display(sockaddr)}, taken over"
            used = self._fleet.adopt_record(key, sockaddr, local=False)
            self._inherited[sockaddr] = Member(key, sockaddr, used)

    def update(self, plan: DeploymentPlan) -> None:
        self.plan = plan
        self._note_conflict()

    def scale(self, count: int) -> None:
        self._count = count
        self.target.scale.ask(count, self._fleet)

    def on_change(self) -> None:
        pass  # what becomes of pods is the cluster's to say

    def holds(self, key: str) -> bool:
        return any(member.key == key for member in self._members.values())

    def retire(self) -> None:
        self._retired = True
        if self in self.target.users:
            self.target.users.remove(self)
        if self._timer is not None:
            self._timer.cancel()
        for member in (*self._members.values(), *self._inherited.values()):
            self._fleet.discard(member.key)  # its leases stay until they are given back
        self._members.clear()
        self._inherited.clear()

    @property
    def retired(self) -> bool:
        return self._retired

    @property
    def wanted(self) -> int:
        known = self.target.scale.wanted
        return self._count if known is None else known

    @property
    def pending(self) -> int:
        used = sum(member.used for member in list(self._members.values()))
        return max(0, self.wanted - used)

    @property
    def failing(self) -> int:
        target = self.target
        pods = [pod for pod in list(target.pods.values()) if not pod.terminating and not pod.ended]
        missing = max(0, self.wanted - len(pods)) if target.cannot_create else 0
        return missing + sum(bool(pod.failing) or (target.stalled and not pod.ready) for pod in pods)

    @property
    def scales(self) -> bool:
        """fe sets the number of these pods."""
        return self.plan.scale is not None or self.plan.stated is not None

    def bar(self) -> Bar | None:
        """What keeps fe from setting it now."""
        return self.target.bar(self.plan.polling_interval)

    @property
    def barred(self) -> str:
        bar = self.bar()
        return "" if bar is None else bar.text

    @property
    def mend(self) -> str:
        bar = self.bar()
        if bar is None or bar.reason not in ("Conflict", "NotLeading"):
            return ""
        if bar.reason == "Conflict":
            return "set its bounds, or remove it and fe scales"
        namespace, name = self.target.key
        command = f"kubectl -n {namespace} scale deployment/{name}"
        return f"ask the one that leads, or set it with `{command}`, which fe respects"

    @property
    def last_stays(self) -> str:
        return self.target.last_stays

    def take_hand(self) -> tuple[int, int] | None:
        return self.target.scale.take_hand()

    # --- what the cluster says ---

    def on_target(self) -> None:
        """Something about the pods or their Deployment has changed. Several changes in a row are one step."""
        if not self._poked:
            self._poked = True
            self._loop.call_soon(self._on_poked)

    def _on_poked(self) -> None:
        self._poked = False
        if not self._retired:
            if self.wanted != self._count:
                self._count = self.wanted
                self._on_number()
            self._note_conflict()
            self._step()

    def _note_conflict(self) -> None:
        claims = self.target.claims if self.scales else ()
        if claims and not self._in_conflict:
            self._fleet.note("conflict", f"{' and '.join(claims)} scales the same pods: fe leaves their number alone")
        elif self._in_conflict and not claims:
            self._fleet.note("conflict", "nobody else scales these pods any more")
        self._in_conflict = bool(claims)

    # --- bringing the table in line with it ---

    def _step(self) -> None:
        if not self.target.seen or not self._started:
            return
        for uid in [uid for uid in self._members if uid not in self.target.pods]:
            self._fleet.discard(self._members.pop(uid).key)
        waiting = 0
        for uid, pod in self.target.pods.items():
            sockaddr = None if pod.ended else _packed(pod.address, self._port)
            member = self._member(uid, sockaddr)
            if sockaddr is not None and pod.serves:
                waiting += not self._use(uid, member, sockaddr)
            elif member is not None and member.used:
                member.used = False
                self._fleet.drain(member.key)
        for member in self._inherited.values():
            self._fleet.discard(member.key)
        self._inherited.clear()
        self._arm(waiting)

    def _member(self, uid: str, sockaddr: bytes | None) -> Member | None:
        """What the table has of a pod at this address; discarded if it has another one now, or has ended."""
        member = self._members.get(uid)
        if member is not None and member.sockaddr != sockaddr:
            self._fleet.discard(self._members.pop(uid).key)
            member = None
        if member is None and sockaddr in self._inherited:
            member = self._members[uid] = self._inherited.pop(sockaddr)
        return member

    def _use(self, uid: str, member: Member | None, sockaddr: bytes) -> bool:
        """New requests go there from now on. False: the table has no room for it."""
        if member is None:
            member = Member(f"{uid}:{self._port}", sockaddr, used=False)
        if not member.used:
            member.used = self._fleet.add(member.key, sockaddr, local=False)
            if member.used:
                self._members[uid] = member
        return member.used

    def _arm(self, waiting: int) -> None:
        self._room.note(waiting)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiting:
            self._timer = self._loop.call_later(ROOM_AGAIN, self._on_poked)


def _packed(address: str, port: int) -> bytes | None:
    try:
        return pack_inet(address, port) if address else None
    except OSError:
        log.warning("a pod has an address that cannot be used", address=address)
        return None
