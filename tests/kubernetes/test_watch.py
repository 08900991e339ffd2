"""The list that is kept current, when all is well: pages, events, bookmarks, how often the server is asked, what it
costs. Faults of the server are in test_watch_faults.py."""

from __future__ import annotations

import asyncio
import json
import random
import subprocess
import sys

import pytest

from fe.control.kubernetes import watch
from fe.control.kubernetes.client import SILENCE, ApiError, UnreachableError
from fe.control.kubernetes.watch import Backoff, Reflector
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import (
    PODS,
    Clock,
    Pauses,
    Seen,
    asked,
    connected,
    eventually,
    filled,
    forget,
    no_tasks_left,
    on_loop,
    pod,
    reflector,
)
from tests.project import tree


@on_loop
async def test_a_list_comes_in_pages_and_counts_when_it_is_whole(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"abcde")
        seen = Seen()
        third = emulator.faults.hang(path="continue=", skip=1)
        async with reflector(cluster, seen, page=2) as watching:
            await eventually(lambda: third.hits, "the third page is asked for")
            assert (seen.names, seen.syncs, watching.synced) == (set(), 0, False)
            assert watching.stale_for() == float("inf")
            emulator.faults.remove(third)
            await eventually(lambda: seen.syncs, "the list is whole")
            assert seen.names == set("abcde")
            assert watching.synced
            await eventually(lambda: watching.stale_for() == 0.0, "the watch is open")
        assert {record.query["limit"] for record in asked(emulator, "list")} == {"2"}


