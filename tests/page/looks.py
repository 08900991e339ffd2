"""Questions about how a page looks, asked inside the browser.

Owns: the scripts, and the formula for contrast (WCAG 2.1). Never: the page's own code.
"""

from __future__ import annotations

from typing import Any

from playwright.sync_api import Page

# Every visible text with its colour and the backgrounds it may stand on: the nearest opaque one, and where a replica's
# cell is filled, the fill, too.
TEXTS = """() => {
  const fill = getComputedStyle(document.documentElement).getPropertyValue("--accent-fill").trim();
  const probe = document.body.appendChild(document.createElement("i"));
  probe.style.setProperty("color", fill);
  const filled = getComputedStyle(probe).color;
  probe.remove();
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = new Map();
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const parent = node.parentElement;
    const apart = parent.closest(".unseen, .skip, noscript, script, template, option");
    if (!node.data.trim() || apart || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent);
    const color = parent instanceof SVGElement ? style.fill : style.color;
    let behind = parent;
    while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
    const grounds = [getComputedStyle(behind ?? document.body).backgroundColor];
    if (parent.closest(".replica")) grounds.push(filled);
    for (const ground of grounds) found.set(`${color} ${ground}`, [color, ground, node.data.trim().slice(0, 40)]);
  }
  return [...found.values()];
}"""


def texts(page: Page) -> list[tuple[str, str, str]]:
    """Each pair of text colour and background there is, with an example."""
    return [(color, ground, text) for color, ground, text in page.evaluate(TEXTS)]


def contrast(one: str, other: str) -> float:
    """Of two colours as the browser computes them, `rgb(r, g, b)`: 1 to 21."""
    light, dark = sorted((_luminance(one), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: str) -> float:
    parts = [float(part) / 255 for part in color.partition("(")[2].rstrip(")").split(",")[:3]]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def width_of(page: Page) -> int:
    """How wide the document is, in px."""
    return int(page.evaluate("document.documentElement.scrollWidth"))


def levels_of_headings(page: Page) -> list[int]:
    found: Any = page.evaluate(
        "[...document.querySelectorAll('h1, h2, h3, h4, h5')].filter((one) => one.checkVisibility())"
        ".map((one) => Number(one.tagName[1]))"
    )
    return list(found)
