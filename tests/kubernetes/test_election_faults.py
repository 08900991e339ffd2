"""Nobody leads past its own lease, whatever the server, the network or the scheduler of the machine does, and only the
holder of the lease writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys

import pytest

from fe.control.kubernetes import client, election
from fe.control.kubernetes.client import UnreachableError
from fe.control.kubernetes.election import Elector, NotLeadingError, Timing
from tests.kubernetes.electing import LEASE, PATIENT, QUICK, elector, writes
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import (
    Clock,
    Seen,
    connected,
    eventually,
    in_virtual_time,
    no_tasks_left,
    on_loop,
    pod,
    reflector,
)
from tests.kubernetes.relay import Relay
from tests.project import tree

MAP = "/api/v1/namespaces/models/configmaps/work"
MERGE = "application/merge-patch+json"


@on_loop
async def test_a_renewal_whose_answer_is_lost_is_found_and_goes_on(tmp_path):
    async with Emulator() as emulator:
        told = []
        async with elector(emulator, tmp_path, told=told) as one:
            await eventually(lambda: one.leading, "it leads")
            lost = emulator.faults.lose(verb="update", times=1)
            await eventually(lambda: lost.hits, "an answer is lost")
            emulator.faults.remove(lost)
            done = len(writes(emulator))
            await eventually(lambda: len(writes(emulator)) > done + 4, "it goes on")
            assert told == [("a", True)]
            assert (await emulator.get(LEASE))["spec"]["leaseTransitions"] == 0
            emulator.faults.clear()


@on_loop
async def test_a_storm_of_conflicts_ends_the_leadership_and_its_end_restores_it(tmp_path):
    async with Emulator() as emulator:
        told, clock = [], Clock()
        async with elector(emulator, tmp_path, timing=PATIENT, told=told, clock=clock) as one:
            await eventually(lambda: one.leading, "it leads")
            storm = emulator.faults.status(409, verb="update")
            await eventually(lambda: storm.hits > 5, "it storms")
            assert one.leading  # until its time is over
            clock.now += PATIENT.renew_deadline
            assert not one.leading
            await eventually(lambda: told == [("a", True), ("a", False)], "it says so")
            emulator.faults.remove(storm)
            await eventually(lambda: one.leading, "it leads again")
            assert (await emulator.get(LEASE))["spec"]["leaseTransitions"] == 0


@on_loop
async def test_a_renewal_that_comes_too_late_is_not_sent(tmp_path):
    """The process was stopped between the decision to renew and the write: it looks first who leads now."""

    class Stopped(Clock):
        calls_left = -1

        def __call__(self):
            self.calls_left -= 1
            if self.calls_left == 0:
                self.now += PATIENT.renew_deadline
            return self.now

    async with Emulator() as emulator:
        clock = Stopped()
        async with elector(emulator, tmp_path, timing=PATIENT, clock=clock) as one:
            await eventually(lambda: one.leading and len(writes(emulator)) > 3, "it leads")
            await eventually(lambda: emulator.records[-1].status, "its last renewal is done")
            began, clock.calls_left = len(emulator.records), 2
            await eventually(lambda: len(emulator.records) > began + 1, "it goes on")
            assert [one.verb for one in emulator.records[began : began + 2]] == ["get", "update"]


@pytest.mark.parametrize("verb", ["create", "update"])
@on_loop
async def test_a_call_that_hangs_does_not_keep_the_leadership(verb, tmp_path):
    """Nothing runs in the loop but a call without an answer: the time alone has to say it."""
    async with Emulator() as emulator:
        told, clock = [], Clock()
        slow = Timing(duration=3.0, renew_deadline=2.0, retry=0.02)
        emulator.faults.lose(verb="create") if verb == "create" else None
        async with elector(emulator, tmp_path, timing=slow, told=told, clock=clock) as one:
            if verb == "create":
                await eventually(lambda: writes(emulator), "the lease is made, and nobody told so")
                assert (await emulator.get(LEASE))["spec"]["holderIdentity"] == one.holder
                assert not one.leading
                emulator.faults.clear()
            await eventually(lambda: one.leading, "it leads")
            hang = emulator.faults.hang(verb="update")
            await eventually(lambda: hang.hits, "a renewal hangs")
            clock.now += 1.99
            assert one.leading
            clock.now += 0.02
            assert not one.leading
            with pytest.raises(NotLeadingError):
                one.fence()
            await eventually(lambda: told[-1] == ("a", False), "it says so")
            emulator.faults.clear()


@on_loop
async def test_a_leadership_is_counted_from_the_beginning_of_the_renewal(tmp_path):
    async with Emulator() as emulator:
        clock = Clock()
        async with elector(emulator, tmp_path, timing=PATIENT, clock=clock) as one:
            await eventually(lambda: one.leading, "it leads")
            slow = emulator.faults.slow(0.2, verb="update", times=1)
            emulator.faults.hang(verb="update", skip=1)
            await eventually(lambda: slow.hits, "a slow renewal has begun")
            clock.now += PATIENT.renew_deadline - 1.0
            assert one.fence() == 1.0
            await eventually(lambda: emulator.faults.hits == 2, "it has succeeded, the next one has begun")
            assert one.fence() == 1.0
            emulator.faults.clear()


@in_virtual_time
async def test_a_slow_server_has_a_leader_all_the_same(tmp_path):
    """Each answer takes four tenths of what a leader goes on without one."""
    async with Emulator() as emulator:
        told, clock = [], asyncio.get_running_loop().time
        emulator.faults.slow(0.8)
        async with elector(emulator, tmp_path, timing=Timing(3.0, 2.0, 0.02), told=told, clock=clock):
            await eventually(lambda: sum(status == 200 for *_, status in writes(emulator)) >= 3, "it renews")
            assert told == [("a", True)]
            emulator.faults.clear()


@on_loop
async def test_a_watch_that_the_network_has_forgotten_is_begun_anew(tmp_path, monkeypatch):
    """It looks the same as one on which nothing happens; the election's next try does not."""
    monkeypatch.setattr(client, "SILENCE", 1.0)  # of a watch that was begun before the network came back
    async with no_tasks_left(), Emulator() as emulator:
        relay = Relay(emulator)
        await relay.start()
        async with connected(emulator, tmp_path, relay=relay) as cluster:
            one = Elector(cluster, "models", "fe", "a", lambda _: None, timing=QUICK)
            one.start()
            seen = Seen()
            async with reflector(cluster, seen) as watching:
                await eventually(lambda: watching.stale_for() == 0.0 and one.leading, "all is well")
                relay.freeze()
                await eventually(lambda: one.trouble, "a try hangs")
                await emulator.create(pod("m"))
                relay.thaw()
                await eventually(lambda: seen.names == {"m"}, "it is seen")
            await one.stop()
        await relay.stop()


