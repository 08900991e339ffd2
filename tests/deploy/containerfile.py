"""Reads deploy/Containerfile and its ignore file as far as the tests need: instructions, stages, what a build may see.

Owns: that reading. Never: judges, builds.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.project import tree

FILE = tree.ROOT / "deploy/Containerfile"
IGNORE = tree.ROOT / "deploy/Containerfile.dockerignore"


class Instruction(NamedTuple):
    """`flags` are words such as --from=build; `text` is the rest of the line."""

    word: str
    flags: tuple[str, ...]
    text: str


def instructions() -> list[Instruction]:
    """All of them, in order; continued lines are one."""
    lines = [line for line in FILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    found = []
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if line.strip():
            word, _, text = line.strip().partition(" ")
            flags = re.match(r"(?:--\S+\s+)*", text).group(0)
            found.append(Instruction(word, tuple(flags.split()), text[len(flags) :].strip()))
    return found


def stages() -> list[list[Instruction]]:
    """The instructions by stage, each beginning with its FROM; what stands before the first is left out."""
    found: list[list[Instruction]] = []
    for instruction in instructions():
        if instruction.word == "FROM":
            found.append([])
        if found:
            found[-1].append(instruction)
    return found


def context() -> list[Path]:
    """The project's files that the ignore file lets a build see: only names after `!` at the top, less the patterns."""
    lines = [line for line in IGNORE.read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    return [path for path in tree.files() if path.relative_to(tree.ROOT).parts[0] in allowed]
