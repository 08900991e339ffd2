"""What a crash scenario is, and all of them by name.

Owns: the shape. Never: kills or judges (crash.py, world.py). worker_scenarios.py and control_scenarios.py fill
SCENARIOS; their names are test ids. Between them they pass every store of the module: a test compares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.core.world import World


def nothing(_world: World) -> None:
    pass


@dataclass(frozen=True)
class Scenario:
    """`finish` is what the restarted process does: it finds the operation done, half done or not begun."""

    arrange: Callable[[], World]
    act: Callable[[World], object]
    finish: Callable[[World], object] = nothing
    by: str = "worker"  # mended with `recover` of holder 0; "controller": with `repair`
    thorough: bool = False  # kill the mending at every point, not only at some


SCENARIOS: dict[str, Scenario] = {}


def add(name: str, arrange: Callable[[], World], act: Callable[[World], object], **more: object) -> None:
    SCENARIOS[name] = Scenario(arrange, act, **more)  # type: ignore[arg-type]
