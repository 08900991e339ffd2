"""What stands in the cluster, read into the model: OnlineEndpoint, OnlineDeployment, and annotated plain Deployments.

Owns: the names of the objects, labels and annotations, and what of a document is different in an object (`target` in
place of `replicas`, keys by reference only, a name that may be that of the object). Never: the network; the meaning of
keys, which is that of the files (`fe.config.documents`); how objects go together (`merging`), what is written back to
them (`object_status`). A problem never raises: it is part of what was read. docs/kubernetes-objects.md is the user's
view.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from fe.config import rules, schema, source
from fe.config.documents import Document, read_deployment, read_endpoint
from fe.config.problems import Findings, Place, did_you_mean
from fe.config.reader import INVALID, KINDS, Reader, fields_of, read_fields, read_value

GROUP: Final = "inference.fe-router.io"
VERSION: Final = "v1alpha1"
ENDPOINT_LABEL: Final = f"{GROUP}/endpoint"  # on a plain Deployment: the endpoint that it serves
TARGET_FIELDS: Final = frozenset(("deployment", "port"))  # its namespace is the object's own, whatever it says

# What each annotation of a plain Deployment stands for in the document of a deployment.
ANNOTATIONS: Final[dict[str, tuple[str, ...]]] = {
    "deployment": ("name",),
    "port": ("target", "port"),
    "max-concurrent-requests-per-instance": ("request_settings", "max_concurrent_requests_per_instance"),
    "max-queue-wait-ms": ("request_settings", "max_queue_wait_ms"),
    "request-timeout-ms": ("request_settings", "request_timeout_ms"),
    "min-instances": ("scale_settings", "min_instances"),
    "max-instances": ("scale_settings", "max_instances"),
    "traffic": ("traffic",),
    "auth-mode": ("auth_mode",),
}


class Ref(NamedTuple):
    """Which object. `kind`: OnlineEndpoint, OnlineDeployment, or Deployment for a plain one."""

    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


class Problem(NamedTuple):
    """What is wrong with an object. `reason` is one word, as a condition has it; `path` may be empty."""

    ref: Ref
    path: str
    reason: str
    message: str

    @property
    def text(self) -> str:
        """Without the object's name."""
        return f"{self.path}: {self.message}" if self.path else self.message

    def __str__(self) -> str:
        return f"{self.ref}: {self.text}"


@dataclass(frozen=True)
class EndpointObject:
    """An OnlineEndpoint as read. `endpoint` has no deployments, and is None where there are problems."""

    ref: Ref
    created: str  # creationTimestamp, in UTC, so that texts are ordered as times are
    name: str
    endpoint: schema.Endpoint | None = None
    own: Mapping[str, Any] = field(default_factory=dict)  # fe's own request keys that stand there
    traffic_given: bool = False
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class DeploymentObject:
    """An OnlineDeployment or an annotated plain Deployment as read; `deployment` is None where there are problems."""

    ref: Ref
    created: str
    endpoint_name: str = ""
    deployment: schema.Deployment | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)  # of its request_settings, without defaults
    auth_mode: str | None = None  # of a plain one: what it wants of an endpoint that exists through it alone
    traffic: int | None = None  # percent, as above
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def plain(self) -> bool:
        return self.ref.kind == "Deployment"


def read_online_endpoint(
    value: Mapping[str, Any], folder: str = "", environ: Mapping[str, str] | None = None
) -> EndpointObject:
    """An OnlineEndpoint from its plain value. The files of its keys are read now, relative ones from `folder`."""
    draft = _Draft("OnlineEndpoint", value, folder, environ)
    spec = draft.spec(value.get("spec"))
    if "deployments" in spec.entries:
        mend = "write an OnlineDeployment for each, with endpoint_name"
        draft.findings.problem(draft.place.key("deployments"), "does not stand in an OnlineEndpoint", mend)
    entry = read_endpoint(Document(draft.place, spec, draft.reader), {})
    assert entry is not None  # it is a mapping
    rules.check_auth(entry, draft.findings)
    for index, route in enumerate(entry.endpoint.routes):
        rules.check_route(route, draft.place.key("routes").item(index), draft.findings)
    problems = draft.problems()
    return EndpointObject(
        draft.ref, draft.created, entry.endpoint.name or draft.ref.name, None if problems else entry.endpoint,
        entry.own, entry.traffic_given, problems, draft.notes(),
    )  # fmt: skip


