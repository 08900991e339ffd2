"""A real Chromium, and pages in it that must not complain.

Owns: starting and ending the browser, and the rule that the console stays empty: a script error, a text that the policy
refused or a file that was not found fails the test. Chromium is Debian's; without it these tests fail and say so.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from tests.page.fixture import Fixture

ARGUMENTS = [
    "--no-sandbox",  # it needs rights that a container's root does not have
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
EXPECTED = ("net::ERR_", "status of 409")  # what the browser itself says of a server that is away, and of a refusal
LIMIT_MS = 60_000  # of a wait that ends much earlier, on any machine
# What has not been drawn yet has no text: `content-visibility` is decided with the first frame.
DRAWN = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"
Open = Callable[..., Page]

expect.set_options(timeout=LIMIT_MS)


@pytest.fixture(scope="module")  # not longer: its loop would stand in the way of other files' own
def browser() -> Iterator[Browser]:
    executable = shutil.which("chromium")
    if executable is None:
        pytest.fail("there is no chromium in PATH: apt-get install chromium", pytrace=False)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def fixture() -> Iterator[Fixture]:
    with Fixture() as one:
        yield one


@pytest.fixture
def open_page(browser: Browser) -> Iterator[Open]:
    """`open_page(url, **options of the browser context)`: a page that has shown a first status."""
    complaints: list[str] = []
    contexts = []

    def open_page(url: str, **options: Any) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 1000}, **options})
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(LIMIT_MS)
        page.on("console", lambda message: complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(url)
        page.wait_for_selector("main:not([hidden])")
        page.evaluate(DRAWN)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert [one for one in complaints if not any(part in one for part in EXPECTED)] == []
