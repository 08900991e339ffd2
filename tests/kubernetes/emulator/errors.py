"""What an API server refuses with: a `Status` object with code, reason, message and details.

Owns the wording and the shape of refusals. Never decides that something is refused: the other modules do.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from tests.kubernetes.emulator.resources import Resource

Json = dict[str, Any]
MODIFIED = "the object has been modified; please apply your changes to the latest version and try again"
OLD_LIST = "The resourceVersion for the provided list is too old."
OLD_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. You can start a new list without "
    "the continue parameter, or use the continue token in this response to retrieve the remainder of the results. "
    "Continuing with the provided token results in an inconsistent list - objects that were created, modified, or "
    "deleted between the time the first chunk was returned and now may show up in the list."
)


class Refused(Exception):  # noqa: N818 - what the server does, not an error of the emulator
    """An answer that is not a success. `details` of None is left out of the body, as the real server does."""

    def __init__(self, status: int, reason: str, message: str, details: Json | None = None, **meta: Any) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status, self.reason, self.message, self.details, self.meta = status, reason, message, details, meta
        self.retry_after: int | None = None

    def body(self) -> Json:
        body: Json = {"kind": "Status", "apiVersion": "v1", "metadata": self.meta, "status": "Failure"}
        body |= {"message": self.message, "reason": self.reason}
        if self.details is not None:
            body["details"] = self.details
        return body | {"code": self.status}


class NoSuchPath(Exception):  # noqa: N818
    """The path belongs to no known resource: 404 in plain text, not a Status."""


class Cause(NamedTuple):
    """One reason why an object is invalid; a refusal lists them all."""

    field: str
    reason: str
    message: str


def go(value: Any) -> str:
    """A value as it is shown in messages: strings in quotes, objects as compact JSON."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def bad(field: str, value: Any, text: str) -> Cause:
    return Cause(field, "FieldValueInvalid", f"Invalid value: {go(value)}: {text}")


def required(field: str, text: str = "") -> Cause:
    return Cause(field, "FieldValueRequired", "Required value" + (f": {text}" if text else ""))


def forbidden_field(field: str, text: str) -> Cause:
    return Cause(field, "FieldValueForbidden", f"Forbidden: {text}")


def unsupported(field: str, value: Any, known: list[Any]) -> Cause:
    choice = ", ".join(map(go, known))
    return Cause(field, "FieldValueNotSupported", f"Unsupported value: {go(value)}: supported values: {choice}")


def _subject(name: str, group: str, kind: str) -> Json:
    return {key: value for key, value in (("name", name), ("group", group), ("kind", kind)) if value}


def _of(resource: Resource, name: str) -> Json:
    return _subject(name, resource.group, resource.plural)


def invalid(group: str, kind: str, name: str, causes: list[Cause]) -> Refused:
    """422 with every cause; what is wrong with one field stands alone, several in brackets."""
    texts = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    title = f"{kind}.{group}" if group else kind
    told = [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
    details = _subject(name, group, kind) | {"causes": told}
    return Refused(422, "Invalid", f'{title} "{name}" is invalid: {listed}', details)


def not_found(resource: Resource, name: str) -> Refused:
    return Refused(404, "NotFound", f'{resource.id} "{name}" not found', _of(resource, name))


def exists(resource: Resource, name: str) -> Refused:
    return Refused(409, "AlreadyExists", f'{resource.id} "{name}" already exists', _of(resource, name))


def conflict(resource: Resource, name: str, why: str = MODIFIED) -> Refused:
    message = f'Operation cannot be fulfilled on {resource.id} "{name}": {why}'
    return Refused(409, "Conflict", message, _of(resource, name))


def bad_request(message: str) -> Refused:
    return Refused(400, "BadRequest", message)


def unauthorized() -> Refused:
    return Refused(401, "Unauthorized", "Unauthorized")


def expired(message: str, **meta: Any) -> Refused:
    return Refused(410, "Expired", message, None, **meta)


def too_old(asked: int, oldest: int) -> Refused:
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large(asked: int, current: int) -> Refused:
    """504: the server has not seen that version yet; the real one waits three seconds before it says so."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    details = {"causes": [cause], "retryAfterSeconds": 1}
    return Refused(504, "Timeout", f"Timeout: Too large resource version: {asked}, current: {current}", details)


def unsupported_media(custom: bool) -> Refused:
    """415; built-in kinds are refused by another layer of the server, in other words."""
    if not custom:
        return Refused(415, "UnsupportedMediaType", "415: Unsupported Media Type", {})
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml"
    )
    return Refused(415, "UnsupportedMediaType", message)


def method_not_allowed() -> Refused:
    return Refused(405, "MethodNotAllowed", "the server does not allow this method on the requested resource", {})
