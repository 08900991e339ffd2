"""Whatever is in the file, the answer is a configuration or a ConfigError; what is accepted can be used."""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from fe.config import schema
from fe.config.load import Loaded, load, load_value
from fe.config.reader import KINDS, fields_of
from fe.config.snapshot import build_snapshot, decode_config, encode_config, static_differences
from fe.errors import ConfigError
from fe.model import encode_snapshot

STRUCTS = (
    schema.RouterConfig, schema.Endpoint, schema.Deployment, schema.RequestSettings, schema.ScaleSettings,
    schema.Probe, schema.Keys, schema.Route, schema.ProcessReplicas, schema.LogSettings,
    schema.Kubernetes, schema.Election, schema.KubernetesReplicas,
)  # fmt: skip
WORDS = sorted({name for struct in STRUCTS for name in fields_of(struct)} | {
    "static", "process", "kubernetes", "scale_setting", "environment_variables", "endpoint_name", "$schema", "main",
    "<<", "x-a",
})  # fmt: skip
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(), st.text(max_size=8), st.sampled_from(WORDS),
    st.sampled_from(["127.0.0.1:80", "[::1]:80", "unix:x", "a:1", "none", "key", "default", "5s", "1MB", "file:x"]),
)  # fmt: skip
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS) | st.text(max_size=5), inner, max_size=5)
    ),
    max_leaves=25,
)
# Near to something valid: known keys at their places, with values of any kind.
DEPLOYMENTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["main", "blue", "x"]) | VALUES, "replicas": st.just({"static": ["a:1"]}) | VALUES},
    optional={name: VALUES for name in fields_of(schema.Deployment) if name not in ("name", "replicas")},
)
ENDPOINTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["demo", "other"]) | VALUES, "deployments": st.lists(DEPLOYMENTS, max_size=2) | VALUES},
    optional={name: VALUES for name in fields_of(schema.Endpoint) if name not in ("name", "deployments")},
)
ROUTERS = st.fixed_dictionaries(
    {"endpoints": st.lists(ENDPOINTS, max_size=2) | VALUES},
    optional={name: VALUES for name in fields_of(schema.RouterConfig) if name != "endpoints"},
)


def use(config: schema.RouterConfig) -> None:
    """What the rest of fe does with an accepted configuration."""
    records = {(e.name, d.name): (0, 0) for e in config.endpoints for d in e.deployments}
    encode_snapshot(build_snapshot(config, records))
    assert decode_config(encode_config(config)) == config
    assert static_differences(config, config) == []
    for endpoint in config.endpoints:
        assert sum(endpoint.traffic.values()) in (0, 100)
        assert endpoint.traffic.keys() <= {deployment.name for deployment in endpoint.deployments}
        assert endpoint.auth_mode == "none" or endpoint.keys.digests()


def result(read: Callable[[], Loaded]) -> tuple[schema.RouterConfig | None, list[str]]:
    """The configuration, or the problems. Any other exception is the failure that is looked for."""
    try:
        return read().config, []
    except ConfigError as error:
        return None, error.problems


@settings(max_examples=150)
@given(VALUES | ROUTERS)
def test_any_value(value):
    config, problems = result(lambda: load_value(value, "/nowhere", {}))
    assert (config is None) == bool(problems)
    if config is not None:
        use(config)


@settings(max_examples=80)
@given(ROUTERS)
def test_a_file_is_read_as_its_values_are(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("fuzz") / "fe.yaml"
    path.write_text(json.dumps(value))
    from_file, _ = result(lambda: load(str(path), {}))
    from_values, _ = result(lambda: load_value(value, str(path.parent), {}))
    assert msgspec.to_builtins(from_file) == msgspec.to_builtins(from_values)


@settings(max_examples=150)
@given(st.text(max_size=200) | st.text("abc:-[]{}&*!|>%@`'\"#,? \n\t<=~0x1", max_size=60))
def test_any_text(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("fuzz") / "fe.yaml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    config, problems = result(lambda: load(str(path), {}))
    assert all(problem.startswith(str(path)) and "\n" not in problem for problem in problems)
    if config is not None:
        use(config)


def test_every_kind_is_read_somewhere():
    used = {field.kind for struct in STRUCTS for field in fields_of(struct).values()}
    assert used - {"", "replica_address"} <= set(KINDS)
