"""Two and three processes at once: one is held, by SIGSTOP, at every point of its operation while another works.

The schedules are in interleaving.py and run in one process of the debug build. `let go` shows that two operations that
overlap anywhere come out whole; `killed`, that whoever was waiting for the lock mends it; `mended by two`, that this
one may die of it, too. Last a bounded storm of random operations and deaths (soak.py).
"""

from __future__ import annotations

import pytest

from tests.core.debug import Runner

HELD_UP = ["acquire", "release", "cancel", "retry", "configure", "drain", "add replica", "remove replica", "recover"]
BESIDE = ["acquire", "release", "cancel", "retry", "look"]


@pytest.fixture(scope="module")
def runner():
    with Runner("tests.core.interleaving") as made:
        yield made


@pytest.mark.parametrize(
    ("end", "beside"),
    [("let go", beside) for beside in BESIDE] + [("killed", beside) for beside in ("acquire", "look")],
)
@pytest.mark.parametrize("held_up", HELD_UP)
def test_held_at_every_point(runner, held_up, beside, end):
    answer = runner.ask(f"{end} / {held_up} / {beside}")
    assert "failure" not in answer, answer["failure"]
    assert 0 < answer["waited"] < answer["points"], "some points lie inside the lock, some outside"


@pytest.mark.parametrize("held_up", ["release", "configure", "retry"])
def test_who_mends_may_die_of_it(runner, held_up):
    answer = runner.ask(f"mended by two / {held_up}")
    assert "failure" not in answer, answer["failure"]
    assert answer["deaths"] > 30  # as many as there are points, some of which depend on who comes first


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_a_storm_of_deaths_leaves_everything_whole(seed):
    with Runner("tests.core.soak") as storm:
        answer = storm.ask(str(seed))
    assert "failure" not in answer, answer["failure"]
    assert answer["killed"] > 20
