"""What somebody may change by hand while fe-serve runs: the number of replicas, and which of them get requests.

Owns: whether a change is allowed, and the words when it is not. Never: the change itself (`fe.control.scaler`,
`fe.control.deployment`), HTTP. All of it is off unless the configuration says `admin_actions: true`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from fe.control.deployment import Deployment
    from fe.control.plane import ControlPlane


class ActionError(Exception):
    """A change that is refused: an HTTP status, a code for programs, and a sentence."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message


def scale(plane: ControlPlane, name: str, count: int) -> int:
    """Sets how many replicas there should be, until the load decides something else. Returns how many it was."""
    deployment = _find(plane, name)
    if not deployment.scalable:
        raise ActionError(
            409, "not_scalable", f"{name} has {deployment.kind} replicas: fe can neither start nor end them"
        )
    if deployment.barred:
        why = "; ".join(filter(None, (deployment.barred, deployment.mend)))
        raise ActionError(409, "left_alone", f"fe does not scale {name} now: {why}")
    policy = deployment.plan.scale
    low, high = (policy.min_instances, policy.max_instances) if policy else (0, plane.table.limits.replicas)
    if not low <= count <= high:
        raise ActionError(409, "out_of_bounds", f"{name} may have {low} to {high} replicas")
    if count == 0 and deployment.last_stays:
        raise ActionError(409, "out_of_bounds", f"{name} may not be without a replica now: {deployment.last_stays}")
    former = deployment.wanted
    plane.scaler.set_by_hand(plane.scaler.tracks[name], count)
    plane.write_down()
    return former


def drain(plane: ControlPlane, name: str, replica: str) -> None:
    """The replica gets no new request until it is undrained; what it has it finishes."""
    if not _find(plane, name).hold(replica):
        raise ActionError(404, "no_replica", f"{name} has no replica at {replica}")
    plane.write_down()


def undrain(plane: ControlPlane, name: str, replica: str) -> None:
    """A replica that was drained by hand is used again as soon as a probe says that it can be."""
    if not _find(plane, name).unhold(replica):
        raise ActionError(404, "no_replica", f"{name} has no replica at {replica} that was drained by hand")
    plane.write_down()


def _find(plane: ControlPlane, name: str) -> Deployment:
    if plane.config is None or not plane.config.admin_actions:
        raise ActionError(403, "actions_disabled", "admin_actions is not set in the configuration")
    if plane.draining:
        raise ActionError(409, "draining", "fe-serve is ending")
    deployment = plane.reconciler.live.get(name)
    if deployment is None or name not in plane.scaler.tracks:
        raise ActionError(404, "no_deployment", f"there is no deployment {name}")
    return deployment
