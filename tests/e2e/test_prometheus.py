"""What /metrics says is good for Prometheus: its own linter, a real server that scrapes and queries, and a dashboard.

One fe-serve under some load, with a refusal, a replica that cannot be reached and a deployment that scales, so that as
many families as possible have samples.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.control.harness import COMMAND
from tests.e2e.prometheus import MISSING, Prometheus, QueryError
from tests.support import proc
from tests.support.backends import Backend
from tests.support.client import request
from tests.support.fe_process import FeProcess, dead_port, endpoint, wait_for
from tests.support.load import Load

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/fe.json").read_text())
VARIABLES = {"$__rate_interval": "10s", "$__range": "1m", "$__interval": "1s"}
SUFFIXES = ("_bucket", "_count", "_sum")
OWN = {
    "name": "own",
    "auth_mode": "none",
    "deployments": [
        {
            "name": "green",
            "scale_settings": {"min_instances": 1, "max_instances": 2},
            "replicas": {"process": {"command": list(COMMAND)}},
        }
    ],
}

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[FeProcess, int]]:
    """A fe-serve, and how many requests it has answered with 200."""
    with Backend(record=False) as backend:
        away = endpoint([f"127.0.0.1:{dead_port()}"], name="away", prefix="/away")
        config = {"endpoints": [endpoint([backend.address]), away, OWN]}
        with FeProcess(config, workers=2) as fe:
            with Load(fe.client, 4) as load:
                load.wait_more(300)
            assert not load.failures, load.summary()
            with fe.client() as client:
                assert client.exchange(request("/away/x", "POST", b"x")).status == 503
            wait_for(lambda: fe.metric("fe_ejections_total", endpoint="away") == 1, "the dead replica is set aside")
            yield fe, len(load.outcomes)


@pytest.fixture(scope="module")
def prometheus(served) -> Iterator[Prometheus]:
    with Prometheus(served[0].admin_port) as one:
        yield one


def test_promtool_has_nothing_to_say(served):
    """Its linter: help and type for each family, base units, names by the conventions."""
    if shutil.which("promtool") is None:
        pytest.fail(MISSING)
    page = served[0].admin("/metrics")[1]
    checked = subprocess.run(["promtool", "check", "metrics"], input=page, capture_output=True, timeout=120)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_prometheus_counts_the_requests_that_were_made(served, prometheus):
    fe, made = served
    prometheus.wait_value('sum(fe_requests_total{endpoint="model", deployment="blue", code="200"})', made)
    prometheus.wait_value('fe_request_duration_seconds_count{endpoint="model"}', made)
    prometheus.wait_value('fe_request_duration_seconds_bucket{endpoint="model", le="+Inf"}', made)
    with Load(fe.client, 2) as load:
        load.wait_more(100)
    made += len(load.outcomes)
    prometheus.wait_value('sum(fe_requests_total{endpoint="model", code="200"})', made)
    prometheus.wait_value('sum(fe_requests_total{endpoint="away", code="503"})', 1)
    prometheus.wait_value('fe_in_flight{endpoint="model"}', 0)
    prometheus.wait_value('fe_replicas{endpoint="away", state="ready"}', 0)
    quantile = 'histogram_quantile(0.5, fe_request_duration_seconds_bucket{endpoint="model"})'
    median = wait_for(lambda: prometheus.value(quantile), "a median")
    assert 0 < median < 60


# --- the dashboard, and what the documents say -----------------------------------------------------------------------


def panels() -> list[dict[str, Any]]:
    return [*DASHBOARD["panels"], *(inner for panel in DASHBOARD["panels"] for inner in panel.get("panels", []))]


def expressions() -> list[str]:
    return [target["expr"] for panel in panels() for target in panel.get("targets", [])]


def filled_in(expression: str) -> str:
    """As Grafana would send it, with everything chosen."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    return re.sub(r"\$\w+", ".*", expression)


def families(page: str) -> set[str]:
    return set(re.findall(r"^# TYPE (\S+)", page, re.MULTILINE))


def metrics_in(text: str) -> set[str]:
    """Names of families; a histogram's samples stand for it."""
    named = set(re.findall(r"\bfe_[a-z0-9_]+", text))
    return {next((name.removesuffix(end) for end in SUFFIXES if name.endswith(end)), name) for name in named}


def test_every_metric_of_the_dashboard_is_served(served):
    shown = families(served[0].admin("/metrics")[1].decode())
    named = metrics_in(json.dumps(DASHBOARD))
    assert len(named) > 30
    assert named <= shown, named - shown


def test_every_query_of_the_dashboard_can_be_answered(served, prometheus):
    fe, _ = served
    left = expressions()

    def ask() -> bool:
        """Whether each has had an answer: rates need two scrapes under load, and a scrape that is late leaves a gap."""
        left[:] = [expression for expression in left if not prometheus.query(filled_in(expression))]
        return not left

    with Load(fe.client, 2) as load:
        try:
            wait_for(ask, "an answer to each query")
        finally:
            assert left == []
    assert not load.failures


def test_the_dashboard_is_laid_out():
    ids = [panel["id"] for panel in panels()]
    assert len(set(ids)) == len(ids)
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells
    kinds = {variable["name"]: variable["type"] for variable in DASHBOARD["templating"]["list"]}
    assert kinds.pop("datasource") == "datasource"
    for used in (one for panel in panels() for one in [panel, *panel.get("targets", [])] if panel["type"] != "row"):
        assert used["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
    variables = {name for text in expressions() for name in re.findall(r"\$(\w+)", text)}
    assert variables - {name.removeprefix("$") for name in VARIABLES} <= set(kinds)


def test_the_queries_that_the_documents_recommend(served, prometheus):
    text = (ROOT / "docs/metrics.md").read_text()
    recommended = [line.partition("#")[0].strip() for line in re.findall(r"^    (\S.*)$", text, re.MULTILINE)]
    queries = [line for line in recommended if "fe_" in line]
    assert len(queries) >= 6
    shown = families(served[0].admin("/metrics")[1].decode())
    for query in queries:
        assert metrics_in(query) <= shown, query
        prometheus.query(query)


def test_a_query_that_is_none_is_noticed(prometheus):
    """Else the tests above would prove nothing."""
    with pytest.raises(QueryError):
        prometheus.query("sum(fe_requests_total")
    assert not metrics_in("rate(fe_request_duration_seconds_bucket[1m])") - {"fe_request_duration_seconds"}
    assert proc.name(prometheus.process.pid) == "prometheus"
