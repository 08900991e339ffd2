"""Small tables for the tests of this folder: limits, holders with real eventfds, what was rung.

Owns: creation and the closing of descriptors. Never: an expectation; those stand in the tests and in `twin`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

from fe import _core
from fe._core import Holder, Limits, Table

FAR = 2**62  # a deadline that no test lives to see
PAST = 1  # one that has always passed
SMALL = Limits(deployments=4, replicas=12, holders=4, slots=70, workers=2, config_bytes=256)


class Bench:
    """A table with an eventfd for each holder and for the controller."""

    def __init__(self, limits: Limits = SMALL) -> None:
        self.table: Table = Table.create(limits)
        self._eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(limits.holders)]
        self._control = os.eventfd(0, os.EFD_NONBLOCK)
        for index, eventfd in enumerate(self._eventfds):
            self.table.name_eventfd(index, eventfd)
        self.table.name_control_eventfd(self._control)

    def close(self) -> None:
        for eventfd in (*self._eventfds, self._control):
            os.close(eventfd)

    def holders(self, count: int) -> list[Holder]:
        return [self.table.holder(index) for index in range(count)]

    def deployment(self, capacity: int = 1, max_queue: int = 100, replicas: int = 1) -> tuple[int, int, list[int]]:
        """A new deployment with READY replicas: its index, its generation, their indexes."""
        index, generation = self.table.add_deployment("endpoint/deployment", capacity, max_queue)
        members = [
            self.table.add_replica(index, b"replica %d" % number, _core.REPLICA_READY) for number in range(replicas)
        ]
        return index, generation, members

    def eventfd(self, holder: int) -> int:
        return self._eventfds[holder]

    def bell(self, holder: int) -> int:
        """The descriptor itself, to sleep on."""
        return self._eventfds[holder]

    def rung(self, holder: int) -> bool:
        """Whether this holder was rung since the last look."""
        return _read(self._eventfds[holder])

    def control_rung(self) -> bool:
        return _read(self._control)

    def listen(self) -> None:
        """Forgets what was rung so far."""
        for eventfd in (*self._eventfds, self._control):
            _read(eventfd)


def _read(eventfd: int) -> bool:
    try:
        return os.eventfd_read(eventfd) > 0
    except BlockingIOError:
        return False


@contextmanager
def bench(limits: Limits = SMALL) -> Iterator[Bench]:
    made = Bench(limits)
    try:
        yield made
        assert made.table.check() == []
    finally:
        made.close()
