"""A small table with a victim and two survivors, and what must be true of it once the victim's death has been mended.

Owns: who holds and who waits in which order, and the judgement over all of it. Never: kills anyone (crash.py does).
Holder 0 is the victim's: its operations run in forked children. Holders 1 and 2 live in this process and survive.
"""

from __future__ import annotations

from fe import _core
from fe._core import Holder, Limits
from tests.core.tables import FAR, PAST, Bench

LIMITS = Limits(deployments=3, replicas=8, holders=4, slots=66, workers=2, config_bytes=128)
VICTIM, B, C = 0, 1, 2
Seat = tuple[int, int]  # holder, slot


class World:
    """The table and its people. `waiting` has the survivors' waiters, first come first."""

    def __init__(self, capacity: int = 1, replicas: int = 1, max_queue: int = 100) -> None:
        self.bench = Bench(LIMITS)
        self.table = self.bench.table
        self.people: list[Holder] = self.bench.holders(3)
        self.victim = self.people[VICTIM]
        self.deployment, self.generation, self.members = self.bench.deployment(capacity, max_queue, replicas)
        self.held: list[tuple[Seat, int]] = []  # survivors' leases, with the replica
        self.waiting: list[Seat] = []
        self.past: set[Seat] = set()  # waiters whose deadline lies behind
        self.mine: list[int] = []  # the victim's slots

    # --- Arranging ---------------------------------------------------------------------------------------------------

    def hold(self, who: int, count: int = 1) -> None:
        for _ in range(count):
            result, slot, replica = self.people[who].acquire(self.deployment, self.generation, FAR)
            assert result == _core.HELD
            if who == VICTIM:
                self.mine.append(slot)
            else:
                self.held.append(((who, slot), replica))

    def wait(self, *those: int, deadline: int = FAR) -> None:
        for who in those:
            result, slot, _ = self.people[who].acquire(self.deployment, self.generation, deadline)
            assert result == _core.WAITING
            if who == VICTIM:
                self.mine.append(slot)
            else:
                self.waiting.append((who, slot))
                if deadline == PAST:
                    self.past.add((who, slot))

    def let_go(self) -> None:
        """The survivor that has held longest gives its lease back."""
        (who, slot), _ = self.held.pop(0)
        self.people[who].release(slot)

    def ready_again(self) -> None:
        """Nothing is in the mail and no bell is ringing: what comes now, the act has caused."""
        self.read_mail(rung=False)
        self.bench.listen()

    # --- Judging -----------------------------------------------------------------------------------------------------

    def read_mail(self, rung: bool = True, only: int | None = None) -> int:
        """Survivors collect; who got a place must have been next and must have been rung. How many got one."""
        granted: dict[Seat, int] = {}
        expired: set[Seat] = set()
        for who in (B, C) if only is None else (only,):
            bell = self.bench.rung(who)
            news = self.people[who].collect()
            assert bell or not news or not rung, f"holder {who} has news {news} and was not rung"
            for slot, replica, result in news:
                if result == _core.EXPIRED:
                    expired.add((who, slot))
                else:
                    granted[who, slot] = replica
        self._enter(granted, expired)
        return len(granted)

    def _enter(self, granted: dict[Seat, int], expired: set[Seat]) -> None:
        active = self.table.deployment(self.deployment).state == 1
        assert expired <= set(self.waiting)
        assert expired <= self.past or not active, f"expired too early: {expired - self.past}"
        self.waiting = [seat for seat in self.waiting if seat not in expired]
        whose = {who for who, _ in granted}
        # Who has collected nothing may have been served too; among those who have, the first come first.
        first = [seat for seat in self.waiting if seat[0] in whose][: len(granted)]
        assert set(first) == set(granted), f"out of turn: {sorted(granted)} of {self.waiting}"
        self.held += [(seat, granted[seat]) for seat in first]
        self.waiting = [seat for seat in self.waiting if seat not in granted]

    def only_survivor(self, who: int) -> None:
        """All others have died and been recovered; the other survivor's place is taken by a new process."""
        self.held = [entry for entry in self.held if entry[0][0] == who]
        self.waiting = [seat for seat in self.waiting if seat[0] == who]
        other = B if who == C else C
        self.people[other] = self.table.holder(other)

    def judge(self) -> None:
        """Everything the table promises after a death was mended, to the last slot and place."""
        assert self.table.check() == []
        assert self.table.holder_state(VICTIM).slots_in_use == 0
        self.read_mail()
        self._count()
        while self.held:
            self.let_go()
            self.read_mail(rung=False)  # who lets go collects by itself
            self._count()
        self._end_of_queue()
        self._whole()

    def _count(self) -> None:
        assert self.table.check() == []
        load = self.table.deployment(self.deployment)
        assert (load.in_flight, load.queue_depth) == (len(self.held), len(self.waiting))
        for replica in set(self.members) & set(self.table.replicas(self.deployment)):
            assert self.table.replica(replica).in_flight == sum(1 for _, at in self.held if at == replica)
        for who in (B, C):
            seats = sum(1 for seat, _ in self.held if seat[0] == who) + sum(1 for s in self.waiting if s[0] == who)
            assert self.table.holder_state(who).slots_in_use == seats

    def _end_of_queue(self) -> None:
        load = self.table.deployment(self.deployment)
        assert not self.waiting or load.ready == 0, f"nobody serves {self.waiting}"
        for who, slot in self.waiting:
            assert self.people[who].cancel(slot)[0] == _core.CANCELLED
        self.waiting.clear()
        self._count()

    def _whole(self) -> None:
        """As many places as before, and every slot of every holder."""
        load = self.table.deployment(self.deployment)
        b = self.people[B]
        if load.state == 1 and load.ready and load.capacity:
            got = [b.try_acquire(self.deployment, load.generation) for _ in range(load.capacity * load.ready + 1)]
            assert [result for result, _, _ in got] == [_core.HELD] * (len(got) - 1) + [_core.BUSY]
            for _, slot, _ in got[:-1]:
                b.release(slot)
        index, generation, _ = self.bench.deployment(capacity=0, replicas=1)
        self.people[VICTIM] = self.table.holder(VICTIM)
        for holder in self.people:
            got = [holder.try_acquire(index, generation) for _ in range(LIMITS.slots + 1)]
            assert [result for result, _, _ in got] == [_core.HELD] * LIMITS.slots + [_core.NO_SLOT]
            assert len({slot for _, slot, _ in got[:-1]}) == LIMITS.slots
            for _, slot, _ in got[:-1]:
                holder.release(slot)
        assert self.table.check() == []
