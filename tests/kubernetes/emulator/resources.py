"""Which kinds of objects there are, and how each behaves where kinds differ.

Owns the table of built-in kinds and the registry, to which CustomResourceDefinitions add. Never holds an object.
Fields and their types are in types.py, defaults and validation in kinds.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

STATUS = frozenset({"status"})
SCALED = frozenset({"status", "scale"})
WORKLOAD = {"spec": {"selector": None, "template": {"metadata": {}, "spec": {"containers": None}}}, "status": {}}


@dataclass(frozen=True, eq=False)
class Resource:
    """One kind in one version. `blank` is what an empty object of the kind still shows (in a bookmark)."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True
    subresources: frozenset[str] = frozenset()
    generation: bool = False  # whether metadata.generation counts changes of the spec
    unconditional: bool = True  # whether an update may come without a resourceVersion
    put_creates: bool = False
    shows_deleted: bool = False  # a delete answers with the object, not with a Status
    blank: dict[str, Any] = field(default_factory=dict)
    short_names: tuple[str, ...] = ()
    singular: str = ""
    list_kind: str = ""
    schema: dict[str, Any] | None = None  # custom kinds only
    columns: tuple[dict[str, Any], ...] = ()
    custom: bool = False

    @property
    def id(self) -> str:
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def model(self) -> str:
        """The name of the class in the kubernetes package that knows the kind's fields."""
        prefix = "Events" if self.group == "events.k8s.io" else ""
        return prefix + self.version[0].upper() + self.version[1:] + self.kind

    def path(self, namespace: str | None = None, name: str | None = None) -> str:
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        parts += ["namespaces", namespace] if self.namespaced and namespace else []
        return "/" + "/".join([*parts, self.plural, *([name] if name else [])])


def _plain(group: str, version: str, plural: str, kind: str, **more: Any) -> Resource:
    return Resource(group, version, plural, kind, **more)


BUILT_IN = (
    _plain("", "v1", "namespaces", "Namespace", namespaced=False, subresources=STATUS, blank={"spec": {}, "status": {}},
           short_names=("ns",)),
    _plain("", "v1", "nodes", "Node", namespaced=False, subresources=STATUS, blank={"spec": {}, "status": {}}),
    _plain("", "v1", "pods", "Pod", subresources=frozenset({"status", "binding", "eviction", "exec", "log"}),
           generation=True, shows_deleted=True, blank={"spec": {"containers": None}, "status": {}},
           short_names=("po",)),
    _plain("", "v1", "services", "Service", subresources=STATUS, put_creates=True, shows_deleted=True,
           blank={"spec": {}, "status": {"loadBalancer": {}}}, short_names=("svc",)),
    _plain("", "v1", "serviceaccounts", "ServiceAccount", shows_deleted=True, short_names=("sa",)),
    _plain("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
    _plain("", "v1", "secrets", "Secret"),
    _plain("apps", "v1", "deployments", "Deployment", subresources=SCALED, generation=True,
           blank={**WORKLOAD, "spec": WORKLOAD["spec"] | {"strategy": {}}}, short_names=("deploy",)),
    _plain("apps", "v1", "replicasets", "ReplicaSet", subresources=SCALED, generation=True,
           blank={"spec": {"selector": None}, "status": {"replicas": 0}}, short_names=("rs",)),
    _plain("coordination.k8s.io", "v1", "leases", "Lease", unconditional=False, put_creates=True, blank={"spec": {}}),
    _plain("events.k8s.io", "v1", "events", "Event", put_creates=True, short_names=("ev",), blank={
        "eventTime": None, "regarding": {}, "deprecatedSource": {}, "deprecatedFirstTimestamp": None,
        "deprecatedLastTimestamp": None}),
    _plain("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler", subresources=STATUS,
           blank={"spec": {"scaleTargetRef": {"kind": "", "name": ""}, "maxReplicas": 0},
                  "status": {"desiredReplicas": 0, "currentMetrics": None}}, short_names=("hpa",)),
    _plain("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice", generation=True,
           blank={"addressType": "", "endpoints": None, "ports": None}),
    _plain("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget", subresources=STATUS, generation=True,
           blank={"spec": {}, "status": {}}, short_names=("pdb",)),
    _plain("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy", generation=True, blank={"spec": {}}),
    _plain("rbac.authorization.k8s.io", "v1", "roles", "Role", blank={"rules": None}),
    _plain("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding", blank={"roleRef": {}}),
    _plain("rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False, blank={"rules": None}),
    _plain("rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False,
           blank={"roleRef": {}}),
    _plain("apiextensions.k8s.io", "v1", "customresourcedefinitions", "CustomResourceDefinition", namespaced=False,
           subresources=STATUS, generation=True, unconditional=False, short_names=("crd", "crds")),
    _plain("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False),
)  # fmt: skip
REVIEWS = "selfsubjectaccessreviews.authorization.k8s.io"  # answered and never stored


class Registry:
    """The kinds that are served now, by (group, version, plural)."""

    def __init__(self) -> None:
        self._served = {(kind.group, kind.version, kind.plural): kind for kind in BUILT_IN}

    def add(self, resource: Resource) -> None:
        self._served[resource.group, resource.version, resource.plural] = resource

    def remove(self, identity: str) -> None:
        self._served = {key: kind for key, kind in self._served.items() if kind.id != identity}

    def find(self, group: str, version: str, plural: str) -> Resource | None:
        return self._served.get((group, version, plural))

    def of(self, api_version: str, kind: str) -> Resource:
        """The resource of an object's own header. KeyError: there is none."""
        for resource in self._served.values():
            if resource.api_version == api_version and resource.kind == kind:
                return resource
        raise KeyError(f"{api_version} {kind}")

    def all(self) -> list[Resource]:
        return list(self._served.values())
