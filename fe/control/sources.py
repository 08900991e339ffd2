"""From a plan to where its replicas come from: which provider a deployment gets, and what all deployments share.

Owns: the choice of the provider, and whether a changed plan is one that the same provider can follow. Never: the table,
what providers do. Providers for pods are built by whoever has the cluster (`fe.control.kubernetes.hub`), which is not
imported here: without a cluster nothing of it is loaded.
"""

from __future__ import annotations

import abc
import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from fe._core import Table
from fe.config.schema import KubernetesReplicas
from fe.control.events import Events
from fe.control.health import HealthChecker
from fe.control.plan import DeploymentPlan
from fe.control.providers.base import Fleet, Provider
from fe.control.providers.local import LocalHost
from fe.control.providers.process import ProcessProvider, ProcessSpec
from fe.control.providers.static import Resolve, StaticProvider


class PodProvider(Provider):
    """What is asked of a provider of pods, beside what is asked of all."""

    @abc.abstractmethod
    def adopt(self, sockaddrs: Sequence[bytes]) -> None:
        """Before `start`: what a former controller had in the table for this deployment."""

    @abc.abstractmethod
    def update(self, plan: DeploymentPlan) -> None:
        """Another plan for the same pods."""


class Pods(Protocol):
    """A cluster, as a source of providers."""

    def build_provider(self, fleet: Fleet, plan: DeploymentPlan, count: int) -> PodProvider:
        """A provider for the pods that the plan names; `count`: what there should be, until the cluster has said."""


@dataclass(frozen=True)
class Surroundings:
    """What every deployment needs of the controller."""

    loop: asyncio.AbstractEventLoop
    table: Table
    checker: HealthChecker
    host: LocalHost
    resolve: Resolve
    events: Events = field(default_factory=Events)
    pods: Pods | None = None  # None: there is no cluster


def build_provider(fleet: Fleet, around: Surroundings, plan: DeploymentPlan, count: int) -> Provider:
    """The provider of a plan, not started yet."""
    if isinstance(plan.source, ProcessSpec):
        return ProcessProvider(fleet, around.loop, around.host, plan.source, count, plan.drain_limit)
    if isinstance(plan.source, KubernetesReplicas):
        assert around.pods is not None, "a configuration with pods and without a cluster is refused when it is read"
        return around.pods.build_provider(fleet, plan, count)
    return StaticProvider(fleet, around.loop, plan.source, around.resolve)


def try_update(provider: Provider, around: Surroundings, old: DeploymentPlan, plan: DeploymentPlan) -> bool:
    """Whether this provider has taken the changed plan up. False: it takes another one."""
    if isinstance(provider, ProcessProvider) and isinstance(plan.source, ProcessSpec):
        before, count = provider.wanted, plan.adjusted(provider.wanted)
        if count != before:
            around.events.add(
                "scale", "the configuration has changed", deployment=plan.name, before=before, after=count
            )
        provider.update(plan.source, count, plan.drain_limit)
    elif isinstance(provider, StaticProvider) and isinstance(plan.source, tuple):
        if plan.source != old.source:
            provider.update(plan.source)
    elif isinstance(provider, PodProvider) and plan.source == old.source:
        provider.update(plan)
    else:
        return False
    return True
