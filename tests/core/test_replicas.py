"""Deployments and replicas come, change and go while leases are held."""

from __future__ import annotations

import pytest

from fe import _core
from tests.core.tables import FAR


def test_a_lower_capacity_throws_nobody_out_and_lets_nobody_in(bench):
    deployment, generation, [member] = bench.deployment(capacity=3)
    first, second = bench.holders(2)
    slots = [first.acquire(deployment, generation, FAR)[1] for _ in range(3)]
    assert second.acquire(deployment, generation, FAR)[0] == _core.WAITING
    bench.table.configure_deployment(deployment, 1, 100)
    for slot, in_flight in zip(slots, (2, 1, 1), strict=True):
        assert not second.mail()
        first.release(slot)
        assert bench.table.replica(member).in_flight == in_flight
    assert second.mail()


def test_a_higher_capacity_grants_at_once(bench):
    deployment, generation, [member] = bench.deployment(capacity=1)
    first, second = bench.holders(2)
    first.acquire(deployment, generation, FAR)
    for _ in range(5):
        second.acquire(deployment, generation, FAR)
    bench.listen()
    bench.table.configure_deployment(deployment, 3, 100)
    assert bench.rung(1)
    assert len(second.collect()) == 2
    bench.table.configure_deployment(deployment, 0, 100)
    assert len(second.collect()) == 3
    assert bench.table.replica(member).in_flight == 6


def test_draining_keeps_leases_and_takes_none(bench):
    deployment, generation, [member, other] = bench.deployment(capacity=2, replicas=2)
    [holder] = bench.holders(1)
    _, slot, _ = holder.acquire(deployment, generation, FAR)
    assert bench.table.set_replica_state(member, _core.REPLICA_DRAINING)
    assert holder.acquire(deployment, generation, FAR)[2] == other
    assert holder.acquire(deployment, generation, FAR)[2] == other
    assert holder.acquire(deployment, generation, FAR)[0] == _core.WAITING
    bench.listen()
    holder.release(slot)
    assert bench.control_rung(), "the drain has emptied"
    assert not holder.mail()
    assert bench.table.set_replica_state(member, _core.REPLICA_READY)
    assert [outcome[1:] for outcome in holder.collect()] == [(member, _core.HELD)]


def test_a_removed_replica_is_freed_by_its_last_lease(bench):
    deployment, generation, [member] = bench.deployment(capacity=2)
    [holder] = bench.holders(1)
    slots = [holder.acquire(deployment, generation, FAR)[1] for _ in range(2)]
    incarnation = bench.table.replica(member).incarnation
    bench.table.remove_replica(member)
    assert not bench.table.set_replica_state(member, _core.REPLICA_READY), "there is no way back"
    holder.release(slots[0])
    assert bench.table.replica(member).state == _core.REPLICA_REMOVING
    assert bench.table.replica(member).sockaddr == b"replica 0"
    bench.listen()
    holder.release(slots[1])
    assert bench.control_rung()
    assert bench.table.replica(member) == (0, incarnation, _core.REPLICA_FREE, 0, 0, b"")
    assert bench.table.replicas(deployment) == []
    again = bench.table.add_replica(deployment, b"anew")
    assert again == member
    assert bench.table.replica(again) == (deployment, incarnation + 1, _core.REPLICA_STARTING, 0, 0, b"anew")


def test_expected_states(bench):
    _, _, [member] = bench.deployment()
    change = bench.table.set_replica_state
    assert not change(member, _core.REPLICA_READY, expect=_core.REPLICA_EJECTED)
    assert change(member, _core.REPLICA_STARTING, expect=_core.REPLICA_READY)
    assert not change(member + 1, _core.REPLICA_READY), "a free record has no state to change"
    for state in (_core.REPLICA_FREE, 6):
        with pytest.raises(ValueError, match="no state"):
            change(member, state)


def test_consecutive_failures_eject(bench):
    deployment, generation, [member] = bench.deployment()
    [holder] = bench.holders(1)
    incarnation = bench.table.replica(member).incarnation
    bench.listen()
    assert not holder.failed(member, incarnation, 3)
    assert not holder.failed(member, incarnation, 3)
    holder.succeeded(member)
    assert not holder.failed(member, incarnation, 3)
    assert not holder.failed(member, incarnation + 1, 1), "that was another replica in this record"
    assert not holder.failed(member, incarnation, 0), "never"
    assert not bench.control_rung()
    assert holder.failed(member, incarnation, 3)
    assert bench.control_rung()
    assert bench.table.replica(member)[2:5] == (_core.REPLICA_EJECTED, 0, 3)
    assert not holder.failed(member, incarnation, 3), "only who sets it aside is told"
    assert holder.acquire(deployment, generation, FAR)[0] == _core.NO_REPLICA
    assert bench.table.set_replica_state(member, _core.REPLICA_READY, expect=_core.REPLICA_EJECTED)
    assert bench.table.replica(member).failures == 0


