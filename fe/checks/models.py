"""The check of models: what the cluster and the file bring together, as fe-serve would see and serve it.

Owns: one look through the very views that fe-serve watches with, and what is said of it: objects with problems,
Deployments that are missing, pods that are not ready, other autoscalers. Never: a request, a write. The ports of ready
pods that it finds are tried by `fe.checks.replicas`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from fe.checks.context import Context
from fe.checks.result import Result, count, fail, ok, warn
from fe.config import schema
from fe.control.kubernetes.served import Served
from fe.control.kubernetes.slim import Pod, Workload
from fe.control.kubernetes.targets import Target
from fe.control.kubernetes.view import EVERYWHERE, View
from fe.control.kubernetes.watch import Key

LOOK_EVERY: Final = 0.02  # seconds
SEEN_WITHIN: Final = 8.0
NEEDED: Final = ("deployments", "pods")  # lists without which there is nothing to say


@dataclass
class _Listener:
    """Who would be told of changes: nobody, it is one look."""

    targets: Mapping[Key, Target] = field(default_factory=dict)

    def on_objects(self) -> None: ...


@dataclass
class _Findings:
    """By what is wrong, a line for each deployment."""

    served: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    unready: list[str] = field(default_factory=list)
    claimed: list[str] = field(default_factory=list)
    ports: dict[str, list[tuple[str, int]]] = field(default_factory=dict)  # of ready pods


async def check_models(context: Context) -> list[Result]:
    """Objects, their problems, and what would be served; for each deployment its pods."""
    views = _views(context)
    try:
        trouble = await _seen(views, context.deadline)
        if trouble:
            return [
                fail(
                    f"the cluster is not seen: {trouble}",
                    "`permissions` says which rule is missing, if any; else see what the API server logs",
                )
            ]
        return _judge(context, views)
    finally:
        await asyncio.shield(
            asyncio.gather(*(view.stop() for view in views.values()))
        )  # to its end, if time is over, too


def _views(context: Context) -> dict[str, View]:
    """Those that fe-serve would have."""
    listener = _Listener()
    wanted = {**dict.fromkeys(context.searched, True), **dict.fromkeys(context.others, False)}
    return {name: View(context.client, name, listener, (), {}, objects=objects) for name, objects in wanted.items()}


async def _seen(views: Mapping[str, View], deadline: float) -> str:
    """Waits until everything has been seen, or cannot be; why it has not."""
    for view in views.values():
        view.start()
    end = min(asyncio.get_running_loop().time() + SEEN_WITHIN, deadline)
    while not all(view.settled for view in views.values()) and asyncio.get_running_loop().time() < end:
        await asyncio.sleep(LOOK_EVERY)
    lists = [(view, kind) for view in views.values() for kind in view.reflectors]
    unseen = [
        (view.paths[kind], view.reflectors[kind])
        for view, kind in lists
        if not view.reflectors[kind].synced and (kind in NEEDED or not view.is_refused(kind))
    ]
    return ", ".join(f"{path}: {one.trouble or 'no answer in time'}" for path, one in unseen)


def _judge(context: Context, views: Mapping[str, View]) -> list[Result]:
    served = Served(views, lambda _: False, None, None)
    config = served.combine(context.config, None, context.namespace)
    found = _Findings()
    for endpoint in config.endpoints:
        for deployment in endpoint.deployments:
            if isinstance(deployment.replicas, schema.KubernetesReplicas):
                _look_at(context, views, f"{endpoint.name}/{deployment.name}", deployment.replicas, found)
    context.ports = found.ports
    where = "all namespaces" if EVERYWHERE in context.searched else ", ".join(context.searched)
    objects = sum(len(view.endpoints) + len(view.deployments) + len(view.plain) for view in views.values())
    total = f"{count(len(config.endpoints), 'endpoint')}, {count(len(found.served), 'deployment')} with pods"
    results = [ok(f"{count(objects, 'object')} in {where}; served: {total}", found.served)]
    if not found.served and not served.problems:
        results = [
            warn(
                f"no model in {where}",
                "label a Deployment, or make an OnlineEndpoint (docs/kubernetes.md); "
                "models elsewhere need their namespace in kubernetes.namespaces",
            )
        ]
    return results + _troubles(served.problems, found)


def _troubles(problems: list[str], found: _Findings) -> list[Result]:
    results = []
    if problems:
        what = f"{count(len(problems), 'problem')} of objects, which are not served as they say"
        results.append(fail(what, "kubectl edit the object; docs/kubernetes-objects.md has every field", problems))
    if found.missing:
        what = f"{count(len(found.missing), 'deployment')} without the Deployment that its pods come from"
        results.append(
            fail(what, "make the Deployment, or mend `target` (replicas.kubernetes in a file)", found.missing)
        )
    if found.unready:
        what = f"{count(len(found.unready), 'deployment')} without a ready pod"
        results.append(warn(what, "kubectl describe the pods; requests wait until one is ready", found.unready))
    if found.claimed:
        what = f"{count(len(found.claimed), 'deployment')} scaled by somebody else: fe leaves the number alone"
        results.append(warn(what, "delete the other autoscaler if fe is to scale", found.claimed))
    return results


def _look_at(
    context: Context, views: Mapping[str, View], name: str, replicas: schema.KubernetesReplicas, found: _Findings
) -> None:
    key = (replicas.namespace or context.namespace, replicas.deployment)
    view = views.get(EVERYWHERE) or views[key[0]]
    workload = view.workloads.store.get(key)
    target = f"{name}: the Deployment {'/'.join(key)}"
    if workload is None:
        found.missing.append(f"{target} is not there")
        return
    pods = _pods(view, key, workload)
    ready = [pod.address for pod in pods if pod.serves and pod.address]
    found.ports[name] = [(address, replicas.port) for address in ready]
    line = f"{target}, {len(ready)} of {count(workload.replicas, 'pod')} ready, port {replicas.port}"
    found.served.append(line)
    if workload.replicas and not ready:
        found.unready.append(line + _why(pods, workload))
    claims = view.claims_on(key)
    if claims:
        found.claimed.append(f"{name}: {' and '.join(claims)}")


def _pods(view: View, key: Key, workload: Workload) -> list[Pod]:
    return [
        pod
        for (namespace, _), pod in view.pods.store.items()
        if namespace == key[0] and workload.selector.matches(pod.labels)
    ]


def _why(pods: list[Pod], workload: Workload) -> str:
    failing = Counter(one.failing for one in pods if one.failing and not one.terminating and not one.ended)
    reasons = [f"{number} {reason}" for reason, number in failing.items()]
    if workload.cannot_create and len(pods) < workload.replicas:
        reasons.append("no more can be made: a quota, or a rule of admission")
    return f" ({', '.join(reasons)})" if reasons else ""
