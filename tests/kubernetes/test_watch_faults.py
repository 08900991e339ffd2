"""No fault of the server empties the list that is kept, leaves it behind, or is answered by a storm of calls."""

from __future__ import annotations

import asyncio
import random

import pytest

from fe.control.kubernetes import watch
from fe.control.kubernetes.watch import Reflector
from tests.kubernetes.emulator import Emulator
from tests.kubernetes.harness import (
    PODS,
    Pauses,
    Seen,
    asked,
    connected,
    eventually,
    filled,
    forget,
    in_virtual_time,
    no_tasks_left,
    on_loop,
    pod,
    reflector,
)


@pytest.mark.parametrize("how", ["status", "truncate", "garble", "reset", "hang", "away"])
@on_loop
async def test_a_list_that_fails_changes_nothing(how, tmp_path, monkeypatch):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"abc")
        seen, pauses = Seen(), Pauses()
        async with reflector(cluster, seen, backoff=pauses, page=2) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            fault = {
                "status": lambda: emulator.faults.status(503, verb="list", path="continue="),
                "truncate": lambda: emulator.faults.truncate(verb="list"),
                "garble": lambda: emulator.faults.garble(verb="list", path="continue="),
                "reset": lambda: emulator.faults.reset(verb="list"),
                "hang": lambda: emulator.faults.hang(verb="list", path="continue="),
                "away": lambda: None,
            }[how]()
            await emulator.patch(f"{PODS}/a", {"metadata": {"labels": {"v": "2"}}})
            await eventually(lambda: seen.store["models", "a"] == ("2", False), "the watch serves")
            if how == "hang":
                monkeypatch.setattr(watch, "LIST_WITHIN", 0.1)
            await emulator.away()
            asked_before = pauses.asked
            if how != "away":
                forget(emulator)
                await emulator.back()
            await eventually(lambda: pauses.asked > asked_before + 5, "it has been tried several times")
            assert watching.trouble
            assert watching.stale_for() > 0.0
            assert seen.names == set("abc")
            monkeypatch.undo()
            await emulator.delete(f"{PODS}/b", grace=0)
            await emulator.create(pod("d"))
            if how == "away":
                await emulator.back()
            else:
                emulator.faults.remove(fault)
            await eventually(lambda: seen.names == set("acd"), "it is current again")
            await eventually(lambda: watching.stale_for() == 0.0 and not watching.trouble, "and says so")


@on_loop
async def test_one_empty_list_is_not_believed(tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "CONFIRM_AFTER", 0.001)
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"abc")
        seen = Seen()
        async with reflector(cluster, seen) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            emulator.faults.empty(times=1)
            emulator.faults.expire(times=1)
            emulator.cut()
            await eventually(lambda: seen.syncs == 2, "it has been listed anew")
            assert len(seen.changes) == 3
            assert len(asked(emulator, "list")) == 3


@pytest.mark.parametrize("everywhere", [False, True])
@on_loop
async def test_empty_lists_are_not_believed_while_what_they_lack_is_there(everywhere, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "CONFIRM_AFTER", 0.001)
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"abc")
        seen, pauses = Seen(), Pauses()
        path = "/api/v1/pods" if everywhere else PODS
        async with reflector(cluster, seen, path=path, labels="app=m", backoff=pauses) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            empty = emulator.faults.empty()
            forget(emulator)
            emulator.cut()
            await eventually(lambda: pauses.asked > 8, "it has been asked again and again")
            assert len(seen.changes) == 3
            assert watching.trouble == "the list is empty, but a is there"
            emulator.faults.remove(empty)
            await eventually(lambda: watching.stale_for() == 0.0, "in sync again")
            assert len(seen.changes) == 3


