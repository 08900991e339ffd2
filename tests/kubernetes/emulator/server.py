"""An API server for tests: `async with Emulator() as e`, then `e.url`, `e.token("admin")`, `await e.create(...)`.

Owns the parts and their life. Everything it starts ends with it. What the API answers is api.py's and below; how it
fails is `e.faults`; what runs in the cluster is `e.nodes`. Read next: api.py.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml

from tests.kubernetes.emulator import certificate
from tests.kubernetes.emulator.access import ANYTHING, Access
from tests.kubernetes.emulator.api import Answer, Api, Call
from tests.kubernetes.emulator.controllers import Controllers
from tests.kubernetes.emulator.faults import Faults
from tests.kubernetes.emulator.http import LOOPBACK, Front, Record
from tests.kubernetes.emulator.names import Names
from tests.kubernetes.emulator.nodes import Nodes
from tests.kubernetes.emulator.resources import Registry, Resource
from tests.kubernetes.emulator.store import Store
from tests.kubernetes.emulator.verbs import Verbs

Json = dict[str, Any]


class Emulator:
    """One API server on a loopback port.

    `tls`: speak HTTPS, with a certificate for 127.0.0.1 that `ca` (a file) vouches for. `version`: where the counter of
    resourceVersions begins. `second`: how long one second of its timers lasts (timeoutSeconds of a watch, a pod's
    grace), in seconds. `history`: changes that are kept for watches and old lists. `streams`: serve sendInitialEvents,
    which the recorded server refused. `namespaces`: made at the start, beside `default`.
    """

    def __init__(
        self,
        *,
        tls: bool = False,
        seed: int = 0,
        version: int = 200,
        second: float = 1.0,
        history: int = 20_000,
        streams: bool = False,
        namespaces: tuple[str, ...] = ("models",),
    ) -> None:
        self.store, self.registry, self.access = Store(version, history), Registry(), Access()
        self.faults = Faults(seed)
        self._verbs = Verbs(self.store, self.registry, Names(seed))
        self.api = Api(self.store, self.registry, self.access, self._verbs, second, streams)
        self.nodes = Nodes(self.store, self._verbs, second)
        self.controllers = Controllers(self.store, self.registry, self._verbs)
        self._certificate = certificate.make() if tls else None
        self._front = Front(self.api, self.faults, self._certificate.context if self._certificate else None)
        self._namespaces = ("default", *namespaces)

    async def __aenter__(self) -> Emulator:
        self.controllers.start()
        self.nodes.start()
        for namespace in self._namespaces:
            await self.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}})
        await self._front.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.faults.clear()
        await self._front.stop()
        await self.nodes.stop()
        self.controllers.stop()
        if self._certificate is not None:
            self._certificate.remove()

    # Reaching it.

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://{LOOPBACK}:{self._front.port}"

    @property
    def ca(self) -> Path | None:
        """The file with the certificate to trust; None over plain HTTP."""
        return self._certificate.file if self._certificate else None

    def trust(self) -> ssl.SSLContext | None:
        """A client's context that trusts `ca`."""
        return ssl.create_default_context(cafile=str(self.ca)) if self.ca else None

    def token(self, user: str = "admin") -> str:
        return self.access.token(user)

    def user(self, name: str, rules: list[Json] | None = None, namespace: str = "") -> str:
        """Give a user rules (as in a Role; None: all rights), in one namespace or (absent) all; returns its token."""
        return self.access.add(name, [ANYTHING] if rules is None else rules, namespace)

    def kubeconfig(self, path: Path, user: str = "admin", namespace: str = "default") -> Path:
        """Write a kubeconfig whose current context is this server and user; returns its path."""
        cluster: Json = {"server": self.url} | ({"certificate-authority": str(self.ca)} if self.ca else {})
        document = {
            "apiVersion": "v1", "kind": "Config", "current-context": "emulator",
            "clusters": [{"name": "emulator", "cluster": cluster}],
            "users": [{"name": user, "user": {"token": self.token(user)}}],
            "contexts": [
                {"name": "emulator", "context": {"cluster": "emulator", "user": user, "namespace": namespace}}
            ],
        }  # fmt: skip
        path.write_text(yaml.safe_dump(document))
        return path

    # Its state, past HTTP and its faults, and with all rights. Refused: as over HTTP.

    def resource(self, body: Json) -> Resource:
        return self.registry.of(body["apiVersion"], body["kind"])

    async def create(self, body: Json, namespace: str | None = None) -> Json:
        resource = self.resource(body)
        return self._do("POST", resource.path(namespace or _namespace(body)), body)

    async def replace(self, body: Json) -> Json:
        resource = self.resource(body)
        return self._do("PUT", resource.path(_namespace(body), body["metadata"]["name"]), body)

    async def patch(self, path: str, patch: Json) -> Json:
        """A JSON merge patch of the object (or subresource) at an API path."""
        return self._do("PATCH", path, patch, "application/merge-patch+json")

    async def delete(self, path: str, grace: int | None = None) -> Json:
        return self._do("DELETE", path, {} if grace is None else {"gracePeriodSeconds": grace})

    async def get(self, path: str) -> Json:
        """The object or list at an API path, query included."""
        return self._do("GET", path)

    def pods(self, namespace: str = "models", selector: str = "") -> list[Json]:
        """The pods of a namespace by name, terminating ones included."""
        query = f"?labelSelector={selector}" if selector else ""
        return list(self._do("GET", f"/api/v1/namespaces/{namespace}/pods{query}")["items"])

    def _do(self, method: str, path: str, body: Json | None = None, kind: str = "application/json") -> Json:
        path, _, text = path.partition("?")
        query = dict(part.partition("=")[::2] for part in text.split("&") if part)
        data = b"" if body is None else json.dumps(body).encode()
        answer = self.api.call(Call(method, path, query, data, kind, "", f"Bearer {self.token()}", "emulator"))
        assert isinstance(answer, Answer)
        return dict(json.loads(json.dumps(answer.body)))  # a copy: what is stored must not be changed by a test

    def compact(self) -> None:
        """Forget all history: watches and lists at an older resourceVersion are 410 from now on."""
        self.store.compact()

    def skip(self, versions: int) -> None:
        """Let the counter of resourceVersions run on."""
        self.store.skip(versions)

    def end_watches(self) -> None:
        """Let the time of every open watch be over: its last bookmarks, if it takes any, and the end."""
        for watch in list(self.api.open):
            watch.finish()

    # What was asked of it, and its coming and going.

    @property
    def counts(self) -> Counter[tuple[str, str]]:
        """Calls over HTTP by (verb, path): ("list", "/api/v1/namespaces/models/pods")."""
        return self._front.counts

    @property
    def records(self) -> list[Record]:
        """Every call over HTTP, in order."""
        return self._front.records

    def cut(self) -> None:
        """Reset every open connection."""
        self._front.cut()

    async def away(self) -> None:
        """Refuse connections from now on, and reset those there are."""
        await self._front.stop(keep=True)

    async def back(self) -> None:
        """Listen again, on the same port."""
        await self._front.start()

    async def settled(self, rounds: int = 50) -> None:
        """Let controllers and nodes finish what they can do at once."""
        for _ in range(rounds):
            await asyncio.sleep(0)
            if self.controllers.idle and self.nodes.idle:
                return


def _namespace(body: Json) -> str:
    return str(body["metadata"].get("namespace", "models"))
