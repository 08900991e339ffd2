"""Averages between two readings of a deployment's integrals."""

from __future__ import annotations

from fe.control.trends import averages
from tests.core.tables import bench

SECOND = 1_000_000_000


def test_averages_are_right_when_the_integrals_begin_anew():
    """They are 64 bits wide and never set back."""
    with bench() as one:
        now = one.table.deployment(one.table.add_deployment("m/blue", 1, 1)[0])
    before = now._replace(in_flight_integral=2**64 - SECOND, queue_integral=2**64 - 1)
    after = now._replace(now_ns=now.now_ns + 2 * SECOND, in_flight_integral=5 * SECOND, queue_integral=4 * SECOND - 1)
    assert averages(before, after) == (3.0, 2.0)
    assert averages(after, after) == (0.0, 0.0)
