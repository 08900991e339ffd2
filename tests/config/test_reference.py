"""docs/configuration.md is what the model says, and its examples are right."""

from __future__ import annotations

import json
import re
import runpy
from typing import Any

import msgspec
import pytest
import yaml

from fe.config import limits, schema
from fe.config.load import load
from fe.config.reader import fields_of
from tests.config.write import write
from tests.project import tree

REFERENCE = runpy.run_path(str(tree.ROOT / "tools/configuration_reference.py"))
DOCUMENT = (tree.ROOT / "docs/configuration.md").read_text()
STRUCTS = REFERENCE["STRUCTS"]


def test_tables_are_those_of_the_model():
    assert REFERENCE["generate"](DOCUMENT) == DOCUMENT, "run: python tools/configuration_reference.py"


def test_every_struct_has_a_table():
    tables = set(re.findall(r"<!-- table of (\w+) -->", DOCUMENT))
    structs = {
        value.__name__
        for module in (schema, limits)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
    }
    assert structs - tables == {"Secret", "StaticReplicas"}  # a digest, and a list: no keys of a user's
    assert tables == set(STRUCTS)


@pytest.mark.parametrize("struct", STRUCTS.values(), ids=STRUCTS)
def test_every_key_has_a_meaning_and_an_example(struct):
    for field in fields_of(struct).values():
        assert field.meta.description
        is_block = "mapping" in REFERENCE["type_of"](field) or field.name in ("endpoints", "deployments")
        assert is_block or field.meta.extra["example"] is not None, field.name


# Where the keys of a struct stand in a configuration, and what has to stand beside some of them.
PATHS = {
    "RouterConfig": (),
    "LogSettings": ("log",),
    "Limits": ("limits",),
    "Endpoint": ("endpoints", 0),
    "Keys": ("endpoints", 0, "keys"),
    "Route": ("endpoints", 0, "routes", 0),
    "Deployment": ("endpoints", 0, "deployments", 0),
    "RequestSettings": ("endpoints", 0, "deployments", 0, "request_settings"),
    "ScaleSettings": ("endpoints", 0, "deployments", 0, "scale_settings"),
    "Probe": ("endpoints", 0, "deployments", 0, "readiness_probe"),
    "ProcessReplicas": ("endpoints", 0, "deployments", 0, "replicas", "process"),
    "KubernetesReplicas": ("endpoints", 0, "deployments", 0, "replicas", "kubernetes"),
    "Kubernetes": ("kubernetes",),
    "Election": ("kubernetes", "election"),
}
BESIDE = {"min_instances": {"max_instances": 5}, "holders": {"replicas": 5}}


def placed(struct, example: dict[str, Any]) -> dict[str, Any]:
    """A configuration with the example in its place."""
    blue, green = ({"name": name, "replicas": {"static": ["127.0.0.1:1"]}} for name in ("blue", "green"))
    if struct is schema.ProcessReplicas:
        blue["replicas"] = {"process": {"command": "sh"}}
    if struct is schema.KubernetesReplicas:
        blue["replicas"] = {"kubernetes": {"deployment": "blue"}}
    endpoint = {"name": "demo", "auth_mode": "none", "routes": [{}], "keys": {}, "deployments": [blue, green]}
    if struct is not schema.Route:
        del endpoint["routes"]
    config = {"workers": 1, "kubernetes": {}, "endpoints": [endpoint]}
    place: Any = config
    for step in PATHS[struct.__name__]:
        place = place[step] if isinstance(place, list) else place.setdefault(step, {})
    for name, value in example.items():
        place.update({name: value, **BESIDE.get(name, {})})
    return config


EXAMPLES = [
    (struct, REFERENCE["example_of"](field).strip("`"))
    for struct in STRUCTS.values()
    for field in fields_of(struct).values()
    if (field.meta.extra or {})["example"] is not None
]


@pytest.mark.parametrize(("struct", "line"), EXAMPLES, ids=lambda value: getattr(value, "__name__", value))
def test_examples_are_accepted(tmp_path, struct, line):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/primary").write_text("a-key-that-is-long-enough\n")
    path = write(tmp_path, json.dumps(placed(struct, yaml.safe_load(line))))
    assert load(str(path), {"FE_DEMO_SECONDARY": "another-key-that-is-long-enough"}).config


def test_first_example_of_the_document(tmp_path):
    text = re.search(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)
    assert text
    assert load(str(write(tmp_path, text[1]))).notes == []


def test_the_example_with_everything_has_every_key_with_its_default():
    """examples/full.yaml says that its values are the defaults unless the line says otherwise."""
    text = (tree.ROOT / "examples/full.yaml").read_text()
    for struct in (limits.Limits, schema.RequestSettings, schema.ProcessReplicas, schema.LogSettings):
        for name in fields_of(struct):
            assert re.search(rf"^\s*{name}:", text, re.MULTILINE), name
    config = load(str(tree.ROOT / "examples/full.yaml")).config
    assert config.limits == limits.Limits()
    assert config.endpoints[0].deployments[0].request_settings == schema.RequestSettings()


def test_the_example_of_a_cluster_has_every_key_of_it_and_of_scaling():
    text = (tree.ROOT / "examples/kubernetes.yaml").read_text()
    for struct in (schema.Kubernetes, schema.Election, schema.KubernetesReplicas, schema.ScaleSettings):
        for name in fields_of(struct):
            assert re.search(rf"^\s*{name}:", text, re.MULTILINE), name
    assert load(str(tree.ROOT / "examples/kubernetes.yaml")).config.kubernetes.election == schema.Election()
