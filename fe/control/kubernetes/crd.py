"""The two CustomResourceDefinitions, made from the model: what the API server accepts is what fe can read.

Owns: the translation of the model's fields to a structural OpenAPI v3 schema, names, printer columns. Never: a rule of
its own; what a schema cannot say (sums, one key beside another) is said by fe in the object's conditions. There are no
defaults in it: fe's own request keys are taken from the endpoint or from fe's file where a deployment has none, and
a default filled in by the API server would hide those. tools/crd_reference.py writes the manifests.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final, Literal, get_args, get_origin

import msgspec

from fe.config import kinds, kubernetes_kinds, schema
from fe.config.documents import AZUREML_DEPLOYMENT_KEYS, AZUREML_ENDPOINT_KEYS, DEPLOYMENT_ALIASES
from fe.config.reader import Field, fields_of
from fe.control.kubernetes.object_status import DeploymentStatus, EndpointStatus
from fe.control.kubernetes.objects import GROUP, TARGET_FIELDS, VERSION

Schema = dict[str, Any]

# Also in the documents of `az ml`, of whatever shape: accepted, so that they can be taken over, and of no effect.
UNUSED: Final[Schema] = {
    "description": "Not used by fe: a key of the AzureML schema.",
    "x-kubernetes-preserve-unknown-fields": True,
}
MAX_PATH: Final = 4096


def _whole(pattern: str) -> str:
    """As Python's fullmatch: the API server looks for a match anywhere."""
    return f"^(?:{pattern})$"


def _numeric(field: Field, kind: str) -> Schema:
    low, high = (field.meta.extra or {})["bounds"]
    return {"type": kind} | _bounds(low, high)


def _bounds(low: float | None, high: float | None) -> Schema:
    bounds = {"minimum": low, "maximum": high}
    return {name: bound for name, bound in bounds.items() if bound is not None}


def _quantity(field: Field, pattern: str) -> Schema:
    """A number, or text with a unit. The bounds hold for the number; those of the text are checked by fe."""
    return {
        "x-kubernetes-int-or-string": True, "pattern": _whole(pattern), **_bounds(*(field.meta.extra or {})["bounds"]),
    }  # fmt: skip


def _name(least: int) -> Schema:
    return {"type": "string", "minLength": least, "maxLength": 32, "pattern": _whole(kinds.NAME.pattern)}


def _routes(field: Field) -> Schema:
    del field
    item = _struct(schema.Route) | {"minProperties": 1}
    return {"type": "array", "items": item, "x-kubernetes-list-type": "atomic"}


# How a kind of value is said in a schema, where that is not plain from its type.
KINDS: Final[dict[str, Callable[[Field], Schema]]] = {
    "int": lambda field: _numeric(field, "integer"),
    "number": lambda field: _numeric(field, "number"),
    "bool": lambda _: {"type": "boolean"},
    "str": lambda _: {"type": "string", "minLength": 1},
    "seconds": lambda field: _quantity(field, kinds.DURATION.pattern),
    "bytes": lambda field: _quantity(field, kinds.SIZE.pattern),
    "time": lambda _: {"type": "string", "format": "date-time"},
    "endpoint_name": lambda _: _name(3),
    "deployment_name": lambda _: _name(1),
    "object_name": lambda _: {
        "type": "string", "maxLength": kubernetes_kinds.MAX_OBJECT_NAME,
        "pattern": _whole(kubernetes_kinds.OBJECT_NAME.pattern),
    },
    "host": lambda _: {"type": "string", "minLength": 1, "maxLength": 253},
    "path": lambda _: {"type": "string", "maxLength": MAX_PATH, "pattern": "^/"},
    "path_prefix": lambda _: {"type": "string", "maxLength": MAX_PATH, "pattern": "^/"},
    "secret": lambda _: {"type": "string", "pattern": "^(?:file|env):."},
    "percentages": lambda field: {"type": "object", "additionalProperties": _numeric(field, "integer")},
    "routes": _routes,
}  # fmt: skip


def _field(field: Field) -> Schema:
    said = _typed(field)
    return {"description": _sentence(field), **said}


