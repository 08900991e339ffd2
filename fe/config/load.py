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

from fe.config import rules, schema, source
from fe.config.documents import Document, read_deployment, read_endpoint, read_own
from fe.config.problems import Findings, Place, did_you_mean, shown
from fe.config.reader import Reader, build, fields_of, list_items, read_fields, wrong_type
from fe.errors import ConfigError

_SUFFIXES: Final = (".yaml", ".yml")
_ROUTER_OTHERS: Final = frozenset((*schema.OWN_REQUEST_KEYS, "endpoints"))


class Loaded(NamedTuple):
    """A configuration that can be used, and what is worth a line in the log about it."""

    config: schema.RouterConfig
    notes: list[str]


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
    return _assemble([Document(Place("configuration"), node, reader)], findings, Place("configuration"))


def _read_documents(path: str, findings: Findings, environ: Mapping[str, str]) -> list[Document]:
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
                documents.append(Document(place, node, reader))
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


def _assemble(documents: list[Document], findings: Findings, whole: Place) -> Loaded:
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
    values["endpoints"] = tuple(_finish(entry) for entry in endpoints)
    config = build(schema.RouterConfig, {**values, "request_defaults": build(schema.RequestSettings, own)})
    rules.check(config, endpoints, place, findings)
    findings.raise_problems()
    return Loaded(config, findings.notes)


def _finish(entry: rules.EndpointEntry) -> schema.Endpoint:
    deployments = tuple(deployment.deployment for deployment in entry.deployments)
    defaults = build(schema.RequestSettings, entry.own)
    endpoint = msgspec.structs.replace(entry.endpoint, deployments=deployments, request_defaults=defaults)
    if not entry.traffic_given and len(deployments) == 1:
        endpoint = msgspec.structs.replace(endpoint, traffic={deployments[0].name: 100})
    entry.endpoint = endpoint
    return endpoint


def _read_router(document: Document, endpoints: list[rules.EndpointEntry]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The router's own settings, and fe's request keys at the top level; its endpoints are added to `endpoints`."""
    place, node, reader = document
    if isinstance(node, source.Mapping):  # `x-...`: a place for anchors, as in compose files
        node.entries = {name: value for name, value in node.entries.items() if not name.startswith("x-")}
    only = fields_of(schema.RouterConfig).keys() - {"endpoints"}
    values = read_fields(reader, node, place, schema.RouterConfig, only=only, others=_ROUTER_OTHERS)
    if not isinstance(values, dict) or not isinstance(node, source.Mapping):
        return {}, {}
    own = read_own(document, {})
    listed = node.entries.get("endpoints")
    if isinstance(listed, source.Sequence):
        for at, item in list_items(reader, listed, place.key("endpoints")):
            _add_endpoint(Document(at, item, reader), own, endpoints)
    elif listed is not None and not (isinstance(listed, source.Scalar) and listed.is_null):
        wrong_type(
            reader, listed, place.key("endpoints"), "a list", "write endpoints: and then '- name: ...'", show=False
        )
    return values, own


def _add_endpoint(document: Document, own: Mapping[str, Any], endpoints: list[rules.EndpointEntry]) -> None:
    place, node, reader = document
    entry = read_endpoint(document, own)
    if entry is None or not isinstance(node, source.Mapping):
        return
    endpoints.append(entry)
    listed = node.entries.get("deployments")
    if isinstance(listed, source.Sequence):
        for at, item in list_items(reader, listed, place.key("deployments")):
            read = Document(at, item, reader)
            _check_owner(read, entry.endpoint.name)
            entry.add(read_deployment(read, entry.own))
    elif listed is not None and not (isinstance(listed, source.Scalar) and listed.is_null):
        wrong_type(
            reader, listed, place.key("deployments"), "a list", "write deployments: and then '- name: ...'", show=False
        )


def _check_owner(document: Document, endpoint: str) -> None:
    """A deployment within an endpoint need not name it, but must not name another."""
    named = document.node.entries.get("endpoint_name") if isinstance(document.node, source.Mapping) else None
    if isinstance(named, source.Scalar) and not named.is_null and named.text != endpoint:
        at = document.place.key("endpoint_name")
        document.reader.findings.problem(at, f"is {shown(named.text)}, but it stands in the endpoint {shown(endpoint)}")


def _add_deployment(document: Document, endpoints: list[rules.EndpointEntry], own: Mapping[str, Any]) -> None:
    """A deployment's document of its own: it says itself which endpoint it belongs to."""
    place, node, reader = document
    assert isinstance(node, source.Mapping)
    named = node.entries.get("endpoint_name")
    at = place.key("endpoint_name")
    if not isinstance(named, source.Scalar) or named.is_null:
        reader.findings.problem(at, "is missing: a deployment's document names its endpoint")
        read_deployment(document, own)
        return
    entry = next((entry for entry in endpoints if entry.endpoint.name == named.text), None)
    read = read_deployment(document, entry.own if entry else own)
    if entry is not None:
        entry.add(read)
    else:
        mend = did_you_mean(named.text, [entry.endpoint.name for entry in endpoints])
        reader.findings.problem(at, f"there is no endpoint {named.text!r}", mend)
