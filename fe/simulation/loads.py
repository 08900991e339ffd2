"""What arrives: generated loads (`ramp:0-200rps,10m`), strung together, or a recorded trace.

Owns: the shapes and how they are written, reading a trace, the arrivals of any span of time. Never: how long requests
take (`fe.simulation.draws`), except where the trace says it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from fe.control.numeric import NDArray, np
from fe.simulation.values import MOST_SECONDS, duration, rate, rate_range

FORMS: Final = {
    "steady": "steady:RATE,LENGTH",
    "poisson": "poisson:RATE,LENGTH",
    "ramp": "ramp:FROM-TO,LENGTH",
    "spike": "spike:BASE-PEAK,LENGTH,SPIKE",
    "diurnal": "diurnal:LEAST-MOST,LENGTH[,PERIOD]",
}
UNKNOWN: Final = -1  # a duration that the trace does not say
_SECOND: Final = 1_000_000_000


class Span(NamedTuple):
    """Requests in order of time: when each arrives, and how long it takes or UNKNOWN; both in ns."""

    arrivals: NDArray[np.int64]
    durations: NDArray[np.int64]


class Source(Protocol):
    """Where requests come from."""

    @property
    def nanoseconds(self) -> int:
        """How long it lasts."""

    @property
    def peak(self) -> float:
        """Requests per second at most, for choosing spans of a sensible size."""

    def span(self, begin: int, end: int, random: np.random.Generator) -> Span:
        """What arrives at begin <= t < end (ns)."""


# --- generated -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Load:
    """A generated load. Arrivals are random (Poisson), but for `steady`, whose are evenly spaced."""

    shape: str
    low: float  # requests/s: the base, the least, the first
    high: float  # requests/s: the peak, the most, the last; of steady and poisson the same
    seconds: float
    span_seconds: float  # the spike, in the middle; the period of a diurnal load, which begins with its least
    text: str  # as written

    def rates(self, at: NDArray[np.float64]) -> NDArray[np.float64]:
        """Requests per second at these times, in s from the load's beginning."""
        if self.shape == "ramp":
            return self.low + (self.high - self.low) * at / self.seconds
        if self.shape == "spike":
            return np.where(np.abs(at - self.seconds / 2) < self.span_seconds / 2, self.high, self.low)
        if self.shape == "diurnal":
            return self.low + (self.high - self.low) * (1 - np.cos(2 * math.pi * at / self.span_seconds)) / 2
        return np.full(len(at), self.high)

    def arrivals(self, begin: float, end: float, random: np.random.Generator) -> NDArray[np.float64]:
        """When requests arrive in this part of it, in s from its beginning."""
        if self.shape == "steady":
            return (
                np.arange(math.ceil(begin * self.high), math.ceil(end * self.high)) / self.high if self.high else _NONE
            )
        most = max(self.low, self.high)
        # More than enough, at random times, of which each is kept as the rate at its time demands.
        at = np.sort(random.uniform(begin, end, random.poisson(most * (end - begin))))
        if self.low == self.high:
            return at
        return at[random.uniform(0, most, len(at)) < self.rates(at)]


_NONE: Final = np.empty(0)


@dataclass(frozen=True)
class Loads:
    """Generated loads, one after the other."""

    parts: tuple[Load, ...]

    @property
    def nanoseconds(self) -> int:
        return round(sum(part.seconds for part in self.parts) * _SECOND)

    @property
    def peak(self) -> float:
        return max(max(part.low, part.high) for part in self.parts)

    def span(self, begin: int, end: int, random: np.random.Generator) -> Span:
        found, offset = [], 0.0
        for part in self.parts:
            first, last = max(begin / _SECOND - offset, 0.0), min(end / _SECOND - offset, part.seconds)
            if first < last:
                found.append(part.arrivals(first, last, random) + offset)
            offset += part.seconds
        seconds = np.concatenate(found) if found else _NONE
        arrivals = np.clip((seconds * _SECOND).astype(np.int64), begin, end - 1)  # rounding must not leave the span
        return Span(arrivals, np.full(len(arrivals), UNKNOWN))


