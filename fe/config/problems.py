"""Where things stand in the configuration, and what is wrong there.

Owns: places (file and path), the list of problems and notes with their lines, the wording of both. Never: judging.
All problems are collected and raised at once (`Findings.raise_problems`), so that a user mends them in one go.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from fe.errors import ConfigError

MOST_PROBLEMS = 200  # a file of another kind altogether would bring thousands


class Place(NamedTuple):
    """A value's place: file, path in it as in `endpoints[demo].deployments[main]`, and which of the documents there."""

    file: str
    path: tuple[str, ...] = ()
    document: int = 0

    def key(self, name: str) -> Place:
        """The place of a key in this mapping."""
        return self._replace(path=(*self.path, f".{name}"))

    def item(self, name: object) -> Place:
        """The place of an item in this list, or of an entry named by the user."""
        return self._replace(path=(*self.path, f"[{name}]"))

    def around(self) -> Iterator[Place]:
        """This place and all that contain it, the nearest first."""
        for length in range(len(self.path), -1, -1):
            yield self._replace(path=self.path[:length])


class Problem(NamedTuple):
    """One thing that is wrong."""

    place: Place
    reason: str
    line: int = 0  # where it differs from the line on which the value at `place` stands


class Findings:
    """The problems and notes of one configuration, and the lines on which its values stand."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self.lines: dict[Place, int] = {}
        self._more = 0  # problems beyond MOST_PROBLEMS: counted, not kept
        self._at: set[Place] = set()  # where problems are
        self._around: set[Place] = set()  # and what contains them

    def problem(self, place: Place, reason: str, mend: str = "", line: int = 0) -> None:
        """Something is wrong at `place`; `mend` says what to write instead."""
        problem = Problem(place, f"{reason}; {mend}" if mend else reason, line)
        if len(self.problems) < MOST_PROBLEMS:
            self.problems.append(problem)
        else:
            self._more += 1
        self._at.add(place)
        self._around.update(place.around())

    def note(self, place: Place, text: str) -> None:
        """Something is worth a line in the log, and nothing is wrong."""
        self.notes.append(self._line(Problem(place, text)))

    def touched(self, *places: Place) -> bool:
        """Whether a problem is known in, at or around one of the places: a further check there would only mislead."""
        return any(p in self._around or any(outer in self._at for outer in p.around()) for p in places)

    @property
    def many(self) -> bool:
        """There are more problems than are shown: it is not worth while to look for mends any more."""
        return self._more > 0

    def raise_problems(self) -> None:
        """Raises ConfigError with all problems, in the order of files and lines, if there are any."""
        if not self.problems:
            return
        ordered = sorted(self.problems, key=lambda problem: (problem.place.file, self._number(problem)))
        lines = list(dict.fromkeys(self._line(problem) for problem in ordered))
        if self._more:
            lines.append(f"{self._more} more problems are not shown")
        raise ConfigError(lines)

    def _number(self, problem: Problem) -> int:
        """The line of the place, or of the nearest value around it; 0 where nothing is known."""
        if problem.line:
            return problem.line
        for place in problem.place.around():
            number = self.lines.get(place)
            if number is not None:
                return number
        return 0

    def _line(self, problem: Problem) -> str:
        number = self._number(problem)
        path = "".join(problem.place.path).removeprefix(".")
        where = f"{problem.place.file}:{number}" if number else problem.place.file
        return f"{where}: {path}: {problem.reason}" if path else f"{where}: {problem.reason}"


def did_you_mean(given: str, known: Iterable[str]) -> str:
    """`did you mean 'x'?` for the known name that is nearest to the given one, or nothing."""
    names = list(known)
    folded = {name.lower().replace("-", "_"): name for name in names}
    near = difflib.get_close_matches(given.lower().replace("-", "_"), folded, n=1, cutoff=0.6)
    return f"did you mean {folded[near[0]]!r}?" if near else ""


def shown(text: str, most: int = 60) -> str:
    """A value as it may stand in a message: one line, printable, not long."""
    short = text if len(text) <= most else text[: most - 3] + "..."
    return repr(short)
