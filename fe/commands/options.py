"""Options with values: times within bounds, and whatever else can be parsed, as argparse wants them.

Owns: that an error says what was wrong and how to write it. Never: the parsers of loads (`fe.simulation`).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def reads(parse: Callable[[str], T]) -> Callable[[str], T]:
    """`parse` for `add_argument(type=...)`: the text of its ValueError is what the user sees."""

    def read(text: str) -> T:
        try:
            return parse(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def seconds(least: float, most: float = 3600) -> Callable[[str], float]:
    """A number of seconds within these bounds, for `add_argument(type=...)`."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = 0.0
        if not least <= value <= most:
            raise ValueError(f"a number of seconds from {least:g} to {most:g} is needed")
        return value

    return reads(parse)
