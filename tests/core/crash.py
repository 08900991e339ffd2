"""Runs in the debug build, driven by test_crash.py: every scenario is killed at every point it passes, and judged.

Owns: how often and where, what the supervisor does after a death (also killed and begun anew), the answers on stdout,
one line of JSON for each line on stdin. Never: what is arranged or done (the scenarios), nor what must hold (world.py).
Forks and never execs: a death costs about a millisecond. The n-th child dies at the n-th point; the first that survives
ends the scenario, and its trace says which points there are.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count

from fe import _core
from tests.core import control_scenarios, finders, worker_scenarios  # noqa: F401 (they fill SCENARIOS)
from tests.core.actor import Actor
from tests.core.scenario import SCENARIOS, Scenario
from tests.core.world import VICTIM, World

MOST_POINTS = 3000
STRIDE = 7  # a thorough scenario kills the mending at every seventh point, from another start each time
HANG_S = 110  # of a whole scenario: a lock that nobody frees must end the run, not stop it

passed: set[str] = set()  # points at which something died, over all scenarios


def in_child(act: Callable[[], object], after: int) -> set[str] | None:
    """Runs `act` in a child that is killed at the `after`-th point. The points it passed if it survives, else None."""
    actor = Actor(act, after).wait()
    return None if actor.dead else set(actor.points)


def mend(world: World, scenario: Scenario) -> None:
    """What the supervisor does once waitpid has told it of the death."""
    if scenario.by == "controller":
        world.table.repair()
    else:
        world.table.mark_absent(VICTIM)
        world.table.recover(VICTIM)


def killed_mending(world: World, scenario: Scenario, after: int) -> None:
    """The mending itself dies, again and again; what it leaves must be mended by the next, at last by one that lives.

    The deaths of a scenario, each with other points, between them take the mending to all of its own.
    """
    at = range(1 + after % STRIDE, MOST_POINTS, STRIDE) if scenario.thorough else range(3 * after - 2, 3 * after + 1)
    for point in [*at, MOST_POINTS]:
        points = in_child(lambda: mend(world, scenario), point)
        if points is not None:
            passed.update(points)
            return


def run(scenario: Scenario) -> dict[str, object]:
    """Kills the scenario at every point; the counts of what was done."""
    for after in count(1):
        assert after < MOST_POINTS, "no end of points"
        world = scenario.arrange()
        world.ready_again()
        before = world.table.deployment(world.deployment)
        points = in_child(lambda world=world: scenario.act(world), after)  # type: ignore[misc]
        killed_mending(world, scenario, after)
        mend(world, scenario)
        judge_totals(before, world)
        scenario.finish(world)
        world.judge()
        world.bench.close()
        if points is not None:
            passed.update(points)
            return {"deaths": after - 1, "points": sorted(points)}
    raise AssertionError


def judge_totals(before: _core.DeploymentLoad, world: World) -> None:
    """The integrals are the old or the new, never torn: they grow, and no faster than slots in use can make them."""
    after = world.table.deployment(world.deployment)
    if after.generation != before.generation or after.state == 0:
        return
    most = (after.now_ns - before.now_ns) * 100
    for field in ("in_flight_integral", "queue_integral", "ready_integral"):
        assert 0 <= getattr(after, field) - getattr(before, field) <= most, field


def find(name: str) -> dict[str, object]:
    """A death inside or outside the lock at every point; `name` is the first to come along, recovery the second."""
    for after in count(1):
        assert after < MOST_POINTS, "no end of points"
        world = finders.arrange()
        world.ready_again()
        points = in_child(lambda world=world: finders.act(world), after)  # type: ignore[misc]
        finders.FINDERS[name](world)
        world.read_mail(rung=False)
        assert world.table.check() == []
        mend(world, Scenario(finders.arrange, finders.act))
        world.judge()
        world.bench.close()
        if points is not None:
            return {"deaths": after - 1}
    raise AssertionError


def answer(name: str) -> dict[str, object]:
    if name == "points":
        return {"compiled": _core.crash_points(), "passed": sorted(passed)}
    signal.alarm(HANG_S)
    try:
        return find(name.removeprefix("find ")) if name.startswith("find ") else run(SCENARIOS[name])
    except AssertionError:
        return {"failure": traceback.format_exc()}
    finally:
        signal.alarm(0)


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)


if __name__ == "__main__":
    main()
