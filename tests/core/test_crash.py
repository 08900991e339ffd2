"""kill -9 at every store of every operation that changes the table, also of the recovery; then everything is whole.

The killing happens in one process of the debug build (crash.py), because only that has crash points; the scenarios are
in *_scenarios.py and what must hold afterwards is in world.py. Here they are named, run and their answers judged.
"""

from __future__ import annotations

import pytest

from tests.core import control_scenarios, worker_scenarios  # noqa: F401 (they fill SCENARIOS)
from tests.core.debug import Runner
from tests.core.finders import FINDERS
from tests.core.scenario import SCENARIOS


@pytest.fixture(scope="module")
def runner():
    with Runner("tests.core.crash") as made:
        yield made


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_death_at_any_point_is_mended(runner, name):
    answer = runner.ask(name)
    assert "failure" not in answer, answer["failure"]
    assert answer["deaths"] > 0


@pytest.mark.parametrize("name", FINDERS)
def test_whoever_finds_a_torn_lock_mends_it(runner, name):
    answer = runner.ask(f"find {name}")
    assert "failure" not in answer, answer["failure"]
    assert answer["deaths"] > 20


def test_every_point_was_one_of_death(runner):
    """No store of the module is left out: the points passed by the scenarios are all that are compiled in."""
    for name in SCENARIOS:
        runner.ask(name)
    points = runner.ask("points")
    assert sorted(set(points["compiled"]) - set(points["passed"])) == []
