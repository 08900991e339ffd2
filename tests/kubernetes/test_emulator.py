"""The emulator against every recorded exchange with a real API server, told anew.

Users' names, versions, ports and the order of the exchanges differ from seed to seed, so that no answer can be a
replay. What is compared, and how, is in emulator/likeness.py; renaming and order are in emulator/recording.py.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import itertools
import json
import random
from collections.abc import AsyncIterator
from urllib.parse import quote, unquote

import aiohttp
import pytest

from tests.kubernetes.emulator import Emulator
from tests.kubernetes.emulator.likeness import Likeness, Unlike
from tests.kubernetes.emulator.recording import COMPACTION, Renaming, exchanges, order

SEEDS = range(8)
TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
SUBJECT, WAITING = "9j2rf", "dvx4j"  # pods of the recorded watch: one that ran, and one that never did


def test_all_exchanges_are_there():
    assert len(exchanges()) == 66
    for seed in SEEDS:
        assert sorted(order(seed)) == sorted([*exchanges(), COMPACTION])
    assert len({tuple(order(seed)) for seed in SEEDS}) == len(SEEDS)


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
@pytest.mark.parametrize("seed", SEEDS)
def test_exchanges(seed, tls):
    asyncio.run(asyncio.wait_for(Replay(seed, tls).run(), 100))


@pytest.mark.parametrize("name", exchanges())
def test_the_judge_sees_every_difference(name):
    """Each answer or event is like itself, and no longer so when any one thing in it is missing, added or another."""
    response = exchanges()[name]["response"]
    for part in response.get("events", [response.get("body")]):
        answer = {"answer": part}
        Likeness().check(answer, copy.deepcopy(answer))
        for place, spoil in itertools.product(places(answer), (remove, add, alter)):
            changed = copy.deepcopy(answer)
            holder = changed
            for step in place[:-1]:
                holder = holder[step]
            spoil(holder, place[-1])
            with pytest.raises(Unlike):
                Likeness().check(answer, changed)


def places(value, path=()):
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in inner:
        yield (*path, key)
        yield from places(item, (*path, key))


def remove(holder, key):
    del holder[key]


def add(holder, key):
    if isinstance(holder, dict):
        holder[f"{key}More"] = holder[key]
    else:
        holder.append(holder[key])


def alter(holder, key):
    value = holder[key]
    if isinstance(value, bool) or value is None:
        holder[key] = not value
    elif isinstance(value, (str, int)):
        holder[key] = value + ("x" if isinstance(value, str) else 1)
    else:
        holder[key] = {} if isinstance(value, list) else []


class Replay:
    """One run through all exchanges, in the order and with the names of a seed."""

    def __init__(self, seed: int, tls: bool) -> None:
        self.order, self.renaming, self.likeness = list(order(seed)), Renaming(seed), Likeness()
        self.chance = random.Random(seed)  # noqa: S311 - an order, not a secret
        self.emulator = Emulator(seed=seed, tls=tls, version=self.chance.randrange(100, 10**6), namespaces=())

    async def run(self) -> None:
        async with self.emulator as e, aiohttp.ClientSession() as self.session:
            for name in self.order:
                e.skip(self.chance.randrange(3))
                if name == COMPACTION:
                    e.skip(1)
                    e.compact()
                    continue
                try:
                    await self.exchange(name)
                except (Unlike, KeyError) as error:
                    raise AssertionError(f"{name} (behind {self.order[: self.order.index(name)]})") from error

    async def exchange(self, name: str) -> None:
        exchange = exchanges()[name]
        expected = exchange["response"]
        async with self.request(exchange["request"], TABLE if name == "custom objects as a table" else "") as response:
            assert response.status == expected["status"]
            assert response.headers.get("Content-Type") == expected["content_type"]
            if "events" in expected:
                assert response.headers.get("Transfer-Encoding") == expected["transfer_encoding"]
                await self.watch(name, response, expected["events"])
                return
            assert response.headers.get("Retry-After") == expected["retry_after"]
            text = await response.text()
        body = text if isinstance(expected["body"], str) else json.loads(text)
        self.likeness.check(self.renaming.value(expected["body"]), body)
        if name == "pods list resourceVersion 0":  # what the cache has seen of pods, not of everything
            newest = max(int(item["metadata"]["resourceVersion"]) for item in body["items"])
            assert body["metadata"]["resourceVersion"] == str(newest)
        await self.emulator.settled()

    @contextlib.asynccontextmanager
    async def request(self, request: dict, accept: str = "") -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a recorded request, told anew."""
        headers = {"Accept": accept} if accept else {}
        if request["as"]:
            token = "nobody" if request["as"] == "nobody" else self.emulator.token(request["as"])
            headers["Authorization"] = f"Bearer {token}"
        if request["content_type"]:
            headers["Content-Type"] = request["content_type"]
        body = self.told(request["body"])
        data = body if isinstance(body, str) or body is None else json.dumps(body)
        url = self.emulator.url + self.path(request["path"])
        async with self.session.request(
            request["method"], url, data=data, headers=headers, ssl=self.emulator.trust() or False
        ) as response:
            yield response

    def path(self, path: str) -> str:
        """A path with the names, version and token of this run."""
        path, _, query = path.partition("?")
        parts = [part.partition("=") for part in query.split("&") if part]
        told = [f"{key}={quote(self.parameter(key, unquote(value)), safe='')}" for key, _, value in parts]
        return self.renaming.text(path) + ("?" + "&".join(told) if told else "")

    def parameter(self, key: str, value: str) -> str:
        if key == "continue":
            return self.likeness.here("token", self.renaming.token(value))
        if key == "resourceVersion" and value == "234":
            return self.likeness.here("list", value)
        return self.renaming.text(value)

    def told(self, body):
        """A recorded body with the uids and versions of this run, and the recorded managedFields as they were."""
        if not isinstance(body, dict):
            return self.renaming.value(body)
        told = self.renaming.value(body)
        for key, kind in (("uid", "uid"), ("resourceVersion", "version")):
            if key in told.get("metadata", {}):
                told["metadata"][key] = self.likeness.here(kind, body["metadata"][key])
        return told

    # Watches, and what happens while they run.

    async def watch(self, name: str, response: aiohttp.ClientResponse, expected: list[dict]) -> None:
        """Compare event by event; whatever the recorder did between two events is done between them."""
        version = ""
        if name == "pods watch from resourceVersion 0":  # ordered by name, and the pods have other names here
            expected = sorted(expected, key=lambda event: self.pod(event["object"]["metadata"]["name"][-5:]))
        acts = self.acts() if name == "pods watch" else self.removal() if name == "custom objects watch" else {}
        if 0 in acts:
            await self.act(*acts[0])
        ends = not expected or expected[-1]["type"] != "ERROR"
        for place, event in enumerate(expected):
            if event["type"] == "BOOKMARK":
                self.emulator.end_watches()
            actual = json.loads(await response.content.readline())
            self.likeness.check(self.renaming.value(event), actual)
            if event["type"] == "BOOKMARK":
                assert actual["object"]["metadata"]["resourceVersion"] == version
            elif event["type"] != "ERROR":
                version = actual["object"]["metadata"]["resourceVersion"]
            if place + 1 in acts:
                await self.act(*acts[place + 1])
        if ends:
            self.emulator.end_watches()
        assert await response.content.readline() == b""

    def acts(self) -> dict:
        """By the number of events seen before: what a scheduler, a kubelet and a user did to the pods."""
        events = [event["object"] for event in exchanges()["pods watch"]["response"]["events"]]
        subject, waiting = self.pod(SUBJECT), self.pod(WAITING)
        node = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": subject.rpartition("/")[2]},
                "target": {"kind": "Node", "name": "node-1"}}  # fmt: skip
        at_once = {"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": 0}
        return {
            0: ("POST", f"{subject}/binding", node),
            1: ("PATCH", f"{subject}/status", {"status": self.renaming.value(events[1]["status"])}),
            2: ("PATCH", f"{subject}/status", {"status": self.renaming.value(events[2]["status"])}),
            3: ("DELETE", subject),
            5: ("DELETE", subject, at_once),
            7: ("DELETE", waiting),
        }

    def removal(self) -> dict:
        path = self.renaming.text("/apis/example.dev/v1alpha1/namespaces/models/onlinethings/v")
        return {2: ("DELETE", path)}

    def pod(self, suffix: str) -> str:
        name = self.renaming.text("m") + "-" + self.likeness.here("name", f"6b5fd74669-{suffix}")
        return self.renaming.text("/api/v1/namespaces/models/pods/") + name

    async def act(self, method: str, path: str, body: dict | None = None) -> None:
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        headers = {"Authorization": f"Bearer {self.emulator.token()}", "Content-Type": kind}
        async with self.session.request(
            method,
            self.emulator.url + path,
            data=json.dumps(body) if body else None,
            headers=headers,
            ssl=self.emulator.trust() or False,
        ) as response:
            assert response.status in (200, 201), await response.text()
