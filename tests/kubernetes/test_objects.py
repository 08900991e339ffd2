"""Objects of the cluster are read by the model of the files: the same keys, the same messages, and what differs."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import yaml
from hypothesis import given, settings

from fe.config import schema
from fe.config.load import load_value
from fe.control.kubernetes.objects import (
    ANNOTATIONS,
    GROUP,
    EndpointObject,
    Problem,
    Ref,
    kept,
    read_online_deployment,
    read_online_endpoint,
    read_plain_deployment,
)
from tests.config.test_fuzz import DEPLOYMENTS, ENDPOINTS, VALUES

SECRET = "swordfish-swordfish"  # noqa: S105
CREATED = "2026-11-22T07:48:01Z"

# As `az ml` has them; the header of an object takes the place of `$schema`.
AZ_ENDPOINT = """\
$schema: https://azuremlschemas.azureedge.net/latest/kubernetesOnlineEndpoint.schema.json
name: fraud
compute: azureml:cluster
identity: {type: system_assigned}
auth_mode: key
keys: {primary: env:FRAUD_KEY}
traffic: {blue: 90, green: 10}
max_queue_length: 50
tags: {team: risk}
"""
AZ_DEPLOYMENT = """\
$schema: https://azuremlschemas.azureedge.net/latest/kubernetesOnlineDeployment.schema.json
name: blue
type: kubernetes
endpoint_name: fraud
model: {path: ../model}
environment: {image: img, conda_file: env.yml}
code_configuration: {code: ., scoring_script: score.py}
environment_variables: {MODEL: base, WORKERS: 1}
instance_type: defaultinstancetype
app_insights_enabled: true
request_settings: {request_timeout_ms: 3000, max_concurrent_requests_per_instance: 4, max_queue_wait_ms: 300}
scale_setting: {type: target_utilization, min_instances: 2, max_instances: 9, polling_interval: 1, scale_down_delay: 2m}
readiness_probe: {initial_delay: 5, period: 10, timeout: 500ms}
instance_count: 3
websocket: true
"""
AZ_UNUSED = ("type", "model", "environment", "code_configuration", "instance_type", "app_insights_enabled")
BLUE = Ref("OnlineDeployment", "models", "blue")


def meta(name: str = "blue", namespace: str = "models", **more: Any) -> dict[str, Any]:
    return {"name": name, "namespace": namespace, "creationTimestamp": CREATED, **more}


def endpoint(spec: Any, environ: dict[str, str] | None = None, **more: Any) -> EndpointObject:
    value = {"metadata": meta(**{"name": "fraud", **more}), "spec": spec}
    return read_online_endpoint(value, "/nowhere", environ or {})


def deployment(spec: Any, **more: Any):
    return read_online_deployment({"metadata": meta(**more), "spec": spec})


def plain(annotations: dict[str, str], label: str = "fraud", name: str = "blue"):
    whole = {f"{GROUP}/{key}" if "/" not in key else key: value for key, value in annotations.items()}
    return read_plain_deployment({"metadata": meta(name, labels={f"{GROUP}/endpoint": label}, annotations=whole)})


def texts(read: Any) -> list[str]:
    assert all(problem.reason == "Invalid" and problem.ref == read.ref for problem in read.problems)
    return [problem.text for problem in read.problems]


# --- the documents of `az ml` ----------------------------------------------------------------------------------------


def test_a_document_becomes_an_object_by_its_header():
    spec = yaml.safe_load(AZ_DEPLOYMENT)
    read = deployment(spec)
    assert read.problems == ()
    as_file = load_value(
        {
            "kubernetes": {},
            "endpoints": [
                {
                    "name": "fraud",
                    "auth_mode": "none",
                    "deployments": [
                        {**spec, "replicas": {"kubernetes": {"namespace": "models", "deployment": "blue"}}}
                    ],
                }
            ],
        },
        environ={},
    )
    assert read.deployment == as_file.config.endpoints[0].deployments[0]
    assert (read.endpoint_name, read.created, read.ref) == ("fraud", CREATED, BLUE)
    assert read.notes == (
        f"{BLUE}: spec: has keys that fe does not use: {', '.join(AZ_UNUSED)}",
        f"{BLUE}: spec.environment_variables: is not used: replicas in the cluster are not started by fe",
    )


def test_an_endpoint_as_well():
    read = endpoint(yaml.safe_load(AZ_ENDPOINT), {"FRAUD_KEY": SECRET})
    assert read.problems == ()
    assert read.endpoint is not None
    assert read.endpoint.keys.digests() == (hashlib.sha256(SECRET.encode()).digest(),)
    assert (read.name, read.endpoint.traffic, read.traffic_given) == ("fraud", {"blue": 90, "green": 10}, True)
    assert (read.own, read.endpoint.deployments) == ({"max_queue_length": 50}, ())
    assert any("does not use: compute, identity, tags" in note for note in read.notes)


def test_names_and_target_are_those_of_the_object_unless_given():
    read = deployment({"endpoint_name": "fraud"}, name="m", namespace="n")
    assert read.deployment == schema.Deployment("m", schema.KubernetesReplicas("m", "n", 5001))
    read = deployment({"endpoint_name": "fraud", "name": "Blue", "target": {"deployment": "a.b", "port": 80}})
    assert read.deployment == schema.Deployment("Blue", schema.KubernetesReplicas("a.b", "models", 80))
    assert deployment({"endpoint_name": "fraud", "target": {"port": 80}}).deployment.replicas.deployment == "blue"
    assert endpoint({"auth_mode": "none"}).name == "fraud"
    assert endpoint({"auth_mode": "none", "name": "Other"}).endpoint.name == "Other"


def test_what_is_stated_is_told_from_what_is_not():
    """fe's own request keys come from the endpoint where a deployment has none."""
    read = deployment({"endpoint_name": "fraud", "websocket": True, "request_settings": {"max_queue_wait_ms": 5}})
    assert read.settings == {"websocket": True, "max_queue_wait_ms": 5}
    assert endpoint({"auth_mode": "none"}).traffic_given is False


