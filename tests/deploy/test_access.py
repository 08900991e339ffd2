"""What fe may do in a cluster is what it calls: not less, or it fails there, and nothing more.

The roles are read as the API server reads them: rules add up, nothing forbids, a rule with resourceNames needs the name
and so never allows `create`. What is called stands in fe/control/kubernetes/permissions.py, which is held against the
calls of a control plane that does all it can do.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

from fe.config import schema
from fe.control.kubernetes.permissions import ELECTION, MODELS, SIBLINGS, Permission, needs
from tests.kubernetes.emulator.api import target_of
from tests.kubernetes.harness import eventually, forget, on_loop, pod
from tests.kubernetes.scene import (
    EVENTS,
    GROUP,
    Scene,
    addresses,
    cluster,
    has,
    online_deployment,
    online_endpoint,
    scene,
    workload,
)

OVERLAYS = ("overlays/single", "overlays/ha")


class Call(NamedTuple):
    """A request as the authorizer sees it. `resource` may have a subresource; `name` is empty for lists and creates."""

    namespace: str
    verb: str
    group: str
    resource: str
    name: str = ""


def calls(namespace: str, group: str, resource: str, verbs: str, name: str = "") -> list[Call]:
    return [Call(namespace, verb, group, resource, name if verb != "create" else "") for verb in verbs.split()]


def calls_of(namespace: str, permissions: tuple[Permission, ...]) -> list[Call]:
    """What the table says, for the objects of some names."""
    return [
        call
        for one in permissions
        for call in calls(
            namespace,
            one.group,
            one.resource,
            " ".join(one.verbs),
            "fe" if one.named else "any" * ("/" in one.resource),
        )
    ]


def own_calls() -> list[Call]:
    """In fe's namespace, wherever the models are: election and siblings."""
    return calls_of("fe", ELECTION + SIBLINGS)


def model_calls(namespace: str) -> list[Call]:
    """In a namespace that models are looked for in: discovery, scaling, status, events."""
    return calls_of(namespace, MODELS)


FORBIDDEN = [
    *calls("fe", "", "secrets", "get list watch create", "any"),
    *calls("fe", "", "configmaps", "get list watch update", "any"),
    *calls("fe", "", "pods", "create delete deletecollection patch update", "any"),
    *calls("fe", "", "pods/exec", "create get", "any"),
    *calls("fe", "", "pods/ephemeralcontainers", "patch update", "any"),
    *calls("fe", "", "pods/eviction", "create"),
    *calls("fe", "", "serviceaccounts", "impersonate", "any"),
    *calls("fe", "", "serviceaccounts/token", "create"),
    *calls("fe", "apps", "deployments", "create delete patch update", "any"),
    *calls("fe", "apps", "deployments/scale", "patch", "any"),
    *calls("fe", "coordination.k8s.io", "leases", "get update patch delete", "another"),
    *calls("fe", "coordination.k8s.io", "leases", "list watch deletecollection"),
    *calls("fe", GROUP, "onlinedeployments", "create delete patch update", "any"),
    *calls("fe", "rbac.authorization.k8s.io", "roles", "bind escalate create update", "any"),
    *calls("", "", "nodes", "get list watch"),
    *calls("", "", "pods", "list watch"),
    *calls("", "apiextensions.k8s.io", "customresourcedefinitions", "get list create update"),
    *calls("kube-system", "", "pods", "list"),
    *calls("kube-system", "apps", "deployments/scale", "get patch update", "any"),
]


def rules(objects: list[dict]) -> list[tuple[str, dict]]:
    """The rules bound to fe's account, each with the namespace it holds in; "" is everywhere."""
    roles = {
        (item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]): item["rules"]
        for item in objects
        if item["kind"] in ("Role", "ClusterRole")
    }
    found = []
    for item in objects:
        if item["kind"] in ("RoleBinding", "ClusterRoleBinding"):
            assert item["subjects"] == [{"kind": "ServiceAccount", "name": "fe", "namespace": "fe"}]
            namespace, role = item["metadata"].get("namespace", ""), item["roleRef"]
            at = namespace if role["kind"] == "Role" else ""
            found += [(namespace, rule) for rule in roles[role["kind"], at, role["name"]]]
    return found


def allows(namespace: str, rule: dict, call: Call) -> bool:
    names = rule.get("resourceNames", [])
    return (
        namespace in ("", call.namespace)
        and bool({call.verb, "*"} & set(rule["verbs"]))
        and bool({call.group, "*"} & set(rule["apiGroups"]))
        and bool({call.resource, "*"} & set(rule["resources"]))
        and (not names or call.name in names)
    )


