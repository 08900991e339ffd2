"""Statuses: conditions say since when, a patch says only what is new, and nothing is said twice."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from fe.control.kubernetes.object_status import (
    AT_ZERO,
    DeploymentStatus,
    EndpointStatus,
    LastDecision,
    Patch,
    Verdict,
    deployment_patch,
    endpoint_patch,
)
from fe.control.kubernetes.objects import Problem, Ref

THEN, NOW = "2026-11-22T07:48:01Z", "2026-11-22T08:00:00Z"
REF = Ref("OnlineDeployment", "models", "blue")
FOLLOWS = Verdict(True, "FollowsLoad", "between 1 and 9 replicas")
DECISION = LastDecision(THEN, 3, "up", "3 are needed")
SERVING = DeploymentStatus("demo", 3, 3, 41, 0, DECISION)


def merged(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    target = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            target.pop(name, None)
        else:
            target[name] = merged(target.get(name), value)
    return target


def applied(value: dict[str, Any], patch: Patch | None) -> dict[str, Any]:
    """The object as it stands in the cluster after the patch."""
    assert patch is not None
    assert patch.body.get("metadata", {}).get("resourceVersion") == value["metadata"]["resourceVersion"]
    after = merged(copy.deepcopy(value), patch.body)
    after["metadata"]["resourceVersion"] = str(int(value["metadata"]["resourceVersion"]) + 1)
    return after


def fresh(generation: int = 1) -> dict[str, Any]:
    return {"metadata": {"name": "blue", "generation": generation, "resourceVersion": "7"}, "spec": {}}


def condition(value: dict[str, Any], kind: str) -> dict[str, Any]:
    [found] = [one for one in value["status"]["conditions"] if one["type"] == kind]
    return found


def test_the_first_status():
    value = applied(fresh(), deployment_patch(fresh(), SERVING, [], FOLLOWS, NOW))
    assert {name: one for name, one in value["status"].items() if name != "conditions"} == {
        "endpoint": "demo", "desiredReplicas": 3, "readyReplicas": 3, "utilizationPercentage": 41, "queueDepth": 0,
        "lastDecision": {"time": THEN, "desired": 3, "rule": "up", "reason": "3 are needed"}, "observedGeneration": 1,
    }  # fmt: skip
    assert condition(value, "Ready") == {
        "type": "Ready", "status": "True", "reason": "Serving", "message": "3 of 3 ready",
        "lastTransitionTime": NOW, "observedGeneration": 1,
    }  # fmt: skip
    assert (condition(value, "Scaling")["status"], condition(value, "Scaling")["reason"]) == ("True", "FollowsLoad")
    assert condition(value, "Conflict")["status"] == "False"


def test_nothing_new_is_no_patch():
    value = applied(fresh(), deployment_patch(fresh(), SERVING, [], FOLLOWS, THEN))
    assert deployment_patch(value, SERVING, [], FOLLOWS, NOW) is None
    empty = applied(fresh(), endpoint_patch(fresh(), EndpointStatus(traffic={}, deployments=0), [], THEN))
    assert endpoint_patch(empty, EndpointStatus(traffic={}, deployments=0), [], NOW) is None


def test_figures_are_not_urgent_and_all_else_is():
    value = applied(fresh(), deployment_patch(fresh(), SERVING, [], FOLLOWS, THEN))
    figures = DeploymentStatus("demo", 3, 3, 55, 2, DECISION)
    patch = deployment_patch(value, figures, [], FOLLOWS, NOW)
    assert patch == Patch(
        {"metadata": {"resourceVersion": "8"}, "status": {"utilizationPercentage": 55, "queueDepth": 2}}, False
    )
    patch = deployment_patch(value, DeploymentStatus("demo", 4, 3, 41, 0, DECISION), [], FOLLOWS, NOW)
    assert patch is not None
    assert patch.urgent
    value["metadata"]["generation"] = 2
    assert deployment_patch(value, SERVING, [], FOLLOWS, NOW).body["status"]["observedGeneration"] == 2


def test_the_time_of_a_condition_is_that_of_its_change():
    value = applied(fresh(), deployment_patch(fresh(), SERVING, [], FOLLOWS, THEN))
    two = DeploymentStatus("demo", 3, 2, 41, 0, DECISION)
    value = applied(value, deployment_patch(value, two, [], FOLLOWS, NOW))
    assert (condition(value, "Ready")["message"], condition(value, "Ready")["lastTransitionTime"]) == (
        "2 of 3 ready", THEN,
    )  # fmt: skip
    none = DeploymentStatus("demo", 3, 0, 41, 0, DECISION)
    value = applied(value, deployment_patch(value, none, [], FOLLOWS, NOW))
    assert (condition(value, "Ready")["status"], condition(value, "Ready")["lastTransitionTime"]) == ("False", NOW)
    assert condition(value, "Ready")["reason"] == "NoReadyReplica"
    assert condition(value, "Scaling")["lastTransitionTime"] == THEN


def test_what_is_not_known_any_more_is_taken_back():
    value = applied(fresh(), deployment_patch(fresh(), SERVING, [], FOLLOWS, THEN))
    problem = Problem(REF, "spec.endpoint_name", "EndpointMissing", "there is no endpoint 'x'")
    stands = Verdict(False, "NotServed", "it is not served")
    value = applied(value, deployment_patch(value, DeploymentStatus(), [problem], stands, NOW))
    assert value["status"].keys() == {"observedGeneration", "conditions"}
    ready = condition(value, "Ready")
    assert (ready["status"], ready["reason"]) == ("False", "EndpointMissing")
    assert ready["message"] == "spec.endpoint_name: there is no endpoint 'x'"
    split = applied(fresh(), endpoint_patch(fresh(), EndpointStatus(traffic={"a": 90, "b": 10}), [], THEN))
    split = applied(split, endpoint_patch(split, EndpointStatus(traffic={"b": 100}), [], NOW))
    assert split["status"]["traffic"] == {"b": 100}


def test_conditions_of_others_stay():
    other = {"type": "Audited", "status": "True", "reason": "Fine", "message": "x", "lastTransitionTime": THEN}
    value = fresh() | {"status": {"conditions": [other]}}
    value = applied(value, deployment_patch(value, SERVING, [], FOLLOWS, NOW))
    assert condition(value, "Audited") == other


@pytest.mark.parametrize(
    ("problems", "conflict", "status", "reason"),
    [
        ([], Verdict(True, "HorizontalPodAutoscaler", "hpa/x scales it too"), "True", "HorizontalPodAutoscaler"),
        ([Problem(REF, "", "TargetTaken", "x")], Verdict(False, "NoConflict", "-"), "True", "TargetTaken"),
        ([Problem(REF, "", "LimitReached", "x")], Verdict(False, "NoConflict", "-"), "False", "NoConflict"),
    ],
)
def test_conflicts(problems, conflict, status, reason):
    value = applied(fresh(), deployment_patch(fresh(), SERVING, problems, FOLLOWS, NOW, conflict))
    assert (condition(value, "Conflict")["status"], condition(value, "Conflict")["reason"]) == (status, reason)


def test_scaled_to_zero_is_ready():
    status = DeploymentStatus("demo", 0, 0, 0, 0)
    value = applied(fresh(), deployment_patch(fresh(), status, [], FOLLOWS, NOW, empty=AT_ZERO))
    assert (condition(value, "Ready")["status"], condition(value, "Ready")["reason"]) == ("True", "ScaledToZero")
    value = applied(fresh(), deployment_patch(fresh(), status, [], FOLLOWS, NOW))
    assert (condition(value, "Ready")["status"], condition(value, "Ready")["reason"]) == ("False", "NoReplica")


def test_the_last_decision_outlives_who_made_it():
    value = applied(fresh(), deployment_patch(fresh(), SERVING, [], FOLLOWS, NOW))
    successor = DeploymentStatus("demo", 3, 3, 41, 0)
    assert deployment_patch(value, successor, [], FOLLOWS, NOW) is None


@pytest.mark.parametrize(
    ("deployments", "ready", "unserved", "status", "reason"),
    [
        (0, 0, [], "False", "NoDeployment"),
        (1, 0, ["a"], "False", "NoReadyReplica"),
        (2, 5, [], "True", "Serving"),
        (2, 5, ["a"], "False", "NoReadyReplica"),
        (1, 0, [], "True", "ScaledToZero"),
    ],
)
def test_endpoints(deployments, ready, unserved, status, reason):
    known = EndpointStatus("/api/v1/endpoint/demo/score", deployments, ready, {"a": 100})
    value = applied(fresh(), endpoint_patch(fresh(), known, [], NOW, unserved))
    assert (condition(value, "Ready")["status"], condition(value, "Ready")["reason"]) == (status, reason)
    assert value["status"]["scoringPath"] == "/api/v1/endpoint/demo/score"


def test_a_long_list_of_problems_is_cut():
    problems = [Problem(REF, f"spec.x{index}", "Invalid", "y" * 50) for index in range(100)]
    value = applied(fresh(), deployment_patch(fresh(), SERVING, problems, FOLLOWS, NOW))
    assert len(condition(value, "Ready")["message"]) == 2000
