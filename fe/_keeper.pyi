"""Keepers of local replicas and process attributes: types of the extension module `fe._keeper`."""

from collections.abc import Iterable, Sequence
from typing import Final

STARTED: Final[int]
FAILED: Final[int]
EXITED: Final[int]
STAGE_CWD: Final[int]
STAGE_EXEC: Final[int]
REPORT: Final[str]  # layout of one record in the report pipe: keeper's pid, kind, value, stage

def spawn_keeper(
    argv: Sequence[str],
    env: dict[str, str],
    cwd: str,
    output_fd: int,
    report_fd: int,
    stop_grace_ms: int,
    nofile: int = 0,
) -> int: ...
def die_with_parent(signal: int, parent: int) -> bool: ...
def become_subreaper() -> None: ...
def set_process_name(name: str) -> None: ...
def forget_variables(names: Iterable[str]) -> None: ...
