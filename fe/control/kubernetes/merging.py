"""Objects of the cluster beside what stands in files: one configuration, of everything that goes together.

Owns: who goes first (files, then older objects before younger, OnlineDeployments before plain ones), which endpoint a
deployment belongs to, shares of traffic as deployments come and go, and the limits of the lease table. Never: reading
an object (`objects`), carrying anything out. A pure function: an object that cannot be taken gets a problem, and
nothing else is any different for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import msgspec

from fe.config import rules, schema
from fe.config.problems import Findings, Place
from fe.config.snapshot import snapshot_bytes
from fe.control.kubernetes.objects import GROUP, DeploymentObject, EndpointObject, Problem, Ref

# Reasons of problems that are somebody else's claim to the same thing: they make the condition Conflict true.
CLAIMED: Final = frozenset(("NameTaken", "RouteTaken", "TargetTaken"))


class Merged(NamedTuple):
    """What is to be served, by which objects, and why others (or parts of them) are not."""

    config: schema.RouterConfig
    endpoints: dict[str, Ref]  # by name; those of files are not here
    deployments: dict[str, Ref]  # by "endpoint/deployment"
    problems: dict[Ref, tuple[Problem, ...]]  # those of reading the object included


def merge(
    config: schema.RouterConfig,
    endpoints: Iterable[EndpointObject],
    deployments: Iterable[DeploymentObject],
    own_namespace: str = "",
) -> Merged:
    """`config` with the objects beside its endpoints. `own_namespace`: where fe is, which files may leave out."""
    work = _Merge(config, own_namespace)
    for endpoint in sorted(endpoints, key=lambda one: (one.created, one.ref)):
        work.add_endpoint(endpoint)
    for deployment in sorted(deployments, key=lambda one: (one.plain, one.created, one.ref)):
        work.add_deployment(deployment)
    return work.result()


class _Entry:
    """An endpoint that is being put together. `ref`: its OnlineEndpoint, or the plain Deployment that it exists by."""

    def __init__(self, endpoint: schema.Endpoint, ref: Ref | None, traffic_given: bool) -> None:
        self.endpoint = endpoint
        self.ref = ref
        self.traffic_given = traffic_given
        self.deployments = list(endpoint.deployments)
        self.shares: dict[str, int] = {}  # that plain deployments ask for

    @property
    def implicit(self) -> bool:
        return self.ref is not None and self.ref.kind == "Deployment"

    def open_to(self, ref: Ref) -> bool:
        """An object may join an endpoint of a file, or of its own namespace; one without an object, if plain itself."""
        if self.ref is None:
            return True
        return ref.namespace == self.ref.namespace and (not self.implicit or ref.kind == "Deployment")


class _Merge:
    def __init__(self, config: schema.RouterConfig, own_namespace: str) -> None:
        self._config = config
        self._own_namespace = own_namespace
        self._entries = {one.name: _Entry(one, None, bool(one.traffic or one.deployments)) for one in config.endpoints}
        self._refused: set[tuple[str, str]] = set()  # (namespace, endpoint) of OnlineEndpoints with problems
        self._problems: dict[Ref, list[Problem]] = {}
        self._served: dict[str, Ref] = {}
        self._routes: dict[schema.Route, str] = {route: one.name for one in config.endpoints for route in one.routes}
        self._targets: dict[tuple[str, str], str] = {}
        self._deployments = self._replicas = 0
        for one in config.endpoints:
            for deployment in one.deployments:
                self._count(deployment, f"{one.name}/{deployment.name} in the configuration file of fe")
        self._empty = snapshot_bytes(msgspec.structs.replace(config, endpoints=()))
        self._bytes = snapshot_bytes(config)

    # --- endpoints ---

    def add_endpoint(self, one: EndpointObject) -> None:
        self._problems[one.ref] = list(one.problems)
        if one.endpoint is None:
            self._refused.add((one.ref.namespace, one.name))
            return
        taken = self._entries.get(one.name)
        if taken is not None:
            owner = "the configuration file of fe" if taken.ref is None else f"{taken.ref}, which is older"
            self._problem(one.ref, "spec.name", "NameTaken", f"the endpoint {one.name!r} is that of {owner}")
            return
        defaults = msgspec.structs.replace(self._config.request_defaults, **one.own)
        endpoint = msgspec.structs.replace(
            one.endpoint, request_defaults=defaults, routes=tuple(self._own_routes(one.ref, one.endpoint))
        )
        if self._fits(one.ref, endpoint):
            self._entries[one.name] = _Entry(endpoint, one.ref, one.traffic_given)
            self._routes.update(dict.fromkeys(endpoint.routes, endpoint.name))

    def _own_routes(self, ref: Ref, endpoint: schema.Endpoint) -> Iterable[schema.Route]:
        """The routes that nobody had before."""
        for index, route in enumerate(endpoint.routes):
            owner = self._routes.get(route)
            if owner is None:
                yield route
            else:
                where = f"{route.host or 'any host'}, {route.path_prefix}"
                text = f"the route ({where}) is taken by the endpoint {owner!r}"
                self._problem(ref, f"spec.routes[{index}]", "RouteTaken", text)

    # --- deployments ---

    def add_deployment(self, one: DeploymentObject) -> None:
        self._problems[one.ref] = list(one.problems)
        if one.deployment is None:
            return
        entry = self._entry_for(one)
        if entry is None or not self._is_free(one, one.deployment, entry):
            return
        settings = msgspec.structs.replace(entry.endpoint.request_defaults, **one.settings)
        deployment = msgspec.structs.replace(one.deployment, request_settings=settings)
        alone = msgspec.structs.replace(
            entry.endpoint, routes=(), deployments=(deployment,), traffic={deployment.name: 100}
        )
        if not self._is_sound(one, deployment) or not self._fits(one.ref, alone, deployment):
            return
        name = f"{entry.endpoint.name}/{deployment.name}"
        self._entries[entry.endpoint.name] = entry
        self._count(deployment, str(one.ref))
        self._served[name] = one.ref
        entry.deployments.append(deployment)
        if entry.implicit and one.traffic is not None:
            entry.shares[deployment.name] = one.traffic

    def _entry_for(self, one: DeploymentObject) -> _Entry | None:
        """The endpoint that the deployment belongs to; a plain one may bring it along. None after a problem."""
        entry, path = self._entries.get(one.endpoint_name), _endpoint_path(one)
        if entry is not None and not entry.open_to(one.ref):
            text = f"the endpoint {one.endpoint_name!r} is that of {entry.ref}"
            if one.plain:
                self._problem(one.ref, path, "NameTaken", text)
            else:
                mend = f"write an OnlineEndpoint in the namespace {one.ref.namespace!r}, with a name of its own"
                self._problem(one.ref, path, "EndpointMissing", f"{text}; {mend}")
            return None
        if entry is None and not one.plain:
            text = f"there is no endpoint {one.endpoint_name!r} in this namespace, nor in the configuration file of fe"
            self._problem(one.ref, path, "EndpointMissing", text)
            return None
        if entry is None and (one.ref.namespace, one.endpoint_name) in self._refused:
            text = f"the OnlineEndpoint {one.endpoint_name!r} has problems itself"
            self._problem(one.ref, path, "EndpointMissing", text)
            return None
        if (entry is None or entry.implicit) and one.auth_mode != "none":
            text = "the endpoint has no keys: write none for open access, or make an OnlineEndpoint that has some"
            self._problem(one.ref, f"metadata.annotations[{GROUP}/auth-mode]", "Invalid", text)
            return None
        if entry is None:
            defaults = self._config.request_defaults
            endpoint = schema.Endpoint(one.endpoint_name, auth_mode="none", request_defaults=defaults)
            return _Entry(endpoint, one.ref, traffic_given=False)
        return entry

    def _is_free(self, one: DeploymentObject, deployment: schema.Deployment, entry: _Entry) -> bool:
        """Nobody else has its name, or its pods."""
        name = f"{entry.endpoint.name}/{deployment.name}"
        if any(deployment.name == other.name for other in entry.deployments):
            text = f"the deployment {name} is that of {self._served.get(name, 'the configuration file of fe')}"
            self._problem(one.ref, "metadata.name" if one.plain else "spec.name", "NameTaken", text)
            return False
        target = self._target_of(deployment)
        owner = self._targets.get(target) if target else None
        if target and owner is not None:
            text = f"the pods of the Deployment {'/'.join(target)} are those of {owner}"
            self._problem(one.ref, "" if one.plain else "spec.target", "TargetTaken", text)
        return owner is None

    def _is_sound(self, one: DeploymentObject, deployment: schema.Deployment) -> bool:
        """With what it takes over from its endpoint, too."""
        findings = Findings()
        place = Place(str(one.ref), (".spec",))
        rules.check_scale(rules.DeploymentEntry(place, deployment, frozenset(), one.settings), findings)
        for problem in findings.problems:
            self._problem(one.ref, "".join(problem.place.path).removeprefix("."), "Invalid", problem.reason)
        return not findings.problems

    def _target_of(self, deployment: schema.Deployment) -> tuple[str, str] | None:
        replicas = deployment.replicas
        if not isinstance(replicas, schema.KubernetesReplicas):
            return None
        return replicas.namespace or self._own_namespace, replicas.deployment

    # --- limits of the table ---

    def _count(self, deployment: schema.Deployment, owner: str) -> None:
        self._deployments += 1
        self._replicas += deployment.most_replicas()
        if target := self._target_of(deployment):
            self._targets.setdefault(target, owner)

    def _fits(self, ref: Ref, alone: schema.Endpoint, deployment: schema.Deployment | None = None) -> bool:
        """There is room for it in the lease table; `alone`: as what it counts in the snapshot, never too little."""
        limits = self._config.limits
        size = snapshot_bytes(msgspec.structs.replace(self._config, endpoints=(alone,))) - self._empty
        more = 0 if deployment is None else 1
        replicas = 0 if deployment is None else deployment.most_replicas()
        for name, needed, most in (
            ("deployments", self._deployments + more, limits.deployments),
            ("replicas", self._replicas + replicas, limits.replicas),
            ("config_bytes", self._bytes + size, limits.config_bytes),
        ):
            if needed > most:
                text = f"{needed:,} {name} would be needed, and limits.{name} is {most:,}"
                self._problem(ref, "", "LimitReached", text)
                return False
        self._bytes += size
        return True

    # --- what comes of it ---

    def _problem(self, ref: Ref, path: str, reason: str, message: str) -> None:
        self._problems.setdefault(ref, []).append(Problem(ref, path, reason, message))

    def result(self) -> Merged:
        endpoints = tuple(self._finish(entry) for entry in self._entries.values())
        owners = {name: one.ref for name, one in self._entries.items() if one.ref is not None}
        problems = {ref: tuple(found) for ref, found in self._problems.items() if found}
        return Merged(msgspec.structs.replace(self._config, endpoints=endpoints), owners, self._served, problems)

    def _finish(self, entry: _Entry) -> schema.Endpoint:
        """The endpoint with its deployments, and traffic for those of them that there are."""
        endpoint, deployments = entry.endpoint, tuple(entry.deployments)
        names = [deployment.name for deployment in entry.deployments]
        traffic: Mapping[str, Any] = endpoint.traffic
        if entry.shares:
            traffic = whole(entry.shares)
        elif not entry.traffic_given:  # the oldest, so that another that joins takes nothing away from it
            traffic = {names[0]: 100} if names else {}
        elif entry.ref is not None:
            traffic = whole(self._present(entry.ref, "traffic", endpoint.traffic, names))
        mirror = endpoint.mirror_traffic
        if entry.ref is not None:
            mirror = self._present(entry.ref, "mirror_traffic", mirror, names)
        return msgspec.structs.replace(endpoint, deployments=deployments, traffic=dict(traffic), mirror_traffic=mirror)

    def _present(self, ref: Ref, what: str, shares: Mapping[str, int], names: list[str]) -> dict[str, int]:
        """The shares of deployments that are there. The others' objects may be on their way."""
        for name in shares:
            if name not in names and shares[name]:
                text = f"there is no deployment {name!r} that can be served"
                self._problem(ref, f"spec.{what}[{name}]", "DeploymentMissing", text)
        return {name: share for name, share in shares.items() if name in names}


def _endpoint_path(one: DeploymentObject) -> str:
    return f"metadata.labels[{GROUP}/endpoint]" if one.plain else "spec.endpoint_name"


def whole(shares: Mapping[str, int]) -> dict[str, int]:
    """The shares in the same proportions with the sum 100, by largest remainders; none where none has any."""
    total = sum(shares.values())
    if total in (0, 100):
        return dict(shares)
    exact = {name: share * 100 / total for name, share in shares.items()}
    given = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: given[name] - exact[name])[: 100 - sum(given.values())]:
        given[name] += 1
    return given
