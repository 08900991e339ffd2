"""What checks know of each other: the configuration once it is read, the cluster once it can be reached.

Owns: these values, and the names that follow from them as fe-serve would take them. Never: a call.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from fe.config import schema
from fe.control.kubernetes.access import Access
from fe.control.kubernetes.client import Cluster
from fe.control.kubernetes.view import EVERYWHERE


@dataclass
class Context:
    """One run. A property raises AssertionError where the check before it has failed: its users say that they need it.

    `deadline`: by the loop's clock, for everything together.
    """

    path: str
    deadline: float
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    loaded: schema.RouterConfig | None = None
    notes: list[str] = field(default_factory=list)
    cluster: Cluster | None = None
    opened: Access | None = None
    absent: set[str] = field(default_factory=set)  # API groups that the cluster does not have
    ports: dict[str, list[tuple[str, int]]] | None = None  # of ready pods, by "endpoint/deployment"; None: not seen

    @property
    def config(self) -> schema.RouterConfig:
        assert self.loaded is not None
        return self.loaded

    @property
    def in_cluster(self) -> bool:
        """There is a cluster to look at. True while that is not known."""
        return self.loaded is None or self.loaded.kubernetes is not None

    @property
    def kubernetes(self) -> schema.Kubernetes:
        assert self.config.kubernetes is not None
        return self.config.kubernetes

    @property
    def access(self) -> Access:
        assert self.opened is not None
        return self.opened

    @property
    def client(self) -> Cluster:
        assert self.cluster is not None
        return self.cluster

    @property
    def namespace(self) -> str:
        """The one that fe is in."""
        return self.environ.get("POD_NAMESPACE") or self.access.namespace

    @property
    def searched(self) -> tuple[str, ...]:
        """Namespaces that models are looked for in, or "*"."""
        return self.kubernetes.namespaces or (self.namespace,)

    @property
    def others(self) -> tuple[str, ...]:
        """Further ones, with pods that the file names."""
        if EVERYWHERE in self.searched:
            return ()
        pods = [one.replicas for _, one in self.deployments() if isinstance(one.replicas, schema.KubernetesReplicas)]
        named = dict.fromkeys(one.namespace or self.namespace for one in pods)
        return tuple(one for one in named if one not in self.searched)

    def deployments(self) -> Iterator[tuple[str, schema.Deployment]]:
        """Those of the file, as "endpoint/deployment"."""
        for endpoint in self.config.endpoints:
            for deployment in endpoint.deployments:
                yield f"{endpoint.name}/{deployment.name}", deployment

    def has(self, kind: type[object]) -> bool:
        """A deployment of the file has replicas of this kind. True while that is not known."""
        return self.loaded is None or any(isinstance(one.replicas, kind) for _, one in self.deployments())
