"""What a check says: one line with figures, and what to do about it.

Owns: its parts, and the exit code that follows from several. Never: how it is shown (`fe.commands.check`). Texts may
hold anything that a server or a file said: whoever prints them makes them fit for a terminal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple, TypeAlias

from fe.errors import EXIT_OK

Status: TypeAlias = Literal["ok", "warn", "fail", "skipped"]


class Result(NamedTuple):
    """One line. `items`: what it is about, one by one; `mend`: what to do, where it is not ok."""

    status: Status
    detail: str
    mend: str = ""
    items: tuple[str, ...] = ()
    name: str = ""  # of the check; whoever runs it puts that in
    code: int = EXIT_OK  # with which `fe check` ends, if this is the first to fail; likewise


def ok(detail: str, items: Iterable[str] = ()) -> Result:
    """As it should be."""
    return Result("ok", detail, items=tuple(items))


def warn(detail: str, mend: str, items: Iterable[str] = ()) -> Result:
    """fe-serve works, but for something."""
    return Result("warn", detail, mend, tuple(items))


def fail(detail: str, mend: str, items: Iterable[str] = ()) -> Result:
    """Something does not work."""
    return Result("fail", detail, mend, tuple(items))


def exit_code(results: Iterable[Result]) -> int:
    """That of what failed first."""
    return next((one.code for one in results if one.status == "fail"), EXIT_OK)


def count(number: int, what: str, many: str = "") -> str:
    """`1 pod`, `2 pods`. `many`: the plural, where it is no s behind it."""
    return f"{number:,} {what if number == 1 else many or what + 's'}"


def listed(words: Sequence[str], most: int = 4) -> str:
    """The first of them, and how many more there are."""
    rest = len(words) - most
    return ", ".join(words[:most]) + (f" and {rest:,} more" if rest > 0 else "")