# --- mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "spec.endpoint_name: is missing: a deployment names its endpoint"),
        (None, "spec.endpoint_name: is missing"),
        ([1], "spec: has to be a mapping of keys to values"),
        ({"endpoint_name": "x"}, "spec.endpoint_name: 'x' is not a name: 3 to 32 characters"),
        ({"endpoint_name": "fraud", "request_settings": {"max_queue_wait": 5}},
         "spec.request_settings.max_queue_wait: is not a key that is known here; did you mean 'max_queue_wait_ms'?"),
        ({"endpoint_name": "fraud", "readiness_probe": {"period": "soon"}},
         "spec.readiness_probe.period: has to be a time in seconds, not 'soon'"),
        ({"endpoint_name": "fraud", "replicas": {"static": ["a:1"]}}, "spec.replicas: does not stand in an object"),
        ({"endpoint_name": "fraud", "target": {"namespace": "other"}}, "spec.target.namespace: is not a key"),
        ({"endpoint_name": "fraud", "target": {"port": 0}}, "spec.target.port: '0' is too little"),
        ({"endpoint_name": "fraud", "target": "m"}, "spec.target: has to be a mapping"),
        ({"endpoint_name": "fraud", "scale_setting": {}, "scale_settings": {}}, "spec.scale_setting: means the same"),
        ({"endpoint_name": "fraud", "scale_settings": {"min_instances": 3}},
         "spec.scale_settings: min_instances 3 is more than max_instances 1"),
        ({"endpoint_name": "fraud", "max_body_bytes": "x"}, "spec.max_body_bytes: has to be a size in bytes"),
    ],
)  # fmt: skip
def test_mistakes_in_a_deployment(spec, problem):
    read = deployment(spec)
    assert read.deployment is None
    told, *others = texts(read)
    assert not others or not isinstance(spec, dict)
    assert told.startswith(problem), told
    assert str(read.problems[0]) == f"OnlineDeployment models/blue: {told}"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({}, "spec.keys: there is no key, and auth_mode is key"),
        ({"auth_mode": "aml_token"}, "spec.auth_mode: aml_token is not supported"),
        ({"auth_mode": "none", "deployments": []}, "spec.deployments: does not stand in an OnlineEndpoint; write an"),
        ({"auth_mode": "none", "traffic": {"blue": "90%"}}, "spec.traffic[blue]: has to be a number"),
        ({"auth_mode": "none", "routes": [{"host": "a/b"}]}, "spec.routes[0].host: 'a/b' is not a host name"),
        ({"auth_mode": "none", "routes": [{"path_prefix": "/api/v1/endpoint/x"}]}, "spec.routes[0].path_prefix: is n"),
        ({"auth_mode": "none", "listen": 5}, "spec.listen: is not a key that is known here; it belongs at the top"),
    ],
)  # fmt: skip
def test_mistakes_in_an_endpoint(spec, problem):
    read = endpoint(spec)
    assert read.endpoint is None
    [told] = texts(read)
    assert told.startswith(problem), told


@pytest.mark.parametrize("name", ["7b", "a.b", "x" * 33])
def test_a_name_that_an_object_may_have_and_a_deployment_may_not(name):
    [told] = texts(deployment({"endpoint_name": "fraud"}, name=name))
    assert told.startswith(f"metadata.name: {name!r} is not a name")
    assert deployment({"endpoint_name": "fraud", "name": "ok"}, name=name).problems == ()


def test_all_problems_at_once():
    read = deployment({"request_settings": {"a": 1, "max_queue_wait_ms": -1}, "target": {"port": "x"}})
    assert len(texts(read)) == 4


# --- keys ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [SECRET, 12345678901234567890, f"File:{SECRET}", "", True])
def test_a_key_itself_is_refused_and_not_shown(key):
    read = endpoint({"keys": {"primary": key}})
    assert [told for told in texts(read) if told.startswith("spec.keys.primary: is a key in plain text")]
    assert read.endpoint is None
    assert SECRET not in repr(read)


