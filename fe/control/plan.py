"""From the configuration to plans: what each deployment should be, and what a change of configuration has to wait for.

Owns: the reading of `fe.config.schema` for the control plane. Never: I/O, state, the table; everything here is a pure
function. `fe.control.reconciler` carries plans out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from fe.config import schema
from fe.config.snapshot import build_snapshot
from fe.control.autoscaler import ScalePolicy
from fe.control.health import HealthPolicy
from fe.control.providers.process import ProcessSpec
from fe.model import encode_snapshot


@dataclass(frozen=True)
class DeploymentPlan:
    """What one deployment should be."""

    name: str  # "endpoint/deployment"
    capacity: int
    max_queue: int
    health: HealthPolicy
    source: tuple[str, ...] | ProcessSpec | schema.KubernetesReplicas  # static addresses, a command, or pods
    count: int  # of local replicas or pods, to start with where `scale` is given
    drain_limit: float  # seconds that local replicas get to finish what they have
    scale: ScalePolicy | None = None  # None: the number is fixed
    stated: int | None = None  # of pods: the fixed number; None: it follows the load, or is the cluster's own business
    polling_interval: float = 1.0  # seconds between two looks at the load

    def adjusted(self, count: int) -> int:
        """What becomes of a number of replicas under this plan: within the bounds, or the fixed one."""
        if self.scale is None:
            return self.count
        return max(self.scale.min_instances, min(count, self.scale.max_instances))


ONLY_SHOWN: Final = 5.0  # seconds: where the number is fixed nothing is decided, and a look is for the status alone


class Indexed(Protocol):
    """Something that has a record in the table."""

    index: int
    generation: int


def build_plans(config: schema.RouterConfig) -> dict[str, DeploymentPlan]:
    """A plan for each deployment, by "endpoint/deployment"."""
    return {
        plan.name: plan
        for endpoint in config.endpoints
        for deployment in endpoint.deployments
        for plan in [_build_plan(config, endpoint, deployment)]
    }


def _build_plan(
    config: schema.RouterConfig, endpoint: schema.Endpoint, deployment: schema.Deployment
) -> DeploymentPlan:
    settings = deployment.request_settings
    replicas = deployment.replicas
    pods = isinstance(replicas, schema.KubernetesReplicas)
    return DeploymentPlan(
        name=f"{endpoint.name}/{deployment.name}",
        capacity=settings.max_concurrent_requests_per_instance,
        max_queue=settings.max_queue_length,
        # Whether a pod is ready is the kubelet's to say, which has probes of its own.
        health=HealthPolicy() if pods else HealthPolicy(deployment.readiness_probe, deployment.liveness_probe),
        source=ProcessSpec(replicas, config) if isinstance(replicas, schema.ProcessReplicas) else _source(replicas),
        count=deployment.replica_count(),
        drain_limit=max(config.drain_timeout, settings.request_timeout_ms / 1000 + 1),
        scale=_build_policy(deployment) if deployment.scales else None,
        stated=deployment.replica_count() if pods and not deployment.scales and not deployment.left_alone else None,
        polling_interval=deployment.scale_settings.polling_interval if deployment.scales else ONLY_SHOWN,
    )


def _source(
    replicas: schema.StaticReplicas | schema.KubernetesReplicas,
) -> tuple[str, ...] | schema.KubernetesReplicas:
    return replicas.addresses if isinstance(replicas, schema.StaticReplicas) else replicas


def _build_policy(deployment: schema.Deployment) -> ScalePolicy:
    scale = deployment.scale_settings
    return ScalePolicy(
        min_instances=scale.min_instances,
        max_instances=scale.max_instances,
        target=scale.target_utilization_percentage / 100,
        capacity=deployment.request_settings.max_concurrent_requests_per_instance,
        scale_down_delay=scale.scale_down_delay,
        scale_to_zero_delay=scale.scale_to_zero_delay,
        max_scale_up_rate=scale.max_scale_up_rate,
    )


def encode_for_workers(config: schema.RouterConfig, records: Mapping[str, Indexed]) -> bytes:
    """The snapshot of this configuration, with the deployments' places in the table."""
    places = {
        (endpoint, deployment): (record.index, record.generation)
        for name, record in records.items()
        for endpoint, _, deployment in [name.partition("/")]
    }
    return encode_snapshot(build_snapshot(config, places))


def needs_ready(old: schema.RouterConfig | None, new: schema.RouterConfig) -> Callable[[str], bool]:
    """Whether a deployment has to have ready replicas before `new` takes effect.

    So it is where it takes over traffic that others of its endpoint have: that endpoint serves now, and must not stop.
    A new endpoint waits for nothing: nobody uses it yet, and it must not hold up the others.
    """
    before = {endpoint.name: endpoint.traffic for endpoint in old.endpoints} if old is not None else {}
    after = {endpoint.name: endpoint.traffic for endpoint in new.endpoints}

    def awaited(name: str) -> bool:
        endpoint, _, deployment = name.partition("/")
        if not any(before.get(endpoint, {}).values()):
            return False
        return bool(after[endpoint].get(deployment)) and not before[endpoint].get(deployment)

    return awaited