def read_online_deployment(value: Mapping[str, Any]) -> DeploymentObject:
    """An OnlineDeployment from its plain value."""
    draft = _Draft("OnlineDeployment", value)
    return draft.deployment(draft.spec(value.get("spec")))


def read_plain_deployment(value: Mapping[str, Any]) -> DeploymentObject | None:
    """A Deployment (apps/v1) that is labelled as a model; None for any other."""
    metadata = value.get("metadata") or {}
    endpoint = (metadata.get("labels") or {}).get(ENDPOINT_LABEL)
    if endpoint is None:
        return None
    draft = _Draft("Deployment", value)
    prefix = f"{GROUP}/"
    spec: dict[str, Any] = {"endpoint_name": _text(endpoint)}
    draft.rename(("endpoint_name",), f"metadata.labels[{ENDPOINT_LABEL}]")
    for whole, text in (metadata.get("annotations") or {}).items():
        name = whole.removeprefix(prefix)
        path = ANNOTATIONS.get(name)
        if path is not None and name != whole:
            *blocks, last = path
            into = spec
            for block in blocks:
                into = into.setdefault(block, {})
                draft.rename(path[:1], "metadata.annotations")
            into[last] = _text(text)
            draft.rename(path, f"metadata.annotations[{whole}]")
        elif name != whole:
            at = Place(str(draft.ref), (".metadata", ".annotations", f"[{whole}]"))
            draft.findings.problem(at, "is not an annotation that is known here", did_you_mean(name, ANNOTATIONS))
    return draft.deployment(draft.named(_mapping(spec)))


def kept(read: EndpointObject, former: EndpointObject | None) -> EndpointObject:
    """An object that was changed into something wrong: what it was before holds on, beside the new problems."""
    if read.endpoint is not None or former is None or former.endpoint is None:
        return read
    return EndpointObject(
        read.ref,
        read.created,
        former.name,
        former.endpoint,
        former.own,
        former.traffic_given,
        read.problems,
        read.notes,
    )