@pytest.mark.parametrize("how", ["deleted", "relabelled", "deleted, and not to be asked for"])
@on_loop
async def test_an_empty_list_is_believed_when_all_is_gone(how, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "CONFIRM_AFTER", 0.001)
    async with Emulator() as emulator:
        emulator.user("watcher", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]}])
        user = "watcher" if "asked" in how else "admin"
        async with connected(emulator, tmp_path, user) as cluster:
            await filled(emulator, *"abc")
            seen = Seen()
            async with reflector(cluster, seen, labels="app=m") as watching:
                await eventually(lambda: watching.stale_for() == 0.0, "in sync")
                await emulator.away()
                for name in "abc":
                    if how == "relabelled":
                        await emulator.patch(f"{PODS}/{name}", {"metadata": {"labels": {"app": "n"}}})
                    else:
                        await emulator.delete(f"{PODS}/{name}", grace=0)
                forget(emulator)
                await emulator.back()
                await eventually(lambda: seen.syncs == 2, "it has been listed anew")
                assert (seen.names, len(asked(emulator, "list"))) == (set(), 3)


@pytest.mark.parametrize(
    ("selector", "has"),
    [("", True), ("app=m", True), ("app==m", True), ("app = m,tier", True), ("app=n", False), ("app!=m", True),
     ("app in (n)", True), ("none=m", False)],
)  # fmt: skip
def test_labels_that_speak_against_an_object(selector, has):
    assert watch._has_labels(pod("a"), selector) is has


META = {"resourceVersion": "1"}
NO_LISTS = [
    {}, {"kind": "Status"}, {"kind": "PodList", "items": []}, {"kind": "PodList", "metadata": META},
    {"kind": "PodList", "metadata": {"resourceVersion": ""}, "items": []}, {"kind": "Pod", "metadata": META},
    {"kind": "PodList", "metadata": META, "items": {}},
]  # fmt: skip
NO_EVENTS = [
    "{", "[]", "{}", '{"type": "ADDED"}', '{"type": "ADDED", "object": {}}', '{"type": "ADDED", "object": [1]}',
    '{"type": "NEW", "object": {"metadata": {"name": "a", "resourceVersion": "1"}}}',
    '{"type": "ADDED", "object": {"metadata": {"name": "a"}}}', '{"type": "BOOKMARK", "object": {"metadata": {}}}',
    '{"type": "ADDED", "object": {"metadata": {"resourceVersion": "1"}}}',
]  # fmt: skip


@pytest.mark.parametrize("answer", NO_LISTS, ids=str)
def test_what_is_no_whole_list_is_refused(answer):
    with pytest.raises(watch.GarbledError):
        watch._page(answer)


@pytest.mark.parametrize("line", NO_EVENTS)
def test_what_is_no_event_changes_nothing(line):
    seen = Seen()
    watching = Reflector(None, PODS, lambda _: 1, seen.on_change)
    with pytest.raises(watch.GarbledError):
        watching._on_event(line.encode())
    assert not seen.changes


