"""What the status page shows of Kubernetes: who scales, the front-ends, how well the cluster is seen, what is wrong.

Owns: every state of the strip, against a server that shows it whatever a test wants, and a real fe-serve beside an
emulated cluster whose API server goes away and comes back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.kubernetes.harness import pod
from tests.kubernetes.scene import QUICK, online_deployment, online_endpoint, workload
from tests.kubernetes.test_scale import HPA
from tests.kubernetes.town import Town
from tests.page import looks, scenes
from tests.page.conftest import Open
from tests.page.fixture import Fixture
from tests.support.fe_process import FeProcess

PICTURE = Path(__file__).resolve().parents[2] / "build" / "page" / "cluster.png"
PROBLEM = "OnlineDeployment models/canary: spec.endpoint_name: there is no endpoint two"


def level(page: Page, slot: str) -> str | None:
    return page.locator(f"#cluster [data-slot={slot}]").get_attribute("data-level")


def troubles(page: Page) -> list[str]:
    return page.locator("#troubles li").all_inner_texts()


def test_nothing_without_a_cluster(fixture: Fixture, open_page: Open) -> None:
    for kubernetes in ({}, {"kubernetes": None}):
        fixture.status = {**scenes.quiet(), **kubernetes}
        page = open_page(fixture.url)
        expect(page.locator("#cluster")).to_be_hidden()
        assert "Kubernetes" not in page.locator("main").inner_text()


def test_all_is_well(fixture: Fixture, open_page: Open) -> None:
    fixture.status["kubernetes"] = scenes.cluster()
    page = open_page(fixture.url)
    strip = page.locator("#cluster")
    expect(strip.locator("[data-slot=lead]")).to_have_text("this front-end scales")
    expect(strip.locator("[data-slot=sight]")).to_have_text("seen as it is")
    assert [level(page, slot) for slot in ("lead", "sight")] == ["good", "good"]
    members = [" ".join(one.split()) for one in strip.locator(".members li").all_inner_texts()]
    assert members == [
        "fe-0 scales this one · 10.0.0.0 · for 2 h", "fe-1 10.0.0.1 · for 2 h", "fe-2 10.0.0.2 · for 2 h",
    ]  # fmt: skip
    expect(strip.locator("[data-slot=seen]")).to_have_text("models: 1,200 pods, 2 deployments")
    expect(strip.locator(".problems")).to_be_hidden()
    expect(page.locator("#troubles")).to_have_text("Nothing needs attention.", use_inner_text=True)
    fixture.status["kubernetes"] |= {"leading": False, "leader": "fe-1"}
    expect(strip.locator("[data-slot=lead]")).to_have_text("fe-1 scales")
    expect(strip.locator(".members li").nth(1)).to_contain_text("scales")
    expect(page.locator("#troubles .calm")).to_be_visible()


@pytest.mark.parametrize(("seconds", "words", "grave"), [(40.2, "40 s", "warning"), (601, "10 min", "critical")])
def test_an_api_server_that_is_away(fixture: Fixture, open_page: Open, seconds: float, words: str, grave: str) -> None:
    fixture.status["kubernetes"] = scenes.away(seconds)
    page = open_page(fixture.url)
    what = f"API server away for {words}, serving the last known state"
    expect(page.locator("#cluster [data-slot=sight]")).to_have_text(what)
    expect(page.locator("#cluster [data-slot=why]")).to_have_text("connection refused")
    assert level(page, "sight") == grave
    assert any(f"{grave} Kubernetes {what} (connection refused)" in one for one in troubles(page))
    assert any("no front-end scales: connection refused" in one for one in troubles(page))


def test_what_else_cannot_be_seen(fixture: Fixture, open_page: Open) -> None:
    views = [scenes.view("pods", 0, seconds_since_sync=None, trouble="403 Forbidden: no", refused=True)]
    fixture.status["kubernetes"] = scenes.cluster(views=views)
    page = open_page(fixture.url)
    sight = page.locator("#cluster [data-slot=sight]")
    expect(sight).to_have_text("fe may not see pods of models")
    assert level(page, "sight") == "critical"
    part = scenes.view("onlinedeployments", 3, seconds_since_sync=7.0, trouble="500 InternalError: x")
    never = scenes.view("scaledobjects", 0, seconds_since_sync=None, trouble="500 InternalError: x")
    fixture.status["kubernetes"] = scenes.cluster(views=[scenes.view("pods", 3), never])
    expect(sight).to_have_text("scaledobjects not reached yet")
    fixture.status["kubernetes"] = scenes.cluster(views=[scenes.view("pods", 3), part])
    expect(sight).to_have_text("onlinedeployments away for 7 s, serving the last known state")
    for views in ([], [scenes.view("pods", 0, seconds_since_sync=None)]):
        fixture.status["kubernetes"] = scenes.cluster(views=views)
        expect(sight).to_have_text("being looked at for the first time")


def test_objects_and_deployments_with_something_wrong(fixture: Fixture, open_page: Open) -> None:
    fixture.status["kubernetes"] = scenes.cluster(
        problems=[PROBLEM], conflicts={"rents/main": ["HorizontalPodAutoscaler hpa"]}, waiting={"rents": ["main"]}
    )
    page = open_page(fixture.url)
    expect(page.locator("#cluster .problems li")).to_have_text([PROBLEM])
    marks = page.locator("[id='deployment:rents/main'] .marks .badge")
    expect(marks).to_have_text(["conflict", "traffic waits"])
    shown = [" ".join(one.split()) for one in troubles(page)]
    assert shown[0] == f"warning Kubernetes {PROBLEM}"
    assert shown[1].startswith("warning rents/main HorizontalPodAutoscaler hpa scales the same pods: fe leaves")
    page.get_by_role("link", name="Kubernetes", exact=True).click()
    expect(page.locator("#cluster")).to_be_in_viewport()
    fixture.status["kubernetes"]["problems"] = [PROBLEM, f"{PROBLEM} 2"]
    expect(page.locator("#cluster .problems li")).to_have_count(2)
    expect(page.locator("#troubles li").first).to_contain_text("2 object problems, see below")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_can_be_read_on_a_phone_and_in_the_dark(fixture: Fixture, open_page: Open, scheme: str) -> None:
    fixture.status["kubernetes"] = {**scenes.away(90, "x" * 200), "problems": [PROBLEM + "y" * 200]}
    page = open_page(fixture.url, color_scheme=scheme, viewport={"width": 320, "height": 640})
    expect(page.locator("#cluster .problems")).to_be_visible()
    assert looks.width_of(page) == 320
    assert [pair for pair in looks.texts(page) if looks.contrast(pair[0], pair[1]) < 4.5] == []


# --- for real ---


@pytest.fixture
def town() -> Iterator[Town]:
    with Town() as made:
        yield made


def test_a_cluster_as_it_is_and_as_it_goes(town: Town, open_page: Open, tmp_path: Path) -> None:
    for name in ("fe-0", "fe-1"):
        town.create(pod(name, labels={"app.kubernetes.io/name": "fe"}))
    served = online_deployment(target={"port": town.port}, scale_settings={"max_instances": 3})
    town.create(workload(), online_endpoint(), served, HPA)
    town.create(online_deployment("canary", "two"))
    block = {"kubeconfig": town.kubeconfig(tmp_path), "identity": "fe-0", "election": QUICK}
    with FeProcess({"kubernetes": block, "endpoints": []}) as process:
        page = open_page(f"http://127.0.0.1:{process.admin_port}/", viewport={"width": 1360, "height": 940})
        lead, sight = (page.locator(f"#cluster [data-slot={slot}]") for slot in ("lead", "sight"))
        expect(lead).to_have_text("this front-end scales")
        expect(sight).to_have_text("seen as it is")
        expect(page.locator("#cluster .members .name")).to_have_text(["fe-0", "fe-1"])
        expect(page.locator("#cluster .problems li")).to_contain_text("OnlineDeployment models/canary")
        expect(page.locator("[id='deployment:one/m'] .marks")).to_contain_text("conflict")
        expect(page.locator("[id='deployment:one/m'] .replicas-cell")).to_contain_text("1/1")
        town.now(lambda: (town.emulator.faults.reset(), town.emulator.end_watches()))
        expect(sight).to_contain_text("API server away for")
        expect(lead).to_contain_text("no front-end scales")
        expect(page.locator("#cluster .members .badge:visible")).to_have_count(0)
        expect(page.locator("[id='deployment:one/m'] .replicas-cell")).to_contain_text("1/1")
        PICTURE.parent.mkdir(parents=True, exist_ok=True)
        page.screenshot(path=PICTURE)
        town.now(town.emulator.faults.clear)
        expect(sight).to_have_text("seen as it is")
        expect(lead).to_have_text("this front-end scales")
