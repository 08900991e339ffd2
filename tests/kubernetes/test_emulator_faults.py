"""The faults that tests set: each shows itself as it is said to, as often as it is said to, and nowhere else."""

from __future__ import annotations

import asyncio
import json

import aiohttp
import pytest

from tests.kubernetes.emulator import Emulator
from tests.kubernetes.emulator.caller import calling, config, run

MAPS = "/api/v1/namespaces/models/configmaps"
WATCH = f"{MAPS}?watch=true&resourceVersion=0"
BROKEN = (aiohttp.ClientError, ConnectionError, json.JSONDecodeError)


def each(test):
    """Run a test over plain HTTP and over TLS; there is one ConfigMap, `a`."""

    @pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
    def wrapped(tls):
        async def whole():
            async with Emulator(tls=tls) as emulator, calling(emulator) as call:
                await emulator.create(config("a"))
                await test(emulator, call)

        run(whole())

    return wrapped


def hangs(coroutine):
    """A call as a task that is not answered: it is still there when another call has come back."""
    return asyncio.create_task(coroutine)


@each
async def test_statuses(e, call):
    for code, reason in ((409, "Conflict"), (410, "Expired"), (500, "InternalError"), (503, "ServiceUnavailable")):
        e.faults.status(code, times=1)
        status, body = await call("GET", MAPS)
        assert (status, body["reason"], body["code"], body["kind"]) == (code, reason, code, "Status")
    fault = e.faults.status(429, retry_after=7, verb="watch", times=1)
    assert (await call("GET", MAPS))[0] == 200
    status, body = await call("GET", WATCH)
    assert (status, body["details"]["retryAfterSeconds"], fault.hits) == (429, 7, 1)
    assert [record.status for record in e.records] == [409, 410, 500, 503, 200, 429]


@each
async def test_resets(e, call):
    fault = e.faults.reset(verb="create")
    for _ in range(2):
        with pytest.raises(BROKEN):
            await call("POST", MAPS, config("b"))
    e.faults.remove(fault)
    assert (await call("GET", f"{MAPS}/b"))[0] == 404
    e.faults.reset(verb="watch", after=1, times=1)
    async with call.watch(WATCH) as events:
        assert (await anext(events))["type"] == "ADDED"
        with pytest.raises((*BROKEN, StopAsyncIteration)):
            await anext(events)


@each
async def test_hanging_and_lost_calls(e, call):
    hang = e.faults.hang(verb="create", times=1)
    waiting = hangs(call("POST", MAPS, config("b")))
    async with calling(e) as other:
        while not hang.hits:
            await asyncio.sleep(0)
        assert (await other("GET", f"{MAPS}/b"))[0] == 404
        e.faults.remove(hang)
        with pytest.raises(BROKEN):
            await waiting
        lose = e.faults.lose(verb="create", times=1)
        waiting = hangs(call("POST", MAPS, config("c")))
        while not lose.hits:
            await asyncio.sleep(0)
        assert (await other("GET", f"{MAPS}/c"))[0] == 200  # it was carried out
        assert not waiting.done()
        e.faults.clear()
        with pytest.raises(BROKEN):
            await waiting


@each
async def test_silent_and_expired_watches(e, call):
    silent = e.faults.silent(times=1)
    async with call.watch(WATCH) as events:
        first = hangs(anext(events))
        async with calling(e) as other, other.watch(WATCH) as well:
            assert (await anext(well))["type"] == "ADDED"
        assert not first.done()
        e.faults.remove(silent)
        with pytest.raises((*BROKEN, StopAsyncIteration)):
            await first
    for after in (0, 1):
        e.faults.expire(after, times=1)
        async with call.watch(WATCH) as events:
            seen = [event async for event in events]
        assert [event["type"] for event in seen] == ["ADDED"] * after + ["ERROR"]
        assert seen[-1]["object"]["code"] == 410
    e.faults.silent(1, times=1)
    async with call.watch(WATCH) as events:
        assert (await anext(events))["type"] == "ADDED"
        second = hangs(anext(events))
        await e.patch(f"{MAPS}/a", {"data": {"a": "2"}})
        async with calling(e) as other, other.watch(WATCH) as well:
            assert (await anext(well))["object"]["data"] == {"a": "2"}
        assert not second.done()
        e.faults.clear()
        with pytest.raises((*BROKEN, StopAsyncIteration)):
            await second


