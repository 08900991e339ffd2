"""Objects beside files: who goes first, what is refused and why, and that nobody is disturbed by anybody else."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fe.config import schema
from fe.config.load import load_value
from fe.config.snapshot import snapshot_bytes
from fe.control.kubernetes.merging import Merged, merge
from fe.control.kubernetes.objects import (
    GROUP,
    DeploymentObject,
    EndpointObject,
    Ref,
    read_online_deployment,
    read_online_endpoint,
    read_plain_deployment,
)


def meta(name: str, namespace: str, age: int, **more: Any) -> dict[str, Any]:
    """The younger, the greater `age`, as creationTimestamp is."""
    created = f"2026-11-22T07:{age:02}:00Z"
    return {"name": name, "namespace": namespace, "creationTimestamp": created, **more}


def oep(name: str, spec: dict[str, Any] | None = None, *, age: int = 0, namespace: str = "models") -> EndpointObject:
    value = {"metadata": meta(name, namespace, age), "spec": {"auth_mode": "none", **(spec or {})}}
    return read_online_endpoint(value, "", {})


def odp(
    name: str, endpoint: str = "demo", *, age: int = 0, namespace: str = "models", as_name: str = "", **spec: Any
) -> DeploymentObject:
    value = {
        "metadata": meta(name, namespace, age),
        "spec": {"endpoint_name": endpoint, "name": as_name or name, **spec},
    }
    return read_online_deployment(value)


def plain(
    name: str, endpoint: str = "demo", *, age: int = 0, namespace: str = "models", auth: str = "none", **more: str
) -> DeploymentObject:
    annotations = {f"{GROUP}/{key.replace('_', '-')}": value for key, value in {"auth_mode": auth, **more}.items()}
    labels = {f"{GROUP}/endpoint": endpoint}
    read = read_plain_deployment({"metadata": meta(name, namespace, age, labels=labels, annotations=annotations)})
    assert read is not None
    return read


def files(*endpoints: dict[str, Any], **more: Any) -> schema.RouterConfig:
    listed = [{"auth_mode": "none", **endpoint} for endpoint in endpoints]
    return load_value({"kubernetes": {}, "endpoints": listed, **more}, environ={}).config


def static(name: str) -> dict[str, Any]:
    return {"name": name, "replicas": {"static": ["127.0.0.1:1"]}}


def served(merged: Merged) -> dict[str, list[str]]:
    return {one.name: [deployment.name for deployment in one.deployments] for one in merged.config.endpoints}


def reasons(merged: Merged) -> dict[str, list[str]]:
    return {str(ref): [problem.reason for problem in found] for ref, found in merged.problems.items()}


def traffic(merged: Merged, name: str = "demo") -> dict[str, int]:
    [endpoint] = [one for one in merged.config.endpoints if one.name == name]
    return endpoint.traffic


# --- what goes together ----------------------------------------------------------------------------------------------


def test_nothing_in_the_cluster_changes_nothing():
    config = files({"name": "demo", "deployments": [static("a"), static("b")]}, {"name": "other"})
    assert merge(config, [], []) == Merged(config, {}, {}, {})


def test_objects_join_each_other_and_the_files():
    config = files({"name": "filed", "deployments": [static("a")]})
    merged = merge(config, [oep("demo")], [odp("blue"), odp("b", "filed", namespace="any")])
    assert served(merged) == {"filed": ["a", "b"], "demo": ["blue"]}
    assert merged.problems == {}
    assert merged.endpoints == {"demo": Ref("OnlineEndpoint", "models", "demo")}
    assert merged.deployments == {
        "demo/blue": Ref("OnlineDeployment", "models", "blue"),
        "filed/b": Ref("OnlineDeployment", "any", "b"),
    }
    assert traffic(merged, "filed") == {"a": 100}


def test_fes_own_request_keys_come_from_further_out():
    config = files({"name": "filed", "max_queue_length": 3}, max_queue_length=5, websocket=True)
    objects = [odp("a"), odp("b", "filed"), odp("c", max_queue_length=9), plain("d", "lone")]
    merged = merge(config, [oep("demo", {"abandon_timeout_ms": 7})], objects)
    found = {d.name: d.request_settings for one in merged.config.endpoints for d in one.deployments}
    assert found == {
        "a": schema.RequestSettings(max_queue_length=5, websocket=True, abandon_timeout_ms=7),
        "b": schema.RequestSettings(max_queue_length=3, websocket=True),
        "c": schema.RequestSettings(max_queue_length=9, websocket=True, abandon_timeout_ms=7),
        "d": schema.RequestSettings(max_queue_length=5, websocket=True),
    }


def test_what_is_inherited_has_to_go_together_as_well():
    scale = {"min_instances": 0, "max_instances": 2}
    merged = merge(files(), [oep("demo", {"max_queue_length": 0})], [odp("a", scale_settings=scale), odp("b")])
    assert served(merged) == {"demo": ["b"]}
    [problem] = merged.problems[Ref("OnlineDeployment", "models", "a")]
    assert (problem.path, problem.reason) == ("spec.request_settings.max_queue_length", "Invalid")


# --- who goes first --------------------------------------------------------------------------------------------------


def test_a_file_goes_before_an_object():
    config = files({"name": "demo", "deployments": [static("blue")]})
    merged = merge(config, [oep("demo")], [odp("blue"), odp("green")])
    assert served(merged) == {"demo": ["blue", "green"]}
    assert reasons(merged) == {
        "OnlineEndpoint models/demo": ["NameTaken"], "OnlineDeployment models/blue": ["NameTaken"],
    }  # fmt: skip
    assert merged.config.endpoints[0].deployments[0] == config.endpoints[0].deployments[0]
    assert traffic(merged) == {"blue": 100}


def test_the_older_goes_before_the_younger():
    endpoints = [oep("demo", age=2, namespace="a"), oep("demo", age=1, namespace="b")]
    merged = merge(files(), endpoints, [odp("x", namespace="a"), odp("x", namespace="b")])
    assert merged.endpoints["demo"] == Ref("OnlineEndpoint", "b", "demo")
    assert reasons(merged) == {"OnlineEndpoint a/demo": ["NameTaken"], "OnlineDeployment a/x": ["EndpointMissing"]}
    one, two = odp("one", age=2, as_name="x"), odp("two", age=1, as_name="x")
    merged = merge(files(), [oep("demo")], [one, two])
    assert merged.deployments == {"demo/x": two.ref}
    assert reasons(merged) == {str(one.ref): ["NameTaken"]}


def test_the_same_pods_are_served_once():
    config = files({"name": "filed", "deployments": [{"name": "a", "replicas": {"kubernetes": {"deployment": "m"}}}]})
    objects = [odp("m", namespace="fe"), odp("x"), odp("y", age=1, target={"deployment": "x"}), plain("x")]
    merged = merge(config, [oep("demo"), oep("own", namespace="fe")], [*objects, odp("m", "own", namespace="fe")], "fe")
    assert served(merged) == {"filed": ["a"], "demo": ["x"], "own": []}
    assert reasons(merged)["OnlineDeployment models/y"] == ["TargetTaken"]
    assert "TargetTaken" in reasons(merged)["OnlineDeployment fe/m"]
    assert merged.problems[Ref("Deployment", "models", "x")][0].reason == "NameTaken"


def test_a_route_that_is_taken_is_left_out():
    config = files({"name": "filed", "routes": [{"path_prefix": "/v1"}]})
    merged = merge(config, [oep("demo", {"routes": [{"path_prefix": "/v1/"}, {"host": "h"}]})], [])
    assert merged.config.endpoints[1].routes == (schema.Route("h"),)
    [problem] = merged.problems[Ref("OnlineEndpoint", "models", "demo")]
    assert problem.text == "spec.routes[0]: the route (any host, /v1) is taken by the endpoint 'filed'"


# --- an endpoint for each deployment ---------------------------------------------------------------------------------


@pytest.mark.parametrize("namespace", ["models", "other"])
def test_a_deployment_without_an_endpoint(namespace):
    endpoints = [oep("demo")] if namespace == "other" else []
    merged = merge(files(), endpoints, [odp("blue", namespace=namespace)])
    [problem] = merged.problems[Ref("OnlineDeployment", namespace, "blue")]
    assert (problem.path, problem.reason) == ("spec.endpoint_name", "EndpointMissing")
    assert merged.deployments == {}


def test_plain_deployments_bring_their_endpoint_along():
    merged = merge(files(), [], [plain("b", age=1), plain("a", age=2), plain("x", namespace="other", age=3)])
    assert served(merged) == {"demo": ["b", "a"]}
    assert traffic(merged) == {"b": 100}  # what joins later takes nothing away
    assert merged.endpoints["demo"] == Ref("Deployment", "models", "b")
    assert reasons(merged) == {"Deployment other/x": ["NameTaken"]}
    assert merged.config.endpoints[0].auth_mode == "none"


def test_plain_deployments_share_by_their_annotations():
    assert traffic(merge(files(), [], [plain("a", traffic="90"), plain("b", traffic="10")])) == {"a": 90, "b": 10}
    assert traffic(merge(files(), [], [plain("a", traffic="90"), plain("b")])) == {"a": 100}
    assert traffic(merge(files(), [], [plain("a", traffic="100"), plain("b", traffic="100")])) == {"a": 50, "b": 50}
    assert traffic(merge(files(), [], [plain("a", traffic="0")])) == {"a": 0}


@pytest.mark.parametrize("auth", ["", "key"])
def test_nothing_is_open_unless_it_says_so(auth):
    merged = merge(files(), [], [plain("a", auth=auth), plain("b", age=1), plain("c", age=2, auth=auth)])
    assert served(merged) == {"demo": ["b"]}
    assert reasons(merged) == {"Deployment models/a": ["Invalid"], "Deployment models/c": ["Invalid"]}


def test_an_endpoint_with_problems_is_not_opened_by_a_plain_deployment():
    broken = read_online_endpoint({"metadata": meta("demo", "models", 0), "spec": {}}, "", {})
    merged = merge(files(), [broken], [plain("a"), odp("b")])
    assert served(merged) == {}
    assert reasons(merged)["OnlineEndpoint models/demo"] == ["Invalid"]
    assert reasons(merged)["Deployment models/a"] == ["EndpointMissing"]


def test_an_online_deployment_does_not_join_what_a_plain_one_brought_along():
    merged = merge(files(), [], [plain("a"), odp("b")])
    assert reasons(merged) == {"OnlineDeployment models/b": ["EndpointMissing"]}
    assert served(merge(files(), [oep("demo")], [plain("a", auth=""), odp("b")])) == {"demo": ["b", "a"]}


# --- traffic ---------------------------------------------------------------------------------------------------------


def test_traffic_of_what_is_there():
    split = oep("demo", {"traffic": {"blue": 60, "green": 10, "red": 30}, "mirror_traffic": {"red": 5}})
    assert traffic(merge(files(), [split], [odp("blue"), odp("green"), odp("red")])) == split.endpoint.traffic
    merged = merge(files(), [split], [odp("blue"), odp("green")])
    assert traffic(merged) == {"blue": 86, "green": 14}
    assert merged.config.endpoints[0].mirror_traffic == {}
    assert [problem.path for problem in merged.problems[split.ref]] == ["spec.traffic[red]", "spec.mirror_traffic[red]"]
    assert traffic(merge(files(), [split], [odp("x")])) == {}


def test_traffic_that_is_not_stated():
    assert traffic(merge(files(), [oep("demo")], [])) == {}
    assert traffic(merge(files(), [oep("demo")], [odp("b", age=1), odp("a", age=2)])) == {"b": 100}
    assert traffic(merge(files({"name": "demo"}), [], [odp("b", age=1), odp("a", age=2)])) == {"b": 100}
    two = files({"name": "demo", "deployments": [static("a"), static("b")]})
    assert traffic(merge(two, [], [odp("c")])) == {}  # as the file has it


# --- limits of the table ---------------------------------------------------------------------------------------------


def test_there_is_room_for_the_older():
    config = files(limits={"deployments": 2, "replicas": 10})
    objects = [
        odp("a", age=1), odp("huge", age=2, instance_count=11), odp("b", age=3, instance_count=9), odp("c", age=4),
    ]  # fmt: skip
    merged = merge(config, [oep("demo")], objects)
    assert served(merged) == {"demo": ["a", "b"]}
    assert reasons(merged) == {
        "OnlineDeployment models/huge": ["LimitReached"], "OnlineDeployment models/c": ["LimitReached"],
    }  # fmt: skip


@pytest.mark.parametrize("spread", [1, 10])
@pytest.mark.parametrize("make", [odp, plain])
def test_the_snapshot_stays_within_its_limit(make, spread):
    config = files(limits={"config_bytes": 4096})
    objects = [make(f"deployment-{age}", f"endpoint-{age % spread}", age=age) for age in range(60)]
    endpoints = [oep(f"endpoint-{age}", age=age) for age in range(spread)] if make is odp else []
    merged = merge(config, endpoints, objects)
    assert snapshot_bytes(merged.config) <= 4096
    assert 3 < len(merged.deployments) < 60
    assert {problem.reason for found in merged.problems.values() for problem in found} >= {"LimitReached"}


# --- anything at all -------------------------------------------------------------------------------------------------

NAMES = st.sampled_from(["demo", "other", "filed"])
SHORT = st.sampled_from(["a", "b", "c", "d"])
SPACES = st.sampled_from(["models", "test"])
SPLITS = st.dictionaries(SHORT, st.integers(0, 100), max_size=3)
AGES = st.integers(0, 9)
OEPS = st.builds(
    lambda name, age, space, split: oep(name, {"traffic": split} if split else {}, age=age, namespace=space),
    NAMES, AGES, SPACES, SPLITS,
)  # fmt: skip
ODPS = st.builds(lambda n, e, a, s, t: odp(n, e, age=a, namespace=s, target={"deployment": t}),
                 SHORT, NAMES, AGES, SPACES, SHORT)  # fmt: skip
PLAINS = st.builds(lambda n, e, a, s, t: plain(n, e, age=a, namespace=s, traffic=str(t)),
                   SHORT, NAMES, AGES, SPACES, st.integers(0, 100))  # fmt: skip


@settings(max_examples=200)
@given(
    st.lists(OEPS, max_size=5, unique_by=lambda one: one.ref),
    st.lists(ODPS | PLAINS, max_size=8, unique_by=lambda one: one.ref),
    st.randoms(),
)
def test_any_objects_in_any_order(endpoints, deployments, random):
    config = files({"name": "filed", "deployments": [static("a")]})
    merged = merge(config, endpoints, deployments)
    assert merged.config.endpoints[0].deployments[0] == config.endpoints[0].deployments[0]
    for one in merged.config.endpoints:
        names = [deployment.name for deployment in one.deployments]
        assert len(set(names)) == len(names)
        assert one.traffic.keys() <= set(names)
        assert sum(one.traffic.values()) in (0, 100)
    for one in deployments:  # each is served, or says why not
        assert (one.ref in merged.deployments.values()) != (one.ref in merged.problems)
    random.shuffle(endpoints)
    random.shuffle(deployments)
    assert merge(config, endpoints, deployments) == merged
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(merged.config), type=schema.RouterConfig) == merged.config
