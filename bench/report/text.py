"""A run in words and tables: Markdown for the file and the document, plain columns for the terminal.

Owns: how figures and bars are written. Never: leaves out a bar that was not reached, or a benchmark that failed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from bench.report.machine import BUSY
from bench.report.run import Part, Run
from bench.result import Bar, Measure

COLUMNS = ("measure", "unit", "party", "median", "least to most", "fe / it", "least to most", "bar")
ROUGH = "A quick run: it shows that everything works, its figures are rough."


def busy(load: float) -> str:
    """What a load before the run means."""
    return f"The machine was busy before the run (load average {load:.2f}): other work is in these figures."


def figure(value: float) -> str:
    """Three digits or more, and no more than the figure deserves."""
    size = abs(value)
    if size >= 100 or value == 0:
        return f"{value:,.0f}"
    return f"{value:.3g}" if size < 1 else f"{value:.2f}" if size < 10 else f"{value:.1f}"


def bar_text(bar: Bar, unit: str) -> str:
    """What a bar asks for: "at most 60 us", "at least 0.9 x nginx"."""
    word = "at most" if bar.better == "less" else "at least"
    what = f"{word} {bar.limit:g} {unit if bar.beside is None else f'x {bar.beside}'}".rstrip()
    return f"{what}, each" if bar.of == "most" else what


def bar_figure(bar: Bar, measure: Measure) -> str:
    """What is held against the limit."""
    return _written(bar)(bar.figure(measure))


def bar_span(bar: Bar, measure: Measure) -> str:
    """Among which figures, or ratios, that is."""
    return span(bar.spread(measure), _written(bar))


def _written(bar: Bar) -> Callable[[float], str]:
    """A ratio has its third decimal: bars are set at 1.00."""
    return figure if bar.beside is None else "{:.3f}".format


def span(spread: tuple[float, float], written: Callable[[float], str] = figure) -> str:
    """From the least to the most; one figure where they are the same."""
    least, most = map(written, spread)
    return least if least == most else f"{least} to {most}"


def verdict(bar: Bar, measure: Measure) -> str:
    """ "reached", or by how much not."""
    if bar.reached(measure):
        return "reached"
    gap = abs(bar.figure(measure) - bar.limit)
    if not bar.limit:
        return f"missed by {figure(gap)}"
    percent = 100 * gap / abs(bar.limit)
    return f"missed by {percent:.1f}%" if percent >= 0.1 else f"missed by {percent:.1g}%"


class Row(NamedTuple):
    """A party's figures of a measure; `ratio` is fe's to the party's, round by round."""

    party: str
    median: str
    span: str  # from the least to the most
    ratio: str
    ratio_span: str
    bars: str


def rows(measure: Measure) -> list[Row]:
    """One for each party."""
    made = []
    for party in measure.samples:
        ratio = ratio_span = ""
        if "fe" in measure.samples and party != "fe":
            ratio, ratio_span = figure(measure.ratio("fe", party)), span(measure.ratio_spread("fe", party))
        bars = "; ".join(_judged(bar, measure) for bar in measure.bars if bar.party == party)
        made.append(Row(party, figure(measure.median(party)), span(measure.spread(party)), ratio, ratio_span, bars))
    return made


def _judged(bar: Bar, measure: Measure) -> str:
    mine = "" if bar.beside is None else f"{bar_figure(bar, measure)}, "
    return f"{bar_text(bar, measure.unit)}: {mine}{verdict(bar, measure)}"


# --- For the terminal ------------------------------------------------------------------------------------------------


