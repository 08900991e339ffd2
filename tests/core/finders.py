"""Everything that may be the first to find a lock whose owner died inside: each must mend what it finds, then work.

Owns: the calls, made by survivors or the controller before any recovery, and what they mean for the world's books.
Never: kills or judges. The names are test ids.
"""

from __future__ import annotations

from collections.abc import Callable

from fe import _core
from tests.core.tables import FAR
from tests.core.world import LIMITS, VICTIM, B, C, World


def arrange() -> World:
    """Two places: the victim's and a survivor's; two wait."""
    world = World(replicas=2)
    world.hold(VICTIM)
    world.hold(B)
    world.wait(C, B)
    return world


def act(world: World) -> None:
    """Crosses the lock three times: a hand-over, a place in the queue, and leaving it."""
    world.victim.release(world.mine[0])
    _, slot, _ = world.victim.acquire(world.deployment, world.generation, FAR)
    world.victim.cancel(slot)


def _acquire(world: World) -> None:
    _enter(world, *world.people[C].acquire(world.deployment, world.generation, FAR))


def _enter(world: World, result: int, slot: int, replica: int) -> None:
    world.read_mail(rung=False)
    if result == _core.HELD:
        world.held.append(((C, slot), replica))
    else:
        assert result == _core.WAITING
        world.waiting.append((C, slot))
        world.read_mail(rung=False)


def _await(world: World) -> None:
    _enter(world, *world.people[C].await_(world.deployment, world.generation, FAR))


def _try_acquire(world: World) -> None:
    result, slot, replica = world.people[C].try_acquire(world.deployment, world.generation)
    if result == _core.HELD:
        world.held.append(((C, slot), replica))
    else:
        assert result == _core.BUSY


def _retry(world: World) -> None:
    """Of a lease taken before anyone waited: whoever comes first, it does."""
    (who, slot), _ = world.held.pop(0)
    result, replica = world.people[who].retry(slot, FAR)
    assert result == _core.HELD
    world.held.append(((who, slot), replica))


def _cancel(world: World) -> None:
    who, slot = world.waiting[-1]
    result, replica = world.people[who].cancel(slot)
    if result == _core.CANCELLED:
        world.waiting.pop()
    else:
        world.read_mail(rung=False)  # those before it must have been served too
        assert world.waiting == [(who, slot)]
        world.held.append((world.waiting.pop(), replica))


def _add_deployment(world: World) -> None:
    world.table.add_deployment("another", 1, 1)


def _claim_another(world: World) -> None:
    world.table.holder(LIMITS.holders - 1)


FINDERS: dict[str, Callable[[World], object]] = {
    "acquire": _acquire,
    "await": _await,
    "try_acquire": _try_acquire,
    "release": lambda w: w.let_go(),
    "retry": _retry,
    "cancel": _cancel,
    "collect": lambda w: w.read_mail(rung=False),
    "failed": lambda w: w.people[B].failed(w.members[0], 1, 5),
    "failed, ejects": lambda w: w.people[B].failed(w.members[0], 1, 1),
    "succeeded": lambda w: w.people[B].succeeded(w.members[0]),
    "adopt": lambda w: w.held.append(((C, w.people[C].adopt(w.deployment, w.members[0])), w.members[0])),
    "deployment": lambda w: w.table.deployment(w.deployment),
    "deployments": lambda w: w.table.deployments(),
    "replica": lambda w: w.table.replica(w.members[0]),
    "replicas": lambda w: w.table.replicas(w.deployment),
    "check": lambda w: w.table.check(),
    "holder_state": lambda w: w.table.holder_state(VICTIM),
    "claim another holder": _claim_another,
    "recover another holder": lambda w: w.table.recover(LIMITS.holders - 1),
    "repair": lambda w: w.table.repair(),
    "configure": lambda w: w.table.configure_deployment(w.deployment, 2, 50),
    "set_replica_state": lambda w: w.table.set_replica_state(w.members[0], _core.REPLICA_DRAINING),
    "add_replica": lambda w: w.table.add_replica(w.deployment, b"another", _core.REPLICA_READY),
    "remove_replica": lambda w: w.table.remove_replica(w.members[0]),
    "add_deployment": _add_deployment,
    "remove_deployment": lambda w: w.table.remove_deployment(w.deployment),
    "publish": lambda w: w.table.publish(b"news"),
    "snapshot": lambda w: w.table.snapshot(),
    "ring_all": lambda w: w.table.ring_all(),
}
