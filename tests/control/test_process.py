"""Local replicas with real commands: how many run, ports, restarts, roll-out one by one, take-over, the end."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from fe.config.annotations import Secret
from fe.config.schema import Endpoint, Keys, ProcessReplicas, RouterConfig
from fe.control import health
from fe.control.deployment import Deployment
from fe.control.health import HealthPolicy, Probe
from fe.control.providers import process
from fe.control.providers.local import ReplicaId, _listening_range
from fe.control.providers.process import ProcessSpec
from tests.control.harness import COMMAND, Stage, eventually, lease, on_loop, plan, spec, stage


@pytest.fixture(autouse=True)
def quick_restarts(monkeypatch):
    monkeypatch.setattr(process, "BACKOFF_FIRST", 0.05)
    monkeypatch.setattr(process, "POLL", 0.01)


FALL = """
import os, signal, socket, sys
code = b"200 OK"
def fall(*_):
    global code
    code = b"500 NO"
signal.signal(signal.SIGUSR1, fall)
"""


async def ask(port: int) -> str:
    """Pid and mark of the replica that serves there."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
    answer = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return answer.rpartition("\r\n")[2]


async def wait_ready(s: Stage, deployment: Deployment, count: int) -> None:
    await eventually(
        lambda: list(s.states(deployment).values()) == ["ready"] * count and len(s.peer.processes) == count,
        f"exactly {count} ready",
    )


async def marks(s: Stage, deployment: Deployment) -> set[str]:
    return {(await ask(int(address.rpartition(":")[2]))).split()[1] for address in s.states(deployment)}


@on_loop
async def test_as_many_as_wanted_each_with_its_port():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(), count=3))
        deployment.start()
        await wait_ready(s, deployment, 3)
        ports = [int(address.rpartition(":")[2]) for address in s.states(deployment)]
        low, high = _listening_range()
        assert len(set(ports)) == 3
        assert all(low <= port <= high for port in ports)
        pids = {(await ask(port)).split()[0] for port in ports}
        assert pids == {str(one.pid) for one in s.peer.processes.values()}


@on_loop
async def test_the_port_is_put_in_and_keys_are_kept_out(monkeypatch):
    monkeypatch.setenv("FE_TEST_KEY", "secret")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/n")
    monkeypatch.setenv("FE_TEST_OTHER", "inherited")
    replicas = ProcessReplicas(
        (*COMMAND, "--at", "{port}"), env={"AT": "127.0.0.1:{port}"}, cwd="/", output="/var/log/o-{port}"
    )
    keyed = Endpoint("e", keys=Keys(primary=Secret(b"x" * 32, "env:FE_TEST_KEY")))
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(ProcessSpec(replicas, RouterConfig(endpoints=(keyed,)))))
        deployment.start()
        [message] = await eventually(lambda: s.peer.spawned, "spawned")
        port = message.argv[-1]
        assert message.env["PORT"] == port
        assert message.env["AT"] == f"127.0.0.1:{port}"
        assert message.output == f"/var/log/o-{port}"
        assert message.env["FE_TEST_OTHER"] == "inherited"
        assert "FE_TEST_KEY" not in message.env
        assert "NOTIFY_SOCKET" not in message.env
        assert "secret" not in message.id


@on_loop
async def test_one_that_dies_is_replaced_under_a_new_id():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(), count=2))
        deployment.start()
        await wait_ready(s, deployment, 2)
        before = set(s.peer.processes)
        [victim, other] = before
        s.peer.kill(victim)
        await eventually(lambda: victim not in s.peer.processes, "dead")
        await wait_ready(s, deployment, 2)
        assert set(s.peer.processes) & before == {other}
        assert len({message.id for message in s.peer.spawned}) == 3
        assert s.peer.stopped == []


@on_loop
async def test_its_requests_are_not_moved_to_its_successor():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec()))
        deployment.start()
        await wait_ready(s, deployment, 1)
        slot, _ = lease(s.holder, s.table, deployment.index)
        s.peer.kill(next(iter(s.peer.processes)))
        await eventually(lambda: sorted(s.in_table(deployment.index).values()) == ["ready", "removing"], "replaced")
        s.holder.release(slot)
        assert list(s.in_table(deployment.index).values()) == ["ready"]


@on_loop
async def test_crashes_in_a_row_are_slowed_down_and_told(caplog):
    crash = (sys.executable, "-S", "-c", "raise SystemExit(3)")
    caplog.set_level("INFO", "fe")
    async with stage() as s:
        replicas = ProcessReplicas(crash, cwd="/", output="/var/log/model-{port}.log")
        deployment = Deployment.create(s.around, plan(ProcessSpec(replicas, RouterConfig())))
        deployment.start()
        told = await eventually(
            lambda: [record for record in caplog.records if record.getMessage() == "local replicas crash in a row"],
            "told",
        )
        fields = told[0].fields
        assert (fields["deployment"], fields["how"], fields["crashes"]) == ("e/d", "status 3", 3)
        assert fields["output"] == "/var/log/model-{port}.log"
        starts = len(s.peer.spawned)
        assert starts <= 6  # at 0, 0, 50, 100, 200 ms, and the next
        deployment.apply(plan(spec("mended")))
        await wait_ready(s, deployment, 1)


