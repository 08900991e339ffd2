"""The last full report in docs/benchmarks.md: what stands there between two marks is written from report.json.

Owns: that section and the few pictures it shows, in docs/images/benchmarks/. Never: measures.
"""

from __future__ import annotations

import re
from pathlib import Path

from bench.report import run as runs
from bench.report.text import markdown

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs/benchmarks.md"
IMAGES = ROOT / "docs/images/benchmarks"
SHOWN = ("cpu-bars", "latency_1000", "queue", "scaling", "lease-sizes", "lease_table-bars")
SECTION = re.compile(r"(?<=<!-- report -->\n).*?(?=<!-- end -->)", re.DOTALL)


def document(out: Path) -> str:
    """Writes the section and the pictures; says so. ValueError for a run that is none to be shown."""
    run = runs.from_json((out / "report.json").read_text())
    if run.settings["quick"] or run.settings["only"]:
        raise ValueError("only a full run goes into the document: make bench")
    from bench.report.plots import draw

    IMAGES.mkdir(parents=True, exist_ok=True)
    for old in IMAGES.glob("*.png"):
        old.unlink()
    images = {
        module: [(title, f"images/benchmarks/{name}") for title, name in made]
        for module, made in draw(run, IMAGES, SHOWN).items()
    }
    DOCUMENT.write_text(replace(DOCUMENT.read_text(), markdown(run, images, level=2)))
    return f"{DOCUMENT.relative_to(ROOT)} and {IMAGES.relative_to(ROOT)}/ are from {out / 'report.json'}"


def replace(text: str, report: str) -> str:
    """The document with this report in its section. ValueError when it has none."""
    if len(SECTION.findall(text)) != 1:
        raise ValueError("the document has no section between <!-- report --> and <!-- end -->")
    return SECTION.sub(lambda _: f"\n{report}\n", text)
