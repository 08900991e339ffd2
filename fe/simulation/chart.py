"""An outcome as a picture: load, replicas, utilization, waits, refusals over one axis of time.

Owns: the only use of matplotlib, which is an extra (`fe-router[plot]`). Never: figures of its own
(`fe.simulation.outcome`), a window: it draws into files.
"""

from __future__ import annotations

import math
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fe.simulation.outcome import Outcome, Row
from fe.simulation.run import Scenario

_MOST_PERCENT: Final = 200  # what is beyond would hide the difference that matters, that between target and full


def draw(path: str, scenario: Scenario, outcome: Outcome) -> None:
    """Into a file; its ending says of which kind. Raises OSError, and ValueError for an ending that is no picture's."""
    unit, name = (3600.0, "hours") if outcome.total.seconds >= 3 * 3600 else (60.0, "minutes")
    rows, times = outcome.rows, [row.at / unit for row in outcome.rows]
    figure = Figure(figsize=(10, 10), layout="constrained")
    load, replicas, utilization, waits, refused = figure.subplots(5, 1, sharex=True)
    _line(load, times, [row.requests_per_second for row in rows], "requests/s")
    _line(replicas, times, [row.desired for row in rows], "desired", drawstyle="steps-post")
    _line(replicas, times, [row.ready for row in rows], "ready", drawstyle="steps-post")
    _line(utilization, times, [_percent(row) for row in rows], "utilization, %")
    utilization.axhline(100 * scenario.policy.target, color="grey", linestyle="dashed", label="target")
    for label, quantile in (("p50", 0.5), ("p99", 0.99)):
        _line(waits, times, [1000 * row.wait_quantile(quantile) for row in rows], f"wait {label}, ms")
    for cause, label in (("queue_full", "queue full"), ("queue_wait", "waited too long"), ("no_replica", "no replica")):
        _line(refused, times, [getattr(row.tally, cause) / row.seconds for row in rows], f"{label}, refused/s")
    for axes in (load, replicas, utilization, waits, refused):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize="small")
    utilization.set_ylim(top=min(utilization.get_ylim()[1], _MOST_PERCENT))
    refused.set_xlabel(name)
    figure.savefig(path, dpi=120)


def _line(axes: Axes, times: list[float], values: list[float], label: str, drawstyle: str = "default") -> None:
    axes.plot(times, values, label=label, linewidth=1.2, drawstyle=drawstyle)


def _percent(row: Row) -> float:
    """A gap where there is load and no replica."""
    return 100 * row.utilization if math.isfinite(row.utilization) else math.nan
