"""A run in pictures: one of bars for each module that compares parties, and the curves that measures bring along.

Owns: colours (the same for a party everywhere), axes, files. Never: a figure of its own. A module's bars are in one
picture, a panel for each measure: median as the bar, least and most as its whisker, absolute limits as a dashed line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

from bench.report.run import Part, Run
from bench.report.text import bar_text, figure
from bench.result import Curve, Measure, Plot

COLOURS = {
    "fe": "#1f5fa8", "nginx": "#2a9d5c", "haproxy": "#d9822b", "direct": "#7f7f7f", "ideal": "#222222",
}  # fmt: skip
NAMED = re.compile(rf"\b({'|'.join(COLOURS)})\b")
OTHERS = ("#8e5ea2", "#c0504d", "#4bacc6", "#9c8b3c", "#e377c2", "#17607a")
STYLES = ("-", "--", ":", "-.")
GRID = "#dddddd"
LIMIT = "#b00020"
FAR_OFF = 3  # times the longest bar: a limit beyond would leave nothing to see of the bars
PLAIN = StrMethodFormatter("{x:,g}")
DOTS_PER_INCH = 110
SIZE = re.compile(r"([\d,]+) (\w+)")
FEWEST_SIZES = 3
FEW_POINTS = 12  # of a curve: each is marked

Images = dict[str, list[tuple[str, str]]]


def draw(run: Run, folder: Path, only: Sequence[str] | None = None) -> Images:
    """Writes the pictures (those named in `only`); by module, each one's title and file name."""
    images: Images = {}
    for part in run.parts:
        made = [(f"{part.module.rpartition('.')[2]}-bars", f"{part.module}: medians", _bars(part))]
        made += [
            (plot.name, plot.title, plot) for measure in part.measures for plot in (*measure.plots, *_by_size(measure))
        ]
        for name, title, content in made:
            if content and (only is None or name in only):
                picture = _curves(content) if isinstance(content, Plot) else _panels(content)
                picture.savefig(folder / f"{name}.png", dpi=DOTS_PER_INCH, facecolor="white")
                images.setdefault(part.module, []).append((title, f"{name}.png"))
    return images


def _bars(part: Part) -> list[Measure]:
    """Measures that say something beside each other."""
    return [measure for measure in part.measures if len(measure.samples) > 1]


def _by_size(measure: Measure) -> Iterator[Plot]:
    """A curve where the parties are the same thing in several sizes: "10 replicas", "1,000 replicas"."""
    sizes = [found for party in measure.samples if (found := SIZE.fullmatch(party))]
    if FEWEST_SIZES <= len(sizes) == len(measure.samples):
        curve = Curve("median", [int(found[1].replace(",", "")) for found in sizes], _medians(measure))
        yield Plot(f"{measure.key}-sizes", measure.title, sizes[0][2], measure.unit, [curve], x_log=True)


def _medians(measure: Measure) -> list[float]:
    return [measure.median(party) for party in measure.samples]


def colours(labels: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Label -> colour and line style. The first party it names gives the colour; whose second line is dashed."""
    chosen: dict[str, tuple[str, str]] = {}
    used: dict[str, int] = {}
    others = 0
    for label in labels:
        named = NAMED.search(label)
        if named is None:
            colour, others = OTHERS[others % len(OTHERS)], others + 1
        else:
            colour = COLOURS[named[0]]
        chosen[label] = colour, STYLES[used.get(colour, 0) % len(STYLES)]
        used[colour] = used.get(colour, 0) + 1
    return chosen


# --- Bars ------------------------------------------------------------------------------------------------------------


def _panels(measures: Sequence[Measure]) -> Figure:
    heights = [0.9 + 0.3 * len(measure.samples) for measure in measures]
    picture = Figure(figsize=(8, sum(heights)), layout="constrained")
    axes = picture.subplots(len(measures), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, measure in zip(axes, measures, strict=True):
        _panel(axis, measure)
    return picture


def _panel(axis: Axes, measure: Measure) -> None:
    parties = list(measure.samples)
    medians = _medians(measure)
    spreads = [measure.spread(party) for party in parties]
    whiskers = [
        [median - least for median, (least, _) in zip(medians, spreads, strict=True)],
        [most - median for median, (_, most) in zip(medians, spreads, strict=True)],
    ]
    paint = [colour for colour, _ in colours(parties).values()]
    axis.barh(parties, medians, xerr=whiskers, color=paint, height=0.62, error_kw={"ecolor": "#444444", "capsize": 3})
    for index, (median, (_, most)) in enumerate(zip(medians, spreads, strict=True)):
        axis.annotate(figure(median), (most, index), (6, 0), textcoords="offset points", va="center", fontsize=9)
    shown = [bar for bar in measure.bars if bar.beside is None and bar.limit <= FAR_OFF * max(medians)]
    for bar in shown:
        axis.axvline(bar.limit, color=LIMIT, linestyle="--", linewidth=1)
    dashed = "; ".join(dict.fromkeys(bar_text(bar, measure.unit) for bar in shown))
    axis.invert_yaxis()
    axis.margins(x=0.12)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter(PLAIN)
    axis.set_title(measure.title, fontsize=10, loc="left")
    axis.set_xlabel(f"{measure.unit} (dashed: {dashed})" if dashed else measure.unit, fontsize=9)
    _tidy(axis, "x")


# --- Curves ----------------------------------------------------------------------------------------------------------


def _curves(plot: Plot) -> Figure:
    picture = Figure(figsize=(8, 4.5), layout="constrained")
    axis = picture.subplots()
    looks = colours([curve.label for curve in plot.curves])
    for curve in plot.curves:
        colour, style = looks[curve.label]
        marker = "o" if len(curve.x) <= FEW_POINTS else ""
        axis.plot(curve.x, curve.y, label=curve.label, color=colour, linestyle=style, marker=marker, linewidth=1.6)
    for log, scale, ticks in ((plot.x_log, axis.set_xscale, axis.xaxis), (plot.y_log, axis.set_yscale, axis.yaxis)):
        if log:
            scale("log")
            ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ticks.set_minor_formatter(NullFormatter())
            ticks.set_major_formatter(PLAIN)
    if not plot.y_log:
        axis.set_ylim(bottom=0)
    axis.set_xlabel(plot.x_label)
    axis.set_ylabel(plot.y_label)
    axis.set_title(plot.title, fontsize=11, loc="left")
    axis.legend(frameon=False, fontsize=9)
    _tidy(axis, "both")
    return picture


def _tidy(axis: Axes, grid: str) -> None:
    axis.grid(axis=grid, which="major", color=GRID, linewidth=0.8)
    axis.set_axisbelow(True)
    axis.tick_params(labelsize=9)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