def parse_load(text: str) -> Load:
    """The load that `text` describes. ValueError says what is wrong and how to write it."""
    shape, colon, rest = text.strip().partition(":")
    if shape not in FORMS or not colon:
        raise ValueError(f"{text!r} is none of {', '.join(FORMS.values())}; for example ramp:0-200rps,10m")
    try:
        return _read(shape, [part.strip() for part in rest.split(",")], text.strip())
    except ValueError as error:
        raise ValueError(f"{text!r}: {error} ({FORMS[shape]})") from None


def _read(shape: str, parts: list[str], text: str) -> Load:
    fewest, most = {"spike": (3, 3), "diurnal": (2, 3)}.get(shape, (2, 2))
    if not fewest <= len(parts) <= most:
        raise ValueError(f"{len(parts)} part{'s' * (len(parts) != 1)} between commas, not {fewest}")
    low, high = (rate(parts[0]),) * 2 if shape in ("steady", "poisson") else rate_range(parts[0])
    seconds = duration(parts[1])
    span = duration(parts[2]) if len(parts) == 3 else seconds
    if seconds <= 0 or span <= 0:
        raise ValueError("a length of 0")
    if shape == "spike" and span > seconds:
        raise ValueError("the spike is longer than the load")
    return Load(shape, low, high, seconds, span, text)


# --- recorded --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Trace:
    """Recorded requests; times count from the first."""

    arrivals: NDArray[np.int64]  # ns
    durations: NDArray[np.int64]  # ns or UNKNOWN

    @property
    def nanoseconds(self) -> int:
        return int(self.arrivals[-1]) + 1

    @property
    def peak(self) -> float:
        return len(self.arrivals) / (self.nanoseconds / _SECOND)

    @property
    def complete(self) -> bool:
        """It says of every request how long it takes."""
        return bool((self.durations != UNKNOWN).all())

    def span(self, begin: int, end: int, random: np.random.Generator) -> Span:  # noqa: ARG002
        first, last = np.searchsorted(self.arrivals, [begin, end])
        return Span(self.arrivals[first:last], self.durations[first:last].copy())


def read_trace(path: str) -> Trace:
    """A file with a request per line: its arrival in seconds, and how long it takes, if known; `#` begins a comment.

    Raises OSError, or ValueError with the line.
    """
    arrivals: list[float] = []
    durations: list[float] = []
    with open(path, encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, 1):
            words = line.partition("#")[0].replace(",", " ").split()
            if words:
                arrival, seconds = _read_line(f"{path}:{number}", words, line)
                if arrivals and arrival < arrivals[-1]:
                    raise ValueError(f"{path}:{number}: {words[0]} is earlier than the line before; sort -n sorts it")
                arrivals.append(arrival)
                durations.append(seconds)
    if not arrivals:
        raise ValueError(f"{path}: has no request; write a line for each, with its time in seconds")
    if arrivals[-1] - arrivals[0] > MOST_SECONDS:
        raise ValueError(f"{path}: is longer than {MOST_SECONDS / 86400:.0f} days; are its times in seconds?")
    at = np.array(arrivals)
    known = np.array(durations)
    return Trace(
        ((at - at[0]) * _SECOND).astype(np.int64), np.where(known < 0, UNKNOWN, known * _SECOND).astype(np.int64)
    )


def _read_line(place: str, words: list[str], line: str) -> tuple[float, float]:
    """Arrival and duration in seconds; UNKNOWN without a second number."""
    try:
        numbers = [float(word) for word in words]
    except ValueError:
        numbers = []
    if not 1 <= len(numbers) <= 2 or not all(0 <= number < 1e10 for number in numbers):
        shown = line.strip()[:40]
        raise ValueError(f"{place}: {shown!r} is not an arrival in seconds, with or without a duration in seconds")
    return numbers[0], numbers[1] if len(numbers) == 2 else UNKNOWN
