"""One of several leads: the Lease as a server takes it, take-over, release. Faults are in test_election_faults.py."""

from __future__ import annotations

import asyncio
import contextlib
import re

import pytest

from fe.control.kubernetes.election import Elector, NotLeadingError, Timing
from fe.errors import ConfigError
from tests.kubernetes.electing import LEASE, PATIENT, QUICK, elector, held_by, looked_often, writes
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import Clock, connected, eventually, no_tasks_left, on_loop

# --- settings ---


@pytest.mark.parametrize(
    ("timing", "what"),
    [
        ({"duration": 10}, r"election\.duration: 10 s has to be longer than renew_deadline \(10 s\)"),
        ({"renew_deadline": 2.4}, r"election\.renew_deadline: 2\.4 s has to be longer than 1\.2 times retry \(2 s\)"),
        ({"duration": 0.5, "renew_deadline": 0.4, "retry": 0.1}, r"election\.duration: 0\.5 s: a Lease counts whole"),
        ({"retry": 0}, r"election\.retry: 0 s has to be more than 0"),
    ],
)
def test_times_that_contradict_each_other_are_refused(timing, what):
    with pytest.raises(ConfigError, match=what):
        Timing(**timing)


# --- one alone ---


@on_loop
async def test_the_lease_is_made_renewed_and_given_up(tmp_path):
    async with no_tasks_left(), Emulator(tls=True) as emulator:
        told = []
        async with elector(emulator, tmp_path, told=told) as one:
            assert not one.leading
            with pytest.raises(NotLeadingError):
                one.fence()
            await eventually(lambda: one.leading, "it leads")
            assert 0 < one.fence() <= PATIENT.renew_deadline
            assert (told, one.leader) == ([("a", True)], one.holder)
            await eventually(lambda: len(writes(emulator)) > 4, "it is renewed")
        assert told == [("a", True), ("a", False)]
        first, *renewals, last = [body["spec"] for _, _, body, status in writes(emulator) if status in (200, 201)]
        assert re.fullmatch(r"a_[0-9a-f]{8}", first["holderIdentity"])
        assert (first["leaseTransitions"], first["leaseDurationSeconds"]) == (0, 60)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["renewTime"])
        for spec in renewals:
            assert spec == first | {"renewTime": spec["renewTime"]}
        times = [spec["renewTime"] for spec in (first, *renewals)]
        assert times == sorted(set(times))
        assert (last["holderIdentity"], last["leaseDurationSeconds"], last["leaseTransitions"]) == ("", 1, 0)
        assert all("resourceVersion" in body["metadata"] for _, verb, body, _ in writes(emulator) if verb == "update")
        assert (await emulator.get(LEASE))["spec"] == last


@on_loop
async def test_what_others_wrote_into_the_lease_stays(tmp_path):
    async with Emulator() as emulator:
        lease = held_by("")
        lease["metadata"] |= {"labels": {"team": "x"}, "annotations": {"note": "y"}}
        await emulator.create(lease)
        async with elector(emulator, tmp_path) as one:
            await eventually(lambda: one.leading, "it leads")
            now = await emulator.get(LEASE)
            assert (now["metadata"]["labels"], now["metadata"]["annotations"]) == ({"team": "x"}, {"note": "y"})
            assert now["spec"]["leaseTransitions"] == 5


