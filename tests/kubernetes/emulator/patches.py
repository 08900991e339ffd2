"""Patches: JSON patch, JSON merge patch, strategic merge patch and the merging half of server-side apply.

Owns how a patch changes an object. Every function returns a new object and leaves what it was given as it was. Never
decides whether the result is valid; ownership.py knows who applied which field.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tests.kubernetes.emulator.errors import Refused, bad_request

Json = dict[str, Any]
# Keys by which lists of built-in kinds are merged. Ports of a container and of a Service share a name, but not a key.
MERGE_KEYS = {
    "containers": ("name",), "initContainers": ("name",), "ephemeralContainers": ("name",), "env": ("name",),
    "volumes": ("name",), "volumeMounts": ("mountPath",), "conditions": ("type",), "ownerReferences": ("uid",),
    "imagePullSecrets": ("name",), "podIPs": ("ip",), "hostIPs": ("ip",), "hostAliases": ("ip",),
    "ports": ("containerPort", "port"), "topologySpreadConstraints": ("topologyKey",),
}  # fmt: skip
JSON_PATCH, MERGE, STRATEGIC, APPLY = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
Keys = Callable[[tuple[str, ...], list[Any]], str | None]


def rejected() -> Refused:
    """What the real server says of a JSON patch that cannot be applied; it gives no reason."""
    return Refused(422, "Invalid", "the server rejected our request due to an error in our request", {})


def json_patch(body: Json, operations: Any) -> Json:
    """RFC 6902. Refused: a test fails, a path does not exist, an operation is none."""
    if not isinstance(operations, list):
        raise bad_request("error decoding patch: json: cannot unmarshal object into Go value of type jsonpatch.Patch")
    root: Json = {"": copy.deepcopy(body)}
    for operation in operations:
        try:
            _operate(root, operation)
        except (KeyError, IndexError, ValueError, TypeError):
            raise rejected() from None
    result: Json = root[""]
    return result


def _operate(root: Json, operation: Json) -> None:
    kind, path = operation["op"], operation["path"]
    if kind in ("copy", "move"):
        value = copy.deepcopy(_look(root, operation["from"]))
        if kind == "move":
            _remove(root, operation["from"])
        _add(root, path, value)
    elif kind == "add":
        _add(root, path, operation["value"])
    elif kind == "remove":
        _remove(root, path)
    elif kind == "replace":
        _look(root, path)
        _remove(root, path)
        _add(root, path, operation["value"])
    elif kind == "test":
        if _look(root, path) != operation["value"]:
            raise ValueError(path)
    else:
        raise ValueError(kind)


def _walk(root: Json, pointer: str) -> tuple[Any, str]:
    parts = [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")]
    holder: Any = root
    for part in parts[:-1]:
        holder = holder[int(part)] if isinstance(holder, list) else holder[part]
    return holder, parts[-1]


def _look(root: Json, pointer: str) -> Any:
    holder, last = _walk(root, pointer)
    return holder[int(last)] if isinstance(holder, list) else holder[last]


def _remove(root: Json, pointer: str) -> None:
    holder, last = _walk(root, pointer)
    del holder[int(last) if isinstance(holder, list) else last]


def _add(root: Json, pointer: str, value: Any) -> None:
    holder, last = _walk(root, pointer)
    if isinstance(holder, list):
        position = len(holder) if last == "-" else int(last)
        if not 0 <= position <= len(holder):
            raise IndexError(pointer)
        holder.insert(position, value)
    else:
        holder[last] = value


def merge(body: Any, patch: Any) -> Any:
    """RFC 7386: objects are merged, everything else is replaced, null removes."""
    if not isinstance(patch, dict):
        return copy.deepcopy(patch)
    result = dict(body) if isinstance(body, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic(body: Any, patch: Any, name: str = "") -> Any:
    """A merge patch that merges the lists of MERGE_KEYS by key, with the directives $patch and $retainKeys."""
    if isinstance(patch, dict):
        return _strategic_map(body if isinstance(body, dict) else {}, patch)
    if isinstance(patch, list):
        return _strategic_list(body if isinstance(body, list) else [], patch, name)
    return copy.deepcopy(patch)


def _strategic_map(body: Json, patch: Json) -> Json:
    kept = patch.get("$retainKeys")
    directive = patch.get("$patch")
    result = {} if directive == "replace" else {key: body[key] for key in body if kept is None or key in kept}
    for key, value in patch.items():
        if key.startswith("$deleteFromPrimitiveList/"):
            target = key.partition("/")[2]
            result[target] = [item for item in result.get(target, []) if item not in value]
        elif key.startswith("$"):
            continue
        elif value is None:
            result.pop(key, None)
        else:
            result[key] = strategic(result.get(key), value, key)
    return result


def _strategic_list(body: list[Any], patch: list[Any], name: str) -> list[Any]:
    if name == "finalizers":
        return body + [item for item in patch if item not in body]
    key = _key(name, body + patch)
    if key is None or any(item.get("$patch") == "replace" for item in patch):
        return [item for item in copy.deepcopy(patch) if not (isinstance(item, dict) and "$patch" in item)]
    result = list(body)
    for item in patch:
        if key not in item:
            raise rejected()
        place = next((index for index, had in enumerate(result) if had.get(key) == item[key]), None)
        if item.get("$patch") == "delete":
            result = [had for had in result if had.get(key) != item[key]]
        elif place is None:
            result.append(strategic({}, item))
        else:
            result[place] = strategic(result[place], item)
    return result


def _key(name: str, items: list[Any]) -> str | None:
    keys = MERGE_KEYS.get(name, ())
    return next((key for key in keys if any(isinstance(item, dict) and key in item for item in items)), None)


def built_in_keys(path: tuple[str, ...], items: list[Any]) -> str | None:
    """The merge key of a list in a built-in kind."""
    return _key(path[-1] if path else "", items)


def applied(body: Any, config: Any, keys: Keys, path: tuple[str, ...] = ()) -> Any:
    """`config` laid over `body`: maps and keyed lists are merged, other lists are replaced."""
    if isinstance(config, dict):
        base = body if isinstance(body, dict) else {}
        return base | {name: applied(base.get(name), value, keys, (*path, name)) for name, value in config.items()}
    if isinstance(config, list) and (key := keys(path, config)):
        result = list(body) if isinstance(body, list) else []
        for item in config:
            place = next((index for index, had in enumerate(result) if had.get(key) == item.get(key)), None)
            if place is None:
                result.append(copy.deepcopy(item))
            else:
                result[place] = applied(result[place], item, keys, (*path, "[]"))
        return result
    return copy.deepcopy(config)
