"""Who asks, and whether they may: bearer tokens, users and rules.

Owns authentication and authorization. Rules are those of a Role or ClusterRole as they stand in a manifest, so that a
test can give a user exactly what an installation gives it. Never looks at objects.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.kubernetes.emulator.errors import Refused, unauthorized

Json = dict[str, Any]
OPEN_PATHS = ("/version", "/readyz", "/livez", "/healthz")  # readable by everybody, as system:public-info-viewer has it
ANYTHING: Json = {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}
REVIEW = ("authorization.k8s.io", "selfsubjectaccessreviews", "create")  # every known user may ask what it may


class Wish(NamedTuple):
    """What a request wants, in the authorizer's words. `namespace` is "" for the whole cluster."""

    verb: str
    group: str
    resource: str
    subresource: str = ""
    namespace: str = ""
    name: str = ""


@dataclass
class User:
    """A user and what it may: rules for one namespace, or for the whole cluster under ""."""

    name: str
    known: bool = True
    rules: list[tuple[str, Json]] = field(default_factory=list)

    def may(self, wish: Wish) -> bool:
        if self.known and (wish.group, wish.resource, wish.verb) == REVIEW:
            return True
        return any(where in ("", wish.namespace) and _allows(rule, wish) for where, rule in self.rules)


def _allows(rule: Json, wish: Wish) -> bool:
    resource = f"{wish.resource}/{wish.subresource}" if wish.subresource else wish.resource
    names = rule.get("resourceNames")
    return (
        _in(wish.verb, rule.get("verbs"))
        and _in(wish.group, rule.get("apiGroups"))
        and (_in(resource, rule.get("resources")) or _in(f"*/{wish.subresource}", rule.get("resources"), star=False))
        and (not names or wish.name in names)
    )


def _in(value: str, values: list[str] | None, star: bool = True) -> bool:
    return value in (values or ()) or (star and "*" in (values or ()))


class Access:
    """The known users and their tokens. `admin` may do everything, `limited` nothing."""

    def __init__(self) -> None:
        self._users: dict[str, User] = {}
        self._tokens: dict[str, str] = {}
        self.add("admin", [ANYTHING])
        self.add("limited", [])

    def add(self, name: str, rules: list[Json], namespace: str = "") -> str:
        """Grant rules to a user, who is new or known; returns the user's token."""
        user = self._users.setdefault(name, User(name))
        user.rules += [(namespace, rule) for rule in rules]
        if name not in self._tokens.values():
            self._tokens[f"{name}-{secrets.token_hex(8)}"] = name
        return self.token(name)

    def revoke(self, name: str) -> None:
        """Take all rules from a user."""
        self._users[name].rules.clear()

    def token(self, name: str) -> str:
        return next(token for token, user in self._tokens.items() if user == name)

    def rotate(self, name: str) -> str:
        """Give the user another token; the one it had is unknown from now on."""
        self._tokens.pop(self.token(name))
        return self.add(name, [])

    def user(self, authorization: str | None) -> User:
        """The user of an Authorization header. Refused: 401, the credential is unknown."""
        if authorization is None:
            return User("system:anonymous", known=False)
        scheme, _, token = authorization.partition(" ")
        name = self._tokens.get(token.strip())
        if scheme.lower() != "bearer" or name is None:
            raise unauthorized()
        return self._users[name]

    def check(self, user: User, wish: Wish) -> None:
        if not user.may(wish):
            raise forbidden(user, wish)


def forbidden(user: User, wish: Wish) -> Refused:
    """403, and what was wanted in words."""
    resource = f"{wish.resource}.{wish.group}" if wish.group else wish.resource
    subject = f'{resource} "{wish.name}"' if wish.name else resource
    wanted = f"{wish.resource}/{wish.subresource}" if wish.subresource else wish.resource
    where = f'in the namespace "{wish.namespace}"' if wish.namespace else "at the cluster scope"
    message = (
        f'{subject} is forbidden: User "{user.name}" cannot {wish.verb} resource "{wanted}" '
        f'in API group "{wish.group}" {where}'
    )
    parts = (("name", wish.name), ("group", wish.group), ("kind", wish.resource))
    return Refused(403, "Forbidden", message, {key: value for key, value in parts if value})


def forbidden_path(user: User, verb: str, path: str) -> Refused:
    return Refused(403, "Forbidden", f'forbidden: User "{user.name}" cannot {verb} path "{path}"', {})
