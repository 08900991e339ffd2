"""The lease table in shared memory: types of the extension module `fe._core`."""

from typing import Final, NamedTuple, final

HELD: Final = 0
WAITING: Final = 1
QUEUE_FULL: Final = 2
NO_REPLICA: Final = 3
NO_SLOT: Final = 4
GONE: Final = 5
BUSY: Final = 6
CANCELLED: Final = 7
EXPIRED: Final = 8

REPLICA_FREE: Final = 0
REPLICA_STARTING: Final = 1  # known, not yet ready (or no longer): a probe decides
REPLICA_READY: Final = 2
REPLICA_EJECTED: Final = 3  # set aside by a worker after failures; a probe brings it back
REPLICA_DRAINING: Final = 4  # keeps its leases, gets no new one; can be made READY again
REPLICA_REMOVING: Final = 5  # as DRAINING; the record is freed when the last lease is given back

HOLDER_FREE: Final = 0
HOLDER_STARTING: Final = 1
HOLDER_ACTIVE: Final = 2
HOLDER_ABSENT: Final = 3  # its process died; `recover` has been or is being done

COUNTERS: Final[int]  # counters in one statistics record
HISTOGRAMS: Final[int]  # histograms in one statistics record
HISTOGRAM_SUMS: Final[int]  # counter HISTOGRAM_SUMS + h is the sum in ns of histogram h: these counters are taken
HISTOGRAM_BOUNDS_NS: Final[tuple[int, ...]]  # upper bounds of the buckets; the last bucket has none
INVARIANTS: Final[tuple[str, ...]]  # what `Table.check` evaluates; number 1 is the first
BUILD: Final[str]  # release, debug or coverage
MOST: Final[Limits]  # the highest value of each limit

class Limits(NamedTuple):
    deployments: int = 1024
    replicas: int = 10_000
    holders: int = 64
    slots: int = 8192  # per holder: requests it has in flight or waiting at once
    workers: int = 1  # statistics records are kept for this many
    config_bytes: int = 2 << 20  # largest published snapshot

class DeploymentLoad(NamedTuple):
    """One deployment at one moment, read under its lock.

    Integrals are in ns (times requests or replicas) since its birth.
    """

    name: str
    generation: int
    state: int  # 0 free, 1 active, 2 removing
    capacity: int
    max_queue: int
    replicas: int
    ready: int
    in_flight: int
    queue_depth: int
    now_ns: int
    in_flight_integral: int
    queue_integral: int
    ready_integral: int

class ReplicaLoad(NamedTuple):
    deployment: int
    incarnation: int
    state: int
    in_flight: int
    failures: int  # consecutive
    sockaddr: bytes

class HolderState(NamedTuple):
    state: int
    generation: int
    pid: int
    beat_ns: int  # last sign of life, CLOCK_MONOTONIC
    changed_ns: int  # when `state` was last set, CLOCK_MONOTONIC
    slots_in_use: int

@final
class Table:
    """A mapped table. Made once by the supervisor, inherited by every child across fork."""

    limits: Limits
    fd: int
    size: int
    unrouted: int  # the statistics record of requests that belong to no deployment
    @staticmethod
    def size_of(limits: Limits) -> int: ...  # bytes
    @staticmethod
    def create(limits: Limits) -> Table: ...  # MemoryError with figures when the cgroup or machine has too little
    @staticmethod
    def attach(fd: int) -> Table: ...  # ValueError on another magic, signature or size

    # deployments (controller)
    # the index and the generation; zeroes its statistics
    def add_deployment(self, name: str, capacity: int, max_queue: int) -> tuple[int, int]: ...
    def configure_deployment(self, deployment: int, capacity: int, max_queue: int) -> None: ...
    def remove_deployment(self, deployment: int) -> None: ...  # new requests get GONE; freed when nothing refers to it
    def deployment(self, deployment: int) -> DeploymentLoad: ...
    # in_flight, capacity of a replica, ready, queue length and its bound, read without the lock: see _core.pxd
    def glance(self, deployment: int) -> tuple[int, int, int, int, int]: ...
    def deployments(self) -> list[int]: ...  # indexes that are not free

    # replicas (controller)
    def add_replica(self, deployment: int, sockaddr: bytes, state: int = ...) -> int: ...
    # False: was not `expect`
    def set_replica_state(self, replica: int, state: int, expect: int | None = None) -> bool: ...
    def remove_replica(self, replica: int) -> None: ...
    def replica(self, replica: int) -> ReplicaLoad: ...
    def replicas(self, deployment: int) -> list[int]: ...

    # holders (supervisor)
    def holder(self, index: int) -> Holder: ...  # claims it for this process: STARTING, all slots free
    def name_eventfd(self, holder: int, eventfd: int) -> None: ...
    # rung on ejections, when a removal or drain has emptied, and by whoever is the first to wait for a first replica
    def name_control_eventfd(self, eventfd: int) -> None: ...
    def mark_absent(self, holder: int) -> None: ...
    def recover(self, holder: int) -> int: ...  # leases given back and waiters dropped
    def repair(self) -> None: ...  # after the controller's death: what it left half done is finished, everyone is rung
    def holder_state(self, holder: int) -> HolderState: ...

    # configuration
    def publish(self, snapshot: bytes) -> int: ...  # the new version; ValueError over config_bytes; rings every holder
    def snapshot(self) -> tuple[int, bytes]: ...  # version and bytes, (0, b"") before the first
    def ring_all(self) -> None: ...

    # reading
    def check(self) -> list[str]: ...  # the invariants that do not hold, by number and name; [] is healthy
    # uint64 [workers, deployments + 1, COUNTERS + HISTOGRAMS * buckets], read-only
    def statistics(self) -> memoryview: ...

@final
class Holder:
    """This process's side of one holder record. The methods mirror the C functions of _core.pxd."""

    index: int
    # result, slot, replica
    def acquire(self, deployment: int, generation: int, deadline_ns: int) -> tuple[int, int, int]: ...
    def try_acquire(self, deployment: int, generation: int) -> tuple[int, int, int]: ...
    # as acquire; without a ready replica it waits for the first one
    def await_(self, deployment: int, generation: int, deadline_ns: int) -> tuple[int, int, int]: ...
    def release(self, slot: int) -> None: ...
    def retry(self, slot: int, deadline_ns: int, awaits: bool = False) -> tuple[int, int]: ...
    def cancel(self, slot: int) -> tuple[int, int]: ...
    def mail(self) -> bool: ...
    def collect(self, most: int = 256) -> list[tuple[int, int, int]]: ...  # slot, replica, result
    def failed(self, replica: int, incarnation: int, threshold: int) -> bool: ...
    def succeeded(self, replica: int) -> None: ...
    def beat(self, now_ns: int) -> None: ...
    def set_active(self) -> None: ...
    def adopt(self, deployment: int, replica: int) -> int: ...  # the slot: HELD at once, even above capacity
    def stat_add(self, deployment: int, counter: int, n: int) -> None: ...
    def stat_observe(self, deployment: int, histogram: int, ns: int) -> None: ...
    def churn(self, deployment: int, generation: int, rounds: int) -> int: ...  # ns of so many acquire+release in C

# A debug build has three functions more; every store of every operation passes a named point there:
#   crash_arm(after: int, signal: int = 9) -> None    the `after`-th point from now on sends `signal` here; 0: none
#   crash_points() -> list[str]                       all names
#   crash_passed() -> list[str]                       those passed since crash_arm, in order
