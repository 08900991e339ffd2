"""A whole run: what was measured, on what, when, and what failed; and the same as JSON.

Owns: the format of report.json, which holds every figure. Never: judgement of a figure (bench/result.py), nor its
looks (text.py, plots.py).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from bench.result import Bar, Curve, Measure, Plot

FORMAT = 1


@dataclass(frozen=True)
class Part:
    """What one module of benchmarks has yielded: all it has, or what it had before it failed."""

    module: str
    measures: Sequence[Measure]
    seconds: float  # that it took
    failure: str | None = None


@dataclass(frozen=True)
class Run:
    """One call of `python -m bench`."""

    started: float  # seconds since the epoch
    ended: float
    settings: Mapping[str, Any]  # quick, rounds, seconds
    machine: Mapping[str, str]
    versions: Mapping[str, str]
    load: tuple[float, float]  # the machine's load average over a minute, before and after
    parts: Sequence[Part] = field(default_factory=tuple)

    def measures(self) -> Iterator[Measure]:
        for part in self.parts:
            yield from part.measures

    def failures(self) -> dict[str, str]:
        """Module -> why."""
        return {part.module: part.failure for part in self.parts if part.failure is not None}

    def plots(self) -> Iterator[Plot]:
        for measure in self.measures():
            yield from measure.plots


def to_json(run: Run) -> str:
    """With fe's ratio to each other party, round by round, for whoever reads nothing but this."""
    raw = {"format": FORMAT, **asdict(run)}
    for part, its_raw in zip(run.parts, raw["parts"], strict=True):
        for measure, one in zip(part.measures, its_raw["measures"], strict=True):
            beside = [party for party in measure.samples if "fe" in measure.samples and party != "fe"]
            one["ratios"] = {f"fe / {party}": measure.ratios("fe", party) for party in beside}
    return json.dumps(raw, indent=1, allow_nan=True)


def from_json(text: str) -> Run:
    """The inverse. ValueError when it is of another format."""
    raw = json.loads(text)
    if raw.pop("format", None) != FORMAT:
        raise ValueError(f"not a report of format {FORMAT}: run the benchmarks again")
    parts = [_part(**part) for part in raw.pop("parts")]
    return Run(**{**raw, "load": tuple(raw["load"])}, parts=parts)


def _part(measures: list[dict[str, Any]], **rest: Any) -> Part:
    return Part(measures=[_measure(**measure) for measure in measures], **rest)


def _measure(bars: list[dict[str, Any]], plots: list[dict[str, Any]], **rest: Any) -> Measure:
    rest.pop("ratios", None)
    return Measure(bars=[Bar(**bar) for bar in bars], plots=[_plot(**plot) for plot in plots], **rest)


def _plot(curves: list[dict[str, Any]], **rest: Any) -> Plot:
    return Plot(curves=[Curve(**curve) for curve in curves], **rest)
