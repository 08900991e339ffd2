"""An outcome in words and numbers: lines for people, a dictionary for JSON.

Owns: which figures are shown and how they are written. Never: their calculation (`fe.simulation.outcome`), a picture
(`fe.simulation.chart`).
"""

from __future__ import annotations

import math
from typing import Any, Final

from fe.simulation.loads import Loads
from fe.simulation.outcome import Outcome, Row
from fe.simulation.run import Scenario

_ROWS: Final = 24
_STEPS: Final = (
    1,
    2,
    5,
    10,
    15,
    20,
    30,
    60,
    120,
    300,
    600,
    900,
    1200,
    1800,
    3600,
    7200,
    10800,
    21600,
    43200,
    86400,
)  # fmt: skip - s: lengths of a row that are easy to read

_HEAD: Final = (
    "time", "requests/s", "desired", "ready", "utilization", "mean wait", "p50", "p99", "refused", "replica-hours",
)  # fmt: skip


def usual_row(scenario: Scenario) -> int:
    """The length of a row in polls, so that about 24 rows say it all."""
    wanted = scenario.source.nanoseconds / 1e9 / _ROWS
    seconds = next((step for step in _STEPS if step >= wanted), 86400 * math.ceil(wanted / 86400))
    return max(1, round(seconds / scenario.polling_interval))


def lines(scenario: Scenario, outcome: Outcome, *, explain: bool) -> list[str]:
    """The settings, a table, its sum; with `explain` every change and its reason."""
    text = [*_settings(scenario), "", *_table(outcome.merged()), "", *_sum(outcome)]
    if explain:
        text += ["", "changes of the number of replicas"]
        text += [
            f"  {_clock(change.at)}  {change.before} -> {change.after}  ({change.rule}) {change.reason}"
            for change in outcome.changes
        ] or ["  none"]
    return text


def as_dict(scenario: Scenario, outcome: Outcome) -> dict[str, Any]:
    """For JSON: times in seconds, shares from 0 to 1; what would be infinite is null."""
    policy = scenario.policy
    return {
        "settings": {
            "load": _load_text(scenario),
            "service": scenario.service.text,
            "start_up": scenario.start_up.text,
            "concurrency": policy.capacity,
            "max_queue_length": scenario.max_queue_length,
            "max_queue_wait": scenario.max_queue_wait,
            "min_instances": policy.min_instances,
            "max_instances": policy.max_instances,
            "target": policy.target,
            "polling_interval": scenario.polling_interval,
            "scale_down_delay": policy.scale_down_delay,
            "scale_to_zero_delay": policy.scale_to_zero_delay,
            "cold_start_timeout": scenario.cold_start_timeout,
            "max_scale_up_rate": policy.max_scale_up_rate,
            "instances": scenario.instances,
            "seed": scenario.seed,
        },
        "total": {**outcome.total.as_dict(), "in_system": outcome.in_system, "most_desired": outcome.most_desired},
        "rows": [row.as_dict() for row in outcome.merged()],
        "changes": [
            {"at": c.at, "before": c.before, "after": c.after, "rule": c.rule, "reason": c.reason}
            for c in outcome.changes
        ],
    }


# --- parts -----------------------------------------------------------------------------------------------------------


def _load_text(scenario: Scenario) -> str:
    if isinstance(scenario.source, Loads):
        return " ".join(part.text for part in scenario.source.parts)
    return "trace"


def _settings(scenario: Scenario) -> list[str]:
    policy = scenario.policy
    bounds = f"{policy.min_instances} to {policy.max_instances}, {scenario.instances} at first"
    replicas = f"{bounds}, of capacity {policy.capacity}; target {100 * policy.target:g} %"
    cold = f"; {scenario.cold_start_timeout:g} s for the first replica" if policy.min_instances == 0 else ""
    return [
        f"load       {_load_text(scenario)}; service {scenario.service.text}; seed {scenario.seed}",
        f"replicas   {replicas}; start-up {scenario.start_up.text}",
        f"queue      at most {scenario.max_queue_length:,} requests, {scenario.max_queue_wait:g} s each{cold}",
    ]


def _table(rows: list[Row]) -> list[str]:
    cells = [_HEAD, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(_HEAD))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]


def _cells(row: Row) -> tuple[str, ...]:
    return (
        _clock(row.at),
        f"{row.requests_per_second:,.1f}",
        str(row.desired),
        str(row.ready),
        f"{100 * row.utilization:.0f} %" if math.isfinite(row.utilization) else "no replica",
        _time(row.wait_mean),
        _time(row.wait_quantile(0.5)),
        _time(row.wait_quantile(0.99)),
        f"{row.refused:,}",
        f"{row.replica_hours:,.2f}",
    )


def _sum(outcome: Outcome) -> list[str]:
    total, tally = outcome.total, outcome.total.tally
    share = f" ({100 * tally.served / tally.arrived:.2f} %)" if tally.arrived else ""
    causes = [f"{tally.queue_full:,} queue full", f"{tally.queue_wait:,} waited too long"]
    causes.append(f"{tally.no_replica:,} no replica ready")
    mean, p50, p99 = map(_time, (total.wait_mean, total.wait_quantile(0.5), total.wait_quantile(0.99)))
    replicas = f"{total.replica_hours * 3600 / total.seconds:,.1f} on average, {outcome.most_desired:,} at most"
    return [
        f"requests   {tally.arrived:,}; served {tally.served:,}{share}, {outcome.in_system:,} not done at the end",
        f"refused    {total.refused:,}: {', '.join(causes)}",
        f"waits      mean {mean}, p50 {p50}, p99 {p99}, of those that got a place",
        f"replicas   {replicas}, {len(outcome.changes):,} changes; {total.replica_hours:,.2f} replica-hours",
    ]


def _clock(seconds: float) -> str:
    """h:mm:ss, with a fraction where there is one."""
    minutes, rest = divmod(round(seconds, 3), 60)
    text = f"{rest:06.3f}".rstrip("0").rstrip(".") if rest % 1 else f"{rest:02.0f}"
    return f"{int(minutes) // 60}:{int(minutes) % 60:02d}:{text}"


def _time(seconds: float) -> str:
    """Three digits in the unit that fits; below a microsecond is no wait."""
    if seconds < 1e-6:
        return "0"
    return f"{seconds:.3g} s" if seconds >= 0.9995 else f"{seconds * 1000:.3g} ms"
