"""The interface between a deployment and whatever its replicas come from.

Owns: `Provider` (says which replicas exist, can be told how many there should be, can be ended), `Fleet` (what it may
do with its deployment's replicas) and `Room` (what is said when there are too many). Never: the lease table and probes,
which stand behind `Fleet`. See `static` and `process` for the kinds, `fe.control.deployment` for the fleet.
"""

from __future__ import annotations

import abc
from typing import Protocol

from fe.control.events import Kind
from fe.log import logger

log = logger("control.providers")


class Fleet(Protocol):
    """A deployment's replicas, as a provider sees them. A replica is named by a key that its provider chooses."""

    name: str  # "endpoint/deployment", for messages

    def add(self, key: str, sockaddr: bytes, *, local: bool) -> bool:
        """A replica exists at this address. One that is draining is taken back. It is used once it is ready.

        False: the table has no room for it; to be tried again later.
        """

    def adopt_record(self, key: str, sockaddr: bytes, *, local: bool) -> bool:
        """As `add`, for a replica that a former controller knew. False: it was being drained, and is."""

    def drain(self, key: str) -> None:
        """No new request goes there; what is in flight stays."""

    def discard(self, key: str) -> None:
        """The replica is gone or empty: its record is freed (with its last lease, if any is left)."""

    def is_ready(self, key: str) -> bool:
        """New requests go there."""

    def is_held(self, key: str) -> bool:
        """It was drained by hand: it stays, and counts for nothing."""

    def in_flight(self, key: str) -> int:
        """Leases held there; 0 when it is not known."""

    def note(self, kind: Kind, reason: str, *, replica: str | None = None, **figures: float | str) -> None:
        """Something worth remembering happened to a replica: an event of this deployment."""


class Room:
    """Whether the table has room for all of a deployment's replicas: said when it has none, and when it has again."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._lacking = False

    def note(self, lacking: int) -> None:
        """So many replicas found none."""
        if lacking and not self._lacking:
            log.error("the table has no room for replicas: raise limits.replicas, or wait until others have gone",
                      deployment=self._fleet.name, lacking=lacking)  # fmt: skip
        elif self._lacking and not lacking:
            log.info("the table has room for all replicas again", deployment=self._fleet.name)
        self._lacking = bool(lacking)


class Provider(abc.ABC):
    """A source of replicas for one deployment. All methods are called from the loop and return at once."""

    kind: str
    scalable = False  # `scale` has an effect

    @abc.abstractmethod
    def start(self) -> None:
        """Begins to say which replicas exist."""

    @abc.abstractmethod
    def scale(self, count: int) -> None:
        """There should be `count` replicas from now on. A static list is what it is and takes no notice."""

    @abc.abstractmethod
    def on_change(self) -> None:
        """A replica has become ready or unready, or has emptied: time for the next step."""

    def restart(self, key: str) -> bool:  # noqa: ARG002
        """A replica failed its liveness probe. False: this kind cannot restart one."""
        return False

    @abc.abstractmethod
    def retire(self) -> None:
        """Ends every replica: drained first, at most for the limit given at construction. `retired` tells when."""

    @property
    @abc.abstractmethod
    def retired(self) -> bool:
        """After `retire`: nothing is left."""

    @property
    def barred(self) -> str:
        """Why `scale` would have no effect now, in words; "" where it has one."""
        return ""

    @property
    def mend(self) -> str:
        """What somebody can do who wants another number where it is `barred`; "" where that is plain."""
        return ""

    @property
    def last_stays(self) -> str:
        """Why the last replica has to stay whatever the load, in words; "" where it may go."""
        return ""

    def take_hand(self) -> tuple[int, int] | None:
        """The number before and after somebody else has set it, told once; None: nobody has."""
        return None

    @abc.abstractmethod
    def holds(self, key: str) -> bool:
        """The replica of this key is one of this provider's."""

    @property
    def pending(self) -> int:
        """Replicas that are asked for and not yet in the table."""
        return 0

    @property
    def failing(self) -> int:
        """Replicas that there should be, and that fail whenever they are started."""
        return 0

    @property
    @abc.abstractmethod
    def wanted(self) -> int:
        """How many replicas there should be; for a static list, how many there are."""
