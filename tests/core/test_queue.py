"""The queue: one order across all holders, bounded, handed over directly, left by deadline or by will."""

from __future__ import annotations

import pytest

from fe import _core
from tests.core.tables import FAR, PAST


def test_first_come_first_served_across_holders(bench):
    deployment, generation, [member] = bench.deployment()
    holders = bench.holders(4)
    _, slot, _ = holders[0].acquire(deployment, generation, FAR)
    order = [2, 1, 3, 1, 0, 2]
    for index in order:
        assert holders[index].acquire(deployment, generation, FAR)[0] == _core.WAITING
    served, last = [], (0, slot)
    for _ in order:
        holders[last[0]].release(last[1])
        [(index, outcomes)] = [(i, got) for i in range(4) if (got := holders[i].collect())]
        [(slot, replica, result)] = outcomes
        assert (replica, result) == (member, _core.HELD)
        served.append(index)
        last = (index, slot)
    assert served == order


def test_a_freed_place_goes_straight_to_the_waiter(bench):
    """Who asks between the release and the collecting finds no place."""
    deployment, generation, [member] = bench.deployment()
    first, second, third = bench.holders(3)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    first.release(slot)
    assert third.try_acquire(deployment, generation)[0] == _core.BUSY
    load = bench.table.deployment(deployment)
    assert (load.in_flight, load.queue_depth) == (1, 0)
    assert second.collect() == [(waiting, member, _core.HELD)]


def test_the_queue_is_bounded(bench):
    deployment, generation, _ = bench.deployment(max_queue=2)
    first, second = bench.holders(2)
    results = [holder.acquire(deployment, generation, FAR)[0] for holder in (first, second, second, first)]
    assert results == [_core.HELD, _core.WAITING, _core.WAITING, _core.QUEUE_FULL]
    bench.table.configure_deployment(deployment, 1, 3)
    assert first.acquire(deployment, generation, FAR)[0] == _core.WAITING
    bench.table.configure_deployment(deployment, 1, 0)
    assert second.acquire(deployment, generation, FAR)[0] == _core.QUEUE_FULL
    assert bench.table.deployment(deployment).queue_depth == 3


def test_a_place_is_not_wasted_on_a_waiter_whose_deadline_has_passed(bench):
    deployment, generation, [member] = bench.deployment()
    first, second, third = bench.holders(3)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    late = [second.acquire(deployment, generation, PAST)[1] for _ in range(2)]
    _, waiting, _ = third.acquire(deployment, generation, FAR)
    first.release(slot)
    assert third.collect() == [(waiting, member, _core.HELD)]
    assert second.collect() == [(slot, 0, _core.EXPIRED) for slot in late]
    assert bench.table.holder_state(1).slots_in_use == 0


def test_cancelled_while_waiting(bench):
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    waiting = [second.acquire(deployment, generation, FAR)[1] for _ in range(3)]
    assert second.cancel(waiting[1]) == (_core.CANCELLED, 0)
    assert bench.table.deployment(deployment).queue_depth == 2
    first.release(slot)
    assert second.collect() == [(waiting[0], member, _core.HELD)]
    second.release(waiting[0])
    assert second.collect() == [(waiting[2], member, _core.HELD)]


def test_cancelled_when_the_grant_came_first(bench):
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    first.release(slot)
    assert second.cancel(waiting) == (_core.HELD, member)
    assert second.mail()
    assert second.collect() == []
    second.release(waiting)
    assert bench.table.deployment(deployment).in_flight == 0


def test_cancelled_when_it_had_expired(bench):
    deployment, generation, _ = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, late, _ = second.acquire(deployment, generation, PAST)
    first.release(slot)
    assert second.cancel(late) == (_core.CANCELLED, 0)
    assert second.collect() == []
    assert second.acquire(deployment, generation, FAR)[0] == _core.HELD


def test_a_mark_that_outlived_its_slot_means_nothing(bench):
    """Granted, cancelled, released, and the slot used again: the old mark is no news of the new use."""
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    first.release(slot)
    assert second.cancel(waiting)[0] == _core.HELD
    second.release(waiting)
    assert first.acquire(deployment, generation, FAR)[0] == _core.HELD
    assert second.acquire(deployment, generation, FAR) == (_core.WAITING, waiting, 0)
    assert second.collect() == []
    first.release(slot)
    assert second.collect() == [(waiting, member, _core.HELD)]


def test_a_holder_is_rung_once_until_it_collects(bench):
    deployment, generation, _ = bench.deployment(capacity=2)
    first, second = bench.holders(2)
    held = [first.acquire(deployment, generation, FAR)[1] for _ in range(2)]
    waiting = [second.acquire(deployment, generation, FAR)[1] for _ in range(3)]
    bench.listen()
    first.release(held[0])
    assert bench.rung(1)
    first.release(held[1])
    assert not bench.rung(1)
    assert len(second.collect()) == 2
    second.release(waiting[0])
    assert not bench.rung(1), "a holder is awake when it causes its own news"
    assert second.mail()
    assert len(second.collect()) == 1
    assert not second.mail()


def test_collecting_in_parts(bench):
    deployment, generation, [member] = bench.deployment(capacity=70)
    first, second = bench.holders(2)
    held = [first.acquire(deployment, generation, FAR)[1] for _ in range(70)]
    for _ in range(70):
        assert second.acquire(deployment, generation, FAR)[0] == _core.WAITING
    for slot in held:
        first.release(slot)
    assert second.collect(0) == []
    parts = [second.collect(most) for most in (1, 30, 256, 256)]
    assert [len(part) for part in parts] == [1, 30, 39, 0]
    assert [outcome for part in parts for outcome in part] == [(slot, member, _core.HELD) for slot in range(70)]


@pytest.mark.parametrize("state", ["ready", "more capacity", "another replica"])
def test_waiters_get_what_becomes_free(bench, state):
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    assert second.acquire(deployment, generation, FAR)[0] == _core.WAITING
    bench.table.set_replica_state(member, _core.REPLICA_EJECTED)
    first.release(slot)
    assert not second.mail()
    bench.listen()
    if state == "ready":
        bench.table.set_replica_state(member, _core.REPLICA_READY)
    elif state == "more capacity":
        first.adopt(deployment, member)
        bench.table.set_replica_state(member, _core.REPLICA_READY)
        assert not second.mail()
        bench.table.configure_deployment(deployment, 2, 100)
    else:
        member = bench.table.add_replica(deployment, b"another", _core.REPLICA_READY)
    assert bench.rung(1)
    assert [outcome[1:] for outcome in second.collect()] == [(member, _core.HELD)]
