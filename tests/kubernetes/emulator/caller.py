"""A plain client for tests of the emulator itself: one call, its status and its body.

Never retries, never interprets. fe's own client is not used here, so that neither hides the other's mistakes.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

import aiohttp

from tests.kubernetes.emulator.server import Emulator

Json = dict[str, Any]
KINDS = {
    "json": "application/json",
    "merge": "application/merge-patch+json",
    "patch": "application/json-patch+json",
    "strategic": "application/strategic-merge-patch+json",
    "apply": "application/apply-patch+yaml",
}
LONGEST = 45.0  # seconds that anything here may take


class Caller:
    """Calls as one user."""

    def __init__(self, emulator: Emulator, session: aiohttp.ClientSession, user: str) -> None:
        self.emulator, self._session = emulator, session
        self._headers = {"Authorization": f"Bearer {emulator.token(user)}"}

    async def __call__(self, method: str, path: str, body: Any = None, kind: str = "json") -> tuple[int, Any]:
        """Status, and the body as JSON (as text where it is none)."""
        headers = self._headers | ({"Content-Type": KINDS[kind]} if body is not None else {})
        data = None if body is None else json.dumps(body)
        url, trust = self.emulator.url + path, self.emulator.trust() or False
        async with self._session.request(method, url, data=data, headers=headers, ssl=trust) as response:
            text = await response.text()
            return response.status, json.loads(text) if text and response.content_type == "application/json" else text

    @contextlib.asynccontextmanager
    async def watch(self, path: str) -> AsyncIterator[AsyncGenerator[Json, None]]:
        """The events of a watch, as they come."""
        url, trust = self.emulator.url + path, self.emulator.trust() or False
        async with self._session.get(url, headers=self._headers, ssl=trust) as response:
            assert response.status == 200, await response.text()
            async with contextlib.aclosing(_events(response)) as events:
                yield events


async def _events(response: aiohttp.ClientResponse) -> AsyncGenerator[Json, None]:
    while line := await response.content.readline():
        yield json.loads(line)


@contextlib.asynccontextmanager
async def calling(emulator: Emulator, user: str = "admin") -> AsyncIterator[Caller]:
    timeout = aiohttp.ClientTimeout(total=LONGEST)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield Caller(emulator, session, user)


def run(test: Any) -> None:
    """Run a test's coroutine, with a limit."""
    asyncio.run(asyncio.wait_for(test, 2 * LONGEST))


def deployment(name: str = "m", replicas: int = 2, image: str = "model:1", **spec: Any) -> Json:
    """A small Deployment."""
    container = {"name": "model", "image": image, "ports": [{"containerPort": 5001, "name": "http"}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
    return {
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "models", "labels": {"app": name}},
        "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec},
    }  # fmt: skip


def config(name: str, data: Json | None = None, **labels: str) -> Json:
    """A ConfigMap: the plainest object there is."""
    meta = {"name": name, "namespace": "models"} | ({"labels": labels} if labels else {})
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data or {"a": "1"}}
