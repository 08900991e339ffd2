"""Server-side apply: who owns which field, what an apply takes over, gives up or must not touch.

Owns the managers' sets of fields; they are kept here and not shown as managedFields. How a configuration is laid over
an object is in patches.py. Simpler than the real thing in one way: lists without a merge key are one field.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from tests.kubernetes.emulator import patches, schemas
from tests.kubernetes.emulator.errors import Refused, bad_request, invalid, not_found, required
from tests.kubernetes.emulator.resources import Resource

if TYPE_CHECKING:
    from tests.kubernetes.emulator.api import Api, Call, Target

Json = dict[str, Any]
Path = tuple[str, ...]
Manager = tuple[str, str, str]  # name, "Apply" or "Update", subresource
HEAD = {"apiVersion", "kind"}
SHARED_META = ("labels", "annotations", "ownerReferences", "finalizers")


class Owners:
    """Fields by object (uid) and manager."""

    def __init__(self) -> None:
        self._sets: defaultdict[str, dict[Manager, set[Path]]] = defaultdict(dict)

    def of(self, body: Json) -> dict[Manager, set[Path]]:
        return self._sets[body["metadata"]["uid"]]

    def wrote(self, old: Json | None, new: Json, name: str, part: str) -> None:
        """A plain write: whoever changes a field owns it alone from now on."""
        before = dict(leaves(old, patches.built_in_keys)) if old else {}
        changed = {path for path, value in leaves(new, patches.built_in_keys) if before.get(path, self) != value}
        if not changed:
            return
        sets = self.of(new)
        for owned in sets.values():
            owned -= changed
        sets.setdefault((name, "Update", part), set()).update(changed)


def leaves(body: Json, keys: patches.Keys) -> Iterator[tuple[Path, Any]]:
    """Every field that has an owner, with its value."""
    meta = {name: body["metadata"][name] for name in SHARED_META if name in body.get("metadata", {})}
    shared = {name: value for name, value in body.items() if name not in HEAD and name != "metadata"}
    yield from _walk({**shared, "metadata": meta}, keys, ())


def _walk(value: Any, keys: patches.Keys, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        if not value and path:
            yield path, value
        for name, inner in value.items():
            yield from _walk(inner, keys, (*path, name))
    elif isinstance(value, list) and (key := keys(path, value)):
        for item in value:
            yield from _walk(item, keys, (*path, f"k:{item.get(key)}"))
    else:
        yield path, value


def apply(api: Api, resource: Resource, target: Target, config: Json, call: Call) -> tuple[Json, bool]:
    """Apply a configuration; returns the object and whether it is new. Refused: 409 where others own a field."""
    name = call.query.get("fieldManager", "")
    if not name:
        cause = required("fieldManager", "is required for apply patch")
        raise invalid("meta.k8s.io", "PatchOptions", "", [cause])
    if not config.get("apiVersion") or not config.get("kind"):
        raise bad_request("the body of an apply patch must have apiVersion and kind")
    config = {**config, "metadata": {**(config.get("metadata") or {})}}
    if config["metadata"].setdefault("name", target.name) != target.name:
        raise bad_request(f"the name of the object ({config['metadata']['name']}) does not match the name on the URL")
    manager: Manager = (name, "Apply", target.part)
    old = api.store.get(resource.id, target.key)
    if old is None:
        return _create(api, resource, target, config, call, manager), True
    return _merge(api, resource, target, config, call, manager, old), False


def _create(api: Api, resource: Resource, target: Target, config: Json, call: Call, manager: Manager) -> Json:
    if target.part:
        raise not_found(resource, target.name)
    body = api.verbs.create(resource, target.key[0], config, call.query)
    api.owners.of(body)[manager] = {path for path, _ in leaves(config, keys_of(resource))}
    return body


def _merge(api: Api, resource: Resource, target: Target, config: Json, call: Call, manager: Manager, old: Json) -> Json:
    keys = keys_of(resource)
    wanted = dict(leaves(config, keys))
    sets = api.owners.of(old)
    current = dict(leaves(old, keys))
    contested = {
        path: other[0]
        for other, owned in sets.items()
        for path in owned & set(wanted)
        if other != manager and path in current and current[path] != wanted[path]
    }
    if contested and call.query.get("force") not in ("true", "1"):
        raise _contested(contested)
    others = {path for other, owned in sets.items() if other != manager for path in owned}
    dropped = sets.get(manager, set()) - set(wanted) - others

    def change(body: Json) -> Json:
        merged: Json = patches.applied(_without(body, dropped, keys), config, keys)
        return merged

    body = api.verbs.patch(resource, target.key, target.part, change, call.query)
    for other, owned in sets.items():
        if other != manager:
            owned -= set(contested)
    sets[manager] = set(wanted)
    return body


def _contested(contested: dict[Path, str]) -> Refused:
    causes = [
        {"reason": "FieldManagerConflict", "message": f'conflict with "{owner}"', "field": "." + ".".join(path)}
        for path, owner in sorted(contested.items())
    ]
    told = ", ".join(f"{cause['message']}: {cause['field']}" for cause in causes)
    plural = "s" if len(causes) > 1 else ""
    return Refused(409, "Conflict", f"Apply failed with {len(causes)} conflict{plural}: {told}", {"causes": causes})


def _without(value: Any, dropped: set[Path], keys: patches.Keys, path: Path = ()) -> Any:
    """The object less the fields that its applier no longer mentions."""
    if isinstance(value, dict):
        return {
            name: _without(inner, dropped, keys, (*path, name))
            for name, inner in value.items()
            if (*path, name) not in dropped
        }
    if isinstance(value, list) and (key := keys(path, value)):
        kept = [(item, (*path, f"k:{item.get(key)}")) for item in value]
        return [
            _without(item, dropped, keys, place)
            for item, place in kept
            if not any(gone[: len(place)] == place and gone[-1] == key for gone in dropped)
        ]
    return value


def keys_of(resource: Resource) -> patches.Keys:
    """How the kind's lists are merged."""
    if resource.custom:
        return lambda path, _: schemas.list_key(resource.schema or {}, path)
    return patches.built_in_keys