def test_keys_from_files(tmp_path):
    (tmp_path / "key").write_text(f"{SECRET}\n")
    value = {"metadata": meta("fraud"), "spec": {"keys": {"primary": "file:key", "secondary": f"file:{tmp_path}/key"}}}
    assert read_online_endpoint(value, str(tmp_path), {}).endpoint.keys.primary.digest
    (tmp_path / "key").unlink()
    read = read_online_endpoint(value, str(tmp_path), {})
    assert read.endpoint is None
    assert [told.split(": ")[0] for told in texts(read)] == ["spec.keys.primary", "spec.keys.secondary"]


def test_a_change_for_the_worse_leaves_what_was():
    before = endpoint({"auth_mode": "none", "traffic": {"blue": 100}})
    after = kept(endpoint({"auth_mode": "none", "traffic": 5}), before)
    assert (after.endpoint, after.traffic_given) == (before.endpoint, True)
    assert [problem.path for problem in after.problems] == ["spec.traffic"]
    assert kept(before, after) is before
    assert kept(after, None) is after


# --- plain Deployments -----------------------------------------------------------------------------------------------


def test_a_deployment_without_the_label_is_none_of_ours():
    assert read_plain_deployment({"metadata": meta(annotations={f"{GROUP}/port": "80"})}) is None
    assert read_plain_deployment({"metadata": meta(labels={"app": "x"})}) is None


def test_every_annotation():
    given = {
        "deployment": "Green", "port": "80", "max-concurrent-requests-per-instance": "4", "max-queue-wait-ms": "2000",
        "request-timeout-ms": "30000", "min-instances": "2", "max-instances": "10", "traffic": "30",
        "auth-mode": "none", "other.io/port": "x",
    }  # fmt: skip
    assert ANNOTATIONS.keys() <= given.keys()
    read = plain(given)
    assert read.problems == ()
    assert read.deployment == schema.Deployment(
        "Green",
        schema.KubernetesReplicas("blue", "models", 80),
        schema.RequestSettings(30000, 4, 2000),
        schema.ScaleSettings(min_instances=2, max_instances=10),
    )
    assert (read.plain, read.endpoint_name, read.traffic, read.auth_mode) == (True, "fraud", 30, "none")
    assert read.settings.keys() == {
        "request_timeout_ms", "max_concurrent_requests_per_instance", "max_queue_wait_ms",
    }  # fmt: skip


def test_no_annotation_is_needed():
    read = plain({})
    assert read.deployment == schema.Deployment("blue", schema.KubernetesReplicas("blue", "models", 5001))
    assert (read.traffic, read.auth_mode) == (None, None)


@pytest.mark.parametrize(
    ("annotations", "path", "reason"),
    [
        ({"port": "http"}, f"metadata.annotations[{GROUP}/port]", "has to be a whole number, not 'http'"),
        ({"max-queue-wait": "5"}, f"metadata.annotations[{GROUP}/max-queue-wait]", "did you mean 'max-queue-wait-ms'?"),
        ({"traffic": "101"}, f"metadata.annotations[{GROUP}/traffic]", "is too much: 100"),
        ({"auth-mode": "open"}, f"metadata.annotations[{GROUP}/auth-mode]", "has to be one of key, none"),
        ({"deployment": "7b"}, f"metadata.annotations[{GROUP}/deployment]", "is not a name"),
        ({"min-instances": "3"}, "metadata.annotations", "min_instances 3 is more than max_instances 1"),
        ({"max-concurrent-requests-per-instance": "0"},
         f"metadata.annotations[{GROUP}/max-concurrent-requests-per-instance]", "leaves nothing to measure"),
    ],
)  # fmt: skip
def test_mistakes_in_annotations(annotations, path, reason):
    read = plain(annotations)
    assert read.deployment is None
    [problem] = read.problems
    assert problem.path == path
    assert reason in problem.message


def test_mistakes_in_label_and_name():
    assert [one.path for one in plain({}, label="x").problems] == [f"metadata.labels[{GROUP}/endpoint]"]
    assert [one.path for one in plain({}, name="7b-model").problems] == ["metadata.name"]


# --- anything at all -------------------------------------------------------------------------------------------------


@settings(max_examples=150)
@given(VALUES | ENDPOINTS)
def test_any_endpoint(spec):
    read = endpoint(spec)
    assert (read.endpoint is None) == bool(read.problems)
    assert all(isinstance(problem, Problem) and "\n" not in str(problem) for problem in read.problems)
    if read.endpoint is not None:
        assert read.endpoint.auth_mode == "none" or read.endpoint.keys.digests()


@settings(max_examples=150)
@given(VALUES | DEPLOYMENTS)
def test_any_deployment(spec):
    read = deployment(spec)
    assert (read.deployment is None) == bool(read.problems)
    if read.deployment is not None:
        assert read.deployment.replicas.namespace == "models"
