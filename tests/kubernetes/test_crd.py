"""The CustomResourceDefinitions are real ones, are made from the model, and take what fe can read."""

from __future__ import annotations

import contextlib
import re
import runpy
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import jsonschema
import kubernetes_validate
import pytest
import yaml
from msgspec import structs

from fe.config import schema
from fe.config.load import load_value
from fe.config.reader import fields_of
from fe.control.kubernetes.crd import definitions
from fe.control.kubernetes.merging import merge
from fe.control.kubernetes.object_status import (
    DeploymentStatus,
    EndpointStatus,
    LastDecision,
    Verdict,
    deployment_patch,
    endpoint_patch,
)
from fe.control.kubernetes.objects import (
    ANNOTATIONS,
    GROUP,
    VERSION,
    Problem,
    Ref,
    read_online_deployment,
    read_online_endpoint,
    read_plain_deployment,
)
from tests.kubernetes.emulator import Emulator, schemas
from tests.kubernetes.harness import on_loop
from tests.kubernetes.test_objects import AZ_DEPLOYMENT, AZ_ENDPOINT
from tests.project import tree

Json = dict[str, Any]
TOOL = runpy.run_path(str(tree.ROOT / "tools/crd_reference.py"))
DEFINITIONS = {one["spec"]["names"]["kind"]: one for one in definitions()}
BASE = f"/apis/{GROUP}/{VERSION}/namespaces/models"
CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
NOW = "2026-11-22T08:00:00Z"


def schema_of(kind: str) -> Json:
    return DEFINITIONS[kind]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]


