"""Reports: a run as JSON, Markdown and pictures in a folder, and as text for the terminal.

Read run.py (what a run is), then text.py and plots.py (how it is shown); machine.py says what it was measured on, and
document.py puts a report into docs/benchmarks.md. matplotlib is loaded when pictures are drawn, and not before.
"""

from __future__ import annotations

from pathlib import Path

from bench.report import text
from bench.report.run import Part, Run, to_json

__all__ = ["Part", "Run", "write_report"]


def write_report(out: Path, run: Run) -> str:
    """Writes report.json, report.md and pictures into `out`, over older ones; what to print."""
    from bench.report.plots import draw

    out.mkdir(parents=True, exist_ok=True)
    for old in out.glob("*.png"):
        old.unlink()
    (out / "report.json").write_text(to_json(run))
    (out / "report.md").write_text("# Benchmark report\n\n" + text.markdown(run, draw(run, out)))
    return f"{text.printed(run)}\nReport: {out / 'report.md'} (pictures beside it, every figure in report.json)"
