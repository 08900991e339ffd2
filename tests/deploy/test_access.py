"""What fe may do in a cluster is what it calls: not less, or it fails there, and nothing more.

The roles are read as the API server reads them: rules add up, nothing forbids, a rule with resourceNames needs the name
and so never allows `create`. own_calls and model_calls are the lists to extend when fe learns to call something.
"""

from __future__ import annotations

from typing import NamedTuple

import pytest

OVERLAYS = ("overlays/single", "overlays/ha")
OURS = "inference.fe-router.io"


class Call(NamedTuple):
    """A request as the authorizer sees it. `resource` may have a subresource; `name` is empty for lists and creates."""

    namespace: str
    verb: str
    group: str
    resource: str
    name: str = ""


def calls(namespace: str, group: str, resource: str, verbs: str, name: str = "") -> list[Call]:
    return [Call(namespace, verb, group, resource, name if verb != "create" else "") for verb in verbs.split()]


def own_calls() -> list[Call]:
    """In fe's namespace, wherever the models are: election, siblings, events about itself."""
    return [
        *calls("fe", "coordination.k8s.io", "leases", "create get update", "fe"),
        *calls("fe", "", "pods", "get list watch"),
        *calls("fe", "events.k8s.io", "events", "create"),
    ]


def model_calls(namespace: str) -> list[Call]:
    """In a namespace that models are looked for in: discovery, scaling, status."""
    return [
        *calls(namespace, OURS, "onlineendpoints", "get list watch"),
        *calls(namespace, OURS, "onlinedeployments", "get list watch"),
        *calls(namespace, OURS, "onlineendpoints/status", "patch update", "any"),
        *calls(namespace, OURS, "onlinedeployments/status", "patch update", "any"),
        *calls(namespace, "apps", "deployments", "get list watch"),
        *calls(namespace, "apps", "deployments/scale", "get patch update", "any"),
        *calls(namespace, "", "pods", "get list watch"),
        *calls(namespace, "autoscaling", "horizontalpodautoscalers", "list watch"),
        *calls(namespace, "keda.sh", "scaledobjects", "list watch"),
        *calls(namespace, "events.k8s.io", "events", "create"),
    ]


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
    *calls("fe", "coordination.k8s.io", "leases", "get update patch delete", "another"),
    *calls("fe", "coordination.k8s.io", "leases", "list watch deletecollection"),
    *calls("fe", OURS, "onlinedeployments", "create delete patch update", "any"),
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
        if item["kind"] == "CustomResourceDefinition" and item["spec"]["group"] == OURS
    }
    assert defined == {call.resource for call in model_calls("fe") if call.group == OURS and "/" not in call.resource}
