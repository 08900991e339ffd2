"""Runs in the debug build, driven by test_interleaving.py: one process is held at each point of its operation while
others work; then it goes on, or is killed there.

Owns: the schedules and what must be true after each. Never: randomness (soak.py), sleeping for luck: a process held
inside the lock makes the other wait for it, held outside it must not, and both can be seen.
Holder 0 is held, holder 1 works beside it, both in children; holder 2 lives here and has been waiting all the time.
"""

from __future__ import annotations

import json
import signal
import sys
import traceback
from collections.abc import Callable
from itertools import count

from fe import _core
from tests.core.actor import Actor
from tests.core.tables import FAR, PAST
from tests.core.world import VICTIM, B, C, World

HANG_S = 110

Act = Callable[[World], object]


def arrange() -> World:
    """Three places: one each for holders 0, 1 and 2; each waits for a second one, holder 2 first and last."""
    world = World(replicas=3)
    for who in (VICTIM, B, C):
        world.hold(who)
    world.wait(C, VICTIM, B)
    world.victim.acquire(world.deployment, world.generation, PAST)
    world.wait(C)
    world.ready_again()
    return world


def _collect(who: int) -> Act:
    def act(world: World) -> None:
        while world.people[who].mail():
            world.people[who].collect()

    return act


def _of(who: int, act: Callable[[World, int, int], object]) -> Act:
    """An operation on the slots that `arrange` gave this holder, and what its contract adds: it collects its marks."""

    def whole(world: World) -> None:
        held, waiting = (
            (world.mine[0], world.mine[1])
            if who == VICTIM
            else (
                next(slot for (whose, slot), _ in world.held if whose == who),
                next(slot for whose, slot in world.waiting if whose == who),
            )
        )
        act(world, held, waiting)
        _collect(who)(world)

    return whole


def _operations(who: int) -> dict[str, Act]:
    return {
        "acquire": _of(who, lambda w, _h, _w: w.people[who].acquire(w.deployment, w.generation, FAR)),
        "release": _of(who, lambda w, held, _w: w.people[who].release(held)),
        "cancel": _of(who, lambda w, _h, waiting: w.people[who].cancel(waiting)),
        "retry": _of(who, lambda w, held, _w: w.people[who].retry(held, FAR)),
    }


HELD_UP = {
    **_operations(VICTIM),
    "configure": lambda w: w.table.configure_deployment(w.deployment, 2, 100),
    "drain": lambda w: w.table.set_replica_state(w.members[0], _core.REPLICA_DRAINING),
    "add replica": lambda w: w.table.add_replica(w.deployment, b"another", _core.REPLICA_READY),
    "remove replica": lambda w: w.table.remove_replica(w.members[0]),
    "recover": lambda w: w.table.recover(3),
}
BESIDE = {**_operations(B), "look": lambda w: w.table.deployment(w.deployment)}


def inside(points: list[str], at: int) -> bool:
    """Whether a process that has passed `at` of these points has a lock in its hands."""
    held = [name for name in points[:at] if name in ("lock: taken", "lock: free")]
    return held.count("lock: taken") > held.count("lock: free")


def judge(world: World, *, everybody_lives: bool) -> None:
    """No place lost or given twice; who lives was rung; and after a recovery of both the world is whole."""
    for replica in world.table.replicas(world.deployment):
        load, capacity = world.table.replica(replica), world.table.deployment(world.deployment).capacity
        assert load.in_flight <= max(capacity, 1)
    if everybody_lives:
        assert world.table.check() == []
        for who in (VICTIM, B):
            bell, mail = world.bench.rung(who), world.people[who].mail()
            assert bell or not mail, f"holder {who} has mail and was not rung"
        world.read_mail(only=C)
    for who in (VICTIM, B):
        world.table.mark_absent(who)
        world.table.recover(who)
    world.table.repair()
    world.only_survivor(C)
    world.judge()
    world.bench.close()


def held_up(first: str, second: str, killed: bool) -> dict[str, object]:
    """`first` is held at each of its points while `second` runs, and then killed or let go."""
    world = arrange()
    points = Actor(lambda: HELD_UP[first](world)).wait().points
    world.bench.close()
    waited = 0
    for at in range(1, len(points) + 1):
        world = arrange()
        one = Actor(lambda world=world: HELD_UP[first](world), at, signal.SIGSTOP).wait()  # type: ignore[misc]
        assert one.stopped
        other = Actor(lambda world=world: BESIDE[second](world))  # type: ignore[misc]
        if inside(points, at):
            waited += not other.wait_until_blocked()
        else:
            other.wait()
        _ = one.kill() if killed else one.resume().wait()
        other.wait()
        judge(world, everybody_lives=not killed)
    return {"points": len(points), "waited": waited}


def mended_by_two(first: str) -> dict[str, object]:
    """`first` dies in the lock while two wait for it; the one that gets it dies at each point of mending it, too."""
    world = arrange()
    points = Actor(lambda: HELD_UP[first](world)).wait().points
    world.bench.close()
    inner = [at for at in range(1, len(points) + 1) if inside(points, at)]
    deaths = 0
    for at in {inner[0], inner[len(inner) // 2], inner[-1]}:
        for after in count(1):
            world = arrange()
            one = Actor(lambda world=world: HELD_UP[first](world), at, signal.SIGSTOP).wait()  # type: ignore[misc]
            two = Actor(lambda world=world: BESIDE["release"](world), after)  # type: ignore[misc]
            three = Actor(lambda world=world: BESIDE["look"](world))  # type: ignore[misc]
            two.wait_until_blocked()
            three.wait_until_blocked()
            one.kill()
            survived = not two.wait().dead
            three.wait()
            judge(world, everybody_lives=False)
            if survived:
                break
            deaths += 1
    return {"deaths": deaths}


def answer(question: str) -> dict[str, object]:
    signal.alarm(HANG_S)
    try:
        kind, *names = question.split(" / ")
        return mended_by_two(*names) if kind == "mended by two" else held_up(*names, killed=kind == "killed")
    except AssertionError:
        return {"failure": traceback.format_exc()}
    finally:
        signal.alarm(0)


def main() -> None:
    for line in sys.stdin:
        print(json.dumps(answer(line.strip())), flush=True)


if __name__ == "__main__":
    main()
