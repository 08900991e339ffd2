"""The last full report in docs/benchmarks.md: what stands there between two marks is written from report.json.

Owns: that section, the one about more workers, which may come from a machine with more cores, and the few pictures they
show, in docs/images/benchmarks/. Never: measures.
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
SCALING = ["macro.scaling"]  # a run of this alone has a section of its own


def document(out: Path) -> str:
    """Writes the section and the pictures; says so. ValueError for a run that is none to be shown."""
    run = runs.from_json((out / "report.json").read_text())
    scaling = run.settings["only"] == SCALING
    if run.settings["quick"] or (run.settings["only"] and not scaling):
        raise ValueError(f"only a full run goes into the document, or one of {SCALING[0]} alone: make bench")
    from bench.report.plots import draw

    mark = "scaling" if scaling else "report"
    folder = IMAGES / mark
    folder.mkdir(parents=True, exist_ok=True)
    for old in folder.glob("*.png"):
        old.unlink()
    images = {
        module: [(title, f"images/benchmarks/{mark}/{name}") for title, name in made]
        for module, made in draw(run, folder, SHOWN).items()
    }
    DOCUMENT.write_text(replace(DOCUMENT.read_text(), markdown(run, images, level=2), mark))
    return f"{DOCUMENT.relative_to(ROOT)} and {folder.relative_to(ROOT)}/ are from {out / 'report.json'}"


def replace(text: str, report: str, mark: str = "report") -> str:
    """The document with this report in the section of this mark. ValueError when it has none."""
    section = re.compile(rf"(?<=<!-- {mark} -->\n).*?(?=<!-- end of {mark} -->)", re.DOTALL)
    if len(section.findall(text)) != 1:
        raise ValueError(f"the document has no section between <!-- {mark} --> and <!-- end of {mark} -->")
    return section.sub(lambda _: f"\n{report}\n", text)