def _typed(field: Field) -> Schema:
    if field.kind:
        return KINDS[field.kind](field)
    if get_origin(field.type) is Literal:
        return {"type": "string", "enum": list(get_args(field.type))}
    if get_origin(field.type) is tuple:
        item: Any = get_args(field.type)[0]  # of the statuses alone: their conditions, each type once
        keys = {"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["type"]}
        return {"type": "array", "items": _struct(item), **keys}
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
        return _struct(field.type)
    return KINDS[field.type.__name__](field)


def _sentence(field: Field) -> str:
    """Meaning, unit and default, for `kubectl explain`."""
    unit = (field.meta.extra or {})["unit"]
    text = (field.meta.description or "") + (f"; in {unit}" if unit else "")
    default = field.default
    if not field.required and isinstance(default, bool | int | float | str) and default != "":
        shown = f"{default:g}" if isinstance(default, float) else str(default).lower()
        text += f"; default: {shown}"
    return f"{text[0].upper()}{text[1:]}."


def _struct(
    struct: type[msgspec.Struct], *, only: Collection[str] | None = None, optional: Collection[str] = ()
) -> Schema:
    """The schema of a struct. `only`: some of its fields; `optional`: which of them need not be there after all."""
    written = {field.name: field.encode_name for field in msgspec.structs.fields(struct)}
    fields = [field for field in fields_of(struct).values() if only is None or field.name in only]
    required = [written[field.name] for field in fields if field.required and field.name not in optional]
    properties = {written[field.name]: _field(field) for field in fields}
    return {"type": "object", **({"required": required} if required else {}), "properties": properties}


def _spec(
    struct: type[msgspec.Struct], leave: Collection[str], unused: Collection[str], more: Mapping[str, Schema]
) -> Schema:
    """The spec of an object: the document's keys, fe's own request keys, and those without a use here."""
    kept = fields_of(struct).keys() - set(leave)
    built = _struct(struct, only=kept, optional=("name",))
    own = _struct(schema.RequestSettings, only=schema.OWN_REQUEST_KEYS)["properties"]
    idle = {name: UNUSED for name in sorted(unused) if name not in built["properties"]}
    built["properties"] |= {**own, **more, **idle}
    built["properties"]["name"]["description"] = "Its name, if that is not the name of the object."
    return built


def _endpoint_spec() -> Schema:
    spec = _spec(schema.Endpoint, ["deployments"], AZUREML_ENDPOINT_KEYS, {})
    spec["properties"]["keys"]["description"] = (
        "With `auth_mode: key`: `file:PATH` (a file mounted into fe) or `env:NAME`, never the key itself."
    )
    return spec


def _deployment_spec() -> Schema:
    target = _struct(schema.KubernetesReplicas, only=TARGET_FIELDS, optional=("deployment",))
    target["description"] = (
        "The Deployment (apps/v1) whose pods serve; default: that of the object's own name, port 5001."
    )
    target["properties"]["deployment"]["description"] = "Its name; default: that of the object."
    more = {
        "endpoint_name": {"description": "The endpoint that it belongs to.", **_name(3)},
        "target": target,
        **{
            alias: {**_field(fields_of(schema.Deployment)[name]), "description": f"Another spelling of `{name}`."}
            for alias, name in DEPLOYMENT_ALIASES.items()
        },
    }
    unused = {*AZUREML_DEPLOYMENT_KEYS, "environment_variables"}
    spec = _spec(schema.Deployment, ["replicas"], unused, more)
    return {**spec, "required": ["endpoint_name"]}


def _column(name: str, path: str, kind: str = "string", priority: int = 0) -> Schema:
    return {"name": name, "type": kind, "jsonPath": path, **({"priority": priority} if priority else {})}


def _condition(kind: str, what: str = "status") -> str:
    return f'.status.conditions[?(@.type=="{kind}")].{what}'


AGE: Final = _column("Age", ".metadata.creationTimestamp", "date")


def _definition(
    kind: str, short: str, about: str, spec: Schema, status: type[msgspec.Struct], columns: list[Schema]
) -> Schema:
    plural = f"{kind.lower()}s"
    whole = {
        "description": about,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
            "spec": {"description": "What it should be.", **spec},
            "status": {"description": "What fe makes of it.", **_struct(status)},
        },
    }  # fmt: skip
    version = {
        "name": VERSION, "served": True, "storage": True,
        "subresources": {"status": {}},
        "additionalPrinterColumns": [*columns, AGE],
        "schema": {"openAPIV3Schema": whole},
    }  # fmt: skip
    names = {"plural": plural, "singular": kind.lower(), "kind": kind, "listKind": f"{kind}List", "shortNames": [short]}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]},
    }


def definitions() -> list[Schema]:
    """The CustomResourceDefinitions as the API server takes them, plain values."""
    endpoint = _definition(
        "OnlineEndpoint", "oep", "An endpoint that clients call: credentials, routes, and the split of its traffic.",
        _endpoint_spec(), EndpointStatus,
        [
            _column("Ready", _condition("Ready")),
            _column("Deployments", ".status.deployments", "integer"),
            _column("Replicas", ".status.readyReplicas", "integer"),
            _column("Path", ".status.scoringPath", priority=1),
            _column("Message", _condition("Ready", "message"), priority=1),
        ],
    )  # fmt: skip
    deployment = _definition(
        "OnlineDeployment", "odp", "Replicas of a model, the pods of a Deployment, and how requests get to them.",
        _deployment_spec(), DeploymentStatus,
        [
            _column("Endpoint", ".status.endpoint"),
            _column("Ready", _condition("Ready")),
            _column("Replicas", ".status.readyReplicas", "integer"),
            _column("Desired", ".status.desiredReplicas", "integer"),
            _column("Used %", ".status.utilizationPercentage", "integer"),
            _column("Queue", ".status.queueDepth", "integer"),
            _column("Message", _condition("Ready", "message"), priority=1),
            _column("Last decision", ".status.lastDecision.reason", priority=1),
        ],
    )  # fmt: skip
    return [endpoint, deployment]
