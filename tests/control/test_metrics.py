"""What /metrics says is what the table says, in a form that Prometheus takes."""

from __future__ import annotations

import subprocess
import sys
import time
from dataclasses import dataclass, field

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fe._core import (
    COUNTERS,
    HISTOGRAM_BOUNDS_NS,
    HISTOGRAMS,
    REPLICA_EJECTED,
    REPLICA_READY,
    Limits,
    Table,
)
from fe.control import metrics
from fe.control.events import Events
from fe.control.metrics import ReloadCounts, ScalingState, TableCollector, build_registry, render
from fe.model import COUNTER_INDEX, COUNTER_NAMES, COUNTS, HISTOGRAM_NAMES, REASONS, STATUS_CODES
from tests.control.harness import LIMITS, lease

ADDRESS = b"\x02\x00\x1b\x59\x7f\x00\x00\x01" + bytes(8)
BASE_UNITS = ("_seconds", "_bytes", "_total", "_info")


@dataclass
class Shown:
    """What a control plane has to show beside its table."""

    table: Table
    states: dict[str, ScalingState]
    events: Events = field(default_factory=Events)
    reloads: ReloadCounts = field(
        default_factory=lambda: ReloadCounts(applied=2, refused=1, last_ok=False, last_applied=1000.5)
    )

    def scaling(self) -> dict[str, ScalingState]:
        return self.states

    def cluster_metrics(self) -> tuple[()]:
        return ()


class Page:
    """A rendered page, parsed."""

    def __init__(self, table: Table, events: Events | None = None, **states: ScalingState) -> None:
        shown = Shown(table, {name.replace("__", "/"): state for name, state in states.items()}, events or Events())
        self.text = render(build_registry(TableCollector(shown))).decode()
        self.families = {family.name: family for family in text_string_to_metric_families(self.text)}

    def __call__(self, sample: str, **labels: str) -> float:
        """The one sample of this name with exactly these labels."""
        found = [
            one.value
            for family in self.families.values()
            for one in family.samples
            if one.name == sample and one.labels == labels
        ]
        assert len(found) == 1, f"{sample}{labels}: {found}"
        return float(found[0])


@pytest.fixture
def table():
    return Table.create(LIMITS)


def test_an_empty_table_has_a_page(table):
    page = Page(table)
    assert page("fe_config_version") == 0
    assert page("fe_config_reloads_total", result="applied") == 2
    assert page("fe_config_reloads_total", result="refused") == 1
    assert page("fe_config_last_reload_successful") == 0
    assert page("fe_config_last_applied_timestamp_seconds") == 1000.5
    assert page("fe_workers", state="free") == 2
    assert page("fe_table_slots") == LIMITS.slots
    assert page("fe_table_bytes") == table.size
    assert page("fe_controller_process_resident_memory_bytes") > 1e6


def test_counters_are_the_sum_over_workers(table):
    index, _ = table.add_deployment("model/blue", 2, 10)
    holders = [table.holder(0), table.holder(1)]
    for number, name in enumerate(COUNTER_NAMES):
        holders[0].stat_add(index, number, number + 1)
        holders[1].stat_add(index, number, 1000)
        holders[1].stat_add(table.unrouted, COUNTER_INDEX[name], 7)
    page = Page(table)
    both = {"endpoint": "model", "deployment": "blue"}
    for code in STATUS_CODES:
        expected = COUNTER_INDEX[f"status_{code}"] + 1001
        assert page("fe_requests_total", code=str(code), **both) == expected
        assert page("fe_requests_total", code=str(code), endpoint="", deployment="") == 7
    for reason in REASONS:
        assert page("fe_own_answers_total", reason=reason, **both) == COUNTER_INDEX[f"reason_{reason}"] + 1001
        assert page("fe_own_answers_total", reason=reason, endpoint="", deployment="") == 7
    for name, (metric, _) in metrics.COUNTS.items():
        assert page(f"{metric}_total", **both) == COUNTER_INDEX[name] + 1001
    for name, (metric, _) in metrics.COUNTS_OF_ROUTER.items():
        assert page(f"{metric}_total") == COUNTER_INDEX[name] + 1001 + 7


