"""Local beside static replicas: deployments that change their kind or make way for others; ids, revisions, ports."""

from __future__ import annotations

import asyncio
import socket

from fe.config.schema import ProcessReplicas, RouterConfig
from fe.control.addresses import pack_inet
from fe.control.deployment import Deployment
from fe.control.providers.local import LocalHost, ReplicaId
from fe.control.providers.process import ProcessSpec
from tests.control.harness import COMMAND, eventually, on_loop, plan, spec, stage
from tests.support.fe_process import dead_port


@on_loop
async def test_from_static_to_process_and_back_without_a_gap():
    async with stage() as s:
        address = f"127.0.0.1:{dead_port()}"
        deployment = Deployment.create(s.around, plan((address,)))
        deployment.start()
        least = []

        async def wait_states(states: list[str]) -> None:
            def reached() -> bool:
                least.append(s.table.deployment(deployment.index).ready)
                return sorted(s.in_table(deployment.index).values()) == states

            await eventually(reached, str(states))

        deployment.apply(plan(spec(), count=2))
        await wait_states(["ready", "ready"])
        assert address not in s.states(deployment)
        deployment.apply(plan((address,)))
        await wait_states(["ready"])
        await eventually(lambda: not s.peer.processes, "local ones are ended")
        assert s.states(deployment) == {address: "ready"}
        assert min(least) >= 1


@on_loop
async def test_a_record_that_was_freed_and_used_again_is_left_alone():
    deaf = (*COMMAND[:-1], "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n" + COMMAND[-1])
    async with stage() as s:
        old = Deployment.create(s.around, plan(spec("deaf", deaf), name="e/old"))
        old.start()
        await eventually(lambda: list(s.states(old).values()) == ["ready"], "ready")
        [record] = s.table.replicas(old.index)
        closing = asyncio.ensure_future(old.close())
        await eventually(lambda: s.peer.stopped and not s.table.deployments(), "its records are free, it runs on")
        new = Deployment.create(s.around, plan(("127.0.0.1:7001",), name="e/new"))
        new.start()
        assert s.table.replicas(new.index) == [record]
        s.peer.kill(s.peer.stopped[0])
        await closing
        assert s.in_table(new.index) == {"127.0.0.1:7001": "ready"}


@on_loop
async def test_to_no_local_replica_at_all():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan((f"127.0.0.1:{dead_port()}",)))
        deployment.start()
        deployment.apply(plan(spec(), count=0))
        await eventually(lambda: not s.states(deployment), "the address is gone, nobody is waited for")


@on_loop
async def test_a_successor_in_the_middle_of_the_change():
    async with stage() as s:
        former = Deployment.create(s.around, plan(spec(), count=2))
        former.start()
        await eventually(lambda: list(s.states(former).values()) == ["ready", "ready"], "ready")
        s.abandon()
        after = s.successor()
        hosts: dict[str, list[bytes]] = {}

        async def resolve(host: str, _port: int) -> list[bytes]:
            if host not in hosts:
                raise OSError(host)
            return hosts[host]

        object.__setattr__(after.around, "resolve", resolve)
        ids = [found for text in s.peer.running if (found := ReplicaId.parse(text))]
        deployment = Deployment.take_up(after.around, plan(("models:80",)), former.index, ids)
        deployment.start()
        assert list(after.states(deployment).values()) == ["ready", "ready"]
        assert s.peer.stopped == []
        hosts["models"] = [pack_inet("10.0.0.1", 80)]
        await eventually(lambda: s.in_table(former.index) == {"10.0.0.1:80": "ready"}, "changed over")
        await eventually(lambda: not s.peer.processes, "the local ones are ended")
        assert len(s.peer.spawned) == 2
        after.checker.stop()


def test_ids_carry_what_a_successor_needs():
    id_ = ReplicaId("model/blue-2", 12345, "abcdef012345", "0123456789ab")
    assert ReplicaId.parse(id_.text) == id_
    assert ReplicaId.parse("strange") is None
    assert ReplicaId.parse("model/blue/x-y-z") is None


def test_revisions_follow_what_a_replica_is_made_of():
    base = spec().process
    config = RouterConfig()
    same = ProcessReplicas(base.command, env=dict(base.env), cwd=base.cwd, stop_grace=99.0)
    others = [
        ProcessReplicas((*base.command, "x"), env=base.env, cwd=base.cwd),
        ProcessReplicas(base.command, env={**base.env, "A": "1"}, cwd=base.cwd),
        ProcessReplicas(base.command, env=base.env, cwd="/var"),
        ProcessReplicas(base.command, env=base.env, cwd=base.cwd, output="/var/log/o"),
    ]
    assert ProcessSpec(same, config).revision == ProcessSpec(base, config).revision
    assert len({ProcessSpec(one, config).revision for one in (base, *others)}) == 5


def test_ports_in_use_are_not_given_out():
    host = LocalHost(lambda _message: None)
    given = {host.free_port() for _ in range(50)}
    assert len(given) == 50
    with socket.create_server(("127.0.0.1", host.free_port())) as taken:
        again = [host.free_port() for _ in range(200)]
        assert taken.getsockname()[1] not in again