def printed(run: Run) -> str:
    """All figures in columns, then a line for each bar, then what failed and what took how long."""
    measures = list(run.measures())
    cells = [_cells(row) for measure in measures for row in rows(measure)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines: list[str] = []
    for measure in measures:
        lines.append(f"{measure.title}, {measure.unit}" if measure.unit else measure.title)
        lines += [_aligned(_cells(row), widths) for row in rows(measure)]
    lines += ["", *(_bar_line(measure, bar) for measure in measures for bar in measure.bars)]
    lines += [f"FAILED   {module}: {why}" for module, why in run.failures().items()]
    took = ", ".join(f"{part.module} {part.seconds:.1f}" for part in run.parts)
    return "\n".join([*lines, "", f"Seconds: {took}; {run.ended - run.started:.0f} in all."])


def _cells(row: Row) -> tuple[str, str, str, str]:
    return row.party, row.median, row.span, row.ratio and f"fe / it {_with_span(row.ratio, row.ratio_span)}"


def _with_span(middle: str, its_span: str) -> str:
    return middle if middle == its_span else f"{middle} ({its_span})"


def _aligned(cells: Sequence[str], widths: Sequence[int]) -> str:
    party, median, span, ratio = (cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
    return f"  {party}  {cells[1].rjust(len(median))}  {span}  {ratio}".rstrip()


def _bar_line(measure: Measure, bar: Bar) -> str:
    word = "reached" if bar.reached(measure) else "MISSED"
    held = _with_span(bar_figure(bar, measure), bar_span(bar, measure))
    return f"{word:8} {measure.title}, {bar.party}: {held}, {bar_text(bar, measure.unit)}"


# --- Markdown --------------------------------------------------------------------------------------------------------


def markdown(run: Run, images: Mapping[str, Sequence[tuple[str, str]]], level: int = 1) -> str:
    """The whole report, its headings from `level` on.

    `images` has for each module the pictures to show: title and address.
    """
    warning = [f"**{busy(run.load[0])}**"] if run.load[0] > BUSY else []
    blocks = [_when(run), *warning, _table(("", ""), [*run.machine.items(), *run.versions.items()])]
    if run.settings["quick"]:
        blocks.insert(0, f"**{ROUGH}**")
    if failures := run.failures():
        blocks += [_heading(level + 1, "Failed"), "\n".join(f"- {module}: {why}" for module, why in failures.items())]
    if any(measure.bars for part in run.parts for measure in part.measures):
        blocks += [_heading(level + 1, "Bars"), _bars(run)]
    for part in run.parts:
        blocks += [
            _heading(level + 1, f"{part.module}"),
            *_part(part),
            *(_image(*one) for one in images.get(part.module, ())),
        ]
    return "\n\n".join(blocks) + "\n"


def _heading(level: int, text: str) -> str:
    return f"{'#' * level} {text}"


def _image(title: str, address: str) -> str:
    return f"![{title}]({address})"


def _when(run: Run) -> str:
    date = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(run.started))
    rounds = "1 round" if run.settings["rounds"] == 1 else f"{run.settings['rounds']} rounds"
    settings = f"{rounds}, turns of {run.settings['seconds']:g} s unless a part has its own"
    minutes = (run.ended - run.started) / 60
    return (
        f"{date}, {settings}, {minutes:.1f} minutes in all. Load average of the machine before and after:"
        f" {run.load[0]:.2f}, {run.load[1]:.2f}."
    )


def _bars(run: Run) -> str:
    judged = [
        (
            measure.title, bar.party, bar_text(bar, measure.unit), bar_figure(bar, measure),
            bar_span(bar, measure), verdict(bar, measure),
        )
        for measure in run.measures()
        for bar in measure.bars
    ]  # fmt: skip
    return _table(("measure", "party", "bar", "figure", "least to most", ""), judged)


def _part(part: Part) -> Iterable[str]:
    if part.measures:
        yield _table(COLUMNS, [line for measure in part.measures for line in _lines(measure)])
    notes = [f"- {measure.title}: {measure.note}" for measure in part.measures if measure.note]
    if notes:
        yield "\n".join(notes)
    if part.failure is not None:
        yield f"Failed: {part.failure}"


def _lines(measure: Measure) -> Iterable[tuple[str, ...]]:
    """By COLUMNS; the measure's name only in the first."""
    for index, row in enumerate(rows(measure)):
        yield (measure.title, measure.unit, *row) if index == 0 else ("", "", *row)


def _table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---:" if name in ("median", "figure", "fe / it") else "---" for name in head], *body]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