@on_loop
async def test_changes_are_told_in_order_and_once(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        async with reflector(cluster, seen, labels="app=m") as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            await emulator.create(pod("a"))
            await emulator.create(pod("other", app="n"))
            emulator.nodes.bind("models", "a")  # changes nothing that is kept
            await emulator.patch(f"{PODS}/a", {"metadata": {"labels": {"v": "2"}}})
            await emulator.delete(f"{PODS}/a", grace=600)
            await emulator.delete(f"{PODS}/a", grace=0)
            await emulator.create(pod("b"))
            await emulator.patch(f"{PODS}/b", {"metadata": {"labels": {"app": "n"}}})
            await emulator.create(pod("c"))
            await eventually(lambda: "c" in seen.names, "all is seen")
            assert [(key[1], old, new) for key, old, new in seen.changes] == [
                ("a", None, ("1", False)),
                ("a", ("1", False), ("2", False)),
                ("a", ("2", False), ("2", True)),
                ("a", ("2", True), None),
                ("b", None, ("1", False)),
                ("b", ("1", False), None),
                ("c", None, ("1", False)),
            ]
            assert dict(watching.store) == seen.store
        assert len(asked(emulator, "list")) == 1


@on_loop
async def test_a_watch_that_ends_goes_on_from_its_last_bookmark(tmp_path):
    async with Emulator(second=0.01) as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        async with reflector(cluster, seen):
            await eventually(lambda: seen.syncs, "in sync")
            emulator.skip(500)  # others write
            await emulator.create(pod("theirs", app="m") | {"kind": "ConfigMap", "spec": None} | {"data": {}})
            await emulator.create(pod("a"))
            await emulator.delete(f"{PODS}/a", grace=0)
            await eventually(lambda: len(asked(emulator, "watch")) >= 4, "it is renewed")
            versions = [int(record.query["resourceVersion"]) for record in asked(emulator, "watch")]
            assert versions == sorted(versions)
            assert versions[-1] > versions[0] + 500
            assert len(asked(emulator, "list")) == 1
            assert {18 <= int(record.query["timeoutSeconds"]) <= 24 for record in asked(emulator, "watch")} == {True}


@on_loop
async def test_what_reduce_does_not_want_or_cannot_read_hides_nothing_else(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, "a", "odd", "unwanted")
        seen = Seen()

        def reduce(item):
            name = item["metadata"]["name"]
            if name == "odd" and item["metadata"]["labels"]["v"] != "1":
                raise KeyError("spec")
            return None if name == "unwanted" else item["metadata"]["labels"]["v"]

        watching = Reflector(cluster, PODS, reduce, seen.on_change, backoff=Pauses())
        watching.start()
        await eventually(lambda: seen.names == {"a", "odd"}, "what is wanted is seen")
        await emulator.patch(f"{PODS}/odd", {"metadata": {"labels": {"v": "2"}}})
        await emulator.create(pod("b"))
        await eventually(lambda: "b" in seen.names, "what follows is seen")
        assert seen.store["models", "odd"] == "1"  # as last understood
        await watching.stop()


@on_loop
async def test_a_listener_that_fails_is_not_the_end(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        told = []

        def listen(key, _old, _new):
            told.append(key[1])
            raise RuntimeError("of the listener")

        watching = Reflector(cluster, PODS, lambda _: 1, listen, backoff=Pauses())
        watching.start()
        await filled(emulator, "a", "b")
        await eventually(lambda: told == ["a", "b"], "both are told")
        await watching.stop()


# --- how often it is asked ---


def test_delays_double_up_to_their_limit_and_are_spread():
    delays = Backoff(rng=random.Random(1))  # noqa: S311
    found = [delays.next() for _ in range(200)]
    limits = [min(watch.MOST, watch.FIRST * 2**number) for number in range(200)]
    assert all(limit / 2 <= delay <= limit for delay, limit in zip(found, limits, strict=True))
    assert len(set(found)) == 200
    assert sum(found[:5]) > watch.FIRST * 15
    delays.reset()
    assert delays.next() <= watch.FIRST
    for _ in range(5000):
        assert delays.next(10.0) <= 10.0


@pytest.mark.parametrize("failing", [*range(12), 1000])
def test_attempts_in_a_time_are_bounded(failing):
    """What the module's opening says: at most 5 + T / 1.3, whatever the random numbers are, also of a server that is
    there as long as a success takes after every so many failures."""

    class Lowest(random.Random):
        def random(self):
            return 0.0

    delays = Backoff(rng=Lowest())
    elapsed, attempts = 0.0, 0
    while elapsed < 600.0:
        attempts += 1
        if attempts % (failing + 1) == 0:
            elapsed += watch.SETTLED
            delays.reset()
        elapsed += delays.next()
    assert attempts <= 5 + 600.0 / 1.3


REFUSALS = [(401, None), (403, None), (404, None), (410, None), (429, 60.0), (500, None), (503, 30.0)]


@pytest.mark.parametrize("refusal", [None, *REFUSALS])
def test_a_server_that_returns_is_found_within_five_seconds(refusal):
    """However long it was away, and whatever the attempt before its return waited for."""
    error = UnreachableError("no answer") if refusal is None else ApiError(refusal[0], "", "", refusal[1])
    watching = Reflector(None, PODS, lambda _: 1, lambda *_: None)
    watching._current_at = 0.0  # it has been seen
    watching._note(error)
    for _ in range(300):
        for spent in (0.0, 1.0, SILENCE) if refusal is None else (0.0, 0.2):
            assert spent + watching._pause(error, spent) < 4.5
            assert watching._pause(error, spent) >= watch.FIRST / 2


@on_loop
async def test_a_version_that_is_too_old_costs_no_pause(tmp_path):
    """The attempt that finds a server again is told so after a long absence: what it waited was enough."""

    class Once(Pauses):
        def next(self, most=None):
            return super().next(most) if self.asked == 0 else 60.0

    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, "a")
        seen = Seen()
        async with reflector(cluster, seen, backoff=Once()) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            forget(emulator)
            await emulator.create(pod("b"))
            forget(emulator)
            emulator.cut()
            await eventually(lambda: seen.syncs == 2 and watching.stale_for() == 0.0, "listed anew")


@pytest.mark.parametrize("how", ["status", "expire", "reset", "truncate", "empty"])
@on_loop
async def test_calls_are_bounded_by_the_pauses_between_them(how, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "CONFIRM_AFTER", 0.001)
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"abc")
        seen, pauses = Seen(), Pauses()
        async with reflector(cluster, seen, backoff=pauses) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            forget(emulator)
            {
                "status": lambda: emulator.faults.status(500),
                "expire": lambda: emulator.faults.expire(),
                "reset": lambda: emulator.faults.reset(),
                "truncate": lambda: emulator.faults.truncate(),
                "empty": lambda: (emulator.faults.empty(chance=0.5), emulator.faults.expire()),
            }[how]()
            emulator.cut()
            await eventually(lambda: pauses.asked >= 30, "it has been tried often")
            lists, watches = len(asked(emulator, "list")), len(asked(emulator, "watch"))
            repeated = 2 if how in ("reset", "empty") else 1  # by aiohttp; for confirmation
            assert lists <= repeated * (pauses.asked + 1)
            assert watches <= repeated * (pauses.asked + 2)  # one finds that its version is too old


