"""What fe asks of an API server, as its authorizer sees it: the one list of the rights that fe needs, and what for.

Owns: that list. deploy/kubernetes/base/access.yaml grants exactly this, `fe check` asks for it, and tests hold it
against the calls that fe makes. Never: a call. Whoever lets fe call something new adds it here first.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final, NamedTuple

from fe.config import schema
from fe.control.kubernetes.objects import GROUP

LEASES: Final = "coordination.k8s.io"
EVENTS: Final = "events.k8s.io"
HPA: Final = "autoscaling"
KEDA: Final = "keda.sh"


class Permission(NamedTuple):
    """Verbs of one resource. `lost`: what does not work without them; `optional`: requests are served all the same."""

    group: str
    resource: str  # with its subresource: deployments/scale
    verbs: tuple[str, ...]
    lost: str
    optional: bool = False
    named: bool = False  # of one object only, whose name the rule may give

    def rule(self, verbs: Collection[str], name: str = "") -> str:
        """As it stands in a Role."""
        only = f", resourceNames: [{name}]" if name else ""
        group = self.group or '""'
        return f"{{apiGroups: [{group}], resources: [{self.resource}]{only}, verbs: [{', '.join(verbs)}]}}"


class Need(NamedTuple):
    """A permission in a namespace; "" is all of them. `name`: of the object, where only one is meant."""

    namespace: str
    permission: Permission
    name: str = ""


_UNDOUBTED: Final = "an empty list that the server gives by mistake is believed"  # Reflector._doubt asks for one object
_NO_POD: Final = "no pod is seen, so that no request is sent"

ELECTION: Final = (
    Permission(LEASES, "leases", ("get", "update"), "no front-end is elected: nothing is scaled", named=True),
    Permission(LEASES, "leases", ("create",), "no front-end is elected where there is no Lease yet"),
)
SIBLINGS: Final = (
    Permission("", "pods", ("list", "watch"), "the other front-ends are not known"),
    Permission("", "pods", ("get",), _UNDOUBTED, optional=True),
)
PODS: Final = (
    Permission("apps", "deployments", ("list", "watch"), "no model is found"),
    Permission("apps", "deployments", ("get",), _UNDOUBTED, optional=True),
    Permission("", "pods", ("list", "watch"), _NO_POD),
    Permission("", "pods", ("get",), _UNDOUBTED, optional=True),
    Permission("apps", "deployments/scale", ("get", "update"), "nothing is scaled"),
    Permission(HPA, "horizontalpodautoscalers", ("list", "watch"), "an autoscaler beside fe is not seen", True),
    Permission(KEDA, "scaledobjects", ("list", "watch"), "KEDA beside fe is not seen", True),
    Permission(EVENTS, "events", ("create",), "`kubectl describe` does not show what fe decides", True),
)
OBJECTS: Final = (
    *(
        one
        for kind in ("onlineendpoints", "onlinedeployments")
        for one in (
            Permission(GROUP, kind, ("list", "watch"), f"{kind} are not found"),
            Permission(GROUP, kind, ("get",), _UNDOUBTED, optional=True),
            Permission(GROUP, f"{kind}/status", ("patch",), f"{kind} show no conditions and figures", True),
        )
    ),
)
MODELS: Final = (*PODS, *OBJECTS)


def needs(settings: schema.Kubernetes, own: str, searched: Collection[str], others: Collection[str]) -> Iterator[Need]:
    """Everything that fe needs. `own`: the namespace it is in; `searched`: those it looks for models in, "" for all;
    `others`: further ones with pods that its file names."""
    election = settings.election
    for one in ELECTION:
        yield Need(election.namespace or own, one, election.lease if one.named else "")
    for one in SIBLINGS:
        yield Need(own, one)
    for namespace in searched:
        for one in MODELS:
            yield Need(namespace, one)
    for namespace in others:
        for one in PODS:
            yield Need(namespace, one)