class _Draft:
    """One object while it is read: its findings, and under which names places of the document are known to its user."""

    def __init__(
        self, kind: str, value: Mapping[str, Any], folder: str = "", environ: Mapping[str, str] | None = None
    ) -> None:
        metadata = value.get("metadata") or {}
        self.ref = Ref(kind, str(metadata.get("namespace", "")), str(metadata.get("name", "")))
        self.created = str(metadata.get("creationTimestamp") or "")
        self.findings = Findings()
        self.reader = Reader(self.findings, folder, os.environ if environ is None else environ, references_only=True)
        self.place = Place(str(self.ref), (".spec",))
        self._names: dict[tuple[str, ...], str] = {}

    def rename(self, path: Iterable[str], name: str) -> None:
        """What is wrong at this path of the document is told of `name` instead."""
        self._names[(*self.place.path, *(f".{step}" for step in path))] = name

    def spec(self, value: object) -> source.Mapping:
        """The object's spec as a document."""
        try:
            node = source.node_of({} if value is None else value)
        except ValueError as error:
            self.findings.problem(self.place, f"is {error}")
            node = _mapping({})
        if not isinstance(node, source.Mapping):
            self.findings.problem(self.place, "has to be a mapping of keys to values")
            node = _mapping({})
        return self.named(node)

    def named(self, node: source.Mapping) -> source.Mapping:
        """The document with the object's name where it has none of its own."""
        name = node.entries.get("name")
        if name is None or (isinstance(name, source.Scalar) and name.is_null):
            node.entries["name"] = source.Scalar(0, self.ref.name, plain=False)
            node.key_lines["name"] = 0
            self.rename(("name",), "metadata.name")
        return node

    def deployment(self, spec: source.Mapping) -> DeploymentObject:
        """What the document of a deployment says."""
        auth_mode, traffic = self._wishes(spec)
        endpoint_name = self._endpoint_name(spec)
        replicas = self._target(spec.entries.pop("target", None))
        if spec.entries.pop("replicas", None) is not None:
            at = self.place.key("replicas")
            self.findings.problem(at, "does not stand in an object", "write target: {deployment: ..., port: ...}")
        entry = read_deployment(Document(self.place, spec, self.reader), {}, replicas)
        assert entry is not None  # it is a mapping
        rules.check_scale(entry, self.findings)
        problems = self.problems()
        return DeploymentObject(
            self.ref, self.created, endpoint_name, None if problems else entry.deployment, entry.settings,
            auth_mode, traffic, problems, self.notes(),
        )  # fmt: skip

    def _endpoint_name(self, spec: source.Mapping) -> str:
        at = self.place.key("endpoint_name")
        node = spec.entries.get("endpoint_name")
        if node is None or (isinstance(node, source.Scalar) and node.is_null):
            self.findings.problem(at, "is missing: a deployment names its endpoint")
            return ""
        read = KINDS["endpoint_name"](self.reader, node, at, fields_of(schema.Endpoint)["name"])
        return "" if read is INVALID else str(read)

    def _target(self, node: source.Node | None) -> schema.KubernetesReplicas:
        """The Deployment whose pods serve: by default that of the object's own name, in its own namespace always."""
        values: Any = {}
        if node is not None and not (isinstance(node, source.Scalar) and node.is_null):
            if isinstance(node, source.Mapping):
                node.entries.setdefault("deployment", source.Scalar(0, self.ref.name, plain=False))
                node.key_lines.setdefault("deployment", 0)
            at = self.place.key("target")
            values = read_fields(self.reader, node, at, schema.KubernetesReplicas, only=TARGET_FIELDS)
        stated = values if isinstance(values, dict) else {}
        return schema.KubernetesReplicas(**{"deployment": self.ref.name, **stated, "namespace": self.ref.namespace})

    def _wishes(self, spec: source.Mapping) -> tuple[str | None, int | None]:
        """Of a plain Deployment: authorization and share of traffic of an endpoint that there is no object for."""
        if self.ref.kind != "Deployment":
            return None, None
        read: list[Any] = []
        for name in ("auth_mode", "traffic"):
            node = spec.entries.pop(name, None)
            given = None if node is None else self._wish(name, node)
            read.append(None if given is INVALID else given)
        return read[0], read[1]

    def _wish(self, name: str, node: source.Node) -> Any:
        known, at = fields_of(schema.Endpoint)[name], self.place.key(name)
        if name == "traffic":  # one share of the mapping that an endpoint has
            return KINDS["int"](self.reader, node, at, known)
        return read_value(self.reader, node, at, known)

    def problems(self) -> tuple[Problem, ...]:
        found = [Problem(self.ref, self._path(one.place), "Invalid", one.reason) for one in self.findings.problems]
        return tuple(dict.fromkeys(found))

    def notes(self) -> tuple[str, ...]:
        return tuple(self.findings.notes)

    def _path(self, place: Place) -> str:
        path = self._names.get(place.path) or "".join(place.path).removeprefix(".")
        return path if path.isprintable() else path.encode("unicode_escape").decode()  # users name parts of it


def _text(value: object) -> source.Scalar:
    """The value of a label or an annotation: always text, and as good as what stands in a file without quotes."""
    return source.Scalar(0, str(value), plain=True)


def _mapping(value: Mapping[str, Any]) -> source.Mapping:
    nodes = {name: _mapping(one) if isinstance(one, dict) else one for name, one in value.items()}
    return source.Mapping(0, nodes, dict.fromkeys(nodes, 0))
