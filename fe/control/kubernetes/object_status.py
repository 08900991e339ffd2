"""The `status` of the objects: what stands there, and the patch that brings it up to date.

Owns: the typed model of both statuses (the CustomResourceDefinitions are made from it), conditions and when they last
changed. Never: the network, the measuring; a pure function from what is known to a patch. Only the elected front-end
writes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

import msgspec
from msgspec import Struct

from fe.config.annotations import Percent, key
from fe.control.kubernetes.merging import CLAIMED
from fe.control.kubernetes.objects import Problem

Time: TypeAlias = str  # RFC 3339 in UTC, with whole seconds
MOST_MESSAGE: Final = 2000  # characters: a list of mistakes is long, and nobody reads more of it in a condition
FIGURES: Final = frozenset(("utilizationPercentage", "queueDepth"))  # they change all the time


class Condition(Struct, rename="camel"):
    """One thing that is so or not, since when, and why; as everywhere in Kubernetes."""

    type: Annotated[str, key("what it is about")]
    status: Annotated[Literal["True", "False", "Unknown"], key("whether it is so")]
    reason: Annotated[str, key("why, in one word")]
    message: Annotated[str, key("why, in a sentence")]
    last_transition_time: Annotated[Time, key("since when the status has been this", kind="time")]
    observed_generation: Annotated[int, key("the version of the object that it is about", ge=0)] = 0


class LastDecision(Struct, rename="camel"):
    """The last decision that changed the number of replicas."""

    time: Annotated[Time, key("when", kind="time")]
    desired: Annotated[int, key("replicas there should be", ge=0)]
    rule: Annotated[str, key("which of the autoscaler's rules decided")]
    reason: Annotated[str, key("a sentence with the figures")]


class DeploymentStatus(Struct, rename="camel"):
    """What fe makes of an OnlineDeployment."""

    endpoint: Annotated[str | None, key("the endpoint that it serves")] = None
    desired_replicas: Annotated[int | None, key("replicas there should be", ge=0)] = None
    ready_replicas: Annotated[int | None, key("replicas that get requests", ge=0)] = None
    utilization_percentage: Annotated[
        Percent | None, key("requests in flight and waiting, to places there are; absent: not known", unit="%", ge=0)
    ] = None
    queue_depth: Annotated[int | None, key("requests that wait for a place", ge=0)] = None
    last_decision: Annotated[LastDecision | None, key("the last decision that changed the number")] = None
    observed_generation: Annotated[int | None, key("the version of the object that this is about", ge=0)] = None
    conditions: Annotated[
        tuple[Condition, ...],
        key(
            "Ready: it is served as it says; Scaling: fe sets the number of replicas; "
            "Conflict: somebody else claims the same"
        ),
    ] = ()


class EndpointStatus(Struct, rename="camel"):
    """What fe makes of an OnlineEndpoint."""

    scoring_path: Annotated[str | None, key("where clients call it")] = None
    deployments: Annotated[int | None, key("deployments that it has", ge=0)] = None
    ready_replicas: Annotated[int | None, key("replicas of all of them that get requests", ge=0)] = None
    traffic: Annotated[
        dict[str, Percent] | None,
        key("deployment to percent, of those that there are", kind="percentages", unit="%", numbers=(0, 100)),
    ] = None
    observed_generation: Annotated[int | None, key("the version of the object that this is about", ge=0)] = None
    conditions: Annotated[
        tuple[Condition, ...], key("Ready: it is served as it says; Conflict: somebody else claims the same")
    ] = ()


class Verdict(NamedTuple):
    """A condition before it is known since when. `reason`: one word, in CamelCase."""

    holds: bool
    reason: str
    message: str


class Patch(NamedTuple):
    """A merge patch for the `status` subresource. Not urgent: only figures differ, it may wait for the next ones."""

    body: dict[str, Any]
    urgent: bool


NO_CONFLICT: Final = Verdict(False, "NoConflict", "nobody else claims the same")
AT_ZERO: Final = Verdict(True, "ScaledToZero", "the first request starts a replica")
EMPTY: Final = Verdict(False, "NoReplica", "it has no replica, and no request starts one")


def deployment_patch(
    value: Mapping[str, Any],
    status: DeploymentStatus,
    problems: Sequence[Problem],
    scaling: Verdict,
    now: Time,
    conflict: Verdict = NO_CONFLICT,
    empty: Verdict = EMPTY,
) -> Patch | None:
    """The patch that gives the OnlineDeployment `value` this status; None where it has it already.

    Of `status` the conditions are made here: from the counts, the problems, and who scales. `conflict`: an autoscaler
    of the cluster's own, say, that was found on the same target. `empty`: what it means that there is no replica and
    none is wanted. A last decision that is not known stays as it stands there: another front-end has made it.
    """
    ready = _problem(problems) or _deployment_ready(status, empty)
    verdicts = {"Ready": ready, "Scaling": scaling, "Conflict": _conflict(problems, conflict)}
    return _patch(value, status, verdicts, now)


def endpoint_patch(
    value: Mapping[str, Any],
    status: EndpointStatus,
    problems: Sequence[Problem],
    now: Time,
    unserved: Sequence[str] = (),
) -> Patch | None:
    """As `deployment_patch`, for an OnlineEndpoint. `unserved`: deployments with a share that nobody can answer."""
    ready = _problem(problems) or _endpoint_ready(status, unserved)
    return _patch(value, status, {"Ready": ready, "Conflict": _conflict(problems, NO_CONFLICT)}, now)


def _problem(problems: Sequence[Problem]) -> Verdict | None:
    return Verdict(False, problems[0].reason, _told(problems)) if problems else None


def _deployment_ready(status: DeploymentStatus, empty: Verdict) -> Verdict:
    ready, wanted = status.ready_replicas or 0, status.desired_replicas or 0
    if not ready and status.desired_replicas == 0:
        return empty
    return Verdict(ready > 0, "Serving" if ready else "NoReadyReplica", f"{ready} of {wanted} ready")


def _endpoint_ready(status: EndpointStatus, unserved: Sequence[str]) -> Verdict:
    if not status.deployments:
        return Verdict(False, "NoDeployment", "it has no deployment")
    ready = status.ready_replicas or 0
    told = f"{ready} ready in {status.deployments} {'deployment' if status.deployments == 1 else 'deployments'}"
    if unserved:
        return Verdict(False, "NoReadyReplica", f"{told}, none of {' and '.join(unserved)}")
    if not ready:
        shares = any((status.traffic or {}).values())
        return AT_ZERO if shares else Verdict(False, "NoReadyReplica", told)
    return Verdict(True, "Serving", told)


def _conflict(problems: Sequence[Problem], other: Verdict) -> Verdict:
    claims = [problem for problem in problems if problem.reason in CLAIMED]
    return Verdict(True, claims[0].reason, _told(claims)) if claims else other


def _told(problems: Sequence[Problem]) -> str:
    text = "; ".join(problem.text for problem in problems)
    return text if len(text) <= MOST_MESSAGE else text[: MOST_MESSAGE - 3] + "..."


def _patch(
    value: Mapping[str, Any], status: DeploymentStatus | EndpointStatus, verdicts: Mapping[str, Verdict], now: Time
) -> Patch | None:
    metadata, former = value.get("metadata") or {}, value.get("status") or {}
    generation = int(metadata.get("generation") or 0)
    known = {one["type"]: one for one in former.get("conditions") or () if isinstance(one, dict) and "type" in one}
    conditions = {
        name: _condition(name, verdict, known.get(name), generation, now) for name, verdict in verdicts.items()
    }
    fresh = msgspec.to_builtins(msgspec.structs.replace(status, observed_generation=generation, conditions=()))
    if isinstance(status, DeploymentStatus) and status.endpoint is not None and status.last_decision is None:
        fresh["lastDecision"] = former.get("lastDecision")
    fresh["conditions"] = [*conditions.values(), *(one for name, one in known.items() if name not in conditions)]
    changed = {name: one for name, one in fresh.items() if former.get(name) != one}
    if not changed:
        return None
    body: dict[str, Any] = {"status": _merging(changed, former)}
    if "resourceVersion" in metadata:  # conditions are replaced whole: not those that somebody has just added
        body["metadata"] = {"resourceVersion": metadata["resourceVersion"]}
    return Patch(body, not changed.keys() <= FIGURES)


def _condition(
    name: str, verdict: Verdict, former: Mapping[str, Any] | None, generation: int, now: Time
) -> dict[str, Any]:
    status: Literal["True", "False"] = "True" if verdict.holds else "False"
    since = former.get("lastTransitionTime") if former is not None and former.get("status") == status else None
    built = Condition(name, status, verdict.reason, verdict.message, since or now, generation)
    fields: dict[str, Any] = msgspec.to_builtins(built)
    return fields


def _merging(changed: Mapping[str, Any], former: Mapping[str, Any]) -> dict[str, Any]:
    """As a merge patch has it: in a mapping, what is no longer there is null."""
    patch = dict(changed)
    for name, one in changed.items():
        if isinstance(one, dict) and isinstance(former.get(name), dict):
            patch[name] = {**dict.fromkeys(former[name].keys() - one.keys()), **one}
    return patch