@on_loop
async def test_stop_gives_up_within_its_limit_whatever_the_server_does(tmp_path, caplog, monkeypatch):
    async with no_tasks_left(), Emulator() as emulator:
        for fault in ("hang", "status", "away", "conflict"):
            told = []
            async with elector(emulator, tmp_path, told=told) as one:
                await eventually(lambda one=one: one.leading, "it leads")
                if fault == "hang":
                    monkeypatch.setattr(election, "RELEASE_WITHIN", 0.5)
                    emulator.faults.hang()
                elif fault == "status":
                    emulator.faults.status(500)
                elif fault == "conflict":
                    emulator.faults.status(409, verb="update", times=2)
                else:
                    await emulator.away()
                caplog.clear()
                await one.stop()
                assert told == [("a", True), ("a", False)]
                assert ("was not given up" in caplog.text) == (fault != "conflict")
            emulator.faults.clear()
            monkeypatch.undo()
            if fault == "away":
                await emulator.back()
            holder = (await emulator.get(LEASE))["spec"]["holderIdentity"]
            assert holder == ("" if fault == "conflict" else one.holder)
            await emulator.delete(LEASE)


@on_loop
async def test_a_lease_of_somebody_else_is_never_given_up(tmp_path):
    async with Emulator() as emulator:
        async with elector(emulator, tmp_path) as one:
            await eventually(lambda: one.leading, "it leads")
            taken = await emulator.patch(LEASE, {"spec": {"holderIdentity": "other"}})
        assert (await emulator.get(LEASE))["spec"] == taken["spec"]


@on_loop
async def test_what_is_no_lease_is_no_lease(tmp_path):
    async with Emulator() as emulator, elector(emulator, tmp_path) as one:
        await eventually(lambda: one.leading, "it leads")
        emulator.faults.garble(times=2)
        emulator.faults.truncate(times=2)
        emulator.faults.reset(times=3)
        emulator.faults.status(429, retry_after=1, times=1)
        done = len(writes(emulator))
        await eventually(lambda: len(writes(emulator)) > done + 12, "it goes on")
        await eventually(lambda: one.leading and not one.trouble, "and leads")


