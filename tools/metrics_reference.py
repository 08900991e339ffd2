"""Writes the table of docs/metrics.md from the collector, so that it cannot differ from what /metrics shows.

Owns: what stands between `<!-- table of metrics -->` and `<!-- end -->`. Never: the prose around it. A test compares.
Use: `make docs` after a change of fe/control/metrics.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from fe._core import Limits, Table
from fe.config.schema import Kubernetes
from fe.control.events import Events
from fe.control.kubernetes.hub import Hub
from fe.control.metrics import ReloadCounts, ScalingState, TableCollector

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "metrics.md"


class Nothing:
    """A control plane that has done nothing yet."""

    def __init__(self, table: Table) -> None:
        self.table, self.reloads, self.events = table, ReloadCounts(), Events()

    def scaling(self) -> dict[str, ScalingState]:
        return {}

    def cluster_metrics(self) -> Any:
        return Hub(Kubernetes(), self).metrics()  # type: ignore[arg-type]


def rows() -> list[list[str]]:
    """Name, type, labels and help of each family, in the order of the page."""
    table = Table.create(Limits(deployments=1, replicas=1, holders=1, slots=16, workers=1, config_bytes=4096))
    table.add_deployment("endpoint/deployment", 1, 1)
    families: list[Any] = list(TableCollector(Nothing(table)).collect())
    suffixes = {"counter": "_total", "info": "_info"}
    return [
        [
            f"`{family.name}{suffixes.get(family.type, '')}`",
            family.type,
            ", ".join(f"`{label}`" for label in family._labelnames),
            family.documentation,
        ]
        for family in families
    ]


def generate(text: str) -> str:
    """The document with a fresh table."""
    header = ["metric", "type", "labels", "meaning"]
    lines = [header, ["---"] * len(header), *rows()]
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    fresh = f"<!-- table of metrics -->\n{table}\n<!-- end -->"
    return re.sub(r"<!-- table of metrics -->\n.*?<!-- end -->", lambda _: fresh, text, flags=re.DOTALL)


if __name__ == "__main__":
    DOCUMENT.write_text(generate(DOCUMENT.read_text()))
