"""The check of permissions: the API server is asked, verb by verb, whether fe may do what it has to.

Owns: these questions (SelfSubjectAccessReview, which changes and stores nothing), and the rules to add. Never: which
permissions there are (`fe.control.kubernetes.permissions`).
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from typing import Final

from fe.checks.context import Context
from fe.checks.result import Result, count, fail, ok, warn
from fe.control.kubernetes.client import ApiError, Cluster
from fe.control.kubernetes.permissions import Need, needs
from fe.control.kubernetes.view import EVERYWHERE

REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
ASK_WITHIN: Final = 5.0  # seconds
AT_ONCE: Final = 16
MEND: Final = (
    "add these rules to fe's Role or ClusterRole, and bind it in that namespace: "
    "deploy/kubernetes/base/access.yaml, and options/more-namespaces for further ones"
)


async def check_permissions(context: Context) -> list[Result]:
    """Every verb that fe uses, in every namespace. Of an API that the cluster does not have nothing is asked."""
    searched = ["" if one == EVERYWHERE else one for one in context.searched]
    wanted = [
        one
        for one in needs(context.kubernetes, context.namespace, searched, context.others)
        if one.permission.group not in context.absent
    ]
    together = asyncio.Semaphore(AT_ONCE)

    async def ask(need: Need, verb: str) -> bool:
        async with together:
            return await _is_allowed(context.client, need, verb)

    asked = [(need, verb) for need in dict.fromkeys(wanted) for verb in need.permission.verbs]
    try:
        allowed = await asyncio.gather(*(ask(*one) for one in asked))
    except ApiError as error:
        if error.status not in (401, 403):
            raise
        return [
            fail(
                str(error),
                "this user may not even ask what it may: a kubeconfig without credentials, or one "
                "whose user the cluster does not know",
            )
        ]
    refused: dict[Need, list[str]] = defaultdict(list)
    for (need, verb), yes in zip(asked, allowed, strict=True):
        if not yes:
            refused[need].append(verb)
    where = ", ".join(dict.fromkeys(_place(need) for need in wanted))
    return _verdict(refused, f"{sum(allowed)} of {count(len(asked), 'right')} in {where}")


def _verdict(refused: dict[Need, list[str]], figures: str) -> list[Result]:
    if not refused:
        return [ok(figures)]
    grave = [_item(need, verbs) for need, verbs in refused.items() if not need.permission.optional]
    slight = [_item(need, verbs) for need, verbs in refused.items() if need.permission.optional]
    results = []
    if grave:
        results.append(fail(f"{figures}; {count(len(grave), 'rule')} missing", MEND, grave))
    if slight:
        results.append(warn(f"{figures}; {count(len(slight), 'rule')} missing that fe can do without", MEND, slight))
    return results


def _item(need: Need, verbs: Iterable[str]) -> str:
    return f"{_place(need)}: {need.permission.rule([*verbs], need.name)}: else {need.permission.lost}"


def _place(need: Need) -> str:
    return need.namespace or "all namespaces"


async def _is_allowed(cluster: Cluster, need: Need, verb: str) -> bool:
    resource, _, part = need.permission.resource.partition("/")
    attributes = {
        "namespace": need.namespace,
        "verb": verb,
        "group": need.permission.group,
        "resource": resource,
        "subresource": part,
        "name": need.name,
    }
    body = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {name: text for name, text in attributes.items() if text}},
    }
    answer = await cluster.call("POST", REVIEWS, body=body, content_type="application/json", timeout=ASK_WITHIN)
    status = answer.body.get("status")
    return isinstance(status, dict) and status.get("allowed") is True
