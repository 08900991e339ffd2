"""The status page of a real fe-serve while it scales up: replicas, the decision, its event and the chart as it happens.

Owns: fe, replicas and load for real, one picture of it in build/page. `test_page.py` has what fe is rarely in.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.page.conftest import Open
from tests.support.fe_process import Config, FeProcess, wait_for
from tests.support.load import Load

PICTURE = Path(__file__).resolve().parents[2] / "build" / "page" / "status.png"
LIMIT_MS = 60_000
POINTS = 6  # of the chart, before the picture is taken

# Answers one request at a time, in a twentieth of a second.
SERVE = """
import http.server, sys, time
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        time.sleep(0.05 if self.command == "POST" else 0)
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    do_POST = do_GET
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


def _config() -> Config:
    scale = {
        "type": "target_utilization", "min_instances": 1, "max_instances": 4, "polling_interval": 1,
        "target_utilization_percentage": 70,
    }  # fmt: skip
    part = {
        "name": "main",
        "scale_settings": scale,
        "request_settings": {
            "max_concurrent_requests_per_instance": 1,
            "max_queue_wait_ms": 60_000,
            "request_timeout_ms": 60_000,
        },
        "replicas": {"process": {"command": [sys.executable, "-S", "-c", SERVE, "{port}"], "stop_grace": 5}},
    }
    whole = {"name": "rents", "auth_mode": "none", "routes": [{"path_prefix": "/"}], "deployments": [part]}
    return {"endpoints": [whole], "admin_actions": True}


@pytest.fixture
def fe() -> Iterator[FeProcess]:
    with FeProcess(_config()) as one:
        wait_for(lambda: one.metric("fe_replicas", state="ready") == 1, "its replica is ready", LIMIT_MS / 1000)
        yield one


def test_a_scale_up_as_it_happens(fe: FeProcess, open_page: Open) -> None:
    page = open_page(f"http://127.0.0.1:{fe.admin_port}/", viewport={"width": 1360, "height": 940})
    expect(page.locator("#readiness")).to_have_text("ready")
    ready = page.locator(".replicas-cell [data-slot=ready]")
    expect(ready).to_have_text("1/1")
    with Load(fe.client, 6) as load:
        load.wait_more(5)
        expect(ready).to_have_text("4/4", timeout=LIMIT_MS)
        expect(page.locator(".replica")).to_have_count(4)
        expect(page.locator("#log [data-kind=scale] .change").first).to_contain_text("→ 4")
        reason = page.locator("#log [data-kind=scale] .reason").first.inner_text()
        expect(page.locator(".decision")).to_contain_text(reason)
        expect(page.locator("summary .utilization-cell")).to_contain_text("%")
        _take_picture(page)
    assert load.failures == []
    _drain_and_undrain(page)


def _take_picture(page: Page) -> None:
    line = page.locator("path.line.utilization")
    wait_for(lambda: (line.get_attribute("d") or "").count("L") >= POINTS, "the chart has a line", LIMIT_MS / 1000)
    assert page.locator("path.line.ready").get_attribute("d").count("V") >= POINTS
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=PICTURE)


def _drain_and_undrain(page: Page) -> None:
    """By hand, with fe's own answers."""
    page.locator(".replica").first.click()
    chosen = page.locator(".chosen")
    for verb, shown in (("Drain", "by hand"), ("Undrain", "ready")):
        chosen.get_by_role("button", name=verb, exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()
        expect(page.get_by_role("dialog")).to_be_hidden()
        expect(chosen.locator("[data-slot=state]")).to_contain_text(shown)
        expect(page.locator(f"#log [data-kind={verb.lower()}]", has_text="by hand").first).to_be_visible()
