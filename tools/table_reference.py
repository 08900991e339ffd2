"""Writes the tables of docs/shared-memory.md from the code, so that they cannot differ from it.

Owns: what stands between `<!-- table of X -->` and `<!-- end -->`: records with the offsets a compiler gives them,
sizes, states, result codes, invariants. Never: the prose around it. A test runs it and compares.
Use: `python tools/table_reference.py` after a change of fe/_layout.h, fe/_check.h or fe/_core.pxd.
"""

from __future__ import annotations

import re
import subprocess
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from typing import NamedTuple

from fe import _core

ROOT = Path(__file__).resolve().parent.parent
DOCUMENT = ROOT / "docs" / "shared-memory.md"
RECORDS = ("fe_header", "fe_deployment", "fe_totals", "fe_replica", "fe_address", "fe_holder", "fe_slot")
# Which limit multiplies a record.
COUNTS = {
    "fe_deployment": "deployments",
    "fe_replica": "replicas",
    "fe_address": "replicas",
    "fe_holder": "holders",
    "fe_slot": "holders x slots",
}


class Field(NamedTuple):
    """One field of a record."""

    name: str
    meaning: str
    offset: int
    size: int


def _declared(record: str) -> list[tuple[str, str]]:
    """Names and comments of a record's fields, as _layout.h has them."""
    header = (ROOT / "fe/_layout.h").read_text()
    body = re.search(r"typedef struct \{((?:(?!typedef).)*?)\}[^;{}]*\b" + record + ";", header, re.DOTALL)
    if body is None:
        raise KeyError(record)
    found = []
    for declaration, comment in re.findall(r"^\s+([^/;]+);(?:\s*/\*(.*?)\*/)?", body[1], re.MULTILINE):
        names = re.sub(r"FE_CONTENDED|\[\w+\]", "", declaration).replace("*", " ").split(None, 1)[1]
        found += [(name.strip(), comment.strip()) for name in names.split(",")]
    return found


@cache
def layout() -> dict[str, tuple[list[Field], int]]:
    """Fields and size of each record, measured by the compiler that builds the extension."""
    declared = {record: _declared(record) for record in RECORDS}
    lines = [
        f'printf("%zu %zu\\n", offsetof({record}, {name}), sizeof((({record} *)0)->{name}));'
        for record, fields in declared.items()
        for name, _ in fields
    ]
    lines += [f'printf("%zu 0\\n", sizeof({record}));' for record in RECORDS]
    source = '#include <stdio.h>\n#include "_layout.h"\nint main(void) {\n' + "\n".join(lines) + "\nreturn 0; }\n"
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder) / "layout"
        compiler = (sysconfig.get_config_var("CC") or "cc").split()
        command = [*compiler, "-w", "-I", str(ROOT / "fe"), "-x", "c", "-", "-o", str(program), "-lpthread"]
        subprocess.run(command, input=source, text=True, check=True, timeout=60)
        output = subprocess.run([str(program)], capture_output=True, text=True, check=True, timeout=60).stdout
    numbers = iter(tuple(map(int, line.split())) for line in output.splitlines())
    fields = {record: [Field(*field, *next(numbers)) for field in declared[record]] for record in RECORDS}
    return {record: (fields[record], next(numbers)[0]) for record in RECORDS}


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _record(record: str) -> str:
    fields, size = layout()[record]
    rows = []
    for field in fields:
        kind, _, meaning = field.meaning.partition(":")
        if kind not in ("truth", "cache"):
            kind, meaning = "", field.meaning
        rows.append([str(field.offset), str(field.size), f"`{field.name}`", kind, meaning.strip()])
    return _table(["offset", "bytes", f"`{record}`, {size} bytes", "", ""], rows)


def _memory() -> str:
    """What the default limits cost."""
    limits = _core.Limits()
    count = {**limits._asdict(), "holders x slots": limits.holders * limits.slots}
    rows = [
        [f"`{record}`", str(layout()[record][1]), which, f"{layout()[record][1] * count[which] / 2**20:.2f}"]
        for record, which in COUNTS.items()
    ]
    record = (_core.COUNTERS + _core.HISTOGRAMS * (len(_core.HISTOGRAM_BOUNDS_NS) + 1)) * 8
    statistics = record * (limits.deployments + 1) * limits.workers
    rows += [
        ["mailboxes", "1/8", "holders x slots", f"{limits.holders * limits.slots / 8 / 2**20:.2f}"],
        ["statistics", str(record), "workers x (deployments + 1)", f"{statistics / 2**20:.2f}"],
        ["snapshots", "2", "config_bytes", f"{2 * limits.config_bytes / 2**20:.2f}"],
        ["**together**", "", "", f"**{_core.Table.size_of(limits) / 2**20:.2f}**"],
    ]
    return _table(["record", "bytes each", "times", "MB by default (one worker)"], rows)


def _results() -> str:
    text = (ROOT / "fe/_core.pxd").read_text()
    found = re.findall(r"^    (FE_(\w+)) = (\d+) +# (.*)$", text, re.MULTILINE)
    return _table(["C", "Python", "", "meaning"], [[f"`{c}`", f"`{p}`", n, meaning] for c, p, n, meaning in found])


def _states() -> str:
    text = (ROOT / "fe/_core.pyi").read_text()
    found = re.findall(r"^((?:REPLICA|HOLDER)_\w+): Final = (\d+)(?:  # (.*))?$", text, re.MULTILINE)
    return _table(["state", "", "meaning"], [[f"`{name}`", number, meaning] for name, number, meaning in found])


def _invariants() -> str:
    return _table(["", "invariant"], [[str(i + 1), text] for i, text in enumerate(_core.INVARIANTS)])


TABLES = {"memory": _memory, "results": _results, "states": _states, "invariants": _invariants}


def generate(text: str) -> str:
    """The document with fresh tables. Raises KeyError for a table of something that does not exist."""

    def replace(match: re.Match[str]) -> str:
        name = match[1]
        made = _record(name) if name.startswith("fe_") else TABLES[name]()
        return f"<!-- table of {name} -->\n{made}\n<!-- end -->"

    return re.sub(r"<!-- table of (\w+) -->\n.*?<!-- end -->", replace, text, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(generate(DOCUMENT.read_text()))
