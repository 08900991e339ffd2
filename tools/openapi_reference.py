"""Writes fe/control/openapi.json, which describes the admin API for programs, from its types and the list below.

Owns: which operations there are, in words, with their parameters and answers. Never: the shapes and what their fields
mean (fe/control/admin_types.py), the routes (fe/control/admin_api.py; a test keeps both lists equal).
Use: `make docs` after a change of either. A test compares, and others hold real answers against the document.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from fe import __version__
from fe.control import admin_types as types

DOCUMENT = Path(__file__).resolve().parent.parent / "fe" / "control" / "openapi.json"
REF = "#/components/schemas/{name}"

ABOUT = """\
What fe's admin server shows and takes. It has no credentials: whoever reaches it may use it. Times are seconds since
the epoch. Below /api every error is JSON with a stable code. Requests by a name other than localhost or that of the
machine get 421; /healthz, /readyz and /metrics answer under any name."""


class Operation(NamedTuple):
    """One method on one path. `answers`: status -> what it says and its type (None: plain text)."""

    path: str
    id: str
    summary: str
    answers: dict[int, tuple[str, Any]]
    query: tuple[dict[str, Any], ...] = ()
    body: type[msgspec.Struct] | None = None


def parameter(name: str, text: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


UNSEEN = "refused before it was looked at: 421 asked by a name that is not fe's, 503 too many at once"
DEPLOYMENT = "/api/deployments/{endpoint}/{deployment}"
CONFIG = dict[str, Any]
BAD_QUERY = {400: ("a parameter that is not known or out of bounds", types.ErrorAnswer)}
NOT_DONE = {
    400: ("not JSON, or not of this shape", types.ErrorAnswer),
    403: ("changes by hand are off (`actions_disabled`), or another site asks (`cross_site`)", types.ErrorAnswer),
    404: ("no such deployment or replica", types.ErrorAnswer),
    408: ("the body did not come", types.ErrorAnswer),
    409: ("it cannot be done now; the message says why", types.ErrorAnswer),
    413: ("the body is too large", types.ErrorAnswer),
    415: ("Content-Type is not application/json", types.ErrorAnswer),
}

LOOKING = (
    Operation("/healthz", "healthz", "Whether the controller lives", {200: ("its loop turns", None)}),
    Operation(
        "/readyz",
        "readyz",
        "Whether fe serves: the configuration is applied and every worker is there",
        {200: ("it does", None), 503: ("it does not: the reasons, a line each", None)},
    ),
    Operation("/metrics", "metrics", "Metrics in Prometheus' text format", {200: ("docs/metrics.md lists them", None)}),
    Operation(
        "/api/status",
        "status",
        "What fe is doing: workers, endpoints, deployments, replicas",
        {200: ("the status", types.Status), **BAD_QUERY},
        (parameter("history", "1: with the last minutes of each deployment", enum=["0", "1"], default="0"),),
    ),
    Operation(
        "/api/events",
        "events",
        "What fe has decided of late, and why",
        {200: ("the newest that fit, oldest first", types.Events), **BAD_QUERY},
        (
            parameter("after", "only events with a larger id", type="integer", minimum=0, default=0),
            parameter(
                "limit", "at most so many", type="integer", minimum=1, maximum=types.MOST_EVENTS, default=types.EVENTS
            ),
            parameter("deployment", "only those of endpoint/deployment", type="string", maxLength=100),
        ),
    ),
    Operation(
        "/api/config",
        "config",
        "The applied configuration, without secrets",
        {200: ("keys show where they come from, values of environment variables are null", CONFIG), **BAD_QUERY},
    ),
    Operation("/api/openapi.json", "openapi", "This document", {200: ("itself", CONFIG), **BAD_QUERY}),
)
CHANGING = (
    Operation(
        f"{DEPLOYMENT}/scale",
        "scale",
        "Sets the number of replicas, until the load asks for another",
        {200: ("done", types.ScaleAnswer), **NOT_DONE},
        body=types.ScaleRequest,
    ),
    Operation(
        f"{DEPLOYMENT}/drain",
        "drain",
        "Takes a replica out: it finishes what it has and gets nothing new",
        {200: ("done", types.ReplicaAnswer), **NOT_DONE},
        body=types.ReplicaRequest,
    ),
    Operation(
        f"{DEPLOYMENT}/undrain",
        "undrain",
        "Puts a replica back that was taken out",
        {200: ("done", types.ReplicaAnswer), **NOT_DONE},
        body=types.ReplicaRequest,
    ),
)


def build() -> dict[str, Any]:
    """The document, OpenAPI 3.1."""
    answered = [kind for one in (*LOOKING, *CHANGING) for _, kind in one.answers.values()]
    shapes = [*(one.body for one in CHANGING), *answered]
    structs = list(dict.fromkeys(kind for kind in shapes if kind not in (None, CONFIG)))
    _, components = msgspec.json.schema_components(structs, ref_template=REF)
    paths = {one.path: {"get": operation(one)} for one in LOOKING}
    paths |= {one.path: {"parameters": path_parameters(), "post": operation(one)} for one in CHANGING}
    info = {"title": "fe admin API", "version": __version__, "description": ABOUT, "license": {"name": "MIT"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": {"schemas": components}}


def operation(one: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {"operationId": one.id, "summary": one.summary}
    if one.query:
        described["parameters"] = list(one.query)
    if one.body is not None:
        content = {"application/json": {"schema": {"$ref": REF.format(name=one.body.__name__)}}}
        described["requestBody"] = {"required": True, "content": content}
    described["responses"] = {
        str(status): {"description": text, "content": content_of(kind)} for status, (text, kind) in one.answers.items()
    }
    if one.path.startswith("/api/"):
        described["responses"]["default"] = {"description": UNSEEN, "content": content_of(types.ErrorAnswer)}
    return described


def content_of(kind: Any) -> dict[str, Any]:
    if kind is None:
        return {"text/plain": {"schema": {"type": "string"}}}
    schema = {"type": "object"} if kind is CONFIG else {"$ref": REF.format(name=kind.__name__)}
    return {"application/json": {"schema": schema}}


def path_parameters() -> list[dict[str, Any]]:
    schema = {"type": "string"}
    return [{"name": name, "in": "path", "required": True, "schema": schema} for name in ("endpoint", "deployment")]


def generate(_text: str) -> str:
    """The document's text; nothing of the former one is kept."""
    return json.dumps(build(), indent=2) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(generate(""))
