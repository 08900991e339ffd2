"""Integrals over time: exact between any two readings, whatever happened in between."""

from __future__ import annotations

import os
import signal
import time

from fe import _core
from tests.core.tables import FAR


def difference(before, after):
    passed = after.now_ns - before.now_ns
    names = ("in_flight_integral", "queue_integral", "ready_integral")
    return passed, tuple(getattr(after, name) - getattr(before, name) for name in names)


def test_constant_loads_integrate_exactly(bench):
    deployment, generation, _ = bench.deployment(capacity=2, replicas=2)
    [holder] = bench.holders(1)
    for _ in range(7):
        holder.acquire(deployment, generation, FAR)
    before = bench.table.deployment(deployment)
    passed, integrals = difference(before, bench.table.deployment(deployment))
    assert passed > 0
    assert integrals == (4 * passed, 3 * passed, 2 * passed)


def test_a_new_deployment_begins_at_zero(bench):
    deployment, generation, _ = bench.deployment(replicas=3)
    bench.table.holder(0).acquire(deployment, generation, FAR)
    bench.table.remove_deployment(deployment)
    bench.table.recover(0)
    began = time.monotonic_ns()
    index, _ = bench.table.add_deployment("other", 1, 1)
    load = bench.table.deployment(index)
    assert index == deployment
    assert load[-3:] == (0, 0, 0)
    assert began <= load.now_ns <= time.monotonic_ns()


def test_changes_are_counted_when_they_happen(bench):
    """Bracketed by clock readings: each state's share lies between what the brackets allow."""
    deployment, generation, _ = bench.deployment(capacity=1)
    [holder] = bench.holders(1)
    start = bench.table.deployment(deployment)
    before_hold = time.monotonic_ns()
    _, slot, _ = holder.acquire(deployment, generation, FAR)
    after_hold = time.monotonic_ns()
    holder.acquire(deployment, generation, FAR)
    before_cancel = time.monotonic_ns()
    holder.cancel(1)
    after_cancel = time.monotonic_ns()
    holder.release(slot)
    after_release = time.monotonic_ns()
    passed, (in_flight, queue, ready) = difference(start, bench.table.deployment(deployment))
    assert before_cancel - after_hold <= in_flight <= after_release - before_hold
    assert 0 < queue <= after_cancel - after_hold
    assert ready == passed


def test_a_handed_over_place_never_stops_counting(bench):
    deployment, generation, _ = bench.deployment()
    first, second = bench.holders(2)
    _, slot, _ = first.acquire(deployment, generation, FAR)
    second.acquire(deployment, generation, FAR)
    before = bench.table.deployment(deployment)
    first.release(slot)
    passed, (in_flight, queue, _) = difference(before, bench.table.deployment(deployment))
    assert in_flight == passed
    assert 0 < queue < passed


def test_replicas_count_while_they_are_ready(bench):
    deployment, _, [member, _] = bench.deployment(replicas=2)
    bench.table.set_replica_state(member, _core.REPLICA_EJECTED)
    before = bench.table.deployment(deployment)
    passed, (_, _, ready) = difference(before, bench.table.deployment(deployment))
    assert ready == passed


def test_integrals_survive_a_killed_process(bench):
    deployment, generation, _ = bench.deployment(capacity=9)
    before = bench.table.deployment(deployment)
    pid = os.fork()
    if pid == 0:
        bench.table.holder(0).acquire(deployment, generation, FAR)
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(pid, 0)
    held = bench.table.deployment(deployment)
    bench.table.recover(0)
    after = bench.table.deployment(deployment)
    assert difference(before, held)[1][0] > 0
    passed, (in_flight, _, _) = difference(held, after)
    assert 0 < in_flight <= passed
    assert difference(after, bench.table.deployment(deployment))[1][0] == 0
