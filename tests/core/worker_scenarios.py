"""What workers and the supervisor do to the table, in the situations that take them along different stores.

Owns: how each is arranged and what the victim does. Never: kills or judges. What a controller does is in
control_scenarios.py.
"""

from __future__ import annotations

from collections.abc import Callable

from fe import _core
from fe._core import Table
from tests.core.scenario import add
from tests.core.tables import FAR, PAST
from tests.core.world import LIMITS, VICTIM, B, C, World


def _controller_told(world: World) -> None:
    """Whatever a death came between: the controller looks at what changed."""
    replica = world.members[0]
    if world.table.replica(replica).state in (_core.REPLICA_FREE, _core.REPLICA_EJECTED, _core.REPLICA_DRAINING):
        assert world.bench.control_rung()


# --- A worker's operations -------------------------------------------------------------------------------------------


def _free() -> World:
    world = World(capacity=2, replicas=3)
    world.hold(B, 2)
    return world


def levels() -> World:
    """Loads 2, 1, 1 and 0 of 4: levels to open, close, renumber and join."""
    world = World(capacity=4, replicas=4)
    world.hold(B, 8)
    for seat, replica in [entry for entry in world.held if entry[1] in world.members[1:]]:
        if sum(1 for _, at in world.held if at == replica) > (replica != world.members[3]):
            world.people[seat[0]].release(seat[1])
            world.held.remove((seat, replica))
    return world


def _busy() -> World:
    """The victim holds one place, the survivors the other."""
    world = World(capacity=1, replicas=2)
    world.hold(VICTIM)
    world.hold(B)
    return world


def _queued() -> World:
    """The victim waits between others."""
    world = World()
    world.hold(B)
    world.wait(C, VICTIM, B, C)
    return world


def _acquire(world: World) -> None:
    world.victim.acquire(world.deployment, world.generation, FAR)


def _release(world: World) -> None:
    world.victim.release(world.mine[0])


def _and_waiting(*those: int, base: Callable[[], World] = _busy) -> Callable[[], World]:
    def arrange() -> World:
        world = base()
        world.wait(*those)
        return world

    return arrange


def _expired_first() -> World:
    world = _busy()
    world.wait(B, C, deadline=PAST)
    world.wait(C, B)
    return world


def _lowered() -> World:
    world = World(capacity=2)
    world.hold(VICTIM)
    world.hold(B)
    world.wait(C)
    world.table.configure_deployment(world.deployment, 1, 100)
    return world


def _last_lease(state: int) -> Callable[[], World]:
    def arrange() -> World:
        world = _busy()
        world.wait(C)
        world.table.set_replica_state(world.table.replicas(world.deployment)[0], state)
        return world

    return arrange


def _full() -> World:
    world = World(max_queue=1)
    world.hold(B)
    world.wait(C)
    return world


def _no_replica() -> World:
    world = World()
    world.hold(B)
    world.wait(C)
    world.table.set_replica_state(world.members[0], _core.REPLICA_STARTING)
    return world


def _cold() -> World:
    """Nobody waits and no replica is ready; nor is anybody told yet."""
    world = World()
    world.table.set_replica_state(world.members[0], _core.REPLICA_STARTING)
    return world


def _cold_behind() -> World:
    world = _cold()
    for who in (C, B):
        result, slot, _ = world.people[who].await_(world.deployment, world.generation, FAR)
        assert result == _core.WAITING
        world.waiting.append((who, slot))
    return world


def _await(world: World) -> None:
    world.victim.await_(world.deployment, world.generation, FAR)


def _replica_comes(world: World) -> None:
    """Who can start a replica has heard of the need, or of a death behind which there may be one; then it is ready."""
    assert world.bench.control_rung()
    world.table.set_replica_state(world.members[0], _core.REPLICA_READY)


def _many_held() -> World:
    world = World(capacity=4, replicas=3)
    world.hold(VICTIM, 7)
    world.hold(B)
    return world


def _removed_deployment() -> World:
    world = World()
    world.hold(VICTIM)
    world.table.remove_deployment(world.deployment)
    return world


add("acquire a free place", _free, _acquire)
add("acquire among levels", levels, lambda w: [_acquire(w) for _ in range(5)])
add("acquire and wait", _and_waiting(), _acquire)
add("acquire and wait behind others", _and_waiting(B, C), _acquire)
add("acquire, queue full", _full, _acquire)
add("acquire, no replica", _no_replica, _acquire)
add("acquire, gone", _free, lambda w: w.victim.acquire(w.deployment, w.generation + 1, FAR))
add("await a free place", _free, _await)
add("await a place behind others", _and_waiting(C), _await)
add("await the first replica", _cold, _await, finish=_replica_comes)
add("await the first replica behind others", _cold_behind, _await, finish=_replica_comes, thorough=True)
add("await, queue full", _full, _await)
add("try_acquire a free place", _free, lambda w: w.victim.try_acquire(w.deployment, w.generation))
add("try_acquire, busy", _and_waiting(C), lambda w: w.victim.try_acquire(w.deployment, w.generation))
add("release, nobody waits", _busy, _release)
add("release among levels", _many_held, lambda w: [w.victim.release(slot) for slot in w.mine])
add("release to another's waiter", _and_waiting(C, B), _release, thorough=True)
add("release to an own waiter", _and_waiting(VICTIM, C), _release)
add("release, the first have expired", _expired_first, _release)
add("release above a lowered capacity", _lowered, _release)
for _kind, _arrange in (
    ("draining replica", _last_lease(_core.REPLICA_DRAINING)),
    ("leaving replica", _last_lease(_core.REPLICA_REMOVING)),
    ("leaving deployment", _removed_deployment),
):
    add(f"release the last lease of a {_kind}", _arrange, _release, finish=_controller_told)