@on_loop
async def test_rights_by_the_name_of_the_lease_are_enough(tmp_path):
    """`create` cannot be limited to a name; everything else is."""
    group = {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"]}
    async with Emulator() as emulator:
        emulator.user("a", [group | {"verbs": ["create"]}], "models")
        emulator.user("a", [group | {"verbs": ["get", "update"], "resourceNames": ["fe"]}], "models")
        async with connected(emulator, tmp_path, "a") as cluster:
            one = Elector(cluster, "models", "fe", "a", lambda _: None, timing=PATIENT)
            one.start()
            await eventually(lambda: one.leading and len(writes(emulator)) > 2, "it leads and renews")
            await one.stop()
        assert {record.status for record in emulator.records} <= {200, 201, 404}


@on_loop
async def test_a_listener_that_fails_does_not_end_the_election(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:

        def listen(_):
            raise RuntimeError("of the listener")

        one = Elector(cluster, "models", "fe", "a", listen, timing=PATIENT)
        one.start()
        await eventually(lambda: len(writes(emulator)) > 3, "it goes on")
        await one.stop()


# --- several ---


@on_loop
async def test_a_lease_that_is_given_up_is_taken_by_the_first_who_looks(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, contextlib.AsyncExitStack() as stack:
        told = []
        those = {n: await stack.enter_async_context(elector(emulator, tmp_path, n, PATIENT, told)) for n in "abc"}
        for number in range(3):
            leader = await eventually(lambda: [name for name, one in those.items() if one.leading], "there is a leader")
            assert len(leader) == 1
            assert (await emulator.get(LEASE))["spec"]["leaseTransitions"] == number
            one = those.pop(leader[0])
            stopping = asyncio.create_task(one.stop())
            await asyncio.sleep(0)
            assert not one.leading  # long before anybody else can
            await stopping
        assert [leading for _, leading in told] == [True, False] * 3
        assert {name for name, _ in told} == set("abc")
        taken = [index for index, record in enumerate(emulator.records) if given_up(record)]
        for index in taken[:2]:
            since = emulator.records[index + 1 :]
            until = next(at for at, record in enumerate(since) if record.verb == "update" and record.status == 200)
            looked = [record.user for record in since[:until] if record.verb == "get"]
            assert len(looked) == len(set(looked)) <= 2  # nobody looks twice and leaves it


def given_up(record):
    return record.verb == "update" and b'"holderIdentity": ""' in record.body and record.status == 200


@on_loop
async def test_a_leader_that_is_gone_is_followed_when_its_lease_has_ended(tmp_path):
    async with no_tasks_left(), Emulator() as emulator:
        told, clock = [], Clock()
        async with elector(emulator, tmp_path, "a", PATIENT, told) as first:
            await eventually(lambda: first.leading, "the first leads")
            async with elector(emulator, tmp_path, "b", PATIENT, told, clock=clock) as second:
                await eventually(lambda: second.leader == first.holder, "the second has seen it")
                gone = emulator.faults.hang(user="a")  # as good as killed
                await eventually(lambda: gone.hits, "its renewals end")
                looked = len(reads(emulator, "b"))
                await eventually(lambda: len(reads(emulator, "b")) > looked + 1, "the second has seen the last of them")
                looked = len(reads(emulator, "b"))
                clock.now += 59.9
                await eventually(lambda: len(reads(emulator, "b")) > looked + 3, "the second has looked again")
                assert not second.leading
                clock.now += 0.2
                await eventually(lambda: second.leading, "the second leads")
                assert (await emulator.get(LEASE))["spec"]["leaseTransitions"] == 1
                emulator.faults.remove(gone)
                await eventually(lambda: first.leader == second.holder, "the first has seen it")
                assert not first.leading
        assert told[:3] == [("a", True), ("b", True), ("a", False)]  # two clocks, one of which the test moved


def reads(emulator, user):
    return [record for record in emulator.records if record.user == user and record.verb == "get"]


@on_loop
async def test_a_leader_that_is_cut_off_has_stopped_before_the_next_one_begins(tmp_path):
    async with no_tasks_left(), Emulator() as emulator:
        told = []
        async with elector(emulator, tmp_path, "a", QUICK, told) as first:
            await eventually(lambda: first.leading, "the first leads")
            emulator.faults.hang(user="a")
            async with elector(emulator, tmp_path, "b", PATIENT, told) as second:
                await eventually(lambda: second.leading, "the second leads")
                assert told[-2:] == [("a", False), ("b", True)]
                emulator.faults.clear()


@on_loop
async def test_times_of_other_clocks_mean_nothing(tmp_path):
    async with Emulator() as emulator:
        for time in ("2001-01-01T00:00:00.000000Z", "2099-01-01T00:00:00.000000Z"):
            await emulator.create(held_by("other", renewTime=time, acquireTime=time))
            clock = Clock()
            async with elector(emulator, tmp_path, "a", PATIENT, clock=clock) as one:
                await eventually(lambda one=one: one.leader == "other", "it has seen the other")
                clock.now += 14.0
                lease = await emulator.get(LEASE)
                lease["spec"]["renewTime"] = "2001-01-01T00:00:00.000001Z"  # a renewal all the same
                await emulator.replace(lease)
                await looked_often(emulator)
                clock.now += 14.0
                await emulator.patch(LEASE, {"metadata": {"annotations": {"a": "b"}}})  # is none
                await looked_often(emulator)
                assert not one.leading
                clock.now += 1.1
                await eventually(lambda one=one: one.leading, "it leads")
            await emulator.delete(LEASE)


@on_loop
async def test_two_processes_of_one_name_are_not_both_leaders(tmp_path):
    async with Emulator() as emulator, elector(emulator, tmp_path) as first:
        await eventually(lambda: first.leading, "the first leads")
        async with elector(emulator, tmp_path) as second:
            await eventually(lambda: second.leader == first.holder, "the second has seen it")
            await looked_often(emulator)
            assert (first.leading, second.leading) == (True, False)


@on_loop
async def test_a_lease_that_somebody_else_wrote_or_deleted_is_lost_at_once(tmp_path):
    async with Emulator() as emulator:
        told = []
        async with elector(emulator, tmp_path, timing=PATIENT, told=told) as one:
            await eventually(lambda: one.leading, "it leads")
            await emulator.patch(LEASE, {"spec": {"holderIdentity": "other"}})
            await eventually(lambda: not one.leading, "it has lost it")
            await emulator.patch(LEASE, {"spec": {"holderIdentity": ""}})
            await eventually(lambda: one.leading, "it leads again")
            assert told == [("a", leading) for leading in (True, False, True)]
            await emulator.delete(LEASE)
            await looked_often(emulator)
            await eventually(lambda: one.leading, "it leads by a new one")
            assert (await emulator.get(LEASE))["spec"]["holderIdentity"] == one.holder
