"""Reports: a run as JSON, Markdown and pictures in a folder, and as text for the terminal.

Read run.py (what a run is), then text.py and plots.py (how it is shown); machine.py says what it was measured on, and
document.py puts a report into docs/benchmarks.md. matplotlib is loaded when pictures are drawn, and not before.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

from bench.report import text
from bench.report.document import SHOWN
from bench.report.run import Part, Run, to_json

__all__ = ["Part", "Run", "prepare_folder", "write_report"]

TITLE = "# Benchmark report\n"
ROOM = 1 << 20  # bytes: about what a report takes
PICTURE = re.compile(r"^!\[.*\]\(([\w-]+\.png)\)$", re.MULTILINE)


def prepare_folder(out: Path) -> None:
    """Makes the folder, and OSError now, not after minutes of measuring, when a report cannot be written there."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=out) as probe:
        probe.write(bytes(ROOM))


def write_report(out: Path, run: Run) -> str:
    """Writes report.json, report.md and pictures into `out`, over those of the last report; says where.

    Of a quick run only the pictures that the document would show: drawing takes seconds too.
    """
    from bench.report.plots import draw

    report = out / "report.md"
    for name in _pictures(report):
        (out / name).unlink(missing_ok=True)
    (out / "report.json").write_text(to_json(run))
    images = draw(run, out, SHOWN if run.settings["quick"] else None)
    report.write_text(f"{TITLE}\n{text.markdown(run, images)}")
    return f"Report: {report} (pictures beside it, every figure in report.json)"


def _pictures(report: Path) -> list[str]:
    """Those that a report shows: other pictures in its folder are somebody else's."""
    if not report.exists():
        return []
    shown = report.read_text()
    return PICTURE.findall(shown) if shown.startswith(TITLE) else []
