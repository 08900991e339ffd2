"""Counters and histograms: one record for each worker and deployment, and one for what belongs to none."""

from __future__ import annotations

import itertools

import pytest

from fe import _core
from fe._core import COUNTERS, HISTOGRAM_BOUNDS_NS, HISTOGRAM_SUMS, HISTOGRAMS

BUCKETS = len(HISTOGRAM_BOUNDS_NS) + 1


def test_shape(bench):
    view = bench.table.statistics()
    assert view.shape == (2, bench.table.limits.deployments + 1, COUNTERS + HISTOGRAMS * BUCKETS)
    assert (COUNTERS, HISTOGRAMS, BUCKETS) == (128, 3, 96)
    assert HISTOGRAM_SUMS == COUNTERS - HISTOGRAMS
    assert view.readonly


def test_each_worker_counts_for_itself(bench):
    first, second = bench.holders(2)
    view = bench.table.statistics()
    first.stat_add(1, 7, 3)
    second.stat_add(1, 7, 4)
    first.stat_add(bench.table.unrouted, COUNTERS - HISTOGRAMS - 1, 2**40)
    assert (view[0, 1, 7], view[1, 1, 7]) == (3, 4)
    assert view[0, bench.table.unrouted, COUNTERS - HISTOGRAMS - 1] == 2**40
    assert sum(view.cast("B").cast("Q")) == 7 + 2**40


def test_what_has_no_place_is_not_counted(bench):
    worker, stranger = bench.table.holder(0), bench.table.holder(3)
    stranger.stat_add(0, 0, 1)
    stranger.stat_observe(0, 0, 1)
    worker.stat_add(bench.table.unrouted + 1, 0, 1)
    worker.stat_add(0, COUNTERS, 1)
    worker.stat_observe(0, HISTOGRAMS, 1)
    assert not any(bench.table.statistics().cast("B"))


@pytest.mark.parametrize("bucket", range(BUCKETS - 1))
def test_bounds_are_inclusive(bench, bucket):
    holder = bench.table.holder(0)
    bound = HISTOGRAM_BOUNDS_NS[bucket]
    holder.stat_observe(0, 2, bound)
    holder.stat_observe(0, 2, bound + 1)
    first = COUNTERS + 2 * BUCKETS
    record = bench.table.statistics().tolist()[0][0][first : first + BUCKETS]
    assert [i for i, count in enumerate(record) if count] == [bucket, bucket + 1]


def test_extremes_and_sums(bench):
    holder = bench.table.holder(0)
    values = [-5, 0, 1, 10**6, 2**62]
    for value in values:
        holder.stat_observe(2, 1, value)
    record = bench.table.statistics().tolist()[0][2]
    histogram = record[COUNTERS + BUCKETS : COUNTERS + 2 * BUCKETS]
    assert (histogram[0], histogram[-1], sum(histogram)) == (3, 1, 5)
    assert record[HISTOGRAM_SUMS + 1] == 1 + 10**6 + 2**62


def test_bounds_cover_what_inference_takes():
    assert HISTOGRAM_BOUNDS_NS[0] == 2**16
    assert HISTOGRAM_BOUNDS_NS[-1] > 550e9
    steps = [after / before for before, after in itertools.pairwise(HISTOGRAM_BOUNDS_NS)]
    assert max(steps) <= 1.25
    assert min(steps) > 1.1


def test_a_new_deployment_begins_at_zero(bench):
    deployment, _, _ = bench.deployment()
    neighbour, _, _ = bench.deployment()
    for holder in bench.holders(2):
        holder.stat_add(deployment, 1, 5)
        holder.stat_add(neighbour, 1, 5)
    bench.table.remove_deployment(deployment)
    assert bench.deployment()[0] == deployment
    view = bench.table.statistics()
    assert [(view[w, deployment, 1], view[w, neighbour, 1]) for w in range(2)] == [(0, 5), (0, 5)]


def test_views_outlive_the_table_object():
    table = _core.Table.create(_core.Limits(deployments=1, replicas=1, holders=1, slots=1, workers=1, config_bytes=1))
    table.holder(0).stat_add(0, 0, 9)
    view = table.statistics()
    del table
    assert view[0, 0, 0] == 9
