"""What fe and the simulated replicas say about a run: the admin server's status and metrics, GET /stats.

Owns: asking them, and the difference between two answers. Never: locust's figures (`report.py`). All of it is public:
the admin server shows no secret.
"""

from __future__ import annotations

import json
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

LIMIT: Final = 5.0
COUNTERS: Final = ("requests", "violations")  # of a simulated replica
# Metric -> how a line names it; the label that tells its samples apart, if any, goes before.
SHOWN: Final = {
    "fe_requests_total": "code",
    "fe_own_answers_total": "reason",
    "fe_queued_total": "",
    "fe_retries_total": "",
}
Figures = dict[tuple[str, str, str], float]  # (endpoint/deployment, metric, label) -> count
Replicas = dict[str, tuple[str, dict[str, Any]]]  # address -> endpoint/deployment, and what GET /stats says


class AdminError(Exception):
    """The admin server cannot be asked; the message says why."""


def get_status(admin: str) -> dict[str, Any]:
    """The JSON of /api/status."""
    status: dict[str, Any] = json.loads(_get(f"{admin}/api/status"))
    return status


def get_splits(status: Mapping[str, Any]) -> list[str]:
    """The traffic of each endpoint as --expect-split wants it, where it has several deployments with a share."""
    return [
        f"{endpoint['name']}=" + ",".join(f"{name}:{percent}" for name, percent in endpoint["traffic"].items())
        for endpoint in status["endpoints"]
        if len(endpoint["traffic"] or {}) > 1 and sum(endpoint["traffic"].values())
    ]


def get_figures(admin: str) -> Figures:
    """The counters that SHOWN names."""
    found: Figures = defaultdict(float)
    for family in text_string_to_metric_families(_get(f"{admin}/metrics").decode()):
        for sample in family.samples:
            if sample.name in SHOWN:
                where = f"{sample.labels['endpoint']}/{sample.labels['deployment']}"
                found[where, sample.name, sample.labels.get(SHOWN[sample.name], "")] += sample.value
    return found


def difference(before: Figures, after: Figures) -> Iterator[str]:
    """A line for each deployment that had requests in between."""
    lines: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for (where, metric, label), value in sorted(after.items()):
        if count := int(value - before.get((where, metric, label), 0)):
            lines[where][metric].append(f"{label}: {count}" if label else str(count))
    for where, metrics in lines.items():
        yield f"fe counted {'no deployment' if where == '/' else where}: " + "; ".join(
            f"{metric} {', '.join(counts)}" for metric, counts in metrics.items()
        )


def get_replicas(status: Mapping[str, Any]) -> Replicas:
    """Every replica that is a simulated one. Others are left out."""
    found = {}
    for endpoint in status["endpoints"]:
        for deployment in endpoint["deployments"]:
            for replica in deployment["replicas"]:
                try:
                    stats = json.loads(_get(f"http://{replica['address']}/stats"))
                except (AdminError, ValueError):
                    continue
                if isinstance(stats, dict) and "violations" in stats:
                    found[replica["address"]] = f"{endpoint['name']}/{deployment['name']}", stats
    return found


def since(before: Replicas, after: Replicas) -> Replicas:
    """What each has counted in between; one that has started anew has nothing from before. `peak` has no difference."""
    counted = {}
    for address, (name, stats) in after.items():
        _, earlier = before.get(address, ("", {}))
        if earlier.get("requests", 0) > stats["requests"]:
            earlier = {}
        counted[address] = name, {**stats, **{key: stats[key] - earlier.get(key, 0) for key in COUNTERS}}
    return counted


def replica_lines(replicas: Replicas) -> Iterator[str]:
    """A line for each deployment with what its replicas have counted together."""
    by_name: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for name, stats in replicas.values():
        by_name[name].append(stats)
    for name, all_of in by_name.items():
        total = {key: sum(one[key] for one in all_of) for key in COUNTERS}
        peak, limit = max(one["peak"] for one in all_of), all_of[0]["concurrency"] or "no limit"
        yield (
            f"replicas of {name}: {len(all_of)}, with {total['requests']} requests, violations {total['violations']}; "
            f"since their start at most {peak} at once (limit {limit})"
        )


def violations(replicas: Replicas) -> Iterator[str]:
    """What would break fe's promise."""
    for address, (name, stats) in replicas.items():
        if stats["violations"]:
            yield f"{name} at {address}: {stats['violations']} requests above its {stats['concurrency']}"


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=LIMIT) as answer:  # noqa: S310 - the user's own URL
            body: bytes = answer.read()
            return body
    except (OSError, ValueError) as error:
        raise AdminError(f"{url}: {getattr(error, 'reason', None) or error}") from None
