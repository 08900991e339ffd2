"""The sizing formula, and Erlang C against exact arithmetic and known values."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import pairwise

import pytest

from fe.sizing import replicas_for, waiting


def exact_probability(load: int, servers: int) -> Fraction:
    """Erlang C as the textbook has it, without rounding."""
    terms = [Fraction(load**k, math.factorial(k)) for k in range(servers)]
    last = Fraction(load**servers, math.factorial(servers)) * Fraction(servers, servers - load)
    return last / (sum(terms) + last)


def test_the_documented_example():
    assert replicas_for(20 * 10, 1, 0.7) == 286


@pytest.mark.parametrize(("load", "servers"), [(1, 2), (8, 10), (9, 10), (99, 100), (90, 100), (200, 286), (290, 300)])
def test_erlang_c_against_exact_arithmetic(load, servers):
    queue = waiting(load / 2.0, 2.0, servers)
    exact = exact_probability(load, servers)
    assert queue.probability == pytest.approx(float(exact), rel=1e-12)
    assert queue.mean == pytest.approx(float(exact * 2 / (servers - load)), rel=1e-12)
    assert queue.utilization == pytest.approx(load / servers)


def test_one_server():
    """M/M/1: a share `utilization` waits; the wait has an exponential tail."""
    queue = waiting(0.9, 1.0, 1)
    assert queue.probability == pytest.approx(0.9)
    assert queue.mean == pytest.approx(9.0)
    assert queue.p99 == pytest.approx(math.log(90) * 10)


def test_where_few_wait_the_p99_is_zero():
    assert waiting(20, 10, 286).p99 == 0.0


@pytest.mark.parametrize("servers", [10**3, 10**5, 10**7, 10**9])
def test_any_number_of_servers_is_finite_and_quick(servers):
    """Around the load at which about half of all wait, where the sum has most terms, and far from it."""
    for load in (servers - math.sqrt(servers), 0.99 * servers, 0.5 * servers, 1.0):
        queue = waiting(load, 1.0, servers)
        assert 0 <= queue.probability <= 1
        assert 0 <= queue.mean < math.inf
        assert 0 <= queue.p99 < math.inf
    assert 0.2 < waiting(servers - math.sqrt(servers), 1.0, servers).probability < 0.25  # Halfin and Whitt: 0.223


def test_more_servers_wait_less():
    probabilities = [waiting(90.0, 1.0, servers).probability for servers in range(91, 200)]
    assert all(more > less for more, less in pairwise(probabilities))


@pytest.mark.parametrize("load", [100.0, 101.0])
def test_too_few_servers(load):
    queue = waiting(load, 1.0, 100)
    assert (queue.probability, queue.mean, queue.p99) == (1.0, math.inf, math.inf)


def test_no_load():
    queue = waiting(0.0, 1.0, 1)
    assert (queue.probability, queue.mean, queue.p99) == (0.0, 0.0, 0.0)
