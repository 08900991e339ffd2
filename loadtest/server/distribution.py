"""How long something takes: durations as `20ms`, and distributions of them as `lognormal:20ms,0.8`.

Owns: the spelling, its errors, drawing. Every kind takes its mean first, so that another kind with the same mean is the
same load. Never: the clock. All times are seconds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from random import Random
from typing import Final

UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0}
LONGEST: Final = 600.0  # the tails of some kinds have no end; a load test has
Sampler = Callable[[Random], float]


class SpecError(ValueError):
    """A value that cannot be understood; the message says what would be."""


@dataclass(frozen=True, slots=True)
class Distribution:
    """`sample(random)` is the next duration, before LONGEST is applied; `draw` is what callers want."""

    text: str
    mean: float
    sample: Sampler

    def draw(self, random: Random) -> float:
        """Seconds, from 0 to LONGEST."""
        return min(self.sample(random), LONGEST)


def parse_duration(text: str) -> float:
    """Seconds of `250us`, `20ms`, `1.5s` or `2m`. SpecError for anything else: a number without a unit says nothing."""
    found = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|m)", text)
    if not found:
        raise SpecError(f"{text!r} is no duration; write a number and a unit, as 250us, 20ms, 1.5s or 2m")
    seconds = float(found[1]) * UNITS[found[2]]
    if seconds > LONGEST:
        raise SpecError(f"{text!r} is longer than {LONGEST:.0f}s")
    return seconds


@lru_cache(maxsize=256)
def parse_distribution(text: str) -> Distribution:
    """What `kind:arguments` or a plain duration stands for. SpecError says what is wrong and shows an example."""
    kind, colon, rest = text.partition(":")
    if not colon:
        kind, rest = "constant", text
    if kind not in KINDS:
        raise SpecError(f"{kind!r} is no kind of distribution; there are {', '.join(EXAMPLES.values())}")
    words = rest.split("-" if kind == "uniform" else ",")
    build, wanted = KINDS[kind]
    if len(words) != wanted:
        raise SpecError(f"{text!r}: write it as {EXAMPLES[kind]}")
    try:
        mean, sample = build(*words)
    except SpecError as error:
        raise SpecError(f"{text!r}: {error}" if colon else str(error)) from None
    return Distribution(text, mean, sample)


def _number(text: str, name: str) -> float:
    """A plain decimal above 0."""
    if not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", text) or not 0 < float(text) < 1e6:
        raise SpecError(f"{name} is a number above 0, not {text!r}")
    return float(text)


def _mean(text: str) -> float:
    mean = parse_duration(text)
    if not mean:
        raise SpecError("the mean has to be above 0")
    return mean


def _constant(duration: str) -> tuple[float, Sampler]:
    seconds = parse_duration(duration)
    return seconds, lambda _random: seconds


def _exponential(mean: str) -> tuple[float, Sampler]:
    seconds = _mean(mean)
    return seconds, lambda random: random.expovariate(1 / seconds)


def _uniform(least: str, most: str) -> tuple[float, Sampler]:
    low, high = parse_duration(least), parse_duration(most)
    if low > high:
        raise SpecError(f"{least} is more than {most}")
    return (low + high) / 2, lambda random: random.uniform(low, high)


def _lognormal(mean: str, sigma: str) -> tuple[float, Sampler]:
    seconds, spread = _mean(mean), _number(sigma, "sigma")
    mu = math.log(seconds) - spread * spread / 2
    return seconds, lambda random: random.lognormvariate(mu, spread)


def _pareto(mean: str, alpha: str) -> tuple[float, Sampler]:
    seconds, shape = _mean(mean), _number(alpha, "alpha")
    if shape <= 1:
        raise SpecError("alpha has to be above 1: with less there is no mean")
    least = seconds * (shape - 1) / shape
    return seconds, lambda random: least * random.paretovariate(shape)


def _bimodal(fast: str, slow: str, share: str) -> tuple[float, Sampler]:
    low, high, part = parse_duration(fast), parse_duration(slow), _number(share, "the share of slow ones")
    if part > 1:
        raise SpecError("the share of slow ones is at most 1")
    return low + part * (high - low), lambda random: high if random.random() < part else low


KINDS: Final[dict[str, tuple[Callable[..., tuple[float, Sampler]], int]]] = {
    "constant": (_constant, 1),
    "exponential": (_exponential, 1),
    "uniform": (_uniform, 2),
    "lognormal": (_lognormal, 2),
    "pareto": (_pareto, 2),
    "bimodal": (_bimodal, 3),
}
EXAMPLES: Final = {
    "constant": "constant:20ms",
    "exponential": "exponential:20ms",
    "uniform": "uniform:10ms-30ms",
    "lognormal": "lognormal:20ms,0.8",
    "pareto": "pareto:20ms,1.5",
    "bimodal": "bimodal:10ms,1s,0.01",
}
