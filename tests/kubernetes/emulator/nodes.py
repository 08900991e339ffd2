"""The nodes of the cluster: pods are put on one, run, become ready or not, crash, and end.

Owns what a scheduler and a kubelet would write. By itself it ends a terminating pod when its grace is over, and does
nothing else: pods stay Pending, as without a kubelet. `run` makes it start pods by itself.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

from tests.kubernetes.emulator import names
from tests.kubernetes.emulator.resources import BUILT_IN
from tests.kubernetes.emulator.store import Change, Key, Store
from tests.kubernetes.emulator.subresources import bound
from tests.kubernetes.emulator.verbs import Verbs

Json = dict[str, Any]
PODS = next(resource for resource in BUILT_IN if resource.id == "pods")
NODE, HOST = "node-1", "10.0.0.1"


class Nodes:
    """Acts on pods by namespace and name. `stop_after`: seconds that a terminating pod takes to end, where that is not
    its whole grace; float("inf"): until `finish`."""

    def __init__(self, store: Store, verbs: Verbs, second: float) -> None:
        self.store, self.verbs, self.second = store, verbs, second
        self.stop_after: float | None = None
        self.idle = True
        self._run: Callable[[Json], list[str] | None] | None = None
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._unlisten: Callable[[], None] | None = None
        self._numbers = itertools.count(10)

    def start(self) -> None:
        self._unlisten = self.store.listen(self._on_change)

    async def stop(self) -> None:
        if self._unlisten is not None:
            self._unlisten()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    def run(self, addresses: Callable[[Json], list[str] | None] | None) -> None:
        """From now on every new pod runs and is ready at once, at the addresses this function gives it (IPv4, IPv6 or
        both); None as its answer leaves the pod Pending. None in its place turns that off."""
        self._run = addresses

    def ip(self) -> str:
        """An address in the pods' network that no other pod has."""
        number = next(self._numbers)
        return f"10.1.{number // 250}.{number % 250 + 1}"

    # One pod at a time.

    def bind(self, namespace: str, name: str, node: str = NODE) -> Json:
        """Put the pod on a node."""
        return self._write(bound(self._pod(namespace, name), node))

    def running(self, namespace: str, name: str, ips: list[str] | None = None, ready: bool = True) -> Json:
        """The pod's containers run, at these addresses (the pod is bound first where it is not)."""
        pod = self._pod(namespace, name)
        if not pod["spec"].get("nodeName"):
            pod = self.bind(namespace, name)
        addresses = ips or [self.ip()]
        statuses = [_container(spec, ready) for spec in pod["spec"]["containers"]]
        status = {
            **pod["status"], "phase": "Running", "conditions": _conditions(ready), "hostIP": HOST,
            "podIP": addresses[0], "podIPs": [{"ip": address} for address in addresses], "startTime": names.now(),
            "containerStatuses": statuses,
        }  # fmt: skip
        return self._write({**pod, "status": status})

    def ready(self, namespace: str, name: str, ready: bool = True) -> Json:
        """The pod's probe has turned."""
        pod = self._pod(namespace, name)
        statuses = [{**status, "ready": ready} for status in pod["status"].get("containerStatuses", [])]
        status = {**pod["status"], "conditions": _conditions(ready), "containerStatuses": statuses}
        return self._write({**pod, "status": status})

    def crash(self, namespace: str, name: str) -> Json:
        """The pod's containers have ended with an error and wait for their restart."""
        pod = self._pod(namespace, name)
        ended = {"terminated": {"exitCode": 1, "reason": "Error", "finishedAt": names.now()}}
        waiting = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off restarting failed container"}}
        statuses = [
            {**status, "ready": False, "state": waiting, "lastState": ended, "restartCount": status["restartCount"] + 1}
            for status in pod["status"].get("containerStatuses", [])
        ]
        status = {**pod["status"], "conditions": _conditions(False), "containerStatuses": statuses}
        return self._write({**pod, "status": status})

    def fail(self, namespace: str, name: str, reason: str = "Evicted") -> Json:
        """The pod has failed for good; it stays until it is deleted."""
        pod = self._pod(namespace, name)
        status = {**pod["status"], "phase": "Failed", "reason": reason, "conditions": _conditions(False)}
        return self._write({**pod, "status": status})

    def finish(self, namespace: str, name: str) -> None:
        """A terminating pod has ended: it is gone."""
        self._end((namespace, name))

    # By itself.

    def _on_change(self, change: Change) -> None:
        if change.id != "pods":
            return
        if change.new is None:
            if timer := self._timers.pop(change.key, None):
                timer.cancel()
        elif change.old is None and self._run is not None:
            self.idle = False
            asyncio.get_running_loop().call_soon(self._begin, change.key)
        elif "deletionTimestamp" in change.new["metadata"] and change.key not in self._timers:
            self._on_terminating(change.key, change.new["metadata"]["deletionGracePeriodSeconds"])

    def _on_terminating(self, key: Key, grace: float) -> None:
        if not grace:
            return
        after = grace * self.second if self.stop_after is None else min(self.stop_after, grace * self.second)
        if self.stop_after == float("inf"):
            return
        self._timers[key] = asyncio.get_running_loop().call_later(after, self._end, key)

    def _begin(self, key: Key) -> None:
        self.idle = True
        pod = self.store.get("pods", key)
        ips = self._run(pod) if self._run is not None and pod is not None else None
        if pod is not None and ips and "deletionTimestamp" not in pod["metadata"]:
            self.running(*key, ips)

    def _end(self, key: Key) -> None:
        if self.store.get("pods", key) is not None:
            self.verbs.delete(PODS, key, {"gracePeriodSeconds": 0})

    def _pod(self, namespace: str, name: str) -> Json:
        return self.verbs.get(PODS, namespace, name)

    def _write(self, pod: Json) -> Json:
        meta = pod["metadata"]
        return self.store.write("pods", (meta["namespace"], meta["name"]), pod)


def _conditions(ready: bool) -> list[Json]:
    moment = {"lastProbeTime": None, "lastTransitionTime": names.now()}
    turning = "True" if ready else "False"
    kinds = (("Initialized", "True"), ("Ready", turning), ("ContainersReady", turning), ("PodScheduled", "True"))
    return [{"type": kind, "status": status, **moment} for kind, status in kinds]


def _container(spec: Json, ready: bool) -> Json:
    return {
        "name": spec["name"], "state": {"running": {"startedAt": names.now()}}, "lastState": {}, "ready": ready,
        "restartCount": 0, "image": spec.get("image", ""), "imageID": "",
    }  # fmt: skip
