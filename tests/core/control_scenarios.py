"""What a controller does to the table: replicas and deployments come, change and go, a snapshot is published.

Owns: how each is arranged, what the victim does, and what its successor does again (`finish`). Never: kills or judges.
"""

from __future__ import annotations

from collections.abc import Callable

from fe import _core
from tests.core.scenario import add
from tests.core.worker_scenarios import levels
from tests.core.world import B, C, World


def _control(
    name: str,
    arrange: Callable[[], World],
    act: Callable[[World], object],
    finish: Callable[[World], object] | None = None,
    thorough: bool = False,
) -> None:
    add(name, arrange, act, finish=finish or act, by="controller", thorough=thorough)


def _survivors_only(capacity: int = 1, replicas: int = 2, waiters: tuple[int, ...] = (C, B)) -> Callable[[], World]:
    def arrange() -> World:
        world = World(capacity, replicas)
        world.hold(B, capacity * replicas)
        world.wait(*waiters)
        return world

    return arrange


def _in_state(state: int) -> Callable[[], World]:
    def arrange() -> World:
        world = _survivors_only()()
        world.table.set_replica_state(world.members[0], state)
        return world

    return arrange


def _becomes(state: int) -> Callable[[World], object]:
    return lambda w: w.table.set_replica_state(w.members[0], state)


def _add_replica(state: int) -> Callable[[World], object]:
    def act(world: World) -> None:
        known = [r for r in world.table.replicas(world.deployment) if r not in world.members]
        if not known:
            known = [world.table.add_replica(world.deployment, b"another", state)]
        world.table.set_replica_state(known[0], state)

    return act


def _remove_all(world: World) -> None:
    for replica in world.table.replicas(world.deployment):
        world.table.remove_replica(replica)


def _idle() -> World:
    world = levels()
    while world.held:
        world.let_go()
    return world


def _named(world: World) -> None:
    names = {world.table.deployment(i).name: i for i in world.table.deployments()}
    index = names.get("second") or world.table.add_deployment("second", 1, 1)[0]
    if not world.table.replicas(index):
        world.table.add_replica(index, b"second's", _core.REPLICA_READY)


def _used_before() -> World:
    """Records that were used and freed, so that they are used again."""
    world = _survivors_only()()
    index, _, _ = world.bench.deployment()
    world.table.remove_deployment(index)
    return world


def _remove_named(world: World) -> None:
    for index in world.table.deployments():
        if index != world.deployment:
            world.table.remove_deployment(index)


def _with_second() -> World:
    world = _survivors_only()()
    world.bench.deployment()
    return world


def _published(world: World) -> None:
    """The old version or the new, whole; the next goes through."""
    assert world.table.snapshot() in [(0, b""), (1, b"new")]
    version = world.table.publish(b"newer")
    assert world.table.snapshot() == (version, b"newer")


_control("replica becomes ready", _in_state(_core.REPLICA_STARTING), _becomes(_core.REPLICA_READY))
_control("replica comes back from ejection", _in_state(_core.REPLICA_EJECTED), _becomes(_core.REPLICA_READY))
_control("replica comes back from draining", _in_state(_core.REPLICA_DRAINING), _becomes(_core.REPLICA_READY))
_control("replica drains", _survivors_only(), _becomes(_core.REPLICA_DRAINING))
_control("replica is no longer ready", _survivors_only(), _becomes(_core.REPLICA_STARTING))
_control("idle replica drains", _idle, _becomes(_core.REPLICA_DRAINING))
_control("add a replica", _survivors_only(), _add_replica(_core.REPLICA_STARTING))
_control("add a ready replica", _survivors_only(), _add_replica(_core.REPLICA_READY))
_control("remove replicas in use", levels, _remove_all)
_control("remove idle replicas", _idle, _remove_all)
_control("add a deployment", _survivors_only(), _named)
_control("add a deployment again", _used_before, _named)
_control("remove a deployment", _with_second, _remove_named)
_control("remove a deployment in use", _survivors_only(), lambda w: w.table.remove_deployment(w.deployment))
_control("raise the capacity", _survivors_only(), lambda w: w.table.configure_deployment(w.deployment, 3, 100))
_control("lower the capacity", _survivors_only(2), lambda w: w.table.configure_deployment(w.deployment, 1, 100))
_control("lift the capacity", _survivors_only(), lambda w: w.table.configure_deployment(w.deployment, 0, 100))
_control("publish", _survivors_only(), lambda w: w.table.publish(b"new"), _published)
_control("ring everybody", _survivors_only(), lambda w: w.table.ring_all())
_control("repair", _survivors_only(), lambda w: w.table.repair(), thorough=True)
