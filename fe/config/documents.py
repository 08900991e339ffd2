"""Reads one document: what an endpoint or a deployment says about itself, whether in a file or in a cluster object.

Owns: which keys may stand there (those of the model, fe's own request keys, those of the AzureML schema without a use
here), and what holds for a deployment of what stands further out. Never: which documents there are, and which
deployment goes with which endpoint (`fe.config.load`, and `fe.control.kubernetes.objects` for the cluster).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

import msgspec

import fe.config.credentials
import fe.config.kinds
import fe.config.kubernetes_kinds  # noqa: F401 - these three register the kinds of values
from fe.config import limits, rules, schema, source
from fe.config.problems import Place
from fe.config.reader import HOMES, INVALID, Reader, build, entries, fields_of, read_fields, read_value

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
DEPLOYMENT_ALIASES: Final = {"scale_setting": "scale_settings"}

for _home, _struct in (
    ("it belongs in kubernetes.election", schema.Election),
    ("it belongs in kubernetes", schema.Kubernetes),
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
    HOMES.update({_name: _home for _name in fields_of(_struct) if _name not in ("name", "type", "namespace")})

_DEPLOYMENT_OTHERS: Final = frozenset((
    *AZUREML_DEPLOYMENT_KEYS, *schema.OWN_REQUEST_KEYS, "request_settings", "environment_variables", "endpoint_name",
))  # fmt: skip
_ENDPOINT_OTHERS: Final = frozenset((*AZUREML_ENDPOINT_KEYS, *schema.OWN_REQUEST_KEYS, "deployments"))


class Document(NamedTuple):
    """A mapping that describes something, its place, and where it is read."""

    place: Place
    node: source.Node
    reader: Reader


def read_own(document: Document, inherited: Mapping[str, Any]) -> dict[str, Any]:
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


def read_endpoint(document: Document, own: Mapping[str, Any]) -> rules.EndpointEntry | None:
    """An endpoint without the deployments that stand in it; None where it is no mapping (a problem, like all others).

    own: fe's own request keys as they hold around it."""
    place, node, reader = document
    only = fields_of(schema.Endpoint).keys() - {"deployments"}
    values = read_fields(reader, node, place, schema.Endpoint, only=only, others=_ENDPOINT_OTHERS)
    if not isinstance(values, dict):
        return None
    _note_unused(document, AZUREML_ENDPOINT_KEYS)
    return rules.EndpointEntry(place, build(schema.Endpoint, values), read_own(document, own), "traffic" in values)


def read_deployment(
    document: Document, own: Mapping[str, Any], replicas: schema.KubernetesReplicas | None = None
) -> rules.DeploymentEntry | None:
    """A deployment; None where it is no mapping. `replicas`: where they are, if it does not say so itself."""
    place, node, reader = document
    given = {} if replicas is None else {"replicas": replicas}
    only = fields_of(schema.Deployment).keys() - {"request_settings", *given}
    read = read_fields(
        reader, node, place, schema.Deployment, aliases=DEPLOYMENT_ALIASES, only=only, others=_DEPLOYMENT_OTHERS
    )
    if not isinstance(read, dict) or not isinstance(node, source.Mapping):
        return None
    values = {**read, **given}
    _note_unused(document, AZUREML_DEPLOYMENT_KEYS)
    settings = read_own(document, own)
    block = node.entries.get("request_settings")
    if block is not None and not (isinstance(block, source.Scalar) and block.is_null):
        stated = read_fields(reader, block, place.key("request_settings"), schema.RequestSettings)
        settings.update(stated if isinstance(stated, dict) else {})
    values["request_settings"] = build(schema.RequestSettings, settings)
    variables = node.entries.get("environment_variables")
    if variables is not None:
        _add_environment(document, variables, values)
    return rules.DeploymentEntry(place, build(schema.Deployment, values), frozenset(node.entries), settings)


def _note_unused(document: Document, known: frozenset[str]) -> None:
    """One note with the keys of the AzureML schema that have no effect here."""
    if isinstance(document.node, source.Mapping):
        unused = [name for name in document.node.entries if name in known and name != "$schema"]
        if unused:
            document.reader.findings.note(document.place, f"has keys that fe does not use: {', '.join(unused)}")


def _add_environment(document: Document, node: source.Node, values: dict[str, Any]) -> None:
    """The schema's `environment_variables`: for local processes, below what `env` says."""
    at = document.place.key("environment_variables")
    field = fields_of(schema.ProcessReplicas)["env"]
    variables = read_value(document.reader, node, at, field) or {}
    replicas = values.get("replicas")
    if isinstance(replicas, schema.ProcessReplicas) and isinstance(variables, dict):
        values["replicas"] = msgspec.structs.replace(replicas, env={**variables, **replicas.env})
    elif replicas is not None:
        what = "with static addresses" if isinstance(replicas, schema.StaticReplicas) else "in the cluster"
        document.reader.findings.note(at, f"is not used: replicas {what} are not started by fe")
