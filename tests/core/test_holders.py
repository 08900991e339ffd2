"""Holders: claimed, named, beating, dead and recovered. Deaths here are of real processes."""

from __future__ import annotations

import os
import signal

from fe import _core
from tests.core.tables import FAR, bench


def in_child(work) -> int:
    """Runs `work` in a forked process that is killed right after; its process id."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)
    assert os.waitpid(pid, 0)[1] == signal.SIGKILL
    return pid


def test_the_life_of_a_holder(bench):
    table = bench.table
    assert table.holder_state(2) == (_core.HOLDER_FREE, 0, 0, 0, 0, 0)
    holder = table.holder(2)
    claimed = table.holder_state(2)
    assert claimed[:3] == (_core.HOLDER_STARTING, 1, os.getpid())
    assert 0 < claimed.beat_ns <= claimed.changed_ns
    holder.set_active()
    holder.beat(claimed.beat_ns + 5)
    active = table.holder_state(2)
    assert (active.state, active.beat_ns) == (_core.HOLDER_ACTIVE, claimed.beat_ns + 5)
    assert active.changed_ns >= claimed.changed_ns
    table.mark_absent(2)
    assert table.holder_state(2).state == _core.HOLDER_ABSENT
    assert table.recover(2) == 0
    assert table.holder_state(2).state == _core.HOLDER_ABSENT
    table.holder(2)
    assert table.holder_state(2)[:2] == (_core.HOLDER_STARTING, 2)


def test_the_leases_of_a_killed_process_are_given_back(bench):
    deployment, generation, [member] = bench.deployment(capacity=2)
    survivor = bench.table.holder(0)

    def work():
        holder = bench.table.holder(1)
        for _ in range(4):
            holder.acquire(deployment, generation, FAR)

    pid = in_child(work)
    waiting = [survivor.acquire(deployment, generation, FAR)[1] for _ in range(3)]
    assert bench.table.holder_state(1).pid == pid
    assert bench.table.holder_state(1).slots_in_use == 4
    bench.listen()
    assert bench.table.recover(1) == 4
    assert bench.rung(0)
    assert survivor.collect() == [(slot, member, _core.HELD) for slot in waiting[:2]]
    assert bench.table.deployment(deployment).queue_depth == 1
    assert bench.table.recover(1) == 0


def test_a_grant_to_a_dead_holder_goes_to_the_next(bench):
    deployment, generation, [member] = bench.deployment()
    first, third = bench.table.holder(0), bench.table.holder(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    in_child(lambda: bench.table.holder(1).acquire(deployment, generation, FAR))
    _, waiting, _ = third.acquire(deployment, generation, FAR)
    first.release(slot)
    assert not third.mail()
    assert bench.table.recover(1) == 1
    assert third.collect() == [(waiting, member, _core.HELD)]


def test_a_claim_gives_back_what_nobody_recovered(bench):
    deployment, generation, _ = bench.deployment()
    in_child(lambda: bench.table.holder(1).acquire(deployment, generation, FAR))
    assert bench.table.deployment(deployment).in_flight == 1
    holder = bench.table.holder(1)
    assert bench.table.deployment(deployment).in_flight == 0
    assert holder.acquire(deployment, generation, FAR)[0] == _core.HELD


def test_marked_but_never_rung(bench):
    """The ringer died between mark and bell, and `cancel` took the news: the next grant must ring all the same."""
    deployment, generation, [member] = bench.deployment()
    sleeper, other = bench.table.holder(0), bench.table.holder(2)
    adopted = sleeper.adopt(deployment, member)
    assert sleeper.acquire(deployment, generation, FAR) == (_core.WAITING, 1, 0)
    deaf = os.eventfd(0, os.EFD_NONBLOCK)

    def work():
        ringer = bench.table.holder(1)
        slot = ringer.adopt(deployment, member)
        bench.table.configure_deployment(deployment, 2, 100)
        bench.table.name_eventfd(0, deaf)  # this process's bell is heard by nobody, as if it had never rung it
        ringer.release(slot)

    in_child(work)
    os.close(deaf)
    bench.table.name_eventfd(0, bench.eventfd(0))
    assert not bench.rung(0)
    assert sleeper.cancel(1)[0] == _core.HELD
    for slot in (adopted, 1):
        sleeper.release(slot)
    bench.table.recover(1)
    assert bench.rung(0)
    sleeper.collect()
    slots = [other.acquire(deployment, generation, FAR)[1] for _ in range(2)]
    assert sleeper.acquire(deployment, generation, FAR)[0] == _core.WAITING
    other.release(slots[0])
    assert bench.rung(0)


def test_repair_rings_whoever_has_news(bench):
    """A controller is no holder; what it granted and never rang for is made good."""
    deployment, generation, [member] = bench.deployment()
    holder = bench.table.holder(0)
    holder.acquire(deployment, generation, FAR)
    _, waiting, _ = holder.acquire(deployment, generation, FAR)
    deaf = os.eventfd(0, os.EFD_NONBLOCK)

    def work():
        bench.table.name_eventfd(0, deaf)
        bench.table.configure_deployment(deployment, 2, 100)

    in_child(work)
    os.close(deaf)
    bench.table.name_eventfd(0, bench.eventfd(0))
    assert not bench.rung(0)
    bench.table.repair()
    assert bench.rung(0)
    assert holder.collect() == [(waiting, member, _core.HELD)]


def test_a_lost_bell_does_no_harm():
    """A descriptor that is closed, or full, or none at all."""
    with bench() as made:
        deployment, generation, [member] = made.deployment()
        first, second = made.holders(2)
        full = os.eventfd(0, os.EFD_NONBLOCK)
        os.eventfd_write(full, 2**64 - 2)
        closed = os.dup(full)
        os.close(closed)
        for eventfd in (full, closed, -1):
            made.table.name_eventfd(1, eventfd)
            _, slot, _ = first.acquire(deployment, generation, FAR)
            _, waiting, _ = second.acquire(deployment, generation, FAR)
            first.release(slot)
            assert second.collect() == [(waiting, member, _core.HELD)]
            second.release(waiting)
        os.close(full)


def test_everybody_is_rung(bench):
    bench.holders(2)
    bench.listen()
    bench.table.ring_all()
    assert all(bench.rung(index) for index in range(bench.table.limits.holders))
    assert not bench.control_rung()
