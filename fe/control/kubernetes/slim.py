"""What is kept of the objects that fe watches: pods, Deployments, and what else claims to scale a Deployment.

Owns: the reading of these objects, down to what is needed of each: a thousand pods cost less than a megabyte. Never:
fe's own objects (`objects`), how anything is found (`view`). Everything here is a pure function.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from fe.control.kubernetes.objects import DeploymentObject, read_plain_deployment

# A container that waits for one of these does not become ready by waiting alone.
FAILING: Final = frozenset((
    "CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "ErrImageNeverPull", "InvalidImageName",
    "CreateContainerConfigError", "CreateContainerError", "RunContainerError",
))  # fmt: skip
ENDED: Final = frozenset(("Failed", "Succeeded"))

Labels = Mapping[str, str]


class Pod(Struct, frozen=True, gc=False):
    """A pod. `failing`: why it does not become ready by itself; "" for all others."""

    uid: str
    address: str  # IPv4 or IPv6; "" before it has one
    ready: bool
    terminating: bool
    ended: bool
    failing: str
    labels: dict[str, str]

    @property
    def serves(self) -> bool:
        """New requests may go there."""
        return self.ready and not self.terminating and not self.ended


class Selector(Struct, frozen=True):
    """Which pods belong together: every requirement (key, operator, values) has to hold."""

    requirements: tuple[tuple[str, str, frozenset[str]], ...] = ()

    def matches(self, labels: Labels) -> bool:
        """An empty selector matches nothing: a Deployment's never is."""
        return bool(self.requirements) and all(_holds(labels, *one) for one in self.requirements)


class Workload(Struct, frozen=True):
    """A Deployment (apps/v1). `version`: its resourceVersion, `plain`: what it says as a model, if it is labelled."""

    uid: str
    version: str
    replicas: int
    selector: Selector
    cannot_create: bool  # no quota, say: pods that it wants do not come about
    stalled: bool  # its pods that are not ready have had progressDeadlineSeconds to become so
    plain: DeploymentObject | None


class Claim(Struct, frozen=True):
    """Something that sets a Deployment's number of replicas."""

    who: str
    target: str  # name of the Deployment, in the claim's own namespace


def read_pod(value: Mapping[str, Any]) -> Pod:
    """A pod, slim."""
    meta, status = value["metadata"], value.get("status") or {}
    ready, placed = (_condition(status, name) for name in ("Ready", "PodScheduled"))
    return Pod(
        uid=meta["uid"],
        address=status.get("podIP") or "",
        ready=ready.get("status") == "True",
        terminating="deletionTimestamp" in meta,
        ended=status.get("phase") in ENDED,
        failing=_trouble(status, placed),
        labels={sys.intern(key): sys.intern(text) for key, text in (meta.get("labels") or {}).items()},
    )


def read_workload(value: Mapping[str, Any]) -> Workload:
    """A Deployment, slim."""
    meta, spec = value["metadata"], value["spec"]
    failure, progress = (_condition(value.get("status") or {}, name) for name in ("ReplicaFailure", "Progressing"))
    return Workload(
        uid=meta["uid"],
        version=meta["resourceVersion"],
        replicas=spec.get("replicas", 1),
        selector=read_selector(spec["selector"]),
        cannot_create=failure.get("status") == "True",
        stalled=progress.get("status") == "False" and progress.get("reason") == "ProgressDeadlineExceeded",
        plain=read_plain_deployment(value),
    )


def read_selector(value: Mapping[str, Any]) -> Selector:
    """A label selector as objects have it: matchLabels and matchExpressions."""
    exact = [(key, "In", frozenset((text,))) for key, text in (value.get("matchLabels") or {}).items()]
    more = [
        (one["key"], one["operator"], frozenset(one.get("values") or ()))
        for one in value.get("matchExpressions") or ()
    ]  # fmt: skip
    return Selector((*exact, *more))


def read_claim(value: Mapping[str, Any], kind: str) -> Claim | None:
    """What a HorizontalPodAutoscaler or a ScaledObject scales; None: no Deployment."""
    target = (value.get("spec") or {}).get("scaleTargetRef") or {}
    if target.get("kind", "Deployment") != "Deployment" or not target.get("name"):
        return None
    return Claim(f"{kind} {value['metadata']['name']}", target["name"])


def _condition(status: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    return next((one for one in status.get("conditions") or () if one.get("type") == name), {})


def _trouble(status: Mapping[str, Any], placed: Mapping[str, Any]) -> str:
    if placed.get("status") == "False" and placed.get("reason") == "Unschedulable":
        return "Unschedulable"
    for name in ("initContainerStatuses", "containerStatuses"):
        for one in status.get(name) or ():
            reason: str = ((one.get("state") or {}).get("waiting") or {}).get("reason", "")
            if reason in FAILING:
                return reason
    return ""


def _holds(labels: Labels, key: str, operator: str, values: frozenset[str]) -> bool:
    if operator == "In":
        return labels.get(key) in values
    if operator == "NotIn":
        return labels.get(key) not in values
    return (key in labels) == (operator == "Exists")
