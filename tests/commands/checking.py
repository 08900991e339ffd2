"""Runs the checks of `fe check` beside an emulated cluster, and sees each time that they only look.

Owns: the run, its results by name, and what such a cluster has in it. The emulator is asked over real HTTP(S), pods are
sockets that listen.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time

import yaml

from fe.checks import plan
from fe.checks.result import exit_code
from tests.kubernetes.harness import no_tasks_left, pod
from tests.project.tree import ROOT
from tests.support.fe_process import free_port

REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
FE = {"app.kubernetes.io/name": "fe"}


class Said(dict):
    """Results by the name of their check."""

    def __init__(self, results):
        super().__init__()
        for one in results:
            self.setdefault(one.name, []).append(one)
        self.code = exit_code(results)
        self.text = json.dumps(results)

    def the(self, name):
        (only,) = self[name]
        return only

    def bad(self):
        return [(name, one.status) for name, results in self.items() for one in results if one.status != "ok"]


async def check(emulator, folder, user="admin", files=None, limit=60.0, **block):
    """Runs it as a user of this emulator, and sees that it has only looked."""
    kubeconfig = emulator.kubeconfig(folder / f"kubeconfig-{user}", user, namespace="models")
    version, known = emulator.store.version, len(emulator.records)
    said = await run(folder, {"kubernetes": {"kubeconfig": str(kubeconfig), **block}, **(files or {})}, limit)
    assert emulator.store.version == version, "nothing is written"
    asked = emulator.records[known:]
    assert {one.path for one in asked if one.verb not in ("get", "list", "watch")} <= {REVIEWS}
    assert emulator.token(user) not in said.text
    return said


async def run(folder, config, limit=60.0):
    addresses = {"listen": f"127.0.0.1:{free_port()}", "admin": f"127.0.0.1:{free_port()}", "endpoints": []}
    (folder / "fe.yaml").write_text(json.dumps({**addresses, **config}))
    results = []
    async with no_tasks_left():
        await plan.run(str(folder / "fe.yaml"), limit, results.append)
    return Said(results)


@contextlib.contextmanager
def listening(*places):
    """Ports that accept connections."""
    with contextlib.ExitStack() as stack:
        for place in places:
            stack.enter_context(socket.create_server(place))
        yield


async def lease(emulator, renewed, holder="fe-1_0a1b2c3d"):
    moment = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(renewed))
    spec = {"holderIdentity": holder, "leaseDurationSeconds": 15, "renewTime": moment, "leaseTransitions": 2}
    head = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "fe", "namespace": "models"}}
    await emulator.create({**head, "spec": spec})


async def front_end(emulator, name, address):
    await emulator.create(pod(name, labels=FE))
    emulator.nodes.running("models", name, [address])


async def installed(emulator, without=lambda _group, _resource: False):
    """A user with the rights of deploy/kubernetes, but for some."""
    for document in yaml.safe_load_all((ROOT / "deploy/kubernetes/base/access.yaml").read_text()):
        for rule in document.get("rules", ()):
            kept = [one for one in rule["resources"] if not without(rule["apiGroups"][0], one)]
            emulator.user("installed", [{**rule, "resources": kept}], "models")
    return "installed"
