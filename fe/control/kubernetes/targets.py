"""A Deployment whose pods are replicas: which pods those are, who else scales it, and whether fe may.

Owns: one target's pods, kept from changes of the view, and the reasons that keep fe from setting their number. Never:
the watching (`view`), the table (`pods`), writing (`scale`). Whoever uses a target is told of changes.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

from fe.control.kubernetes.scale import Scale, Writer
from fe.control.kubernetes.slim import Pod, Selector, Workload
from fe.control.kubernetes.watch import Key

POLLS: Final = 3  # a view older than so many looks at the load is too old to decide on
STALE_LEAST: Final = 2.0  # seconds: between two watches there is always a moment


class Bar(NamedTuple):
    """Why fe does not set the number: one word as a condition has it, and a sentence that stays the same meanwhile."""

    reason: str
    text: str


class User(Protocol):
    """Who is told of changes."""

    def on_target(self) -> None:
        """Pods, the Deployment, or claims on it have changed."""


class Sight(Protocol):
    """What a target asks of its surroundings."""

    def may_lead(self) -> Bar | None:
        """What keeps this front-end from scaling anything; None: it leads."""

    def stale_for(self, key: Key) -> float:
        """Seconds since the namespace of a target was last seen as it is; infinity: never yet."""

    def front_ends(self) -> int:
        """How many there are, as far as it is known; each counts its own requests only."""


class Target:
    """One Deployment, by namespace and name."""

    def __init__(self, key: Key, sight: Sight, writer: Writer) -> None:
        self.key = key
        self.workload: Workload | None = None
        self.selector = Selector()  # the last one that was known: pods outlive their Deployment
        self.pods: dict[str, Pod] = {}  # by uid
        self.claims: tuple[str, ...] = ()
        self.users: list[User] = []
        self.seen = False  # both the Deployment and its pods have been looked for once
        self.scale = Scale(key, writer)
        self._sight = sight
        self._writer = writer

    def __str__(self) -> str:
        return "/".join(self.key)

    def move(self, key: Key) -> None:
        """It is another one's name: nothing is known of it yet."""
        self.key, self.scale = key, Scale(key, self._writer)

    @property
    def cannot_create(self) -> bool:
        return self.workload is not None and self.workload.cannot_create

    @property
    def stalled(self) -> bool:
        return self.workload is not None and self.workload.stalled

    def on_workload(self, workload: Workload | None) -> bool:
        """The Deployment as it is now. True: its pods are to be looked up anew."""
        self.workload = workload
        self.scale.on_workload(workload)
        self.tell()
        if workload is None or workload.selector == self.selector:
            return False
        self.selector = workload.selector
        return True

    def on_pod(self, old: Pod | None, new: Pod | None) -> None:
        """A pod of its namespace has changed."""
        had = old is not None and self.pods.pop(old.uid, None) is not None
        has = new is not None and self.selector.matches(new.labels)
        if has and new is not None:
            self.pods[new.uid] = new
        if had or has:
            self.tell()

    def tell(self) -> None:
        for user in tuple(self.users):
            user.on_target()

    def bar(self, polling_interval: float) -> Bar | None:
        """What keeps fe from setting the number of pods now; None: nothing."""
        if self.claims:
            return Bar("Conflict", f"{' and '.join(self.claims)} scales the same pods")
        stale = self._sight.stale_for(self.key)
        most = max(POLLS * polling_interval, STALE_LEAST)
        if stale > most:
            text = "has not been seen yet" if stale == float("inf") else f"has not been seen for more than {most:g} s"
            return Bar("OutOfSync", f"the cluster {text}")
        if self.workload is None:
            return Bar("TargetMissing", f"there is no Deployment {self}")
        return self._sight.may_lead() or self._refusal()

    @property
    def last_stays(self) -> str:
        """Why no last pod may go: its first request can come to a front-end that does not scale. "": it may."""
        count = self._sight.front_ends()
        return f"{count} front-ends count for themselves: the last replica stays" if count > 1 else ""

    def _refusal(self) -> Bar | None:
        trouble = self.scale.trouble()
        return Bar("Refused", trouble) if trouble else None