def test_every_counter_is_shown():
    shown = {*metrics.COUNTS, *metrics.COUNTS_OF_ROUTER}
    assert shown | {"requests"} == set(COUNTS)  # requests: the sum of fe_requests_total over its codes
    assert list(metrics.HISTOGRAM_HELP) == list(HISTOGRAM_NAMES)
    assert len(HISTOGRAM_NAMES) == HISTOGRAMS
    assert metrics.SUMS == COUNTERS - HISTOGRAMS >= len(COUNTER_NAMES)


@pytest.mark.parametrize("number", range(HISTOGRAMS))
def test_histograms_agree_with_what_was_observed(table, number):
    index, _ = table.add_deployment("model/blue", 2, 10)
    holders = [table.holder(0), table.holder(1)]
    spans = [50_000, 1_000_000, 2_500_000, 4_999_999, 80_000_000, 1_500_000_000, 700_000_000_000]
    for n, span in enumerate(spans):
        holders[n % 2].stat_observe(index, number, span)
    page = Page(table)
    family, both = metrics.HISTOGRAM_HELP[HISTOGRAM_NAMES[number]][0], {"endpoint": "model", "deployment": "blue"}
    assert page(f"{family}_count", **both) == len(spans)
    assert page(f"{family}_sum", **both) == pytest.approx(sum(spans) / 1e9)
    buckets = [one for one in page.families[family].samples if one.name.endswith("_bucket")]
    limits = [float(one.labels["le"]) for one in buckets]
    assert limits == sorted(set(limits))
    assert limits[-1] == float("inf")
    for limit, one in zip(limits, buckets, strict=True):
        assert one.value == sum(span / 1e9 <= limit for span in spans), limit


def test_buckets_are_true_bounds_near_the_limits_people_ask_for():
    assert len(metrics.BUCKETS) == len(metrics.SHOWN_BOUNDS)
    for label, index in metrics.BUCKETS:
        assert float(label) == pytest.approx(HISTOGRAM_BOUNDS_NS[index] / 1e9, rel=1e-5)
    shown = [float(label) for label, _ in metrics.BUCKETS]
    for limit in metrics.SHOWN_BOUNDS:
        assert any(limit <= one <= limit * 1.26 for one in shown), limit


def test_gauges_follow_leases_and_replicas(table):
    index, generation = table.add_deployment("model/blue", 2, 10)
    free, _ = table.add_deployment("model/free", 0, 10)
    holder = table.holder(1)
    holder.set_active()
    for state in (REPLICA_READY, REPLICA_READY, REPLICA_EJECTED):
        one = table.add_replica(index, ADDRESS, REPLICA_READY)
        table.set_replica_state(one, state)
    table.add_replica(free, ADDRESS, REPLICA_READY)
    for _ in range(4):
        lease(holder, table, index)
    for _ in range(3):
        assert holder.acquire(index, generation, 2**62)[0] == 1
    events = Events()
    events.add("scale", "more load", deployment="model/blue", before=3, after=5)
    events.add("eject", "failures", deployment="model/blue", replica="a")
    page = Page(table, events, model__blue=ScalingState(5, 1, 2, 1.75, 0.7))
    both = {"endpoint": "model", "deployment": "blue"}
    assert page("fe_in_flight", **both) == 4
    assert page("fe_queue_depth", **both) == 3
    assert page("fe_queue_limit", **both) == 10
    assert page("fe_capacity", **both) == 4
    assert page("fe_capacity", endpoint="model", deployment="free") == float("inf")
    assert page("fe_replicas_desired", **both) == 5
    assert page("fe_replicas_failing", **both) == 2
    assert page("fe_utilization_ratio", **both) == 1.75
    assert page("fe_utilization_target_ratio", **both) == 0.7
    assert page("fe_scale_decisions_total", direction="up", **both) == 1
    assert page("fe_ejections_total", **both) == 1
    assert page("fe_events_total", kind="scale") == 1
    assert page("fe_table_replicas") == 4
    assert page("fe_table_deployments_limit") == LIMITS.deployments
    states = {state: page("fe_replicas", state=state, **both) for state in metrics.REPLICA_STATES.values()}
    assert states == {"starting": 0, "ready": 2, "ejected": 1, "draining": 0, "removing": 0}
    assert page("fe_table_slots_in_use", worker="1") == 7
    assert page("fe_workers", state="active") == 1


