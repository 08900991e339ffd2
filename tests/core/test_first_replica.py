"""Waiting for the first replica of a deployment that has none: the same queue, the same order, the same bound."""

from __future__ import annotations

import pytest

from fe import _core
from tests.core.tables import FAR, PAST


def cold(bench, **settings):
    """A deployment whose replicas are known and not ready."""
    deployment, generation, members = bench.deployment(**settings)
    for member in members:
        bench.table.set_replica_state(member, _core.REPLICA_STARTING)
    bench.listen()
    return deployment, generation, members


def test_only_who_awaits_waits(bench):
    deployment, generation, _ = cold(bench)
    [holder] = bench.holders(1)
    assert holder.acquire(deployment, generation, FAR)[0] == _core.NO_REPLICA
    assert holder.try_acquire(deployment, generation)[0] == _core.NO_REPLICA
    assert not bench.control_rung()
    assert holder.await_(deployment, generation, FAR)[0] == _core.WAITING
    assert bench.table.glance(deployment) == (0, 1, 0, 1, 100)
    assert holder.await_(deployment, generation + 1, FAR)[0] == _core.GONE


def test_a_deployment_without_any_replica(bench):
    deployment, generation, _ = bench.deployment(replicas=0)
    [holder] = bench.holders(1)
    _, slot, _ = holder.await_(deployment, generation, FAR)
    assert bench.control_rung()
    member = bench.table.add_replica(deployment, b"the first", _core.REPLICA_READY)
    assert holder.collect() == [(slot, member, _core.HELD)]


def test_the_first_rings_the_controller(bench):
    """Each time the queue was empty before; whoever waits behind others adds nothing that it has to know at once."""
    deployment, generation, [member] = cold(bench)
    first, second = bench.holders(2)
    _, slot, _ = first.await_(deployment, generation, FAR)
    assert bench.control_rung()
    _, other, _ = second.await_(deployment, generation, FAR)
    assert not bench.control_rung()
    first.cancel(slot)
    second.cancel(other)
    second.await_(deployment, generation, FAR)
    assert bench.control_rung()
    bench.table.set_replica_state(member, _core.REPLICA_READY)
    second.collect()
    first.await_(deployment, generation, FAR)
    assert not bench.control_rung(), "it waits for a place, and there is somebody who will give one back"


def test_replicas_that_come_up_are_filled_and_no_more_than_that(bench):
    deployment, generation, members = cold(bench, capacity=2, replicas=3)
    holders = bench.holders(4)
    order = [0, 3, 1, 1, 2, 0, 3, 2, 1, 0]
    seats = [(who, holders[who].await_(deployment, generation, FAR)[1]) for who in order]
    served = []
    for number, member in enumerate(members):
        bench.table.set_replica_state(member, _core.REPLICA_READY)
        news = [(who, slot, at) for who in range(4) for slot, at, _ in holders[who].collect()]
        assert sorted(news) == sorted((who, slot, member) for who, slot in seats[2 * number : 2 * number + 2])
        served += news
    assert bench.table.glance(deployment) == (6, 2, 3, 4, 100)
    for who, slot, _ in served:
        holders[who].release(slot)
    assert sum(len(holder.collect()) for holder in holders) == 4


def test_the_bound_of_the_queue_holds(bench):
    deployment, generation, _ = cold(bench, max_queue=2)
    first, second = bench.holders(2)
    results = [holder.await_(deployment, generation, FAR)[0] for holder in (first, second, first)]
    assert results == [_core.WAITING, _core.WAITING, _core.QUEUE_FULL]


def test_the_last_replica_goes_while_requests_wait(bench):
    """Whoever waits goes on waiting, and stands before those who come now."""
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, held, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    bench.table.remove_replica(member)
    first.release(held)
    bench.listen()
    assert first.await_(deployment, generation, FAR)[0] == _core.WAITING
    assert not bench.control_rung()
    again = bench.table.add_replica(deployment, b"again", _core.REPLICA_READY)
    assert second.collect() == [(waiting, again, _core.HELD)]
    assert first.collect() == []


def test_who_waited_too_long_is_passed_over(bench):
    deployment, generation, [member] = cold(bench)
    first, second = bench.holders(2)
    _, late, _ = first.await_(deployment, generation, PAST)
    _, waiting, _ = second.await_(deployment, generation, FAR)
    bench.table.set_replica_state(member, _core.REPLICA_READY)
    assert first.collect() == [(late, 0, _core.EXPIRED)]
    assert second.collect() == [(waiting, member, _core.HELD)]


@pytest.mark.parametrize("alone", [True, False])
def test_a_retry_awaits_and_keeps_its_place(bench, alone):
    """The only replica could not be reached: the request was first, and is first when another one comes."""
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, held, _ = first.acquire(deployment, generation, FAR)
    if not alone:
        assert second.acquire(deployment, generation, FAR)[0] == _core.WAITING
    assert first.failed(member, bench.table.replica(member).incarnation, 1)
    bench.listen()
    assert first.retry(held, FAR, True) == (_core.WAITING, 0)
    assert bench.control_rung() == alone
    another = bench.table.add_replica(deployment, b"another", _core.REPLICA_READY)
    assert first.collect() == [(held, another, _core.HELD)]
    assert second.collect() == []


def test_removal_tells_who_awaits(bench):
    deployment, generation, _ = cold(bench)
    [holder] = bench.holders(1)
    _, slot, _ = holder.await_(deployment, generation, FAR)
    bench.table.remove_deployment(deployment)
    assert holder.collect() == [(slot, 0, _core.EXPIRED)]


def test_the_dead_do_not_await(bench):
    """Its places in the queue are free; the others keep theirs, and the controller looks again."""
    deployment, generation, [member] = cold(bench)
    first, second = bench.holders(2)
    for holder in (first, second, first, second):
        holder.await_(deployment, generation, FAR)
    bench.listen()
    bench.table.mark_absent(0)
    assert bench.table.recover(0) == 2
    assert bench.control_rung()
    assert bench.table.glance(deployment)[3] == 2
    bench.table.set_replica_state(member, _core.REPLICA_READY)
    assert [outcome[1:] for outcome in second.collect()] == [(member, _core.HELD)]


def test_a_glance_at_what_does_not_exist(bench):
    for index in (-1, bench.table.limits.deployments):
        with pytest.raises(IndexError, match="does not exist"):
            bench.table.glance(index)
