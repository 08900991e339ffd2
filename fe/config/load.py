"""Loads the configuration: a file, or a folder of files, into one checked `RouterConfig`.

Owns: which documents there are and what each one is (the router's, an endpoint's, a deployment's), how deployments
find their endpoint, and from how far fe's own request keys are taken. Never: the meaning of single values
(`fe.config.kinds`), checks across fields (`fe.config.rules`). `load` is all that others need; docs/configuration.md
is the user's view.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

import fe.config.credentials
import fe.config.kinds  # noqa: F401 - these two register the kinds of values
from fe.config import limits, rules, schema, source
from fe.config.problems import Findings, Place, did_you_mean, shown
from fe.config.reader import (
    HOMES,
    INVALID,
    Reader,
    build,
    entries,
    fields_of,
    list_items,
    read_fields,
    read_value,
    wrong_type,
)
from fe.errors import ConfigError

# Keys of the AzureML schemas that fe has no use for: accepted, so that documents can be taken over as they are.
AZUREML_ENDPOINT_KEYS: Final = frozenset((
    "$schema", "description", "tags", "properties", "compute", "identity", "type", "kind", "defaults", "id",
    "public_network_access", "provisioning_state", "scoring_uri", "openapi_uri", "swagger_uri", "location",
))  # fmt: skip
AZUREML_DEPLOYMENT_KEYS: Final = frozenset((
    "$schema", "description", "tags", "properties", "type", "id", "model", "model_mount_path", "code_configuration",
    "environment", "instance_type", "app_insights_enabled", "data_collector", "resources", "package_model",
    "egress_public_network_access", "private_network_connection", "provisioning_state", "creation_context",
))  # fmt: skip

for _home, _struct in (
    ("it belongs in log", schema.LogSettings),
    ("it belongs in limits", limits.Limits),
    ("it belongs in keys", schema.Keys),
    ("it belongs in request_settings", schema.RequestSettings),
    ("it belongs in scale_settings", schema.ScaleSettings),
    ("it belongs in replicas: {process: ...}", schema.ProcessReplicas),
    ("it belongs in a deployment", schema.Deployment),
    ("it belongs in an endpoint", schema.Endpoint),
    ("it belongs at the top level", schema.RouterConfig),
):
    HOMES.update({_name: _home for _name in fields_of(_struct) if _name not in ("name", "type")})

_SUFFIXES: Final = (".yaml", ".yml")
_DEPLOYMENT_OTHERS: Final = frozenset((
    *AZUREML_DEPLOYMENT_KEYS, *schema.OWN_REQUEST_KEYS, "request_settings", "environment_variables", "endpoint_name",
))  # fmt: skip
_ENDPOINT_OTHERS: Final = frozenset((*AZUREML_ENDPOINT_KEYS, *schema.OWN_REQUEST_KEYS, "deployments"))
_ROUTER_OTHERS: Final = frozenset((*schema.OWN_REQUEST_KEYS, "endpoints"))


class Loaded(NamedTuple):
    """A configuration that can be used, and what is worth a line in the log about it."""

    config: schema.RouterConfig
    notes: list[str]


class _Document(NamedTuple):
    place: Place
    node: source.Node
    reader: Reader


def load(path: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """The configuration in the file or folder `path`. Raises ConfigError with every problem there is."""
    findings = Findings()
    documents = _read_documents(path, findings, os.environ if environ is None else environ)
    return _assemble(documents, findings, Place(path))


def load_value(value: object, folder: str = "", environ: Mapping[str, str] | None = None) -> Loaded:
    """As `load`, from plain values (of JSON, say) in place of a router's file."""
    findings = Findings()
    try:
        node = source.node_of(value)
    except ValueError as error:
        raise ConfigError([f"configuration: is {error}"]) from None
    reader = Reader(findings, folder, os.environ if environ is None else environ)
    return _assemble([_Document(Place("configuration"), node, reader)], findings, Place("configuration"))


def _read_documents(path: str, findings: Findings, environ: Mapping[str, str]) -> list[_Document]:
    documents = []
    for file in _files(path, findings):
        try:
            text = source.read_text(file)
        except ValueError as error:
            findings.problem(Place(file), str(error))
            continue
        reader = Reader(findings, os.path.dirname(os.path.abspath(file)), environ)
        for index, node in enumerate(source.parse_documents(text, file, findings)):
            if not isinstance(node, source.Scalar) or not node.is_null:
                place = Place(file, (), index)
                findings.lines[place] = node.line
                documents.append(_Document(place, node, reader))
    return documents


