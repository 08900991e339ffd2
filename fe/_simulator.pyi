"""A deployment in virtual time: types of the extension module `fe._simulator`. Times are in ns from the beginning."""

from typing import Final, NamedTuple

WAIT_BOUNDS_NS: Final[tuple[int, ...]]

class Tally(NamedTuple):
    arrived: int
    served: int
    queue_full: int
    queue_wait: int
    no_replica: int
    granted: int
    wait_ns: int  # the sum over those granted
    in_flight_integral: int
    queue_integral: int
    ready_integral: int
    replica_integral: int  # of those that drain too

class Simulator:
    def __init__(self, *, capacity: int, max_queue: int, max_wait_ns: int, cold_wait_ns: int) -> None: ...
    @property
    def now(self) -> int: ...
    @property
    def in_flight(self) -> int: ...
    @property
    def ready(self) -> int: ...
    @property
    def draining(self) -> int: ...
    @property
    def queued(self) -> int: ...
    def feed(self, arrivals: object, services: object) -> None: ...  # buffers of int64, in order of time; ValueError
    def advance(self, until: int) -> None: ...
    def add_replica(self) -> None: ...
    def drain_replica(self) -> None: ...  # the least loaded one; ValueError if none is ready
    def tally(self) -> Tally: ...
    def waits(self) -> list[int]: ...