def refused(objects: list[dict], wanted: list[Call]) -> list[Call]:
    bound = rules(objects)
    return [call for call in wanted if not any(allows(namespace, rule, call) for namespace, rule in bound)]


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_call_is_allowed(build, overlay):
    assert refused(build(overlay), own_calls() + model_calls("fe")) == []


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_what_nobody_needs_is_forbidden(build, overlay):
    wanted = FORBIDDEN + model_calls("models")
    assert refused(build(overlay), wanted) == wanted


def test_nothing_is_allowed_that_is_not_called(build):
    called = {(call.namespace, call.verb, call.group, call.resource) for call in own_calls() + model_calls("fe")}
    granted = {
        (namespace, verb, group, resource)
        for namespace, rule in rules(build("overlays/ha"))
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert granted == called


def test_a_further_namespace(build):
    objects = build("overlays/ha") + build("options/more-namespaces")
    assert refused(objects, own_calls() + model_calls("fe") + model_calls("models")) == []
    assert refused(objects, FORBIDDEN + model_calls("other")) == FORBIDDEN + model_calls("other")


def test_all_namespaces(build):
    objects = build("overlays/ha") + build("options/all-namespaces")
    assert refused(objects, own_calls() + model_calls("any") + model_calls("")) == []
    still = [call for call in FORBIDDEN if call.resource not in ("pods", "deployments/scale") or call.namespace == "fe"]
    assert refused(objects, still) == still


def test_roles_name_the_resources_that_are_defined(build):
    defined = {
        f"{item['spec']['names']['plural']}"
        for item in build("overlays/ha")
        if item["kind"] == "CustomResourceDefinition" and item["spec"]["group"] == GROUP
    }
    assert defined == {call.resource for call in model_calls("fe") if call.group == GROUP and "/" not in call.resource}


# --- the table, and what is called ---


@on_loop
async def test_the_table_is_what_is_called(tmp_path):
    """A control plane is elected, finds siblings and models, scales against somebody else's write, reports, and doubts
    lists that have become empty; every verb of the table is among its calls, and no other."""
    async with cluster() as emulator:
        emulator.nodes.run(addresses())
        await emulator.create(pod("fe-0", labels={"app.kubernetes.io/name": "fe"}))
        await emulator.create(workload())
        await emulator.create(online_endpoint())
        await emulator.create(online_deployment(scale_settings={"max_instances": 4}))
        emulator.user("installed", None)
        async with scene(tmp_path, emulator=emulator, user="installed") as s:
            await s.sees("one/m", {"127.1.0.2": "ready"})
            await s.leads()
            emulator.faults.status(409, path="/scale", verb="update", times=1)
            s.acquire("one/m", 2)
            await has(s, "onlinedeployments/m", lambda one: one.get("lastDecision"), "written")
            await eventually(lambda: any(one.path == EVENTS for one in emulator.records), "an event")
            await doubts(s)
    called = {(one.verb, *named(one.path)) for one in emulator.records if one.user == "installed"}
    table = {(verb, one.group, one.resource) for one in ELECTION + SIBLINGS + MODELS for verb in one.verbs}
    absent = {("list", "keda.sh", "scaledobjects"), ("watch", "keda.sh", "scaledobjects")}  # 404 to the list
    assert called == table - absent | {("list", "keda.sh", "scaledobjects")}


async def doubts(s: Scene) -> None:
    """Lists are empty all at once, and each is asked for one of its objects."""
    kinds = ("pods", "deployments", "onlineendpoints", "onlinedeployments")
    for kind in kinds:
        s.emulator.faults.empty(path=f"/{kind}\\?")
    forget(s.emulator)
    s.emulator.end_watches()
    await eventually(
        lambda: {named(one.path)[1] for one in s.emulator.records if one.verb == "get"} >= set(kinds), "all are doubted"
    )


def named(path: str) -> tuple[str, str]:
    """Group and resource, with its subresource."""
    target = target_of(path)
    assert target is not None, path
    return target.group, f"{target.plural}/{target.part}" if target.part else target.plural


def test_what_is_needed_where():
    """The Lease may be elsewhere; where only a file's pods are, nothing of fe's own kinds is asked for."""
    settings = schema.Kubernetes(election=schema.Election(lease="l", namespace="leases"))
    found = {(one.namespace, one.permission.resource, one.name) for one in needs(settings, "own", ["models"], ["more"])}
    assert {one for one in found if one[0] == "leases"} == {("leases", "leases", "l"), ("leases", "leases", "")}
    assert {one for one in found if one[0] == "own"} == {("own", "pods", "")}
    resources = {where: {resource for at, resource, _ in found if at == where} for where in ("models", "more")}
    assert resources["models"] - resources["more"] == {
        "onlineendpoints", "onlineendpoints/status", "onlinedeployments", "onlinedeployments/status",
    }  # fmt: skip