def _files(path: str, findings: Findings) -> list[str]:
    """The configuration's files: `path`, or the .yaml and .yml files right in the folder `path`, in order of name."""
    if not os.path.isdir(path):
        return [path]
    try:
        names = sorted(os.listdir(path))
    except OSError as error:
        findings.problem(Place(path), f"cannot be read: {error.strerror}")
        return []
    files = [os.path.join(path, name) for name in names if name.endswith(_SUFFIXES) and not name.startswith(".")]
    if not files:
        findings.problem(Place(path), "the folder has no file that ends in .yaml or .yml")
    return files


def _kind_of(node: source.Node) -> str:
    """What a document describes: `deployment`, `endpoint` or `router`."""
    if not isinstance(node, source.Mapping):
        return "router"
    stated = node.entries.get("$schema")
    stated_text = stated.text.lower() if isinstance(stated, source.Scalar) else ""
    if "endpoint_name" in node.entries or "deployment" in stated_text:
        return "deployment"
    if "endpoint" in stated_text or ("name" in node.entries and "endpoints" not in node.entries):
        return "endpoint"
    return "router"


def _assemble(documents: list[_Document], findings: Findings, whole: Place) -> Loaded:
    kinds = [(_kind_of(document.node), document) for document in documents]
    routers = [document for kind, document in kinds if kind == "router"]
    values: dict[str, Any] = {}
    own: dict[str, Any] = {}
    endpoints: list[rules.EndpointEntry] = []
    if not documents and not findings.problems:
        findings.problem(whole, "is empty", "docs/configuration.md has a first example")
    for document in routers[1:]:
        findings.problem(
            document.place, f"is a second document with the router's settings, beside {routers[0].place.file}"
        )
    for document in routers[:1]:
        values, own = _read_router(document, endpoints)
    for kind, document in kinds:
        if kind == "endpoint":
            _add_endpoint(document, own, endpoints)
    for kind, document in kinds:
        if kind == "deployment":
            _add_deployment(document, endpoints, own)
    place = routers[0].place if routers else whole
    config = build(schema.RouterConfig, {**values, "endpoints": tuple(_finish(entry) for entry in endpoints)})
    rules.check(config, endpoints, place, findings)
    findings.raise_problems()
    return Loaded(config, findings.notes)


def _finish(entry: rules.EndpointEntry) -> schema.Endpoint:
    deployments = tuple(deployment.deployment for deployment in entry.deployments)
    endpoint = msgspec.structs.replace(entry.endpoint, deployments=deployments)
    if not entry.traffic_given and len(deployments) == 1:
        endpoint = msgspec.structs.replace(endpoint, traffic={deployments[0].name: 100})
    entry.endpoint = endpoint
    return endpoint