# --- Giving up, coming late ------------------------------------------------------------------------------------------


def _at_the_front() -> World:
    world = World()
    world.hold(B)
    world.wait(VICTIM, C)
    return world


def _at_the_end() -> World:
    world = World()
    world.hold(B)
    world.wait(C, VICTIM)
    return world


def _granted() -> World:
    world = _at_the_front()
    world.let_go()
    return world


def _expired() -> World:
    world = World()
    world.hold(B)
    world.wait(VICTIM, deadline=PAST)
    world.wait(C)
    world.let_go()
    return world


def _cancel(world: World) -> None:
    world.victim.cancel(world.mine[0])


def _collect(world: World) -> None:
    assert world.victim.collect()


def _two_granted() -> World:
    world = World(replicas=3)
    world.hold(B, 3)
    world.wait(VICTIM, VICTIM, C)
    world.let_go()
    world.let_go()
    return world


def _stale() -> World:
    """A mark that outlived its slot, and a waiter in that slot."""
    world = _granted()
    assert world.victim.cancel(world.mine[0])[0] == _core.HELD
    return world


add("cancel in the middle", _queued, _cancel)
add("cancel at the front", _at_the_front, _cancel)
add("cancel at the end", _at_the_end, _cancel)
add("cancel after a grant", _granted, lambda w: (_cancel(w), w.victim.release(w.mine[0])))
add("cancel after expiry", _expired, _cancel)
add("collect a grant", _granted, _collect)
add("collect an expiry", _expired, _collect)
add("collect in parts", _two_granted, lambda w: [w.victim.collect(1) for _ in range(3)])
add("collect a stale mark", _stale, lambda w: w.victim.collect())


# --- Retry, adoption, failures ---------------------------------------------------------------------------------------


def _retry(world: World) -> None:
    world.victim.retry(world.mine[0], FAR)


def _elsewhere() -> World:
    world = World(capacity=2, replicas=2)
    world.hold(VICTIM)
    world.hold(B)
    return world


def _retry_behind() -> World:
    """Who retries came later than one waiter and earlier than another."""
    world = World(replicas=2)
    world.hold(B, 2)
    world.wait(C, VICTIM, B)
    world.table.add_replica(world.deployment, b"lent", _core.REPLICA_READY)
    world.ready_again()
    lent = [r for r in world.table.replicas(world.deployment) if r not in world.members]
    assert world.victim.collect() == []
    world.let_go()
    assert [result for _, _, result in world.victim.collect()] == [_core.HELD]
    world.members += lent
    world.wait(C)
    return world


def _alone() -> World:
    world = World()
    world.hold(VICTIM)
    world.wait(B)
    world.table.set_replica_state(world.members[0], _core.REPLICA_EJECTED)
    return world


def _only() -> World:
    world = World()
    world.hold(VICTIM)
    world.table.set_replica_state(world.members[0], _core.REPLICA_EJECTED)
    return world


def _failed_once() -> World:
    world = _free()
    assert not world.people[B].failed(world.members[0], 1, 3)
    return world


add("retry elsewhere", _elsewhere, _retry)
add("retry before those who wait", _and_waiting(C, B), _retry)
add("retry among those who wait", _retry_behind, _retry)
add("retry, no replica", _alone, _retry)
add("retry, awaiting", _alone, lambda w: w.victim.retry(w.mine[0], FAR, True), finish=_replica_comes)
add("retry, awaiting before anyone", _only, lambda w: w.victim.retry(w.mine[0], FAR, True), finish=_replica_comes)
add("retry, gone", _removed_deployment, _retry)
add("retry from a draining replica", _last_lease(_core.REPLICA_DRAINING), _retry)
add("adopt above capacity", _and_waiting(C), lambda w: w.victim.adopt(w.deployment, w.members[0]))
add("a failure that ejects", _and_waiting(C), lambda w: w.victim.failed(w.members[0], 1, 1), finish=_controller_told)
add("a failure that counts", _free, lambda w: w.victim.failed(w.members[0], 1, 3))
add("a success after a failure", _failed_once, lambda w: w.victim.succeeded(w.members[0]))


# --- Holders ---------------------------------------------------------------------------------------------------------


def _dead() -> World:
    """The victim held and waited; nobody has recovered it."""
    world = _busy()
    world.wait(C, VICTIM, B)
    return world


def _announce(world: World) -> None:
    holder = world.table.holder(VICTIM)
    world.table.name_eventfd(VICTIM, -1)
    world.table.name_control_eventfd(-1)
    holder.set_active()
    holder.beat(1)


def _recover(world: World) -> None:
    world.table.mark_absent(VICTIM)
    world.table.recover(VICTIM)


add("claim what nobody recovered", _dead, _announce)
add("recover", _dead, _recover, thorough=True)
add("recover beside granted slots", _two_granted, _recover)
add("check", _dead, lambda w: w.table.check())
add("create", _free, lambda _w: Table.create(LIMITS))
