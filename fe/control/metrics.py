"""Prometheus metrics, read from the shared table at the moment they are asked for.

Owns: names, help and labels of everything on /metrics. Never: counting (workers do, in the table; this only adds their
rows up) and never prometheus-client's multiprocess mode. Everything here may run in a thread: it reads, and it takes no
lock beyond the table's own.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, get_args

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from fe import __version__, _core
from fe._core import COUNTERS, HISTOGRAM_BOUNDS_NS, HISTOGRAMS, DeploymentLoad, Table
from fe.control.events import Events, Kind
from fe.control.numeric import NDArray, np
from fe.model import COUNTER_INDEX, HISTOGRAM_NAMES, REASONS, STATUS_CODES

REPLICA_STATES: Final = {
    _core.REPLICA_STARTING: "starting",
    _core.REPLICA_READY: "ready",
    _core.REPLICA_EJECTED: "ejected",
    _core.REPLICA_DRAINING: "draining",
    _core.REPLICA_REMOVING: "removing",
}
WORKER_STATES: Final = {
    _core.HOLDER_FREE: "free",
    _core.HOLDER_STARTING: "starting",
    _core.HOLDER_ACTIVE: "active",
    _core.HOLDER_ABSENT: "absent",
}
# The table's buckets are finer than anybody wants to store; these are near the limits people ask about, in seconds.
SHOWN_BOUNDS: Final = (
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.01, 0.015, 0.025, 0.05,
    0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300,
)  # fmt: skip
LABELS: Final = ["endpoint", "deployment"]

COUNTS: Final = {  # counter of the record -> metric without its _total, help
    "queued": ("fe_queued", "Requests that had to wait for a place."),
    "retries": ("fe_retries", "Attempts at another replica or connection after one that failed."),
    "request_bytes": ("fe_request_bytes", "Bytes of request bodies taken from clients."),
    "response_bytes": ("fe_response_bytes", "Bytes of response bodies given to clients."),
    "mirrored": ("fe_mirrored", "Requests copied to this deployment by mirror_traffic."),
    "mirror_skipped": ("fe_mirror_skipped", "Copies not made, for lack of a free place or of a collected body."),
    "abandoned": ("fe_abandoned", "Exchanges whose client had gone or whose time was up while the replica worked on."),
    "upstream_connections": ("fe_upstream_connections", "Connections opened to replicas."),
}
COUNTS_OF_ROUTER: Final = {
    "connections": ("fe_connections", "Client connections accepted."),
    "access_lines_lost": ("fe_access_lines_lost", "Access-log lines dropped because the log could not keep up."),
}
HISTOGRAM_HELP: Final = {
    "total": ("fe_request_duration_seconds", "From the first byte of a request to the last byte of its answer."),
    "queue": ("fe_queue_duration_seconds", "Waiting for a place at a replica, in vain or not."),
    "replica": ("fe_replica_duration_seconds", "From the lease to the response head of the replica."),
}


@dataclass
class ReloadCounts:
    """What became of the configuration; times in seconds since the epoch."""

    applied: int = 0
    refused: int = 0
    last_ok: bool = True
    last_applied: float = 0.0


def _shown_buckets() -> list[tuple[str, int]]:
    """Label and index of the buckets shown: the real bound nearest above each limit of interest."""
    shown: dict[int, str] = {}
    for limit in SHOWN_BOUNDS:
        index = bisect_left(HISTOGRAM_BOUNDS_NS, int(limit * 1e9))
        if index < len(HISTOGRAM_BOUNDS_NS):
            shown[index] = f"{HISTOGRAM_BOUNDS_NS[index] / 1e9:.6g}"
    return [(label, index) for index, label in sorted(shown.items())]


BUCKETS: Final = _shown_buckets()
BUCKET_COUNT: Final = len(HISTOGRAM_BOUNDS_NS) + 1
SUMS: Final = COUNTERS - HISTOGRAMS  # the last counters hold each histogram's sum, in ns

Row = NDArray[np.uint64]


@dataclass(frozen=True)
class ScalingState:
    """What scaling says of one deployment."""

    wanted: int
    starting: int
    failing: int
    utilization: float | None
    target: float | None  # None: the number is fixed


class Source(Protocol):
    """What is shown beside the table; the control plane."""

    table: Table
    reloads: ReloadCounts
    events: Events

    def scaling(self) -> Mapping[str, ScalingState]: ...

    def cluster_metrics(self) -> Iterable[Metric]:
        """Of Kubernetes, if there is a cluster."""


class TableCollector(Collector):
    """Everything that the shared table knows, and what the control plane has made of it."""

    def __init__(self, source: Source) -> None:
        self._table = source.table
        self._reloads = source.reloads
        self._events = source.events
        self._scaling = source.scaling
        self._cluster_metrics = source.cluster_metrics

    def collect(self) -> Iterator[Metric]:
        table = self._table
        # By name: one that is still being removed makes way for its successor of the same name.
        found = sorted(
            ((index, table.deployment(index)) for index in table.deployments()), key=lambda one: -one[1].state
        )
        named = {load.name: (index, load) for index, load in found if load.state}
        loads = dict(named.values())
        places = [*loads, table.unrouted]
        rows = np.asarray(table.statistics())[:, places].sum(axis=0, dtype=np.uint64)
        records = {tuple(_labels(load)): row for load, row in zip(loads.values(), rows, strict=False)}
        yield from self._router(rows)
        yield from _counters({**records, ("", ""): rows[-1]})
        yield from _histograms(records)
        yield from self._gauges(loads)
        yield from self._scales(loads)
        yield from _integrals(loads)
        yield from self._happened(loads)
        yield from self._cluster_metrics()

    def _router(self, rows: NDArray[np.uint64]) -> Iterator[Metric]:
        build = {"version": __version__, "build": _core.BUILD}
        yield InfoMetricFamily("fe_build", "Version and variant of this fe.", build)
        version = self._table.snapshot()[0]
        yield GaugeMetricFamily("fe_config_version", "Version of the snapshot that workers serve from.", version)
        reloads = CounterMetricFamily("fe_config_reloads", "Configurations that were asked for.", labels=["result"])
        reloads.add_metric(["applied"], self._reloads.applied)
        reloads.add_metric(["refused"], self._reloads.refused)
        yield reloads
        yield GaugeMetricFamily(
            "fe_config_last_reload_successful", "1 when the last configuration was applied.", int(self._reloads.last_ok)
        )
        applied = self._reloads.last_applied
        yield GaugeMetricFamily(
            "fe_config_last_applied_timestamp_seconds", "When a configuration was last applied.", applied
        )
        for name, (metric, text) in COUNTS_OF_ROUTER.items():
            yield CounterMetricFamily(metric, text, int(rows[:, COUNTER_INDEX[name]].sum()))
        yield from self._holders()

    def _holders(self) -> Iterator[Metric]:
        table = self._table
        states = [table.holder_state(index) for index in range(table.limits.workers)]
        counted = Counter(state.state for state in states)
        workers = GaugeMetricFamily("fe_workers", "Worker processes by state.", labels=["state"])
        for number, text in WORKER_STATES.items():
            workers.add_metric([text], counted[number])
        yield workers
        yield CounterMetricFamily(
            "fe_worker_restarts", "Worker processes started in place of one that ended.",
            sum(max(0, state.generation - 1) for state in states),
        )  # fmt: skip
        slots = GaugeMetricFamily(
            "fe_table_slots_in_use", "Requests that a worker has in flight or waiting.", labels=["worker"]
        )
        for index, state in enumerate(states):
            slots.add_metric([str(index)], state.slots_in_use)
        yield slots
        yield GaugeMetricFamily("fe_table_slots", "Requests that a worker can have at once.", table.limits.slots)
        yield GaugeMetricFamily("fe_table_bytes", "Size of the shared table.", table.size)
        used = [table.deployment(index) for index in table.deployments()]
        limits = table.limits
        yield GaugeMetricFamily("fe_table_deployments", "Deployments in the table.", len(used))
        yield GaugeMetricFamily("fe_table_deployments_limit", "Deployments the table has room for.", limits.deployments)
        yield GaugeMetricFamily("fe_table_replicas", "Replicas in the table.", sum(load.replicas for load in used))
        yield GaugeMetricFamily("fe_table_replicas_limit", "Replicas the table has room for.", limits.replicas)

    def _gauges(self, loads: Mapping[int, DeploymentLoad]) -> Iterator[Metric]:
        def gauge(name: str, text: str, *more: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=[*LABELS, *more])

        in_flight = gauge("fe_in_flight", "Requests at replicas.")
        queue = gauge("fe_queue_depth", "Requests waiting for a place.")
        limit = gauge("fe_queue_limit", "Requests that may wait at most.")
        capacity = gauge("fe_capacity", "Requests that all ready replicas together take at once; +Inf: no limit.")
        replicas = gauge("fe_replicas", "Replicas by state.", "state")
        for index, load in loads.items():
            labels = _labels(load)
            in_flight.add_metric(labels, load.in_flight)
            queue.add_metric(labels, load.queue_depth)
            limit.add_metric(labels, load.max_queue)
            unlimited = load.ready and not load.capacity
            capacity.add_metric(labels, float("inf") if unlimited else load.capacity * load.ready)
            counted = Counter(self._table.replica(replica).state for replica in self._table.replicas(index))
            for state, text in REPLICA_STATES.items():
                replicas.add_metric([*labels, text], counted[state])
        yield from (in_flight, queue, limit, capacity, replicas)

    def _scales(self, loads: Mapping[int, DeploymentLoad]) -> Iterator[Metric]:
        def gauge(name: str, text: str) -> GaugeMetricFamily:
            return GaugeMetricFamily(name, text, labels=LABELS)

        desired = gauge("fe_replicas_desired", "Replicas there should be.")
        failing = gauge("fe_replicas_failing", "Replicas there should be, that fail or are not ready in time.")
        used = gauge(
            "fe_utilization_ratio", "(busy + queued) / replicas over the last polling interval, exact; absent: unknown."
        )
        target = gauge("fe_utilization_target_ratio", "What scaling aims at; absent where the number is fixed.")
        states = self._scaling()
        for load in loads.values():
            state = states.get(load.name)
            if state is None:
                continue
            desired.add_metric(_labels(load), state.wanted)
            failing.add_metric(_labels(load), state.failing)
            if state.utilization is not None:
                used.add_metric(_labels(load), state.utilization)
            if state.target is not None:
                target.add_metric(_labels(load), state.target)
        yield from (desired, failing, used, target)

    def _happened(self, loads: Mapping[int, DeploymentLoad]) -> Iterator[Metric]:
        # With 0 from the start: an increase from nothing at all would not be seen.
        events = CounterMetricFamily("fe_events", "Events by kind, since the controller's start.", labels=["kind"])
        for kind in get_args(Kind):
            events.add_metric([kind], self._events.counts[kind])
        yield events
        decisions = CounterMetricFamily(
            "fe_scale_decisions", "Changes of the number of replicas.", labels=[*LABELS, "direction"]
        )
        ejections = CounterMetricFamily("fe_ejections", "Replicas set aside after failures.", labels=LABELS)
        for load in loads.values():
            labels, counted = _labels(load), self._events.by_deployment
            for direction in ("up", "down"):
                decisions.add_metric([*labels, direction], counted[load.name, direction])
            ejections.add_metric(labels, counted[load.name, "eject"])
        yield decisions
        yield ejections


def _labels(load: DeploymentLoad) -> list[str]:
    return list(load.name.partition("/")[::2])


def _counters(records: Mapping[tuple[str, ...], Row]) -> Iterator[Metric]:
    requests = CounterMetricFamily("fe_requests", "Requests by the status of their answer.", labels=[*LABELS, "code"])
    reasons = CounterMetricFamily(
        "fe_own_answers", "Requests that fe answered or ended itself, by reason.", labels=[*LABELS, "reason"]
    )
    for labels, row in records.items():
        for code in STATUS_CODES:
            if number := int(row[COUNTER_INDEX[f"status_{code}"]]):
                requests.add_metric([*labels, str(code)], number)
        for reason in REASONS:
            if number := int(row[COUNTER_INDEX[f"reason_{reason}"]]):
                reasons.add_metric([*labels, reason], number)
    yield requests
    yield reasons
    for name, (metric, text) in COUNTS.items():
        family = CounterMetricFamily(metric, text, labels=LABELS)
        for labels, row in records.items():
            if any(labels):
                family.add_metric(labels, int(row[COUNTER_INDEX[name]]))
        yield family


def _histograms(records: Mapping[tuple[str, ...], Row]) -> Iterator[Metric]:
    for number, name in enumerate(HISTOGRAM_NAMES[:HISTOGRAMS]):
        metric, text = HISTOGRAM_HELP[name]
        family = HistogramMetricFamily(metric, text, labels=LABELS)
        start = COUNTERS + number * BUCKET_COUNT
        for labels, row in records.items():
            counts = row[start : start + BUCKET_COUNT]
            total = np.cumsum(counts)
            buckets = [(label, int(total[index])) for label, index in BUCKETS]
            family.add_metric(labels, [*buckets, ("+Inf", int(total[-1]))], int(row[SUMS + number]) / 1e9)
        yield family


def _integrals(loads: Mapping[int, DeploymentLoad]) -> Iterator[Metric]:
    in_flight = CounterMetricFamily(
        "fe_in_flight_seconds", "Requests at replicas, summed over time: its rate is the exact average.", labels=LABELS
    )
    queue = CounterMetricFamily(
        "fe_queue_depth_seconds", "Waiting requests, summed over time: its rate is the exact average.", labels=LABELS
    )
    ready = CounterMetricFamily(
        "fe_replicas_ready_seconds", "Ready replicas, summed over time: replica-hours, times 3,600.", labels=LABELS
    )
    for load in loads.values():
        in_flight.add_metric(_labels(load), load.in_flight_integral / 1e9)
        queue.add_metric(_labels(load), load.queue_integral / 1e9)
        ready.add_metric(_labels(load), load.ready_integral / 1e9)
    yield from (in_flight, queue, ready)


def build_registry(collector: Collector) -> CollectorRegistry:
    """What /metrics shows: the table, and this process as fe_controller_process_*."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    ProcessCollector(namespace="fe_controller", registry=registry)
    return registry


def render(registry: Any) -> bytes:
    """The text exposition. Takes a moment with many deployments: call it in a thread."""
    return generate_latest(registry)