def _read_router(document: _Document, endpoints: list[rules.EndpointEntry]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The router's own settings, and fe's request keys at the top level; its endpoints are added to `endpoints`."""
    place, node, reader = document
    if isinstance(node, source.Mapping):  # `x-...`: a place for anchors, as in compose files
        node.entries = {name: value for name, value in node.entries.items() if not name.startswith("x-")}
    only = fields_of(schema.RouterConfig).keys() - {"endpoints"}
    values = read_fields(reader, node, place, schema.RouterConfig, only=only, others=_ROUTER_OTHERS)
    if not isinstance(values, dict) or not isinstance(node, source.Mapping):
        return {}, {}
    own = _read_own(document, {})
    listed = node.entries.get("endpoints")
    if isinstance(listed, source.Sequence):
        for at, item in list_items(reader, listed, place.key("endpoints")):
            _add_endpoint(_Document(at, item, reader), own, endpoints)
    elif listed is not None and not (isinstance(listed, source.Scalar) and listed.is_null):
        wrong_type(
            reader, listed, place.key("endpoints"), "a list", "write endpoints: and then '- name: ...'", show=False
        )
    return values, own


def _read_own(document: _Document, inherited: Mapping[str, Any]) -> dict[str, Any]:
    """Fe's own request keys that stand right in this mapping, over those inherited from further away."""
    place, node, reader = document
    values = dict(inherited)
    fields = fields_of(schema.RequestSettings)
    if isinstance(node, source.Mapping):
        for name, at, value in entries(reader, node, place):
            if name in schema.OWN_REQUEST_KEYS:
                read = read_value(reader, value, at, fields[name])
                if read is not INVALID and read is not None:
                    values[name] = read
    return values


def _note_unused(document: _Document, known: frozenset[str]) -> None:
    """One note with the keys of the AzureML schema that have no effect here."""
    if isinstance(document.node, source.Mapping):
        unused = [name for name in document.node.entries if name in known and name != "$schema"]
        if unused:
            document.reader.findings.note(document.place, f"has keys that fe does not use: {', '.join(unused)}")


def _add_endpoint(document: _Document, own: Mapping[str, Any], endpoints: list[rules.EndpointEntry]) -> None:
    place, node, reader = document
    only = fields_of(schema.Endpoint).keys() - {"deployments"}
    values = read_fields(reader, node, place, schema.Endpoint, only=only, others=_ENDPOINT_OTHERS)
    if not isinstance(values, dict) or not isinstance(node, source.Mapping):
        return
    _note_unused(document, AZUREML_ENDPOINT_KEYS)
    entry = rules.EndpointEntry(place, build(schema.Endpoint, values), _read_own(document, own), "traffic" in values)
    endpoints.append(entry)
    listed = node.entries.get("deployments")
    if isinstance(listed, source.Sequence):
        for at, item in list_items(reader, listed, place.key("deployments")):
            read = _Document(at, item, reader)
            _check_owner(read, entry.endpoint.name)
            entry.add(_read_deployment(read, entry.own))
    elif listed is not None and not (isinstance(listed, source.Scalar) and listed.is_null):
        wrong_type(
            reader, listed, place.key("deployments"), "a list", "write deployments: and then '- name: ...'", show=False
        )


def _check_owner(document: _Document, endpoint: str) -> None:
    """A deployment within an endpoint need not name it, but must not name another."""
    named = document.node.entries.get("endpoint_name") if isinstance(document.node, source.Mapping) else None
    if isinstance(named, source.Scalar) and not named.is_null and named.text != endpoint:
        at = document.place.key("endpoint_name")
        document.reader.findings.problem(at, f"is {shown(named.text)}, but it stands in the endpoint {shown(endpoint)}")


def _add_deployment(document: _Document, endpoints: list[rules.EndpointEntry], own: Mapping[str, Any]) -> None:
    """A deployment's document of its own: it says itself which endpoint it belongs to."""
    place, node, reader = document
    assert isinstance(node, source.Mapping)
    named = node.entries.get("endpoint_name")
    at = place.key("endpoint_name")
    if not isinstance(named, source.Scalar) or named.is_null:
        reader.findings.problem(at, "is missing: a deployment's document names its endpoint")
        _read_deployment(document, own)
        return
    entry = next((entry for entry in endpoints if entry.endpoint.name == named.text), None)
    read = _read_deployment(document, entry.own if entry else own)
    if entry is not None:
        entry.add(read)
    else:
        mend = did_you_mean(named.text, [entry.endpoint.name for entry in endpoints])
        reader.findings.problem(at, f"there is no endpoint {named.text!r}", mend)


def _read_deployment(document: _Document, own: Mapping[str, Any]) -> rules.DeploymentEntry | None:
    place, node, reader = document
    only = fields_of(schema.Deployment).keys() - {"request_settings"}
    aliases = {"scale_setting": "scale_settings"}
    values = read_fields(reader, node, place, schema.Deployment, aliases=aliases, only=only, others=_DEPLOYMENT_OTHERS)
    if not isinstance(values, dict) or not isinstance(node, source.Mapping):
        return None
    _note_unused(document, AZUREML_DEPLOYMENT_KEYS)
    settings = _read_own(document, own)
    block = node.entries.get("request_settings")
    if block is not None and not (isinstance(block, source.Scalar) and block.is_null):
        given = read_fields(reader, block, place.key("request_settings"), schema.RequestSettings)
        settings.update(given if isinstance(given, dict) else {})
    values["request_settings"] = build(schema.RequestSettings, settings)
    variables = node.entries.get("environment_variables")
    if variables is not None:
        _add_environment(document, variables, values)
    return rules.DeploymentEntry(place, build(schema.Deployment, values), frozenset(node.entries))


def _add_environment(document: _Document, node: source.Node, values: dict[str, Any]) -> None:
    """The schema's `environment_variables`: for local processes, below what `env` says."""
    at = document.place.key("environment_variables")
    field = fields_of(schema.ProcessReplicas)["env"]
    variables = read_value(document.reader, node, at, field) or {}
    replicas = values.get("replicas")
    if isinstance(replicas, schema.ProcessReplicas) and isinstance(variables, dict):
        values["replicas"] = msgspec.structs.replace(replicas, env={**variables, **replicas.env})
    elif isinstance(replicas, schema.StaticReplicas):
        document.reader.findings.note(at, "is not used: replicas with static addresses are not started by fe")
