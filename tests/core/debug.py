"""A process of the debug build that answers questions: one line of text in, one line of JSON out.

Owns: starting it with build/debug before everything else on its path, its end, and remembering answers already given.
Never: imports fe itself. The module that answers is named by the test.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

ROOT = Path(__file__).parents[2]
DEBUG = ROOT / "build" / "debug"


class Runner:
    def __init__(self, module: str) -> None:
        assert (DEBUG / "fe").is_dir(), "the debug build is missing: make debug"
        environment = {**os.environ, "PYTHONPATH": f"{DEBUG}:{ROOT}"}
        # -P: the current folder, with the release build in it, stays off the path.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=ROOT,
        )  # fmt: skip
        self._answers: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Runner:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.stdin.close()  # type: ignore[union-attr]
        try:
            self._process.wait(60)
        finally:
            self._process.kill()
            self._process.stdout.close()  # type: ignore[union-attr]

    def ask(self, question: str) -> dict[str, Any]:
        """The answer; asked again, the same one."""
        if question not in self._answers:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(question + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, f"the process ended over {question!r}, status {self._process.wait()}"
            self._answers[question] = json.loads(line)
        return self._answers[question]
