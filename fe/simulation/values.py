"""Numbers with units as people write them: times, rates, percentages.

Owns: their spelling, and the ValueError that says how to write them. Never: an option (`fe.commands`), a default.
"""

from __future__ import annotations

import math
import re
from typing import Final

_NUMBER: Final = r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+"
_VALUE: Final = re.compile(rf"({_NUMBER}) ?([a-z%/]*)")
_RANGE: Final = re.compile(rf"(?P<low>{_NUMBER}) ?(?P<unit>[a-z]*) ?- ?(?P<high>.*)")

_SECONDS: Final = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_PER_SECOND: Final = {"": 1.0, "rps": 1.0, "/s": 1.0, "/m": 1 / 60, "/min": 1 / 60, "/h": 1 / 3600}
MOST_SECONDS: Final = 366 * 86400.0
MOST_PER_SECOND: Final = 1e6


def duration(text: str) -> float:
    """Seconds: `30`, `0.5`, `500ms`, `30s`, `10m`, `24h`, `7d`."""
    return _read(text, _SECONDS, MOST_SECONDS, "a time", "500ms, 30s, 10m or 24h")


def rate(text: str) -> float:
    """Requests per second: `200`, `200rps`, `200/s`, `30/m`."""
    return _read(text, _PER_SECOND, MOST_PER_SECOND, "a rate", "200rps, 200/s or 30/m")


def share(text: str) -> float:
    """A percentage, more than 0 and at most 100, as a share: `70` or `70%` is 0.7."""
    percent = _read(text, {"": 1.0, "%": 1.0}, 100, "a percentage", "70")
    if percent == 0:
        raise ValueError("0 % is too little; write for example 70")
    return percent / 100


def count(text: str) -> int:
    """A whole number, 0 or more."""
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ValueError(f"{text!r} is not a whole number; write for example 10")
    return int(text)


def positive(text: str) -> int:
    """A whole number, 1 or more."""
    number = count(text)
    if number == 0:
        raise ValueError("0 is too little: 1 is the least")
    return number


def factor(text: str) -> float:
    """A number, 0 or more, with no unit."""
    return _read(text, {"": 1.0}, 1e6, "a number", "2 or 0.5")


def duration_range(text: str) -> tuple[float, float]:
    """Two times: `100ms-2s`, or `100-300ms`, where the unit is that of both."""
    low, high = _ends(text, _SECONDS, "100-300ms")
    return duration(low), duration(high)


def rate_range(text: str) -> tuple[float, float]:
    """Two rates: `20-200rps`."""
    low, high = _ends(text, _PER_SECOND, "20-200rps")
    return rate(low), rate(high)


def _ends(text: str, units: dict[str, float], example: str) -> tuple[str, str]:
    found = _RANGE.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"{text!r} is not a range; write for example {example}")
    unit = found["unit"] or next(
        (u for u in sorted(units, key=len, reverse=True) if u and found["high"].endswith(u)), ""
    )
    return f"{found['low']}{unit}", found["high"]


def _read(text: str, units: dict[str, float], most: float, what: str, example: str) -> float:
    found = _VALUE.fullmatch(text.strip())
    if found is None or found[2] not in units:
        raise ValueError(f"{text!r} is not {what}; write for example {example}")
    value = float(found[1]) * units[found[2]]
    if value > most or not math.isfinite(value):
        raise ValueError(f"{text!r} is too much: {most:,.10g} is the most")
    return value