def test_integrals_grow_by_what_they_integrate(table):
    index, _ = table.add_deployment("model/blue", 2, 10)
    table.add_replica(index, ADDRESS, REPLICA_READY)
    lease(table.holder(0), table, index)
    both = {"endpoint": "model", "deployment": "blue"}
    begun = time.monotonic()
    first = Page(table)("fe_in_flight_seconds_total", **both)
    time.sleep(0.05)
    second = Page(table)("fe_in_flight_seconds_total", **both)
    assert 0.05 <= second - first <= time.monotonic() - begun


def test_restarted_workers_are_counted(table):
    for _ in range(3):
        table.holder(0)
    table.holder(1)
    assert Page(table)("fe_worker_restarts_total") == 2


def test_a_name_stands_once_while_its_predecessor_is_being_removed(table):
    old, _ = table.add_deployment("model/blue", 2, 10)
    table.add_replica(old, ADDRESS, REPLICA_READY)
    holder = table.holder(0)
    lease(holder, table, old)
    table.remove_deployment(old)
    both = {"endpoint": "model", "deployment": "blue"}
    assert Page(table)("fe_in_flight", **both) == 1
    table.add_deployment("model/blue", 2, 10)
    assert Page(table)("fe_in_flight", **both) == 0


def test_the_page_is_as_prometheus_wants_it(table):
    """What `promtool check metrics` looks at: help for each, base units, _total for counters alone, no label twice."""
    index, _ = table.add_deployment('model/with"quote\\and\nline', 2, 10)
    table.holder(0).stat_add(index, COUNTER_INDEX["status_200"], 1)
    table.holder(0).stat_add(index, COUNTER_INDEX["reason_no_replica"], 1)
    seldom = {f"fe_{name}" for name in ("replicas_desired", "replicas_failing", "utilization_ratio",
                                        "utilization_target_ratio")}  # fmt: skip
    page = Page(table)
    lines = page.text.splitlines()
    samples = [line for line in lines if not line.startswith("#")]
    assert len({line.rpartition(" ")[0] for line in samples}) == len(samples)
    for name, family in page.families.items():
        assert family.documentation.endswith("."), name
        assert name.startswith("fe_"), name
        assert family.samples or name in seldom, name
        counted = any(one.name.endswith("_total") for one in family.samples)
        assert not family.samples or (family.type == "counter") == counted, name
        assert not name.endswith(("_ms", "_milliseconds", "_ns", "_percent", "_count", "_sum", "_bucket")), name
        for one in family.samples:
            assert all(label.islower() for label in one.labels), one
    types = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(types) == len(set(types))


def test_the_controller_starts_no_threads_and_leaves_the_environment_alone():
    script = """
import os
before = dict(os.environ)
import fe.controller
print(len(os.listdir("/proc/self/task")), os.environ == before)
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout == "1 True\n"


def test_many_deployments_are_rendered_in_bounded_time_and_size():
    table = Table.create(Limits(deployments=300, replicas=600, holders=2, slots=16, workers=2))
    holder = table.holder(0)
    for number in range(300):
        index, _ = table.add_deployment(f"endpoint-{number}/blue", 1, 1)
        table.add_replica(index, ADDRESS, REPLICA_READY)
        holder.stat_add(index, COUNTER_INDEX["status_200"], 1)
    page = Page(table)
    assert len(page.text) < 300 * 16_384
