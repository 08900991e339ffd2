"""The simulated deployment against its plain twin, and against what queueing theory says."""

from __future__ import annotations

from array import array
from bisect import bisect_right

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe._simulator import WAIT_BOUNDS_NS, Simulator, Tally
from fe.control.numeric import np
from fe.sizing import waiting
from tests.autoscaler.twin import Twin

SECOND = 1_000_000_000
LONG = 10**15


def simulator(*, capacity=1, max_queue=10**6, max_wait_ns=LONG, cold_wait_ns=0, replicas=1) -> Simulator:
    made = Simulator(capacity=capacity, max_queue=max_queue, max_wait_ns=max_wait_ns, cold_wait_ns=cold_wait_ns)
    for _ in range(replicas):
        made.add_replica()
    return made


def feed(made: Simulator, *requests: tuple[int, int]) -> None:
    """Requests as (arrival, duration), in ns."""
    made.feed(array("q", [at for at, _ in requests]), array("q", [ns for _, ns in requests]))


# --- theory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("servers", "replicas", "utilization", "requests"),
    [(1, 1, 0.7, 2_000_000), (10, 10, 0.9, 2_000_000), (10, 2, 0.8, 1_000_000), (200, 50, 0.95, 2_000_000)],
)
def test_waits_are_those_of_erlang_c(servers, replicas, utilization, requests):
    random = np.random.default_rng(7)
    rate, seconds = utilization * servers / 0.2, 0.2
    arrivals = np.cumsum(random.exponential(1 / rate, requests))
    made = simulator(capacity=servers // replicas, replicas=replicas)
    made.feed((arrivals * SECOND).astype(np.int64), (random.exponential(seconds, requests) * SECOND).astype(np.int64))
    made.advance(int(arrivals[-1] * SECOND) + 1)
    tally, waits, theory = made.tally(), made.waits(), waiting(rate, seconds, servers)
    assert tally.wait_ns / tally.granted / SECOND == pytest.approx(theory.mean, rel=0.05)
    assert 1 - waits[0] / tally.granted == pytest.approx(theory.probability, rel=0.03)
    assert tally.in_flight_integral / made.now == pytest.approx(rate * seconds, rel=0.01)  # Little's law
    assert tally.queue_integral / made.now == pytest.approx(rate * theory.mean, rel=0.05)
    seen = np.cumsum(waits) / tally.granted
    assert WAIT_BOUNDS_NS[int(np.searchsorted(seen, 0.99))] / SECOND == pytest.approx(theory.p99, rel=0.1)


# --- the twin --------------------------------------------------------------------------------------------------------

# Small numbers, so that many things happen at the same time.
requests = st.lists(st.tuples(st.integers(0, 30), st.integers(0, 20)), max_size=40)
steps = st.lists(
    st.one_of(
        st.tuples(st.just("feed"), requests), st.tuples(st.just("advance"), st.integers(0, 60)),
        st.tuples(st.just("add"), st.integers(1, 3)), st.tuples(st.just("drain"), st.none()),
    ),
    max_size=30,
)  # fmt: skip


@settings(max_examples=200)
@given(
    st.integers(1, 3), st.integers(0, 8), st.integers(0, 15), st.sampled_from([0, 40]), st.integers(0, 3), steps
)  # fmt: skip
def test_it_does_what_its_twin_does(capacity, max_queue, max_wait, cold_wait, replicas, course):
    """Every count, integral and wait, at every step."""
    made = simulator(capacity=capacity, max_queue=max_queue, max_wait_ns=max_wait, cold_wait_ns=cold_wait, replicas=0)
    twin = Twin(capacity, max_queue, max_wait, cold_wait)
    for kind, what in [("add", replicas), *course, ("advance", 1000)]:
        if kind == "add":
            for _ in range(what):
                made.add_replica()
                twin.add_replica()
        elif kind == "drain" and twin.ready:
            made.drain_replica()
            twin.drain_replica()
        elif kind == "feed" and not twin.arrivals:
            twin.arrivals = sorted((made.now + at, service) for at, service in what)
            feed(made, *twin.arrivals)
        elif kind == "advance":
            made.advance(made.now + what)
            twin.advance(twin.now + what)
        assert made.tally() == Tally(*(twin.counts.get(name, 0) for name in Tally._fields))
        twin.counts.clear()
        assert (made.in_flight, made.queued, made.ready) == (len(twin.leaving), len(twin.queue), len(twin.ready))
        assert made.draining == len(twin.replicas) - made.ready
        assert sum(made.waits()) == len(twin.waits)
        twin.waits.clear()


@settings(max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 10**9), st.integers(0, 10**9)), max_size=200), st.integers(1, 5))
def test_every_request_is_accounted_for(requests, replicas):
    made = simulator(capacity=2, replicas=replicas, max_queue=5, max_wait_ns=10**7)
    feed(made, *sorted(requests))
    made.advance(10**9)
    tally = made.tally()
    refused = tally.queue_full + tally.queue_wait + tally.no_replica
    assert tally.arrived == tally.served + refused + made.in_flight + made.queued


# --- single rules ----------------------------------------------------------------------------------------------------


