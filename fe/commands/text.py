"""Texts that came over the network, made fit for a terminal.

Owns: what may get there. Why: names and reasons come from configurations and model servers; printed as they are, their
control characters could move the cursor, rename the window or hide what follows. Used by whatever prints an answer.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def say(line: str) -> None:
    """A line on stdout, in whatever encoding it has. The text is fit for a terminal already."""
    encoding = sys.stdout.encoding or "utf-8"
    print(line.encode(encoding, "backslashreplace").decode(encoding))


def printable(text: str) -> str:
    """One line without anything that a terminal would act on: control characters, escapes, changes of direction."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def printable_json(value: Any) -> str:
    """As JSON in ASCII, which says the same and lets nothing through."""
    return json.dumps(value, indent=2).replace("\x7f", "\\u007f")
