"""The status page in a real browser, against a server that shows it whatever a test wants.

Owns: what is shown and in which order, that nothing becomes markup, that updates keep the elements, looks in light,
dark and on a phone, losing and finding fe again, changes by hand. `test_live.py` looks at a real fe-serve.
"""

from __future__ import annotations

from itertools import pairwise

import pytest
from playwright.sync_api import Locator, Page, Request, expect

from tests.page import looks, scenes
from tests.page.conftest import Open
from tests.page.fixture import Fixture
from tests.support.fe_process import wait_for

UNKNOWN = "\N{EN DASH}"
PHONE = {"viewport": {"width": 320, "height": 640}}


def row(page: Page, name: str) -> Locator:
    return page.locator(f"[id='deployment:{name}']")


def cells(page: Page, name: str) -> Locator:
    return row(page, name).locator(".replica")


# --- What is shown ---


def test_what_is_wrong_comes_first(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.busy()
    page = open_page(fixture.url)
    shown = page.locator("#troubles li").all_inner_texts()
    assert [line.split()[0] for line in shown] == ["critical"] * 3 + ["warning"] * 4 + ["note"]
    assert shown[0].endswith("not ready: worker 1 is starting")
    for part in (
        "rents/canary no ready replica of 2 wanted, 1 starting",
        "rents/canary 1 replica failing",
        "the last reload was refused",
        "rents/main 1 replica ejected, last probe of 127.0.0.1:9007: connection refused",
        "rents/main queue growing: 0 to 412 within a minute",
        "rents/main 1 replica drained by hand",
    ):
        assert any(part in line for line in shown), part
    assert page.title() == "(7) fe"
    expect(page.locator("#readiness")).to_have_text("not ready")
    expect(row(page, "rents/canary").locator(".marks .badge").first).to_have_text("no ready replica")
    assert page.locator("#troubles").bounding_box()["y"] < page.locator("#deployments").bounding_box()["y"]


def test_figures_of_a_deployment(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.busy()
    page = open_page(fixture.url)
    main = row(page, "rents/main")
    figures = [one.split("\n")[-1] for one in main.locator("summary .cell").all_inner_texts()]
    assert figures == ["5/8", "128 %", "21", "412", "41.5", "12 ms", "30 ms", "80 ms"]
    expect(main.locator(".decision")).to_contain_text("utilization 0.92 is above its target 0.70, so 8 replicas")
    expect(main.locator(".decision")).to_contain_text("Last decision 12 s ago")
    expect(main.locator(".scaling")).to_contain_text("1 to 10 replicas, target 70 %, looked at every 1 s.")
    expect(page.locator(".endpoint-head").first).to_contain_text("traffic main 90 %, canary 10 % · mirrored canary 5 %")
    expect(page.locator(".endpoint-head").last).to_contain_text("auth: key · routes ml.example/v1")
    totals = page.locator("#totals dd").all_inner_texts()
    assert totals == ["1,882", "621", "412", "305/310", "1/2"]
    expect(page.locator("#workers tr").last).to_contain_text("starting")
    expect(page.locator("#router")).to_contain_text("3 applied, 1 refused, the last one refused")


def test_replicas(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.busy()
    page = open_page(fixture.url)
    labels = [one.get_attribute("aria-label") for one in cells(page, "rents/main").all()]
    assert labels[0] == "127.0.0.1:9001: ready, 4/4 in flight"
    assert labels[5:] == [
        "127.0.0.1:9006: starting, 0/4 in flight",
        "127.0.0.1:9007: ejected, 0/4 in flight",
        "127.0.0.1:9008: draining by hand, 1/4 in flight",
    ]
    legend = row(page, "rents/main").locator(".fleet .legend li").all_inner_texts()
    assert legend == ["5 ready", "1 starting", "1 ejected", "1 draining"]
    cells(page, "rents/main").nth(6).click()
    expect(row(page, "rents/main").locator(".chosen")).to_contain_text("connection refused")
    expect(cells(page, "sentiment/large")).to_have_count(300)
    heights = {round(one.bounding_box()["height"]) for one in cells(page, "sentiment/large").all()[::60]}
    assert max(heights) <= 26, "hundreds of them are small"


def test_the_chart(fixture: Fixture, open_page: Open) -> None:
    page = open_page(fixture.url)
    panes = row(page, "rents/main").locator("svg.pane")
    expect(panes).to_have_count(3)
    assert panes.first.locator("path.line.utilization").get_attribute("d").count("L") == scenes.POINTS - 1
    assert panes.nth(1).locator("path.line.ready").get_attribute("d").count("H") == scenes.POINTS
    assert panes.first.locator("path.line.target").get_attribute("d")
    assert panes.first.get_attribute("aria-label").startswith("The last minutes: utilization 58 %, highest 81 %")
    legend = row(page, "rents/main").locator(".past .legend").first
    expect(legend).to_contain_text("utilization 58 %")
    panes.first.hover(position={"x": 200, "y": 40})
    expect(legend).not_to_contain_text("utilization 58 %")


def test_gaps_and_unknown_figures(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.unknown()
    page = open_page(fixture.url)
    figures = [one.split("\n")[-1] for one in row(page, "rents/main").locator("summary .cell").all_inner_texts()]
    assert figures == ["1/1", UNKNOWN, "7", "0", *[UNKNOWN] * 4]
    assert cells(page, "rents/main").first.get_attribute("aria-label").endswith("7/∞ in flight")
    assert row(page, "rents/main").locator("path.line.utilization").get_attribute("d") == ""
    expect(page.locator("#troubles")).to_have_text("Nothing needs attention.", use_inner_text=True)


def test_nothing_configured(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.status([])
    page = open_page(fixture.url)
    expect(page.locator("#no-deployments")).to_have_text("No deployment is configured.")
    expect(page.locator("#no-events")).to_be_visible()


# --- Updates ---


def test_updates_keep_what_is_there(fixture: Fixture, open_page: Open) -> None:
    page = open_page(fixture.url)
    cells(page, "rents/main").first.evaluate("(one) => { one.kept = true; one.focus(); }")
    part = fixture.status["endpoints"][0]["deployments"][0]
    grown = [scenes.replica(9003, "starting"), scenes.replica(9001, in_flight=4), scenes.replica(9004, "ejected")]
    part |= {"replicas": grown, "wanted": 4, "ready": 1, "starting": 1}
    expect(row(page, "rents/main").locator(".replicas-cell")).to_contain_text("1/4")
    labels = [one.get_attribute("aria-label").split(",")[0] for one in cells(page, "rents/main").all()]
    assert labels == ["127.0.0.1:9003: starting", "127.0.0.1:9001: ready", "127.0.0.1:9004: ejected"]
    assert cells(page, "rents/main").nth(1).evaluate("(one) => one.kept && one === document.activeElement")
    fixture.status = scenes.status([scenes.endpoint("other", [])])
    expect(page.locator("h3")).to_have_text(["other"])


def test_events_are_live_and_newest_first(fixture: Fixture, open_page: Open) -> None:
    fixture.events = [scenes.scale_event(1, 1, 3), scenes.event(2, "crash", replica="127.0.0.1:9001")]
    page = open_page(fixture.url)
    log = page.locator("#log li")
    expect(log).to_have_count(2)
    expect(log.first.locator(".event-head")).to_contain_text("crash")
    expect(log.first.locator(".of")).to_have_text("rents/main · 127.0.0.1:9001")
    expect(log.last).to_contain_text("1 → 3")
    expect(log.last).to_contain_text("in_flight 4  queued 6.25  utilization 1.28")
    fixture.events.append(scenes.event(3, "reload", deployment=None, reason="configuration reloaded"))
    expect(log.first).to_contain_text("configuration reloaded")
    expect(log).to_have_count(3)


def test_events_of_one_deployment(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.busy()
    fixture.events = [scenes.event(1), scenes.event(2, deployment="rents/canary"), scenes.event(3)]
    page = open_page(fixture.url)
    page.select_option("#events-of", "rents/canary")
    expect(page.locator("#log li .reason")).to_have_text(["reason 2"])
    page.select_option("#events-of", "")
    expect(page.locator("#log li .reason")).to_have_text(["reason 3", "reason 2", "reason 1"])


def test_another_controller_counts_events_anew(fixture: Fixture, open_page: Open) -> None:
    fixture.events = [scenes.event(number) for number in range(1, 6)]
    page = open_page(fixture.url)
    expect(page.locator("#log li")).to_have_count(5)
    fixture.events = [scenes.event(number, "takeover", reason=f"anew {number}") for number in range(1, 7)]
    fixture.status["controller_pid"] = 8
    expect(page.locator("#log li")).to_have_count(6)
    expect(page.locator("#log li .reason").last).to_have_text("anew 1")


# --- Safety ---


def test_hostile_texts_stay_texts(fixture: Fixture, open_page: Open) -> None:
    fixture.status, fixture.events = scenes.hostile(), [scenes.hostile_event()]
    page = open_page(fixture.url)
    page.locator("#open-all").click()
    page.locator(".replica").first.click()
    expect(page.locator("#log li")).to_have_count(1)
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 1
    assert page.evaluate("window.broken") is None
    for place in (
        "#version",
        "#troubles li",
        "#cluster",
        "#cluster .members",
        "#cluster .problems",
        "h3",
        "h4",
        ".decision",
        ".chosen",
        "#workers",
        "#log",
    ):
        assert scenes.HOSTILE in page.locator(place).first.text_content(), place
    assert looks.width_of(page) == 1440


# --- Looks ---


@pytest.mark.parametrize("scene", ["busy", "hostile", "unknown", "many"])
def test_a_phone_never_scrolls_sideways(fixture: Fixture, open_page: Open, scene: str) -> None:
    fixture.status, fixture.events = getattr(scenes, scene)(), [scenes.scale_event(1, 1, 3), scenes.hostile_event()]
    fixture.status["actions"] = True
    page = open_page(fixture.url, **PHONE)
    page.locator("#open-all").click()
    page.locator(".replica").first.click()
    expect(page.locator(".chosen").first).to_be_visible()
    assert looks.width_of(page) == 320


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read(fixture: Fixture, open_page: Open, scheme: str) -> None:
    fixture.status = {**scenes.busy(), "actions": True}
    fixture.events = [scenes.event(at, kind) for at, kind in enumerate(("scale", "eject", "return", "reload"), 1)]
    page = open_page(fixture.url, color_scheme=scheme)
    cells(page, "rents/main").nth(6).click()
    expect(page.locator("#log li")).to_have_count(4)
    pairs = looks.texts(page)
    assert len(pairs) > 15
    assert [pair for pair in pairs if looks.contrast(pair[0], pair[1]) < 4.5] == []
    fixture.stop()
    expect(page.locator("#banner")).to_be_visible()
    assert [pair for pair in looks.texts(page) if looks.contrast(pair[0], pair[1]) < 4.5] == []
    fixture.start()


def test_dark_is_dark(fixture: Fixture, open_page: Open) -> None:
    script = "getComputedStyle(document.body).backgroundColor"
    light = open_page(fixture.url, color_scheme="light").evaluate(script)
    dark = open_page(fixture.url, color_scheme="dark").evaluate(script)
    assert looks.contrast(light, "rgb(255,255,255)") < 1.2
    assert looks.contrast(dark, "rgb(0,0,0)") < 1.3


def test_for_those_who_do_not_see_it(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.busy()
    page = open_page(fixture.url, reduced_motion="reduce")
    levels = looks.levels_of_headings(page)
    assert levels[0] == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels)), levels
    for control in page.locator("input:visible, select:visible").all():
        assert control.evaluate("(one) => one.labels.length") == 1
    assert page.locator("#banner").get_attribute("aria-live") == "assertive"
    script = "(one) => getComputedStyle(one, '::before').transitionDuration"
    assert page.locator("summary").first.evaluate(script) == "0s"
    page.locator("summary").first.press("Enter")
    expect(cells(page, "rents/main").first).to_be_hidden()


# --- The connection ---


def test_a_lost_connection_is_said_and_found_again(fixture: Fixture, open_page: Open) -> None:
    page = open_page(fixture.url)
    banner = page.locator("#banner")
    expect(banner).to_be_hidden()
    fixture.stop()
    expect(banner).to_contain_text("No connection to fe since ")
    expect(row(page, "rents/main")).to_be_visible()
    fixture.status["endpoints"][0]["deployments"][0]["queue_depth"] = 77
    fixture.start()
    expect(banner).to_be_hidden()
    expect(row(page, "rents/main").locator("summary")).to_contain_text("77")
    assert fixture.most_together == 1


def test_nobody_looks_nothing_is_asked(fixture: Fixture, open_page: Open) -> None:
    page = open_page(fixture.url)
    set_hidden = """(hidden) => {
      Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
      document.dispatchEvent(new Event("visibilitychange"));
    }"""
    under_way: set[Request] = set()
    page.on("request", lambda one: under_way.add(one))
    for ended in ("requestfinished", "requestfailed"):
        page.on(ended, lambda one: under_way.discard(one))
    page.reload()
    page.wait_for_selector("main:not([hidden])")
    page.clock.install()
    page.evaluate(set_hidden, True)
    page.clock.run_for(2000)  # what was under way ends
    while under_way:
        page.wait_for_timeout(20)
    asked = fixture.asked
    page.clock.run_for(60_000)
    assert fixture.asked == asked
    page.evaluate(set_hidden, False)
    wait_for(lambda: fixture.asked > asked, "it asks again")


# --- Many ---


def test_many_deployments(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.many()
    page = open_page(fixture.url)
    rows = page.locator(".deployment")
    expect(rows).to_have_count(100)
    expect(page.locator(".deployment[open]")).to_have_count(0)
    expect(page.locator(".replica")).to_have_count(0)
    page.fill("#search", "endpoint-07/")
    expect(page.locator(".deployment:visible")).to_have_count(4)
    page.fill("#search", "")
    page.check("#only-troubled")
    expect(page.locator(".deployment:visible h4 .name")).to_have_text(["model-1"])
    page.uncheck("#only-troubled")
    page.locator("#open-all").click()
    expect(page.locator(".replica")).to_have_count(1000)
    page.locator("#close-all").click()
    expect(page.locator(".deployment[open]")).to_have_count(0)


def test_a_problem_leads_to_its_deployment(fixture: Fixture, open_page: Open) -> None:
    fixture.status = scenes.many()
    page = open_page(fixture.url)
    page.fill("#search", "endpoint-20")
    page.locator("#troubles a").click()
    expect(row(page, "endpoint-03/model-1")).to_be_in_viewport()
    expect(cells(page, "endpoint-03/model-1")).to_have_count(10)
    row(page, "endpoint-03/model-1").locator("summary").click()
    page.locator("#troubles a").click()
    expect(cells(page, "endpoint-03/model-1").first).to_be_visible()
    another = open_page(page.url)
    expect(row(another, "endpoint-03/model-1")).to_be_in_viewport()
    expect(cells(another, "endpoint-03/model-1")).to_have_count(10)


# --- Changes by hand ---


def test_no_button_unless_allowed(fixture: Fixture, open_page: Open) -> None:
    page = open_page(fixture.url)
    cells(page, "rents/main").first.click()
    expect(page.locator(".chosen")).to_be_visible()
    for name in ("Drain", "Undrain", "Scale by hand"):
        expect(page.get_by_role("button", name=name, exact=True)).to_have_count(0)


def test_drain_after_a_question(fixture: Fixture, open_page: Open) -> None:
    fixture.status = {**scenes.quiet(), "actions": True}
    page = open_page(fixture.url)
    cells(page, "rents/main").first.click()
    page.get_by_role("button", name="Drain", exact=True).click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("127.0.0.1:9001 of rents/main gets no new request")
    dialog.get_by_role("button", name="Cancel").click()
    expect(dialog).to_be_hidden()
    assert fixture.posted == []
    page.get_by_role("button", name="Drain", exact=True).click()
    fixture.refusal = {"code": "draining", "message": "fe-serve is ending"}
    dialog.get_by_role("button", name="Drain").click()
    expect(dialog).to_contain_text("fe-serve is ending")
    fixture.refusal = None
    dialog.get_by_role("button", name="Drain").click()
    expect(dialog).to_be_hidden()
    posted = ("/api/deployments/rents/main/drain", "application/json", {"replica": "127.0.0.1:9001"})
    assert fixture.posted == [posted, posted]


def test_scale_after_a_question(fixture: Fixture, open_page: Open) -> None:
    fixture.status = {**scenes.quiet(), "actions": True}
    page = open_page(fixture.url)
    page.get_by_role("button", name="Scale by hand").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("replicas").fill("11")
    dialog.get_by_role("button", name="Scale").click()
    assert dialog.get_by_label("replicas").evaluate("(one) => one.validity.rangeOverflow")
    dialog.get_by_label("replicas").fill("5")
    dialog.get_by_label("replicas").press("Enter")
    expect(dialog).to_be_hidden()
    assert fixture.posted == [("/api/deployments/rents/main/scale", "application/json", {"count": 5})]