def test_removing_a_deployment_tells_waiters_and_lets_leases_finish(bench):
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    bench.listen()
    bench.table.remove_deployment(deployment)
    assert bench.rung(1)
    assert second.collect() == [(waiting, 0, _core.EXPIRED)]
    assert first.acquire(deployment, generation, FAR)[0] == _core.GONE
    load = bench.table.deployment(deployment)
    assert (load.state, load.in_flight, load.replicas, load.ready) == (2, 1, 1, 0)
    with pytest.raises(ValueError, match="not active"):
        bench.table.add_replica(deployment, b"late")
    first.release(slot)
    assert bench.control_rung()
    assert bench.table.deployments() == []
    assert bench.table.replica(member).state == _core.REPLICA_FREE


def test_a_grant_not_yet_collected_outlives_the_removal(bench):
    deployment, generation, [member] = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    _, waiting, _ = second.acquire(deployment, generation, FAR)
    first.release(slot)
    bench.table.remove_deployment(deployment)
    assert second.collect() == [(waiting, member, _core.HELD)]
    second.release(waiting)
    assert bench.table.deployments() == []


def test_an_index_used_again_has_another_generation(bench):
    deployment, generation, _ = bench.deployment()
    other, _, _ = bench.deployment()
    [holder] = bench.holders(1)
    bench.table.remove_deployment(deployment)
    again, next_generation, _ = bench.deployment()
    assert (again, next_generation) == (deployment, generation + 1)
    assert holder.acquire(deployment, generation, FAR)[0] == _core.GONE
    assert holder.acquire(deployment, next_generation, FAR)[0] == _core.HELD
    assert bench.table.deployments() == [deployment, other]


def test_a_replica_leaves_while_its_level_is_in_use(bench):
    """Room for a level comes with each replica; others may stand in the one that this replica brought."""
    deployment, generation, members = bench.deployment(capacity=9, replicas=6)
    [holder] = bench.holders(1)
    slots = [holder.acquire(deployment, generation, FAR)[1:] for _ in range(15)]
    for slot, replica in slots:
        if replica in members[::2]:
            holder.release(slot)
    for member in members:
        bench.table.remove_replica(member)
        assert bench.table.check() == []
        bench.table.add_replica(deployment, b"fresh", _core.REPLICA_READY)
        assert bench.table.check() == []
    assert bench.table.deployment(deployment).ready == 6


@pytest.mark.parametrize("what", ["deployments", "replicas"])
def test_running_out_of_records_names_the_limit(bench, what):
    add = {
        "deployments": lambda: bench.table.add_deployment("d", 1, 1),
        "replicas": lambda: bench.table.add_replica(deployment, b"r"),
    }[what]
    deployment, _, _ = bench.deployment()
    for _ in range(getattr(bench.table.limits, what) - 1):
        add()
    with pytest.raises(OverflowError, match=f"raise limits.{what}"):
        add()


@pytest.mark.parametrize("name", ["", "é" * 65, "x" * 129])
def test_names_that_do_not_fit(bench, name):
    with pytest.raises(ValueError, match="bytes"):
        bench.table.add_deployment(name, 1, 1)


def test_the_longest_name_fits(bench):
    name = "e" * 64 + "/" + "d" * 63
    deployment, _ = bench.table.add_deployment(name, 1, 1)
    assert bench.table.deployment(deployment).name == name


@pytest.mark.parametrize("sockaddr", [b"", b"x" * 117])
def test_addresses_that_do_not_fit(bench, sockaddr):
    deployment, _, _ = bench.deployment()
    with pytest.raises(ValueError, match="sockaddr"):
        bench.table.add_replica(deployment, sockaddr)


def test_records_that_do_not_exist(bench):
    limits = bench.table.limits
    for call in (
        lambda: bench.table.deployment(limits.deployments),
        lambda: bench.table.deployment(-1),
        lambda: bench.table.configure_deployment(limits.deployments, 1, 1),
        lambda: bench.table.replica(limits.replicas),
        lambda: bench.table.remove_replica(limits.replicas),
        lambda: bench.table.holder(limits.holders),
        lambda: bench.table.recover(limits.holders),
    ):
        with pytest.raises(IndexError, match="does not exist"):
            call()
