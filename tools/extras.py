"""Prints what some of pyproject.toml's extras need, one requirement after the other, for pip.

Owns: extras that name extras of fe itself. Never: installs. Used by the Makefile: to install an extra by name would
build fe once more.
"""

from __future__ import annotations

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def requirements(extra: str) -> Iterator[str]:
    """Of one extra; those that it names in place of their names."""
    own = f"{PROJECT['name']}["
    for requirement in PROJECT["optional-dependencies"][extra]:
        if requirement.startswith(own):
            for other in requirement.removeprefix(own).removesuffix("]").split(","):
                yield from requirements(other)
        else:
            yield requirement


if __name__ == "__main__":
    print(*dict.fromkeys(requirement for extra in sys.argv[1:] for requirement in requirements(extra)))
