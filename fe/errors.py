"""Errors that users see, and the exit codes of `fe-serve`.

Owns: exception types with a message that says where, what and how to mend it. Never: formatting for HTTP (that is
`fe.proxy.answers`). Bottom floor: imports the standard library only.
"""

from __future__ import annotations

from typing import Final

EXIT_OK: Final = 0  # ended as asked, every request answered
EXIT_INTERNAL: Final = 1  # a fault of fe itself
EXIT_CONFIG: Final = 2  # wrong usage or configuration
EXIT_RESOURCE: Final = 3  # something the machine has to give is missing: a port, memory, a permission
EXIT_WORKER: Final = 4  # a worker or the controller could not start
EXIT_CUT_OFF: Final = 5  # drain_timeout ended requests that were still in flight


class FeError(Exception):
    """An error with a message for the user; `exit_code` is what `fe-serve` ends with."""

    exit_code: int = EXIT_INTERNAL


class ConfigError(FeError):
    """A configuration that cannot be used. `problems` has one line each: file, path, reason and mend."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class ResourceError(FeError):
    """Something the machine has to give is missing (a busy port, too little memory, a permission)."""

    exit_code = EXIT_RESOURCE


class StartError(FeError):
    """A child process could not start at all."""

    exit_code = EXIT_WORKER
