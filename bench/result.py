"""What a benchmark says: figures by party and round, what they are held against, and whether they reach it.

Owns: medians, spread, and ratios taken round by round (the parties of a round ran one after the other, so a machine
that slows down slows all of them). Never: how a figure came about, nor how it is shown (`bench.report`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True)
class Bar:
    """A limit for one party's figure: absolute, or as a ratio to another party's of the same round."""

    limit: float
    party: str = "fe"
    beside: str | None = None  # the other party; None: `limit` is in the measure's own unit
    better: Literal["less", "more"] = "less"  # "less": at most `limit`; "more": at least
    of: Literal["median", "most"] = "median"  # "most": not even one figure may be above

    def figure(self, measure: Measure) -> float:
        """What is held against the limit: of the party's figures, or of the rounds' ratios."""
        if self.of == "most":
            return self.spread(measure)[1]
        return measure.median(self.party) if self.beside is None else measure.ratio(self.party, self.beside)

    def spread(self, measure: Measure) -> tuple[float, float]:
        """The least and the most of them."""
        return measure.spread(self.party) if self.beside is None else measure.ratio_spread(self.party, self.beside)

    def reached(self, measure: Measure) -> bool:
        figure = self.figure(measure)
        return figure <= self.limit if self.better == "less" else figure >= self.limit


@dataclass(frozen=True)
class Curve:
    """A line in a plot: what a latency is at each percentile, say."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Plot:
    """Curves that belong into one picture."""

    name: str  # of the file, without its ending
    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    x_log: bool = False
    y_log: bool = False


@dataclass(frozen=True)
class Measure:
    """One quantity of one or more parties. All parties have a figure for every round."""

    key: str  # "cpu_per_request": names it in JSON and on the command line
    title: str  # "CPU time per request"
    unit: str
    samples: Mapping[str, Sequence[float]]  # party (or variant) -> a figure per round
    bars: Sequence[Bar] = ()
    note: str = ""  # what one has to know to read it: a sentence or two
    plots: Sequence[Plot] = field(default_factory=tuple)

    def median(self, party: str) -> float:
        return statistics.median(self.samples[party])

    def spread(self, party: str) -> tuple[float, float]:
        """The least and the most."""
        return min(self.samples[party]), max(self.samples[party])

    def ratios(self, party: str, beside: str) -> list[float]:
        """Of one party to another, round by round."""
        pairs = zip(self.samples[party], self.samples[beside], strict=True)
        return [mine / theirs if theirs else float("inf") for mine, theirs in pairs]

    def ratio(self, party: str, beside: str) -> float:
        return statistics.median(self.ratios(party, beside))

    def ratio_spread(self, party: str, beside: str) -> tuple[float, float]:
        """The least and the most."""
        ratios = self.ratios(party, beside)
        return min(ratios), max(ratios)