@pytest.mark.parametrize("seed", range(2))
@on_loop
async def test_only_the_holder_of_the_lease_writes(seed, tmp_path):
    """Three that write whenever they believe that they may, under every fault, none of them ever kept from trying."""
    rng = random.Random(seed)  # noqa: S311
    async with no_tasks_left(), Emulator(seed=seed) as emulator, contextlib.AsyncExitStack() as stack:
        await emulator.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "work"}}, "models")
        holders, done = [""], []

        def on_change(change):
            if change.id == "leases.coordination.k8s.io" and change.new is not None:
                holders.append(change.new["spec"]["holderIdentity"])
            elif change.id == "configmaps" and change.new is not None:
                done.append((change.new["data"]["by"], holders[-1]))

        stack.callback(emulator.store.listen(on_change))
        those = {n: await stack.enter_async_context(elector(emulator, tmp_path, n, QUICK)) for n in "abc"}
        workers = [asyncio.create_task(work(one)) for one in those.values()]
        for _ in range(4):
            leader = await eventually(lambda: next((n for n, one in those.items() if one.leading), None), "one leads")
            await writes_more(done)
            emulator.faults.status(409, verb="update", chance=0.2)
            rng.choice((emulator.faults.hang, emulator.faults.reset, emulator.faults.garble))(user=leader)
            if rng.random() < 0.5:
                await emulator.away()
                await eventually(lambda leader=leader: not those[leader].leading, "it does not lead any more")
                await emulator.back()
            others = [one for name, one in those.items() if name != leader]
            await eventually(lambda others=others: [one for one in others if one.leading], "another one leads")
            emulator.faults.clear()
            await writes_more(done)
        for task in workers:
            task.cancel()
        await asyncio.wait(workers)
        assert [by for by, holder in done if by != holder] == []
        assert len(set(holders) - {""}) > 1


async def writes_more(done):
    before = len(done)
    await eventually(lambda: len(done) > before + 5, "the leader writes")


async def work(one):
    """Writes its name as fast as it may."""
    number = 0
    while True:
        await asyncio.sleep(0.001)
        body = {"data": {"by": one.holder, "number": str(number := number + 1)}}
        with contextlib.suppress(NotLeadingError, UnreachableError):
            limit = one.fence()
            await one._cluster.call("PATCH", MAP, body=body, content_type=MERGE, timeout=limit, fence=one.fence)


# --- a process that is stopped ---

STOPPED = """
import asyncio, os, signal, sys
import uvloop
from fe.control.kubernetes.client import Cluster
from fe.control.kubernetes.election import Elector, NotLeadingError, Timing

async def main():
    cluster = Cluster(sys.argv[1])
    leads = asyncio.Event()
    one = Elector(cluster, "models", "fe", "stopped", lambda leading: leading and leads.set(),
                  timing=Timing(duration=1.0, renew_deadline=0.6, retry=0.05))
    one.start()
    await asyncio.wait_for(leads.wait(), 20)

    stopped = False

    def fence():
        nonlocal stopped
        stopped = True
        os.kill(os.getpid(), signal.SIGSTOP)  # between the decision and the write, where it hurts most
        one.fence()

    body = {"data": {"by": "stopped"}}
    while not stopped:  # a busy machine may end the lead before the decision
        await asyncio.sleep(0.01)
        try:
            limit = one.fence()
            await cluster.call("PATCH", sys.argv[2], body=body, content_type=sys.argv[3], timeout=limit, fence=fence)
            said = "written"
        except NotLeadingError:
            said = "leading" if one.leading else "not leading"
    print(said)
    await one.stop()
    await cluster.close()

uvloop.run(main())
"""


@on_loop
async def test_a_process_that_was_stopped_does_not_write_when_it_goes_on(tmp_path):
    async with Emulator() as emulator:
        await emulator.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "work"}}, "models")
        emulator.user("stopped")
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", STOPPED, str(emulator.kubeconfig(tmp_path / "k", "stopped")), MAP, MERGE,
            stdout=asyncio.subprocess.PIPE, cwd=tree.ROOT,
        )  # fmt: skip
        try:
            await eventually(lambda: is_stopped(process.pid), "it is stopped")
            async with elector(emulator, tmp_path, "b") as second:
                await eventually(lambda: second.leading, "the second leads")
                os.kill(process.pid, signal.SIGCONT)
                printed, _ = await asyncio.wait_for(process.communicate(), 60)
                assert printed == b"not leading\n"
                assert second.leading
            assert "data" not in await emulator.get(MAP)
            assert not [record for record in emulator.records if record.verb == "patch"]
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()


def is_stopped(pid):
    with open(f"/proc/{pid}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] == "T"
