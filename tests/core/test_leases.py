"""Acquire, release, retry and adopt: who gets which replica, at once or in turn."""

from __future__ import annotations

import pytest

from fe import _core
from tests.core.tables import FAR, PAST


def test_the_least_loaded_replica_is_chosen(bench):
    deployment, generation, members = bench.deployment(capacity=3, replicas=3)
    [holder] = bench.holders(1)
    assert [holder.acquire(deployment, generation, FAR)[2] for _ in range(7)] == [*members, *members, members[0]]


def test_among_equals_the_one_that_has_waited_longest(bench):
    deployment, generation, members = bench.deployment(capacity=1, replicas=3)
    [holder] = bench.holders(1)
    slots = [holder.acquire(deployment, generation, FAR)[1] for _ in members]
    for member in (1, 2, 0):
        holder.release(slots[member])
    assert [holder.acquire(deployment, generation, FAR)[2] for _ in members] == [members[1], members[2], members[0]]


def test_no_capacity_is_no_limit(bench):
    deployment, generation, members = bench.deployment(capacity=0, replicas=2)
    [holder] = bench.holders(1)
    outcomes = [holder.acquire(deployment, generation, FAR) for _ in range(bench.table.limits.slots)]
    assert {result for result, _, _ in outcomes} == {_core.HELD}
    assert {bench.table.replica(member).in_flight for member in members} == {bench.table.limits.slots // 2}
    assert holder.acquire(deployment, generation, FAR)[0] == _core.NO_SLOT


def test_try_acquire_never_waits(bench):
    deployment, generation, [member] = bench.deployment()
    [holder] = bench.holders(1)
    assert holder.try_acquire(deployment, generation)[::2] == (_core.HELD, member)
    assert holder.try_acquire(deployment, generation)[0] == _core.BUSY
    assert bench.table.deployment(deployment).queue_depth == 0


def test_without_a_ready_replica_there_is_nothing_to_wait_for(bench):
    deployment, generation, [member] = bench.deployment()
    [holder] = bench.holders(1)
    for state in (_core.REPLICA_STARTING, _core.REPLICA_EJECTED, _core.REPLICA_DRAINING):
        assert bench.table.set_replica_state(member, state)
        assert holder.acquire(deployment, generation, FAR)[0] == _core.NO_REPLICA
    assert bench.table.holder_state(0).slots_in_use == 0


@pytest.mark.parametrize("wrong", [0, 2, 2**24 + 1, 2**32 - 1])
def test_another_generation_is_gone(bench, wrong):
    deployment, generation, _ = bench.deployment()
    [holder] = bench.holders(1)
    assert generation == 1
    assert holder.acquire(deployment, wrong, FAR)[0] == _core.GONE


def test_a_deployment_that_never_was_is_gone(bench):
    [holder] = bench.holders(1)
    assert holder.acquire(2, 0, FAR)[0] == _core.GONE
    assert holder.acquire(bench.table.limits.deployments, 1, FAR)[0] == _core.GONE


def test_releasing_what_is_not_held_changes_nothing(bench):
    deployment, generation, _ = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    first.release(slot + 1)
    second.release(waiting)
    load = bench.table.deployment(deployment)
    assert (load.in_flight, load.queue_depth) == (1, 1)
    with pytest.raises(IndexError, match="slot"):
        first.release(bench.table.limits.slots)


def test_retry_moves_to_another_replica(bench):
    deployment, generation, members = bench.deployment(capacity=1, replicas=2)
    [holder] = bench.holders(1)
    _, slot, replica = holder.acquire(deployment, generation, FAR)
    assert holder.retry(slot, FAR) == (_core.HELD, members[1])
    assert [bench.table.replica(member).in_flight for member in members] == [0, 1]
    assert replica == members[0]


def test_retry_keeps_its_place_in_the_order(bench):
    """It comes after those who asked before it, ahead of those who came later."""
    deployment, generation, [one, other] = bench.deployment(capacity=1, replicas=2)
    holder, neighbour = bench.holders(2)
    _, early, _ = holder.acquire(deployment, generation, FAR)
    _, retried, replica = holder.acquire(deployment, generation, FAR)
    assert replica == other
    later = [neighbour.acquire(deployment, generation, FAR)[1] for _ in range(2)]
    bench.table.set_replica_state(other, _core.REPLICA_EJECTED)
    assert holder.retry(retried, FAR) == (_core.WAITING, 0)
    holder.release(early)
    assert holder.collect() == [(retried, one, _core.HELD)]
    holder.release(retried)
    assert neighbour.collect() == [(later[0], one, _core.HELD)]


def test_retry_waits_behind_those_who_asked_before(bench):
    """A request that waited before this one asked goes first, even where this one gives the place back."""
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, held, _ = first.acquire(deployment, generation, FAR)
    _, older, _ = second.acquire(deployment, generation, FAR)
    adopted = first.adopt(deployment, member)
    bench.table.configure_deployment(deployment, 2, 100)
    assert first.retry(adopted, FAR) == (_core.WAITING, 0)
    assert second.collect() == [(older, member, _core.HELD)]
    first.release(held)
    assert first.collect() == [(adopted, member, _core.HELD)]


def test_retry_without_time_left_takes_what_is_free(bench):
    """As an acquire does; it only cannot wait."""
    deployment, generation, [one, other] = bench.deployment(replicas=2)
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    assert first.failed(one, bench.table.replica(one).incarnation, 1)
    assert first.retry(slot, PAST) == (_core.HELD, other)
    bench.table.set_replica_state(one, _core.REPLICA_READY)
    _, another, _ = second.acquire(deployment, generation, FAR)
    bench.table.set_replica_state(other, _core.REPLICA_EJECTED)
    assert first.retry(slot, PAST) == (_core.WAITING, 0)
    second.release(another)
    assert first.collect() == [(slot, 0, _core.EXPIRED)]


def test_retry_without_a_ready_replica_frees_the_slot(bench):
    deployment, generation, [member] = bench.deployment()
    [holder] = bench.holders(1)
    _, slot, _ = holder.acquire(deployment, generation, FAR)
    assert holder.failed(member, bench.table.replica(member).incarnation, 1)
    assert holder.retry(slot, FAR) == (_core.NO_REPLICA, 0)
    assert bench.table.holder_state(0).slots_in_use == 0
    assert bench.table.replica(member).in_flight == 0


def test_retry_of_a_removed_deployment_is_gone(bench):
    deployment, generation, _ = bench.deployment()
    [holder] = bench.holders(1)
    _, slot, _ = holder.acquire(deployment, generation, FAR)
    bench.table.remove_deployment(deployment)
    assert holder.retry(slot, FAR) == (_core.GONE, 0)
    assert bench.table.deployments() == []


def test_an_adopted_lease_is_held_above_capacity(bench):
    """Nothing is granted until the load has fallen below capacity again."""
    deployment, generation, [member] = bench.deployment(capacity=1)
    first, second = bench.holders(2)
    slots = [first.adopt(deployment, member) for _ in range(3)]
    assert second.acquire(deployment, generation, FAR)[0] == _core.WAITING
    for slot in slots[:2]:
        first.release(slot)
        assert not second.mail()
    first.release(slots[2])
    assert [outcome[1:] for outcome in second.collect()] == [(member, _core.HELD)]


def test_adoption_names_a_replica_of_the_deployment(bench):
    deployment, _, _ = bench.deployment()
    _, _, [stranger] = bench.deployment()
    [holder] = bench.holders(1)
    with pytest.raises(ValueError, match="does not belong"):
        holder.adopt(deployment, stranger)
    with pytest.raises(IndexError, match="replica"):
        holder.adopt(deployment, bench.table.limits.replicas)