@on_loop
async def test_a_refusal_that_waiting_does_not_mend_is_asked_about_less_often(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        emulator.faults.status(403)
        pauses = Pauses()
        async with reflector(cluster, Seen(), backoff=pauses) as watching:
            await eventually(lambda: pauses.asked > 2, "it has been tried")
            assert set(pauses.most_asked) == {watch.MOST_REFUSED}
            assert (watching.refused, "403 Forbidden" in watching.trouble) == (403, True)
            emulator.faults.clear()
            await eventually(lambda: watching.stale_for() == 0.0, "it is given")
            emulator.faults.status(403)
            emulator.cut()
            await eventually(lambda: "403 Forbidden" in watching.trouble, "what was given is refused")
            await eventually(lambda: pauses.most_asked[-1] is None, "as if it were away")
            assert watching.refused is None


@on_loop
async def test_retry_after_is_honoured(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        emulator.faults.status(429, retry_after=1, verb="list", times=1)
        async with reflector(cluster, seen):
            await eventually(lambda: seen.syncs, "in sync")
            first, second = (record.at for record in asked(emulator, "list"))
            assert second - first >= 0.99


@on_loop
async def test_a_success_is_what_lasted(tmp_path):
    """A watch that ends at once, again and again, is waited for longer and longer."""
    async with Emulator(second=0.001) as emulator, connected(emulator, tmp_path) as cluster:
        clock, pauses = Clock(), Pauses()
        async with reflector(cluster, Seen(), backoff=pauses, clock=clock):
            await eventually(lambda: pauses._failures >= 8, "the delay grows")

            def reset():
                clock.now += watch.SETTLED
                return pauses._failures < 8

            await eventually(reset, "it begins anew")


@pytest.mark.parametrize("when", ["list", "watch", "pause"])
@on_loop
async def test_stop_leaves_nothing(when, tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        if when == "list":
            emulator.faults.hang()
        elif when == "pause":
            emulator.faults.status(500)
        pauses = Pauses(60.0, 60.0)
        async with reflector(cluster, seen, backoff=pauses):
            await eventually(lambda: emulator.records, "it is asked")
            await eventually(lambda: when != "watch" or asked(emulator, "watch"), "it watches")
            await eventually(lambda: when != "pause" or pauses.asked, "it waits")


# --- what it costs ---

HOLD = """
import asyncio, gc, json, sys
import uvloop
from fe.control.kubernetes.client import Cluster
from fe.control.kubernetes.watch import Reflector

def kilobytes(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field))

def reduce(item):
    status = item["status"]
    ready = any(one["type"] == "Ready" and one["status"] == "True" for one in status["conditions"])
    return item["metadata"]["uid"], tuple(one["ip"] for one in status["podIPs"]), ready

async def main():
    cluster = Cluster(sys.argv[1])
    await cluster.call("GET", "/api/v1/namespaces/default/pods")
    gc.collect()
    with open("/proc/self/clear_refs", "w") as refs:
        refs.write("5")  # the peak begins anew
    before = kilobytes("VmRSS")
    synced = asyncio.Event()
    watching = Reflector(cluster, sys.argv[2], reduce, lambda *change: None, on_sync=synced.set)
    watching.start()
    await asyncio.wait_for(synced.wait(), 60)
    gc.collect()
    print(json.dumps({"stays": kilobytes("VmRSS") - before, "peak": kilobytes("VmHWM") - before,
                      "pods": len(watching.store)}))
    await watching.stop()
    await cluster.close()

uvloop.run(main())
"""


def realistic(number: int) -> dict:
    """A pod of a model server as a cluster has it, some 6 kB of JSON."""
    name = f"sentiment-7d9f8c6b5-{number:05}"
    env = [{"name": f"SETTING_{index}", "value": f"value-{index}-of-a-model-server"} for index in range(24)]
    mounts = [{"name": f"volume-{index}", "mountPath": f"/mnt/models/part-{index}"} for index in range(8)]
    probe = {"httpGet": {"path": "/ready", "port": 5001, "scheme": "HTTP"}, "periodSeconds": 10, "failureThreshold": 3}
    container = {
        "name": "model", "image": "registry.example.com/models/sentiment@sha256:" + "ab" * 32, "env": env,
        "resources": {"limits": {"cpu": "4", "memory": "16Gi"}, "requests": {"cpu": "4", "memory": "16Gi"}},
        "volumeMounts": mounts, "readinessProbe": probe, "livenessProbe": probe,
        "ports": [{"name": "http", "containerPort": 5001, "protocol": "TCP"}],
    }  # fmt: skip
    return pod(name, annotations={"checksum/config": "cd" * 32, "example.com/notes": "n" * 1200}) | {
        "spec": {
            "containers": [container, {**container, "name": "sidecar", "env": env[:4]}],
            "volumes": [{"name": f"volume-{index}", "emptyDir": {}} for index in range(8)],
        }
    }


@on_loop
async def test_a_thousand_pods_cost_the_controller_at_most_30_mb(tmp_path):
    async with Emulator() as emulator:
        for number in range(1000):
            item = await emulator.create(realistic(number))
            emulator.nodes.running("models", item["metadata"]["name"])
        size = len(json.dumps(emulator.pods()[0]))
        assert size > 5500
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", HOLD, str(emulator.kubeconfig(tmp_path / "k")), PODS,
            stdout=subprocess.PIPE, cwd=tree.ROOT,
        )  # fmt: skip
        printed, _ = await asyncio.wait_for(process.communicate(), 60)
        cost = json.loads(printed)
        print(cost | {"bytes": size})
        assert cost["pods"] == 1000
        assert cost["peak"] < 30 * 1024