@on_loop
async def test_one_that_runs_and_never_becomes_ready_fails_and_is_told_once(monkeypatch, caplog):
    monkeypatch.setattr(health, "STARTUP_PERIOD", 0.02)
    deaf = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(command=deaf), count=2))
        deployment.start()
        await eventually(lambda: deployment.counts(deployment.load) == (0, 2, 0), "both start")
        monkeypatch.setattr(health, "READY_WITHIN", 0.3)
        await eventually(lambda: deployment.counts(deployment.load) == (0, 0, 2), "they have had their time")
        await asyncio.sleep(0.2)  # some probes
        told = [one for one in caplog.records if one.getMessage().startswith("a replica has not been ready for 0.3 s")]
        assert len({one.fields["replica"] for one in told}) == len(told) == len(s.peer.spawned) == 2
        monkeypatch.setattr(health, "READY_WITHIN", 600.0)
        deployment.apply(plan(spec("mended"), count=2))
        await wait_ready(s, deployment, 2)
        assert deployment.counts(deployment.load) == (2, 0, 0)


@on_loop
async def test_one_that_cannot_be_started_is_tried_again(caplog):
    async with stage() as s:
        s.peer.refuse = "its command: No such file or directory"
        deployment = Deployment.create(s.around, plan(spec()))
        deployment.start()
        await eventually(lambda: len(s.peer.spawned) >= 3, "tried")
        s.peer.refuse = None
        deployment.apply(plan(spec(LARGE="x" * 200_000)))
        await eventually(lambda: "command and environment have" in str([one.fields for one in caplog.records]), "told")
        deployment.apply(plan(spec()))
        await wait_ready(s, deployment, 1)


@pytest.mark.parametrize("refuse", [None, "its keeper ended before it was executed"])
@on_loop
async def test_one_that_is_not_wanted_any_more_before_it_was_started_is_ended_and_no_crash(refuse, caplog):
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec()))
        deployment.start()
        s.peer.refuse = refuse
        deployment.apply(plan(spec(), count=0))  # asked to start and to stop in one turn of the loop
        await eventually(lambda: s.peer.stopped and not s.peer.processes and not deployment.replicas(), "ended")
        assert [message.id for message in s.peer.spawned] == s.peer.stopped
        s.peer.refuse = None
        deployment.apply(plan(spec()))
        await wait_ready(s, deployment, 1)
        assert not [record for record in caplog.records if "started again" in record.getMessage()]


@on_loop
async def test_a_changed_command_is_rolled_out_one_by_one():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec("old"), count=3))
        deployment.start()
        await wait_ready(s, deployment, 3)
        seen: set[tuple[int, int]] = set()
        deployment.apply(plan(spec("new"), count=3))

        def done() -> bool:
            states = list(s.states(deployment).values())
            seen.add((states.count("ready"), len(s.peer.processes)))
            return len(s.peer.stopped) == 3 and len(s.peer.processes) == 3 and states == ["ready"] * 3

        await eventually(done, "rolled out")
        assert await marks(s, deployment) == {"new"}
        assert min(ready for ready, _ in seen) == 3  # never less to serve with than before
        assert max(processes for _, processes in seen) <= 4  # one more at most, those that end included
        assert len(s.peer.spawned) == 6


@on_loop
async def test_an_old_one_finishes_its_request_before_it_ends():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec("old")))
        deployment.start()
        await wait_ready(s, deployment, 1)
        slot, _ = lease(s.holder, s.table, deployment.index)
        deployment.apply(plan(spec("new")))
        await eventually(lambda: sorted(s.states(deployment).values()) == ["draining", "ready"], "draining")
        assert s.peer.stopped == []
        s.holder.release(slot)
        await wait_ready(s, deployment, 1)
        assert await marks(s, deployment) == {"new"}


@on_loop
async def test_one_that_never_finishes_is_ended_after_the_limit():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec("old"), drain_limit=0.1))
        deployment.start()
        await wait_ready(s, deployment, 1)
        slot, taken = lease(s.holder, s.table, deployment.index)
        deployment.apply(plan(spec("new"), drain_limit=0.1))
        await eventually(lambda: len(s.peer.stopped) == 1, "ended")
        await wait_ready(s, deployment, 1)
        assert s.table.replica(taken).in_flight == 1  # its record stays until the lease is given back
        s.holder.release(slot)


@on_loop
async def test_a_new_command_that_does_not_work_stops_the_roll_out():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec("old"), count=2))
        deployment.start()
        await wait_ready(s, deployment, 2)
        deaf = (sys.executable, "-S", "-c", "import time; time.sleep(600)")
        deployment.apply(plan(spec("deaf", deaf), count=2))
        await eventually(lambda: len(s.peer.processes) == 3, "one of the new ones is there")
        await eventually(lambda: sorted(s.states(deployment).values()) == ["ready", "ready", "starting"], "waiting")
        await asyncio.sleep(0.3)
        assert s.peer.stopped == []
        deployment.apply(plan(spec("good"), count=2))
        await eventually(lambda: len(s.peer.stopped) == 3, "all others were ended")
        await wait_ready(s, deployment, 2)
        assert await marks(s, deployment) == {"good"}


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 0), (0, 2)])
@on_loop
async def test_the_number_follows_the_configuration(before, after):
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(), count=before))
        deployment.start()
        await wait_ready(s, deployment, before)
        deployment.apply(plan(spec(), count=after))
        await wait_ready(s, deployment, after)
        assert len(s.peer.stopped) == max(0, before - after)