def test_the_longest_waiting_is_first_whatever_their_patience():
    """Those who came when no replica was ready are ahead of those who came later, though their deadlines are not."""
    made = simulator(replicas=0, max_wait_ns=100, cold_wait_ns=10_000)
    feed(made, (10, 50), (20, 50), (70, 50))
    made.advance(60)
    made.add_replica()
    made.advance(1000)
    tally = made.tally()
    assert (tally.granted, tally.queue_wait) == (3, 0)
    assert tally.wait_ns == (60 - 10) + (110 - 20) + (160 - 70)


def test_a_wait_ends_at_its_deadline():
    made = simulator(max_wait_ns=100)
    feed(made, (0, 1000), (10, 1), (20, 1))
    made.advance(110)
    assert (made.queued, made.tally().queue_wait) == (2, 0)
    made.advance(111)
    assert (made.queued, made.tally().queue_wait) == (1, 1)
    made.advance(121)
    assert made.queued == 0


def test_who_must_not_wait_is_refused_unless_a_place_is_free():
    made = simulator(max_wait_ns=0)
    feed(made, (0, 10), (5, 10), (10, 10))
    made.advance(100)
    tally = made.tally()
    assert (tally.served, tally.queue_wait) == (2, 1)


def test_a_full_queue_refuses_at_once():
    made = simulator(max_queue=2)
    feed(made, *[(0, 10)] * 5)
    made.advance(1)
    assert made.tally().queue_full == 2


def test_without_a_replica_it_refuses_or_waits():
    cold, usual = simulator(replicas=0, cold_wait_ns=100), simulator(replicas=0)
    for made in (cold, usual):
        feed(made, (0, 10))
        made.advance(50)
    assert (cold.queued, cold.tally().no_replica) == (1, 0)
    assert (usual.queued, usual.tally().no_replica) == (0, 1)
    cold.advance(101)
    assert cold.tally().queue_wait == 1


def test_requests_spread_over_the_least_loaded():
    """Four places, four requests: with two replicas of two none waits, and a third replica takes the next two."""
    made = simulator(capacity=2, replicas=2)
    feed(made, *[(at, 1000) for at in range(4)])
    made.advance(10)
    made.add_replica()
    feed(made, (10, 5), (11, 5), (12, 5))
    made.advance(14)
    assert (made.in_flight, made.queued) == (6, 1)
    assert made.tally().granted == 6


def test_a_draining_replica_finishes_and_is_replaced_by_nobody():
    made = simulator(replicas=1)
    feed(made, (0, 100), (10, 100))
    made.advance(50)
    made.drain_replica()
    assert (made.ready, made.draining, made.in_flight, made.queued) == (0, 1, 1, 1)
    made.advance(200)
    assert (made.ready, made.draining, made.in_flight, made.queued) == (0, 0, 0, 1)
    tally = made.tally()
    assert (tally.ready_integral, tally.replica_integral) == (50, 100)
    made.add_replica()
    assert made.queued == 0


def test_many_replicas_and_waiters_come_and_go():
    """Beyond the first size of every array."""
    made = simulator(replicas=0, cold_wait_ns=LONG)
    feed(made, *[(at, 1000) for at in range(1000)])
    made.advance(1000)
    for _ in range(300):
        made.add_replica()
    assert (made.in_flight, made.queued) == (300, 700)
    for _ in range(300):
        made.drain_replica()
    made.advance(5000)
    assert (made.in_flight, made.queued, made.draining) == (0, 700, 0)
    for _ in range(900):
        made.add_replica()
    made.advance(10_000)
    assert made.tally().served == 1000


def test_waits_are_counted_where_they_belong():
    bounds = list(WAIT_BOUNDS_NS)
    assert bounds == sorted(set(bounds))
    for wait in (0, 1, 1023, 1024, 1055, 1056, 2048, 10**6, 123_456_789, 10**12):
        made = simulator()
        feed(made, (0, wait), (0, 1))
        made.advance(LONG)
        counts = made.waits()
        assert counts[0] >= 1
        counts[0] -= 1
        assert counts.index(1) == bisect_right(bounds, wait)
        assert sum(made.waits()) == 0


# --- what it refuses -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"capacity": 0}, {"max_queue": -1}, {"max_wait_ns": -1}, {"cold_wait_ns": -1}])
def test_limits_that_make_no_sense(wrong):
    with pytest.raises(ValueError, match="capacity has to be at least 1"):
        simulator(**wrong)


def test_arrivals_that_make_no_sense():
    made = simulator()
    made.advance(100)
    for requests in ([(99, 1)], [(200, 1), (199, 1)], [(200, -1)]):
        with pytest.raises(ValueError, match="in order of time"):
            feed(made, *requests)
    with pytest.raises(ValueError, match="1 arrivals with 2 durations"):
        made.feed(array("q", [200]), array("q", [1, 2]))
    feed(made, (200, 1))
    with pytest.raises(ValueError, match="1 arrivals fed before"):
        feed(made, (300, 1))


def test_time_does_not_go_back():
    made = simulator()
    made.advance(100)
    with pytest.raises(ValueError, match="100 ns already"):
        made.advance(99)


def test_nothing_to_drain():
    with pytest.raises(ValueError, match="no replica is ready"):
        simulator(replicas=0).drain_replica()
