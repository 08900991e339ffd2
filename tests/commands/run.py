"""Runs commands that need no server, and says how they refuse."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.commands import running

COMMAND = Path(sys.executable).parent / "fe"  # as it is installed


def fe(*arguments: object) -> subprocess.CompletedProcess[str]:
    """What becomes of `fe` with these arguments."""
    return running.fe(*map(str, arguments))


def refused(*arguments: object) -> str:
    """The last line on stderr of a command that is refused as wrong usage; nothing else comes out."""
    result = fe(*arguments)
    assert result.returncode == 2, result.stdout + result.stderr
    assert result.stdout == ""
    return result.stderr.splitlines()[-1]