@each
async def test_answers_that_are_not_whole(e, call):
    for fault in (e.faults.truncate, e.faults.garble):
        fault(verb="list", times=1)
        with pytest.raises(json.JSONDecodeError):
            await call("GET", MAPS)
        fault(verb="watch", times=1, after=1)
        async with call.watch(WATCH) as events:
            assert (await anext(events))["type"] == "ADDED"
            await e.patch(f"{MAPS}/a", {"data": {fault.__name__: "1"}})
            with pytest.raises(json.JSONDecodeError):
                await anext(events)


@each
async def test_one_empty_list(e, call):
    e.faults.empty(times=1)
    _, empty = await call("GET", MAPS)
    _, whole = await call("GET", MAPS)
    assert (len(empty["items"]), len(whole["items"])) == (0, 1)
    assert empty["metadata"] == whole["metadata"]


@each
async def test_away_and_back(e, call):
    assert (await call("GET", MAPS))[0] == 200
    url = e.url
    async with call.watch(WATCH) as events:
        await anext(events)
        await e.away()
        with pytest.raises((*BROKEN, StopAsyncIteration)):
            await anext(events)
    with pytest.raises(aiohttp.ClientConnectorError):
        await call("GET", MAPS)
    await e.create(config("b"))  # the cluster lives on
    await e.back()
    assert e.url == url
    assert len((await call("GET", MAPS))[1]["items"]) == 2


@each
async def test_cut_ends_connections_and_nothing_else(e, call):
    async with call.watch(WATCH) as events:
        await anext(events)
        e.cut()
        with pytest.raises((*BROKEN, StopAsyncIteration)):
            await anext(events)
    assert (await call("GET", MAPS))[0] == 200


@each
async def test_where_faults_apply(e, call):
    e.user("fe", None)
    e.faults.status(500, path=r"/configmaps/b$", verb="get", user="fe", skip=1, times=1)
    async with calling(e, "fe") as fe:
        await e.create(config("b"))
        assert (await call("GET", f"{MAPS}/b"))[0] == 200
        assert (await fe("GET", f"{MAPS}/a"))[0] == 200
        assert (await fe("GET", MAPS))[0] == 200
        assert [(await fe("GET", f"{MAPS}/b"))[0] for _ in range(4)] == [200, 500, 200, 200]
    assert e.counts["get", f"{MAPS}/b"] == 5


def test_chances_repeat_with_the_seed():
    async def tries(seed):
        async with Emulator(seed=seed) as e, calling(e) as call:
            e.faults.status(500, chance=0.5)
            e.faults.slow(0.0, chance=0.5)
            return [(await call("GET", MAPS))[0] for _ in range(40)]

    async def test():
        first = await tries(1)
        assert first == await tries(1)
        assert first != await tries(2)
        assert set(first) == {200, 500}

    run(test())


def test_slowness_goes_with_other_faults():
    async def test():
        async with Emulator() as e, calling(e) as call:
            slow = e.faults.slow(0.01)
            e.faults.status(503, times=1)
            assert [(await call("GET", MAPS))[0] for _ in range(2)] == [503, 200]
            assert slow.hits == 2

    run(test())


def test_nothing_is_left_of_an_emulator():
    async def test():
        before = asyncio.all_tasks()
        async with Emulator() as e, calling(e) as call, call.watch(WATCH):
            e.faults.hang(verb="get")
            waiting = hangs(call("GET", f"{MAPS}/a"))
            while e.faults.hits == 0:
                await asyncio.sleep(0)
        with pytest.raises(BROKEN):
            await waiting
        while asyncio.all_tasks() - before:
            await asyncio.sleep(0)

    run(test())