def nodes(node: Json, path: str = "") -> Iterator[tuple[str, Json]]:
    """Every schema within a schema, with its path."""
    yield path, node
    for name, inner in node.get("properties", {}).items():
        yield from nodes(inner, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if name in node:
            yield from nodes(node[name], f"{path}[{name}]")


@contextlib.asynccontextmanager
async def cluster() -> AsyncIterator[Client]:
    """A cluster that has both definitions."""
    async with Emulator() as emulator, aiohttp.ClientSession() as session:
        client = Client(session, emulator)
        for one in DEFINITIONS.values():
            status, answer = await client.call("POST", CRDS, one)
            assert status == 201, answer
        await emulator.settled()
        yield client


class Client:
    """Calls over HTTP, as an administrator."""

    def __init__(self, session: aiohttp.ClientSession, emulator: Emulator) -> None:
        self.session, self.emulator = session, emulator

    async def call(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Json]:
        headers = {"Authorization": f"Bearer {self.emulator.token()}", "Content-Type": "application/json", **headers}
        async with self.session.request(method, self.emulator.url + path, json=body, headers=headers) as answer:
            return answer.status, await answer.json()

    async def create(self, kind: str, spec: Json, name: str = "x", query: str = "") -> tuple[int, Json]:
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": {"name": name}, "spec": spec}
        return await self.call("POST", f"{BASE}/{kind.lower()}s{query}", body)


# --- the manifests ---------------------------------------------------------------------------------------------------


def test_manifests_are_those_of_the_model():
    for plural, path in TOOL["DOCUMENTS"].items():
        assert path.read_text() == TOOL["manifest"](plural), "make docs"
    written = [yaml.safe_load(path.read_text()) for path in sorted(TOOL["FOLDER"].glob("*.yaml"))]
    assert {one["spec"]["names"]["kind"]: one for one in written} == DEFINITIONS


@pytest.mark.parametrize("kind", DEFINITIONS)
@pytest.mark.parametrize("version", ["1.30", kubernetes_validate.latest_version()])
def test_definitions_are_as_the_api_has_them(kind, version):
    kubernetes_validate.validate(DEFINITIONS[kind], version, strict=True)


@pytest.mark.parametrize("kind", DEFINITIONS)
def test_schemas_explain_themselves_and_fill_nothing_in(kind):
    for path, node in nodes(schema_of(kind)):
        assert "default" not in node, path
        named = not path.endswith("]") and path not in (".apiVersion", ".kind", ".metadata")
        assert not named or node.get("description"), path
        assert node.get("pattern", "^").startswith("^"), path  # else it would match anywhere


@pytest.mark.parametrize(("kind", "least"), [("OnlineEndpoint", 1), ("OnlineDeployment", 1)])
def test_only_what_fe_has_no_use_for_may_have_any_shape(kind, least):
    free = [path for path, node in nodes(schema_of(kind)) if node.get("x-kubernetes-preserve-unknown-fields")]
    assert len(free) > least
    assert all(path.count(".") == 2 for path in free)
    known = {f".spec.{name}" for struct in (schema.Endpoint, schema.Deployment) for name in fields_of(struct)}
    assert not known & set(free)


def test_every_key_of_the_model_is_there():
    endpoint, deployment = (set(schema_of(kind)["properties"]["spec"]["properties"]) for kind in DEFINITIONS)
    own = set(schema.OWN_REQUEST_KEYS)
    assert endpoint >= own | fields_of(schema.Endpoint).keys() - {"deployments"}
    assert deployment >= own | {"scale_setting", "target", "endpoint_name"} | fields_of(schema.Deployment).keys() - {
        "replicas"
    }


def test_fe_knows_every_key_of_the_schemas():
    for kind, read in (("OnlineEndpoint", read_online_endpoint), ("OnlineDeployment", read_online_deployment)):
        spec = dict.fromkeys(schema_of(kind)["properties"]["spec"]["properties"])
        problems = read({"metadata": {"name": "fraud", "namespace": "n"}, "spec": spec}).problems
        assert not [problem for problem in problems if "not a key" in problem.message], problems


# --- bounds: the API server and fe say the same -----------------------------------------------------------------------

ENDPOINT_BASE: Json = {"auth_mode": "none"}
DEPLOYMENT_BASE: Json = {"endpoint_name": "demo", "scale_settings": {"type": "default", "max_instances": 100_000}}


def numbers() -> Iterator[tuple[str, str, Json]]:
    """Every number in a spec: kind, path, schema."""
    for kind in DEFINITIONS:
        for path, node in nodes(schema_of(kind)["properties"]["spec"]):
            if "minimum" in node or "maximum" in node:
                yield kind, path, node


def specified(kind: str, path: str, value: Any) -> Json:
    """A spec that is right, with this value in it."""
    spec: Json = {**(ENDPOINT_BASE if kind == "OnlineEndpoint" else DEPLOYMENT_BASE)}
    steps = path.replace("[additionalProperties]", ".blue").lstrip(".").split(".")
    if steps[0] == "scale_setting":
        spec.pop("scale_settings")
    into = spec
    for step in steps[:-1]:
        into[step] = into = dict(into.get(step, {}))
    into[steps[-1]] = value
    return spec


def both(kind: str, path: str, value: Any) -> tuple[bool, bool]:
    """Whether the API server takes it, and whether fe finds nothing wrong at this very place."""
    spec = specified(kind, path, value)
    # The emulator leaves out bounds and patterns beside x-kubernetes-int-or-string, which a real server checks.
    server = not schemas.causes(schema_of(kind), {"spec": spec})
    server = server and jsonschema.Draft202012Validator(schema_of(kind)).is_valid({"spec": spec})
    read = read_online_endpoint if kind == "OnlineEndpoint" else read_online_deployment
    at = "spec" + path.replace("[additionalProperties]", "[blue]")
    return server, at not in [one.path for one in read({"metadata": {"name": "main"}, "spec": spec}).problems]


@pytest.mark.parametrize(
    ("kind", "path", "node"), list(numbers()), ids=lambda value: value if isinstance(value, str) else ""
)
def test_bounds(kind, path, node):
    low, high = node["minimum"], node["maximum"]
    assert both(kind, path, high) == (True, True)
    assert both(kind, path, high + 1) == (False, False)
    assert both(kind, path, -1) == (False, False)
    assert both(kind, path, "text") == (False, False)
    if low == int(low):
        assert both(kind, path, low) == (True, True)
    if low:
        assert both(kind, path, 0) == (False, False)


@pytest.mark.parametrize(
    ("path", "value", "server", "fe"),
    [
        (".readiness_probe.period", "500ms", True, True),
        (".readiness_probe.period", "1.5 h", True, True),
        (".readiness_probe.period", "5 parsecs", False, False),
        (".readiness_probe.period", "xx5s", False, False),
        (".readiness_probe.period", "2d", True, False),  # a schema has no bounds for text with a unit
        (".readiness_probe.period", 0.5, False, True),  # nor a type for it that has numbers with a point
        (".max_body_bytes", "64MiB", True, True),
        (".max_body_bytes", "64MiBB", False, False),
        (".scale_settings.max_scale_up_rate", 1.5, True, True),
        (".target.deployment", "a.b-c", True, True),
        (".readiness_probe.path", "health", False, False),
    ],
)
def test_units_and_texts(path, value, server, fe):
    assert both("OnlineDeployment", path, value) == (server, fe)


# --- on a cluster ----------------------------------------------------------------------------------------------------


@on_loop
async def test_documents_of_az_ml_are_accepted_whole():
    async with cluster() as client:
        for kind, text in (("OnlineEndpoint", AZ_ENDPOINT), ("OnlineDeployment", AZ_DEPLOYMENT)):
            spec = yaml.safe_load(text)
            status, answer = await client.create(kind, spec, query="?fieldValidation=Strict")
            assert status == 201, answer
            assert answer["spec"] == spec


@on_loop
async def test_what_is_wrong_is_refused_by_the_server():
    cases = [
        ("OnlineDeployment", {}, "spec.endpoint_name"),
        ("OnlineDeployment", {"endpoint_name": "a--b"}, "spec.endpoint_name"),
        ("OnlineDeployment", {"endpoint_name": "demo", "target": {"port": 0}}, "spec.target.port"),
        ("OnlineDeployment", {"endpoint_name": "demo", "on_disconnect": "x"}, "spec.on_disconnect"),
        ("OnlineDeployment", {"endpoint_name": "demo", "request_settings": []}, "spec.request_settings"),
        ("OnlineEndpoint", {"keys": {"primary": "the-key-itself"}}, "spec.keys.primary"),
        ("OnlineEndpoint", {"traffic": {"blue": 101}}, "spec.traffic.blue"),
        ("OnlineEndpoint", {"routes": [{}]}, "spec.routes[0]"),
    ]
    async with cluster() as client:
        for kind, spec, field in cases:
            status, answer = await client.create(kind, spec)
            assert (status, answer["reason"]) == (422, "Invalid"), (spec, answer)
            assert [cause["field"] for cause in answer["details"]["causes"]] == [field], answer
        status, answer = await client.call("POST", f"{BASE}/onlineendpoints", {"metadata": {"name": "x"}})
        assert status >= 400


@on_loop
async def test_unknown_keys_are_pruned_or_refused():
    async with cluster() as client:
        spec = {"endpoint_name": "demo", "replicas": {"static": []}, "request_settings": {"nosuch": 1}}
        status, answer = await client.create("OnlineDeployment", spec)
        assert (status, answer["spec"]) == (201, {"endpoint_name": "demo", "request_settings": {}})
        status, answer = await client.create("OnlineDeployment", spec, "y", "?fieldValidation=Strict")
        assert status == 400
        assert 'unknown field "spec.request_settings.nosuch"' in answer["message"]


@on_loop
async def test_statuses_are_written_and_shown():
    merge = {"Content-Type": "application/merge-patch+json"}
    figures = DeploymentStatus("demo", 3, 2, 140, 7, LastDecision(NOW, 3, "up", "3 are needed"))
    split = EndpointStatus("/api/v1/endpoint/demo/score", 1, 2, {"blue": 100})
    problem = Problem(Ref("OnlineEndpoint", "models", "x"), "spec.routes[0]", "RouteTaken", "it is taken")
    follows = Verdict(True, "FollowsLoad", "between 1 and 9")
    async with cluster() as client:
        for kind, spec, make in (
            ("OnlineDeployment", {"endpoint_name": "demo"},
             lambda value: deployment_patch(value, figures, [], follows, NOW)),
            ("OnlineEndpoint", {"auth_mode": "none"}, lambda value: endpoint_patch(value, split, [problem], NOW)),
        ):  # fmt: skip
            _, value = await client.create(kind, spec)
            patch = make(value)
            path = f"{BASE}/{kind.lower()}s/x"
            status, answer = await client.call("PATCH", f"{path}/status", patch.body, **merge)
            assert status == 200, answer
            assert answer["status"] == patch.body["status"]
            assert make(answer) is None
            status, answer = await client.call("PATCH", f"{path}/status", patch.body, **merge)
            assert status == 409  # somebody has changed it since
            assert (await client.call("GET", path))[1]["spec"] == spec


@on_loop
async def test_columns_show_the_status():
    table = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io"}
    figures = DeploymentStatus("demo", 3, 2, 140, 7)
    async with cluster() as client:
        _, value = await client.create("OnlineDeployment", {"endpoint_name": "demo"})
        patch = deployment_patch(value, figures, [], Verdict(False, "FixedNumber", "-"), NOW)
        assert patch is not None
        await client.emulator.patch(f"{BASE}/onlinedeployments/x/status", patch.body)
        _, answer = await client.call("GET", f"{BASE}/onlinedeployments", **table)
        columns = [column["name"] for column in answer["columnDefinitions"]]
        shown = dict(zip(columns, answer["rows"][0]["cells"], strict=True))
        assert {name: shown[name] for name in ("Endpoint", "Replicas", "Desired", "Used %", "Queue")} == {
            "Endpoint": "demo", "Replicas": 2, "Desired": 3, "Used %": 140, "Queue": 7,
        }  # fmt: skip
        _, found = await client.call("GET", f"/apis/{GROUP}/{VERSION}")
        assert {one["name"]: one.get("shortNames") for one in found["resources"] if "/" not in one["name"]} == {
            "onlineendpoints": ["oep"], "onlinedeployments": ["odp"],
        }  # fmt: skip


# --- docs/kubernetes-objects.md ---------------------------------------------------------------------------------------

DOCUMENT = (tree.ROOT / "docs/kubernetes-objects.md").read_text()
EXAMPLES: list[Json] = [
    one for block in re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL) for one in yaml.safe_load_all(block)
]


