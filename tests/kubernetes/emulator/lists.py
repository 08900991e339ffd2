"""Lists: which version they show, which objects, and how a long one comes in pages.

Owns resourceVersion, resourceVersionMatch, limit and continue. Never writes. The rules are those of
https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-versions.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from tests.kubernetes.emulator import selectors
from tests.kubernetes.emulator.errors import (
    OLD_LIST,
    OLD_PAGE,
    bad_request,
    expired,
    forbidden_field,
    invalid,
    too_large,
    unsupported,
)
from tests.kubernetes.emulator.resources import Resource
from tests.kubernetes.emulator.store import Key, Store

Json = dict[str, Any]
Query = dict[str, str]
FORBIDDEN_MATCH = "resourceVersionMatch is forbidden unless resourceVersion is provided"


def number(query: Query, key: str) -> int:
    """A parameter that counts; 0 where it is absent. Refused: not a number."""
    text = query.get(key) or "0"
    if not text.isdigit():
        raise bad_request(f'strconv.ParseUint: parsing "{text}": invalid syntax: {key}')
    return int(text)


def seal(version: int, start: str) -> str:
    """A continue token: opaque to clients, readable here, as the real one is."""
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": version, "start": start + "\0"}, separators=(",", ":"))
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def unseal(token: str) -> tuple[int, str]:
    """Version and start of a continue token. Refused: it is none."""
    try:
        told = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return int(told["rv"]), str(told["start"]).removesuffix("\0")
    except (binascii.Error, ValueError, KeyError, TypeError) as error:
        raise bad_request(f"continue key is not valid: {error}") from None


def check_match(query: Query, watch: bool) -> None:
    """Refused: resourceVersionMatch where it means nothing."""
    match = query.get("resourceVersionMatch", "")
    causes = []
    if match and not watch and not query.get("resourceVersion"):
        causes.append(forbidden_field("resourceVersionMatch", FORBIDDEN_MATCH))
    if match and not watch and query.get("continue"):
        text = "resourceVersionMatch is forbidden when continue is provided"
        causes.append(forbidden_field("resourceVersionMatch", text))
    if match and match not in ("Exact", "NotOlderThan"):
        causes.append(unsupported("resourceVersionMatch", match, ["Exact", "NotOlderThan", ""]))
    if match == "Exact" and not watch and query.get("resourceVersion") == "0":
        text = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
        causes.append(forbidden_field("resourceVersionMatch", text))
    if causes:
        raise invalid("meta.k8s.io", "ListOptions", "", causes)


def _chosen(store: Store, resource: Resource, query: Query) -> tuple[int, bool]:
    """The version to show, and whether it comes whole from the cache, which knows no pages."""
    text, match = query.get("resourceVersion", ""), query.get("resourceVersionMatch", "")
    asked = number(query, "resourceVersion")
    if not text:
        return store.version, False
    if asked > store.version:
        raise too_large(asked, store.version)
    if asked == 0:
        return store.latest(resource.id), True
    if match == "Exact" or (not match and query.get("limit")):
        if asked < store.oldest:
            raise expired(OLD_LIST)
        return asked, False
    return max(asked, store.latest(resource.id)), True


def _order(key: Key) -> str:
    return "/".join(part for part in key if part)


def select(store: Store, resource: Resource, namespace: str, query: Query) -> tuple[list[Json], Json]:
    """The objects of a list, ordered by their keys, and the list's metadata."""
    check_match(query, watch=False)
    wanted = selectors.build(resource, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    start, token = "", query.get("continue", "")
    if token:
        version, start = unseal(token)
        if version >= 0 and version < store.oldest:
            raise expired(OLD_PAGE, **{"continue": seal(-1, start)})
        version, whole = (version if version >= 0 else store.version), False
    else:
        version, whole = _chosen(store, resource, query)
    current = store.items(resource.id)
    shown = current if whole or version >= store.version else store.at(resource.id, version)
    keys = sorted((key for key in shown if namespace in ("", key[0])), key=_order)
    found = [(key, shown[key]) for key in keys if _after(key, start, namespace) and wanted(shown[key])]
    meta: Json = {"resourceVersion": str(version)}
    limit = 0 if whole else number(query, "limit")
    if limit and len(found) > limit:
        meta["continue"] = seal(version, _relative(found[limit - 1][0], namespace))
        if not query.get("labelSelector") and not query.get("fieldSelector"):
            meta["remainingItemCount"] = len(found) - limit
        found = found[:limit]
    return [body for _, body in found], meta


def _relative(key: Key, namespace: str) -> str:
    return key[1] if namespace else _order(key)


def _after(key: Key, start: str, namespace: str) -> bool:
    return not start or _relative(key, namespace) > start
