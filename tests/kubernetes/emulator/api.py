"""The API without HTTP: a call goes in, an answer or a watch comes out.

Owns paths, what a path and method mean, and content types. Authorizes through access.py, reads through lists.py and
watches.py, writes through verbs.py. Never holds a socket: http.py does.
"""

from __future__ import annotations

import json
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from tests.kubernetes.emulator import discovery, lists, ownership, patches, subresources, tables, watches
from tests.kubernetes.emulator.access import OPEN_PATHS, Access, User, Wish, forbidden_path
from tests.kubernetes.emulator.errors import (
    NoSuchPath,
    Refused,
    bad_request,
    method_not_allowed,
    unsupported_media,
)
from tests.kubernetes.emulator.resources import REVIEWS, Registry, Resource
from tests.kubernetes.emulator.selectors import name_in
from tests.kubernetes.emulator.store import Key, Store
from tests.kubernetes.emulator.verbs import Verbs

Json = dict[str, Any]
VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete", "GET": "get"}
OF_COLLECTIONS = ("list", "create", "deletecollection")
TRUE = ("true", "1")


@dataclass
class Call:
    """One request. `body` is as it came; `query` has the last value of each parameter."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    content_type: str = ""
    accept: str = ""
    authorization: str | None = None
    agent: str = "unknown"


@dataclass
class Answer:
    status: int
    body: Json | str


@dataclass(frozen=True)
class Target:
    """What a path names."""

    group: str
    version: str
    plural: str
    namespace: str = ""
    name: str = ""
    part: str = ""  # a subresource

    @property
    def key(self) -> Key:
        return (self.namespace if self.plural != "namespaces" else "", self.name)


def target_of(path: str) -> Target | None:
    """The target of a resource's path; None: it is not one."""
    parts = path.strip("/").split("/")
    if parts[0] == "api" and len(parts) > 2:
        group, version, rest = "", parts[1], parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 1:
        namespace = rest[1]
        if len(rest) > 2 and rest[2] not in ("status", "finalize"):
            rest = rest[2:]
    plural, name, part = [*rest, "", "", ""][:3]
    return Target(group, version, plural, namespace, name, part)


def verb_of(call: Call, target: Target) -> str:
    """The verb that access rules speak of."""
    if target.name or call.method not in ("GET", "DELETE"):
        return VERBS.get(call.method, call.method.lower())
    if call.method == "DELETE":
        return "deletecollection"
    return "watch" if call.query.get("watch") in TRUE else "list"


class Api:
    """One API server's logic. `second` is the length of a second of its timers."""

    def __init__(
        self, store: Store, registry: Registry, access: Access, verbs: Verbs, second: float, streams: bool
    ) -> None:
        self.store, self.registry, self.access, self.verbs = store, registry, access, verbs
        self.second, self.streams = second, streams
        self.owners = ownership.Owners()
        self.open: weakref.WeakSet[watches.Watch] = weakref.WeakSet()

    def call(self, call: Call) -> Answer | watches.Watch:
        """Answer one call. Raises Refused and NoSuchPath."""
        user = self.access.user(call.authorization)
        target = target_of(call.path)
        if target is None:
            return self._plain(user, call)
        verb = verb_of(call, target)
        name = target.name or (name_in(call.query.get("fieldSelector", "")) if verb in ("list", "watch") else "")
        wish = Wish(verb, target.group, target.plural, target.part, target.namespace, name)
        self.access.check(user, wish)
        resource = self.registry.find(target.group, target.version, target.plural)
        if resource is None or not _fits(resource, target):
            raise NoSuchPath(call.path)
        if target.part and target.part not in resource.subresources:
            raise NoSuchPath(call.path)
        if resource.id == REVIEWS:
            return self._review(user, call)
        return self._dispatch(resource, target, verb, call)

    def _plain(self, user: User, call: Call) -> Answer:
        if call.path not in OPEN_PATHS and not user.known:
            raise forbidden_path(user, call.method.lower(), call.path)
        return Answer(200, discovery.answer(self.registry, call.path))

    def _dispatch(self, resource: Resource, target: Target, verb: str, call: Call) -> Answer | watches.Watch:
        if target.part and target.part != "status":
            return subresources.answer(self, resource, target, call)
        if verb == "watch":
            watch = watches.Watch(self.store, resource, target.namespace, call.query, self.second, self.streams)
            self.open.add(watch)
            return watch
        handler: Callable[[Resource, Target, Call], Answer] | None = getattr(self, f"_on_{verb}", None)
        homeless = verb == "create" and resource.namespaced and not target.namespace
        if (
            handler is None
            or homeless
            or bool(target.name) is (verb in OF_COLLECTIONS)
            or (target.part and verb == "delete")
        ):
            raise method_not_allowed()
        return handler(resource, target, call)

    def _on_get(self, resource: Resource, target: Target, call: Call) -> Answer:
        body = self.verbs.get(resource, *target.key)
        if "as=Table" in call.accept:
            return Answer(200, tables.table(resource, [body], {"resourceVersion": body["metadata"]["resourceVersion"]}))
        return Answer(200, shown(resource, body))

    def _on_list(self, resource: Resource, target: Target, call: Call) -> Answer:
        items, meta = lists.select(self.store, resource, target.key[0], call.query)
        if "as=Table" in call.accept:
            return Answer(200, tables.table(resource, items, meta))
        head = {"kind": resource.list_kind or f"{resource.kind}List", "apiVersion": resource.api_version}
        return Answer(200, {**head, "metadata": meta, "items": [item(resource, body) for body in items]})

    def _on_create(self, resource: Resource, target: Target, call: Call) -> Answer:
        body = self.verbs.create(resource, target.key[0], parsed(resource, call), call.query)
        self.owners.wrote(None, body, manager(call), "")
        return Answer(201, shown(resource, body))

    def _on_update(self, resource: Resource, target: Target, call: Call) -> Answer:
        old = self.store.get(resource.id, target.key)
        body, created = self.verbs.replace(resource, target.key, target.part, parsed(resource, call), call.query)
        self.owners.wrote(old, body, manager(call), target.part)
        return Answer(201 if created else 200, shown(resource, body))

    def _on_patch(self, resource: Resource, target: Target, call: Call) -> Answer:
        if media(call) == patches.APPLY:
            body, created = ownership.apply(self, resource, target, parsed(resource, call), call)
            return Answer(201 if created else 200, shown(resource, body))
        old = self.store.get(resource.id, target.key)
        body = self.verbs.patch(resource, target.key, target.part, change_of(resource, call), call.query)
        self.owners.wrote(old, body, manager(call), target.part)
        return Answer(200, shown(resource, body))

    def _on_delete(self, resource: Resource, target: Target, call: Call) -> Answer:
        body, gone = self.verbs.delete(resource, target.key, delete_options(call))
        if not gone or resource.shows_deleted:
            return Answer(200, shown(resource, body))
        details = {
            "name": target.name,
            "group": resource.group,
            "kind": resource.plural,
            "uid": body["metadata"]["uid"],
        }
        told = {key: value for key, value in details.items() if value}
        return Answer(200, success(told))

    def _on_deletecollection(self, resource: Resource, target: Target, call: Call) -> Answer:
        bodies = self.verbs.delete_collection(resource, target.key[0], call.query, delete_options(call))
        head = {"kind": f"{resource.kind}List", "apiVersion": resource.api_version}
        meta = {"resourceVersion": str(self.store.version)}
        return Answer(200, {**head, "metadata": meta, "items": [item(resource, body) for body in bodies]})

    def _review(self, user: User, call: Call) -> Answer:
        if call.method != "POST":
            raise method_not_allowed()
        review = self.registry.find("authorization.k8s.io", "v1", "selfsubjectaccessreviews")
        assert review is not None
        body = parsed(review, call)
        asked = body.get("spec", {}).get("resourceAttributes") or {}
        names = ("verb", "group", "resource", "subresource", "namespace", "name")
        allowed = user.may(Wish(**{name: asked.get(name, "") for name in names}))
        head = {"kind": review.kind, "apiVersion": review.api_version, "metadata": {}}
        return Answer(201, {**head, "spec": body.get("spec", {}), "status": {"allowed": allowed}})


