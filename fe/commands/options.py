"""Options whose values have units: parsers of `fe.simulation` as argparse wants them.

Owns: that an error says what was wrong and how to write it. Never: a parser.
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