def test_the_examples_are_served():
    endpoints = [read_online_endpoint(one, "", {}) for one in EXAMPLES if one["kind"] == "OnlineEndpoint"]
    placed = [{**one, "metadata": {"namespace": "models", **one["metadata"]}} for one in EXAMPLES]
    deployments = [read_online_deployment(one) for one in placed if one["kind"] == "OnlineDeployment"]
    plain = [read_plain_deployment(one) for one in placed if one["kind"] == "Deployment"]
    config = load_value({"kubernetes": {}}, environ={}).config
    merged = merge(config, endpoints, [*deployments, *(one for one in plain if one)])
    assert merged.problems == {}
    assert set(merged.deployments) == {"fraud/blue", "fraud/green", "rents/rents"}


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda one: f"{one['kind']}-{one['metadata']['name']}")
def test_the_examples_are_as_the_api_has_them(example):
    if example["kind"] in DEFINITIONS:
        assert schemas.causes(schema_of(example["kind"]), {"spec": example["spec"]}) == []
        unknown: list[str] = []
        schemas.prune(schema_of(example["kind"]), {"spec": example["spec"]}, "", unknown)
        assert unknown == []
    else:
        kubernetes_validate.validate(example, kubernetes_validate.latest_version(), strict=True)


def test_the_document_names_every_annotation_reason_and_field():
    cells = set(re.findall(r"`([\w-]+)`", "\n".join(re.findall(r"^\| (.*?) \|", DOCUMENT, re.MULTILINE))))
    fields = {field.encode_name for struct in (DeploymentStatus, EndpointStatus) for field in structs.fields(struct)}
    source = (tree.ROOT / "fe/control/kubernetes/merging.py").read_text()
    reasons = set(re.findall(r'"([A-Z][a-z]+(?:Taken|Missing|Reached)|Invalid)"', source))
    assert ANNOTATIONS.keys() | fields | reasons <= cells, (ANNOTATIONS.keys() | fields | reasons) - cells