def _fits(resource: Resource, target: Target) -> bool:
    """Whether the kind has such a path: objects in a namespace, or none; all namespaces together are only listed."""
    if resource.id == "namespaces":
        return target.namespace == target.name
    if target.namespace:
        return resource.namespaced
    return not (resource.namespaced and target.name)


def success(details: Json) -> Json:
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}


def shown(resource: Resource, body: Json) -> Json:
    """An object by itself: in the version that was asked for."""
    return {**body, "apiVersion": resource.api_version}


def item(resource: Resource, body: Json) -> Json:
    """An object in a list: built-in kinds leave their header out there."""
    if resource.custom:
        return shown(resource, body)
    return {key: value for key, value in body.items() if key not in ("kind", "apiVersion")}


def media(call: Call) -> str:
    return call.content_type.partition(";")[0].strip()


def manager(call: Call) -> str:
    """Who is noted as the owner of written fields."""
    return call.query.get("fieldManager") or call.agent.partition("/")[0] or "unknown"


def delete_options(call: Call) -> Json:
    try:
        options = json.loads(call.body) if call.body.strip() else {}
    except ValueError as error:
        raise bad_request(f"couldn't get version/kind; json parse error: {error}") from None
    if "gracePeriodSeconds" in call.query:
        options["gracePeriodSeconds"] = int(call.query["gracePeriodSeconds"])
    if "propagationPolicy" in call.query:
        options["propagationPolicy"] = call.query["propagationPolicy"]
    return dict(options)


def parsed(resource: Resource, call: Call) -> Json:
    """The body as an object. Refused: 400, it is not one."""
    text = call.body.decode(errors="replace")
    try:
        body = yaml.safe_load(text) if media(call).endswith("yaml") else json.loads(text)
    except (ValueError, yaml.YAMLError) as error:
        ended = isinstance(error, json.JSONDecodeError) and error.pos >= len(text.rstrip())
        why = "unexpected end of JSON input" if ended else f"invalid character: {error}"
        raise unreadable(resource, text, why) from None
    if not isinstance(body, dict):
        raise unreadable(resource, text, "json: cannot unmarshal into an object")
    return body


def unreadable(resource: Resource, text: str, why: str) -> Refused:
    """400 in the words of Go's decoder, as far as they can be known."""
    start = f"the object provided is unrecognized (must be of type {resource.kind}): couldn't get version/kind"
    return bad_request(f"{start}; json parse error: {why} ({text})")


def change_of(resource: Resource, call: Call) -> Callable[[Json], Json]:
    """What a patch of this content type does. Refused: 415 unknown to this kind, 400 not a patch."""
    kind = media(call)
    if kind not in (patches.JSON_PATCH, patches.MERGE, patches.STRATEGIC) or (
        kind == patches.STRATEGIC and resource.custom
    ):
        raise unsupported_media(resource.custom)
    try:
        patch = json.loads(call.body)
    except ValueError as error:
        raise bad_request(f"error decoding patch: {error}") from None
    if kind == patches.JSON_PATCH:
        return lambda old: patches.json_patch(old, patch)
    if not isinstance(patch, dict):
        raise bad_request(
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        )
    if kind == patches.MERGE:
        return lambda old: dict(patches.merge(old, patch))
    return lambda old: dict(patches.strategic(old, patch))