@on_loop
async def test_fewer_and_changed_at_once():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec("old"), count=3))
        deployment.start()
        await wait_ready(s, deployment, 3)
        deployment.apply(plan(spec("new"), count=1))
        await eventually(lambda: len(s.peer.stopped) == 3, "the old ones are ended")
        await wait_ready(s, deployment, 1)
        assert await marks(s, deployment) == {"new"}


@on_loop
async def test_liveness_restarts_it():
    # The process runs on, but answers 500 once it has been told to.
    sick = COMMAND[-1].replace("200 OK", "%s").replace("% len(body)", "% (code, len(body))")
    sick = sick.replace("import os, socket, sys", FALL)
    probe = Probe(period=0.05, initial_delay=0, timeout=60, failure_threshold=2)
    async with stage() as s:
        command = spec("x", (*COMMAND[:-1], sick))
        deployment = Deployment.create(s.around, plan(command))
        deployment.start()
        await wait_ready(s, deployment, 1)
        deployment.apply(plan(command, health=HealthPolicy(liveness=probe)))
        [first] = s.peer.processes
        s.peer.kill(first, signal.SIGUSR1)
        most = 0

        def ended() -> bool:
            nonlocal most
            most = max(most, len(s.peer.processes))
            return first in s.peer.stopped and first not in s.peer.processes

        await eventually(ended, "ended")
        assert most == 1  # its successor starts when it is gone, not beside it
        deployment.apply(plan(command))
        await wait_ready(s, deployment, 1)


@on_loop
async def test_closing_a_deployment_serves_what_waits_and_what_runs_and_ends_all():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan(spec(), count=1))
        deployment.start()
        await wait_ready(s, deployment, 1)
        slot, _ = lease(s.holder, s.table, deployment.index)
        result, waiting, _ = s.holder.acquire(deployment.index, deployment.generation, 2**62)
        assert result == 1
        closing = asyncio.ensure_future(deployment.close())
        await asyncio.sleep(0.3)
        assert s.peer.stopped == []
        s.holder.release(slot)
        assert s.holder.collect() == [(waiting, s.table.replicas(deployment.index)[0], 0)]  # its turn, not EXPIRED
        await asyncio.sleep(0.3)
        assert s.peer.stopped == []
        s.holder.release(waiting)
        await closing
        assert s.peer.processes == {}
        assert s.table.deployments() == []


@on_loop
async def test_a_successor_takes_running_ones_up_and_starts_none_twice():
    async with stage() as s:
        former = Deployment.create(s.around, plan(spec(), count=3))
        former.start()
        await wait_ready(s, former, 3)
        slot, taken = lease(s.holder, s.table, former.index)
        records = s.table.replicas(former.index)
        s.abandon()
        dies = next(iter(s.peer.processes))
        process_of_dead = s.peer.processes[dies]
        after = s.successor()
        s.peer.kill(dies)
        await eventually(lambda: process_of_dead.returncode is not None, "dead while nobody looked")
        ids = [found for text in s.peer.running if (found := ReplicaId.parse(text))]
        deployment = Deployment.take_up(after.around, plan(spec(), count=3), former.index, ids)
        deployment.start()
        await wait_ready(after, deployment, 3)
        assert len(s.peer.spawned) == 4
        assert len(set(records) & set(s.table.replicas(former.index))) >= 2
        assert s.peer.stopped == []
        assert s.table.replica(taken).in_flight <= 1
        s.holder.release(slot)
        after.checker.stop()


@on_loop
async def test_a_successor_goes_on_with_a_drain_and_a_roll_out():
    async with stage() as s:
        former = Deployment.create(s.around, plan(spec("old")))
        former.start()
        await wait_ready(s, former, 1)
        slot, _ = lease(s.holder, s.table, former.index)
        former.apply(plan(spec("new")))
        await eventually(lambda: sorted(s.states(former).values()) == ["draining", "ready"], "draining")
        former._provider._arm = lambda *_: None  # type: ignore[attr-defined]
        former._provider._step = lambda: None  # type: ignore[attr-defined]
        s.abandon()
        after = s.successor()
        ids = [found for text in s.peer.running if (found := ReplicaId.parse(text))]
        deployment = Deployment.take_up(after.around, plan(spec("new")), former.index, ids)
        deployment.start()
        assert sorted(after.states(deployment).values()) == ["draining", "ready"]
        s.holder.release(slot)
        await wait_ready(after, deployment, 1)
        assert await marks(after, deployment) == {"new"}
        assert len(s.peer.spawned) == 2
        after.checker.stop()
