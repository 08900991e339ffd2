"""How a simulated model server fails: modes with probabilities, as `status:503=0.01`.

Owns: the spelling, its errors, drawing at most one fault for a request. Never: what a fault does to a connection;
that is `connection.py`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from loadtest.server.distribution import Distribution, SpecError, parse_distribution

# What each does, in the words of --help.
MODES: Final = {
    "status:CODE": "answers with that status (200 to 599)",
    "reset": "resets the connection in place of an answer",
    "close": "closes the connection in place of an answer",
    "hang": "never answers",
    "slow:TIME": "takes that much longer; a duration or a distribution",
    "close-mid-answer": "closes the connection half-way through the body or the events",
    "garbage": "answers with bytes that are no HTTP",
}
EXAMPLES: Final = "status:503=0.01, reset=0.01, slow:2s=0.05"


@dataclass(frozen=True, slots=True)
class Fault:
    """`name` is what it is counted as; `status` and `slow` are set in the modes that have them."""

    name: str
    mode: str
    probability: float
    status: int = 0
    slow: Distribution | None = None


def parse_fault(text: str) -> Fault:
    """One `MODE=PROBABILITY`. SpecError says what is wrong."""
    name, equals, chance = text.rpartition("=")
    if not equals or not re.fullmatch(r"[0-9]+(?:\.[0-9]+)?", chance) or float(chance) > 1:
        raise SpecError(f"{text!r}: write a mode, = and a probability from 0 to 1, as {EXAMPLES}")
    mode, colon, argument = name.partition(":")
    wanted = next((one for one in MODES if one.partition(":")[0] == mode), None)
    if wanted is None or (":" in wanted) != bool(colon):
        raise SpecError(f"{name!r} is no way to fail; there are {', '.join(MODES)}")
    if mode == "status":
        if not re.fullmatch("[2-5][0-9][0-9]", argument):
            raise SpecError(f"{text!r}: a status is a number from 200 to 599")
        return Fault(name, mode, float(chance), status=int(argument))
    if mode == "slow":
        return Fault(name, mode, float(chance), slow=parse_distribution(argument))
    return Fault(name, mode, float(chance))


def check_together(faults: Sequence[Fault]) -> None:
    """SpecError where the probabilities are more than 1 in all."""
    total = sum(fault.probability for fault in faults)
    if total > 1 + 1e-9:
        raise SpecError(f"the probabilities are {total:g} together; a request fails in one way at most")


def draw_fault(faults: Sequence[Fault], random: Random) -> Fault | None:
    """What goes wrong with the next request, if anything. Takes one number from `random` in any case."""
    place = random.random()
    for fault in faults:
        place -= fault.probability
        if place < 0:
            return fault
    return None