@pytest.mark.parametrize("how", ["truncate", "garble", "reset"])
@on_loop
async def test_a_watch_that_breaks_off_goes_on_behind_its_last_event(how, tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        async with reflector(cluster, seen) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            getattr(emulator.faults, how)(after=1, verb="watch", times=20)
            emulator.cut()
            for name in "abcdefgh":
                await emulator.create(pod(name))
            await eventually(lambda: seen.names == set("abcdefgh"), "all are seen")
            assert [key[1] for key, _, _ in seen.changes] == list("abcdefgh")  # each of them once
            assert len(asked(emulator, "list")) == 1


@on_loop
async def test_a_version_that_is_too_old_is_listed_anew(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"ab")
        seen = Seen()
        async with reflector(cluster, seen) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            await emulator.away()
            await emulator.delete(f"{PODS}/a", grace=0)
            await emulator.create(pod("c"))
            emulator.compact()
            await emulator.back()
            await eventually(lambda: seen.syncs == 2, "it has been listed anew")
            assert seen.names == set("bc")


@on_loop
async def test_a_page_that_has_expired_is_no_list(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        await filled(emulator, *"abc")
        seen = Seen()
        second = emulator.faults.status(410, path="continue=", times=1)
        async with reflector(cluster, seen, page=2):
            await eventually(lambda: seen.syncs == 1, "in sync")
            assert (second.hits, seen.names, len(asked(emulator, "list"))) == (1, set("abc"), 4)


@in_virtual_time
async def test_a_watch_that_brings_nothing_is_renewed_and_in_the_end_listed_anew(tmp_path):
    async with no_tasks_left(), Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        silent = emulator.faults.silent()
        async with reflector(cluster, seen, idle=1.0):
            await eventually(lambda: seen.syncs == 1, "in sync")
            await emulator.create(pod("a"))
            await eventually(lambda: seen.names == {"a"}, "it is found by a list")
            assert watch.MUTE_MOST * (seen.syncs - 1) <= len(asked(emulator, "watch")) <= watch.MUTE_MOST * seen.syncs
            emulator.faults.remove(silent)
            await emulator.create(pod("b"))
            await eventually(lambda: seen.names == {"a", "b"}, "the next watch brings it")


@on_loop
async def test_a_server_without_watches_is_polled(tmp_path):
    """A proxy that cuts every stream, or a watch cache that cannot start."""
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen = Seen()
        emulator.faults.status(500, verb="watch")
        async with reflector(cluster, seen):
            await eventually(lambda: seen.syncs >= 1, "in sync")
            await emulator.create(pod("a"))
            await eventually(lambda: seen.names == {"a"}, "it is found by a list")


@on_loop
async def test_a_server_that_is_away_or_busy_is_not_listed(tmp_path):
    async with Emulator() as emulator, connected(emulator, tmp_path) as cluster:
        seen, pauses = Seen(), Pauses()
        async with reflector(cluster, seen, backoff=pauses) as watching:
            await eventually(lambda: watching.stale_for() == 0.0, "in sync")
            emulator.faults.status(503, verb="watch")
            emulator.cut()
            await eventually(lambda: pauses.asked > 10, "it has been tried")
            assert len(asked(emulator, "list")) == 1
            emulator.faults.clear()
            await emulator.create(pod("a"))
            await eventually(lambda: seen.names == {"a"}, "the watch goes on")
            assert len(asked(emulator, "list")) == 1


@pytest.mark.parametrize("seed", range(3))
@on_loop
async def test_what_is_seen_becomes_what_is_whatever_has_happened(seed, tmp_path, monkeypatch):
    monkeypatch.setattr(watch, "CONFIRM_AFTER", 0.001)
    monkeypatch.setattr(watch, "LIST_WITHIN", 0.05)
    rng = random.Random(seed)  # noqa: S311
    async with (
        no_tasks_left(),
        Emulator(seed=seed, second=0.01) as emulator,
        connected(emulator, tmp_path) as cluster,
    ):
        faults, names = emulator.faults, [f"p{number}" for number in range(12)]
        faults.status(500, chance=0.1)
        faults.status(429, chance=0.05)
        faults.reset(after=1, chance=0.1)
        faults.truncate(after=1, chance=0.1)
        faults.garble(after=2, chance=0.1)
        faults.expire(chance=0.1)
        faults.silent(chance=0.1)
        faults.empty(chance=0.05)
        seen = Seen()
        async with reflector(cluster, seen, page=5, idle=0.1) as watching:
            there = set()
            for _ in range(300):
                name = rng.choice(names)
                if name not in there:
                    await emulator.create(pod(name, str(rng.random())))
                    there.add(name)
                elif rng.random() < 0.5:
                    await emulator.patch(f"{PODS}/{name}", {"metadata": {"labels": {"v": str(rng.random())}}})
                else:
                    await emulator.delete(f"{PODS}/{name}", grace=0)
                    there.discard(name)
                if rng.random() < 0.05:
                    emulator.compact()
                if rng.random() < 0.05:
                    await asyncio.sleep(0.02)
            faults.clear()
            truth = {("models", item["metadata"]["name"]): item for item in emulator.pods()}
            await eventually(lambda: seen.names == {name for _, name in truth}, "the same pods")
            want = {key: (item["metadata"]["labels"]["v"], False) for key, item in truth.items()}
            await eventually(lambda: seen.store == want, "in the same state")
            assert dict(watching.store) == want
