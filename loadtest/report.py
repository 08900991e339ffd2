"""What is made of locust's statistics when a run has ended: the share of each deployment, and whether the run was good.

Owns: the reading of the names that `users.py` counts under. Never: locust's own tables and its report. Takes statistics
as locust has them (`entries`: (name, type) to an entry with num_requests and num_failures), imports nothing of it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, Final

from loadtest.load import Load

REQUESTS: Final = ("POST", "503")
SIGMAS: Final = 4.0  # how far a share may be from its percentage: by chance alone one run in 16,000 is farther


def verdict(stats: Any, load: Load) -> list[str]:
    """Why the run was not good; empty when it was."""
    requests = failures = 0
    for _, _, entry in _requests(stats):
        requests += entry.num_requests
        failures += entry.num_failures
    if not requests:
        return ["no request was sent"]
    problems = []
    percent = 100 * failures / requests
    if percent > load.max_failures:
        problems.append(
            f"{failures} of {requests} requests ({percent:.3g} %), where --max-failures is {load.max_failures:g} %"
        )
    for endpoint, expected in load.splits.items():
        problems.extend(_split_problems(endpoint, shares(stats).get(endpoint, Counter()), expected))
    return problems


def shares(stats: Any) -> dict[str, Counter[str]]:
    """Requests by endpoint and deployment, refused ones included; those without the header are not counted."""
    found: dict[str, Counter[str]] = {}
    for name, _, entry in _requests(stats):
        endpoint, _, deployment = name.partition(" ")[0].rpartition("/")
        if deployment != "-":
            found.setdefault(endpoint, Counter())[deployment] += entry.num_requests
    return found


def split_lines(stats: Any, load: Load) -> Iterator[str]:
    """A line for each endpoint that was answered by several deployments, or should be."""
    for endpoint, counts in sorted(shares(stats).items()):
        expected = load.splits.get(endpoint, {})
        if not counts.total() or (len(counts) < 2 and len(expected) < 2):
            continue
        parts = []
        for name in sorted({*counts, *expected}):
            wanted = f" (configured: {expected[name]:g} %)" if name in expected else ""
            parts.append(f"{name} {100 * counts[name] / counts.total():.1f} %{wanted}")
        verified = ": as configured" if expected and not _split_problems(endpoint, counts, expected) else ""
        yield f"split of {endpoint}: {', '.join(parts)} of {counts.total()} requests{verified}"


def _split_problems(endpoint: str, counts: Counter[str], expected: Mapping[str, float]) -> list[str]:
    total, problems = counts.total(), []
    for name in sorted({*counts, *expected}) if total else ():
        part = expected.get(name, 0.0) / 100
        allowed = SIGMAS * math.sqrt(part * (1 - part) / total)
        if abs(counts[name] / total - part) > allowed:
            problems.append(f"{endpoint} sent {100 * counts[name] / total:.1f} % to {name} instead of {100 * part:g} %")
    return problems


def _requests(stats: Any) -> Iterator[tuple[str, str, Any]]:
    for (name, kind), entry in stats.entries.items():
        if kind in REQUESTS:
            yield name, kind, entry
