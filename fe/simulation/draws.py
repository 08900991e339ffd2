"""Random durations: `lognormal:200ms,0.8`, `exponential:200ms`, `constant:200ms`, `uniform:100-300ms`.

Owns: these distributions, how they are written, drawing from them. Never: a generator of its own (reproducibility is
that of the one given), what the durations are for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from fe.control.numeric import NDArray, np
from fe.simulation.values import duration, duration_range, factor

FORMS: Final = {
    "lognormal": "lognormal:MEAN,SIGMA",
    "exponential": "exponential:MEAN",
    "constant": "constant:TIME",
    "uniform": "uniform:LEAST-MOST",
}
_LONGEST: Final = 1e8  # s; a draw beyond it would not fit 64 bits of ns for long


@dataclass(frozen=True)
class Draws:
    """A distribution of durations. `first` and `second` are seconds, but for the sigma of a lognormal."""

    shape: str
    first: float  # mean, or the least of a uniform
    second: float  # sigma of the logarithm, or the most of a uniform; else 0
    text: str  # as written

    @property
    def mean(self) -> float:
        """Seconds."""
        return (self.first + self.second) / 2 if self.shape == "uniform" else self.first

    def take(self, count: int, random: np.random.Generator) -> NDArray[np.int64]:
        """So many durations in ns."""
        if self.shape == "lognormal":
            location = math.log(self.first) - self.second**2 / 2
            seconds = random.lognormal(location, self.second, count)
        elif self.shape == "exponential":
            seconds = random.exponential(self.first, count)
        elif self.shape == "uniform":
            seconds = random.uniform(self.first, self.second, count)
        else:
            seconds = np.full(count, self.first)
        return (np.minimum(seconds, _LONGEST) * 1e9).astype(np.int64)


def parse_draws(text: str) -> Draws:
    """The distribution that `text` names. ValueError says what is wrong and how to write it."""
    shape, colon, rest = text.strip().partition(":")
    if shape not in FORMS or not colon:
        raise ValueError(f"{text!r} is none of {', '.join(FORMS.values())}")
    try:
        first, second = _parameters(shape, rest)
    except ValueError as error:
        raise ValueError(f"{text!r}: {error} ({FORMS[shape]})") from None
    return Draws(shape, first, second, text.strip())


def _parameters(shape: str, rest: str) -> tuple[float, float]:
    if shape == "uniform":
        least, most = duration_range(rest)
        if most < least:
            raise ValueError("the most is less than the least")
        return least, most
    if shape != "lognormal":
        return duration(rest), 0.0
    mean, comma, sigma = rest.partition(",")
    if not comma:
        raise ValueError("sigma is missing; 0.8 is typical of inference")
    if duration(mean) == 0 or factor(sigma) > 10:
        raise ValueError("the mean has to be more than 0, and sigma at most 10")
    return duration(mean), factor(sigma)
