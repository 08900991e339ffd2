"""Checks across fields: what is right for itself but not together.

Owns: names that have to exist or be unique, sums, routes, addresses used twice, combinations that cannot be served,
notes about settings that have no effect. Never: single values (`fe.config.kinds`). A check whose values have a problem
already says nothing: one mistake is reported once.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fe.config import schema
from fe.config.addresses import parse_address
from fe.config.problems import Findings, Place, did_you_mean, shown
from fe.config.snapshot import snapshot_bytes

_AZUREML_PREFIXES = ("/api/v1/endpoint", "/api/v1/service")
_RETRY_LATE = 1.2  # a try to renew a Lease may be later than its interval by this factor


@dataclass
class DeploymentEntry:
    """A deployment with the place it was read from; `given` are the keys that stand there."""

    place: Place
    deployment: schema.Deployment
    given: frozenset[str]
    settings: Mapping[str, Any]  # of its request_settings, without defaults


@dataclass
class EndpointEntry:
    """An endpoint with the place it was read from; `own` are fe's request keys as they hold for its deployments."""

    place: Place
    endpoint: schema.Endpoint
    own: Mapping[str, Any]
    traffic_given: bool
    deployments: list[DeploymentEntry] = field(default_factory=list)

    def add(self, deployment: DeploymentEntry | None) -> None:
        """A deployment of this endpoint; None for one that could not be read at all."""
        if deployment is not None:
            self.deployments.append(deployment)


def check(config: schema.RouterConfig, endpoints: list[EndpointEntry], router: Place, findings: Findings) -> None:
    """Adds every problem and note across fields to the findings."""
    _check_listeners(config, router, findings)
    if config.kubernetes is not None:
        _check_election(config.kubernetes.election, router.key("kubernetes").key("election"), findings)
    repeated = _check_unique(((entry.place, entry.endpoint.name) for entry in endpoints), "endpoint", findings)
    _check_routes(endpoints, findings)
    if not endpoints:
        findings.note(router.key("endpoints"), "there is none: every request is answered with 404")
    for entry in endpoints:
        check_auth(entry, findings)
        if entry.place not in repeated:  # else deployments of other files went to the first of the name
            _check_traffic(entry, findings)
        _check_unique(((d.place, d.deployment.name) for d in entry.deployments), "deployment", findings)
        for deployment in entry.deployments:
            _check_deployment(deployment, config, findings)
    _check_limits(config, router, findings)


# --- the router ------------------------------------------------------------------------------------------------------


def _check_listeners(config: schema.RouterConfig, router: Place, findings: Findings) -> None:
    taken: dict[str, Place] = {}
    if not config.listen and not findings.touched(router.key("listen")):
        findings.problem(router.key("listen"), "names no address", "write for example 127.0.0.1:8080")
    for place, addresses in ((router.key("listen"), config.listen), (router.key("admin"), config.admin)):
        for text in addresses:
            other = next((known for known in taken if _collide(text, known)), None)
            if other is None or findings.touched(place):
                taken.setdefault(text, place)
            elif other == text and taken[other] == place:
                findings.problem(place, f"{text} stands here twice")
            else:
                findings.problem(place, f"{text} collides with {other} in {taken[other].path[-1].lstrip('.')}")


def _collide(left: str, right: str) -> bool:
    """Whether two listeners cannot both be opened: the same, or one of them on all addresses of the family."""
    one, two = parse_address(left), parse_address(right)
    if one.family != two.family or one.port != two.port:
        return False
    if one.family == "unix":
        return one.host == two.host
    return one.port != 0 and (one.host == two.host or not {one.host, two.host}.isdisjoint(("0.0.0.0", "::")))  # noqa: S104


def _check_limits(config: schema.RouterConfig, router: Place, findings: Findings) -> None:
    limits = config.limits
    at = router.key("limits")
    if (
        isinstance(config.workers, int)
        and config.workers > limits.holders
        and not findings.touched(router.key("workers"))
    ):
        findings.problem(at.key("holders"), f"{limits.holders} is less than workers ({config.workers})")
    deployments = [deployment for endpoint in config.endpoints for deployment in endpoint.deployments]
    replicas = sum(deployment.most_replicas() for deployment in deployments)
    for name, there, most in (("deployments", len(deployments), limits.deployments),
                              ("replicas", replicas, limits.replicas)):  # fmt: skip
        if there > most:
            findings.problem(
                at.key(name), f"{most} is less than the {there} {name} that there may be", f"raise limits.{name}"
            )

    if not findings.problems:  # else names may be missing, and the sum would mislead
        size = snapshot_bytes(config)
        if size > limits.config_bytes:
            reason = f"{limits.config_bytes:,} is less than the {size:,} bytes that workers have to be told"
            findings.problem(at.key("config_bytes"), reason, "raise limits.config_bytes")


def _check_election(election: schema.Election, at: Place, findings: Findings) -> None:
    """As client-go has it: a holder gives up before its Lease ends, and has tried more than once by then."""
    if findings.touched(at):
        return
    for name, value, late, less, bound in (
        ("renew_deadline", election.renew_deadline, 1.0, "duration", election.duration),
        ("retry", election.retry, _RETRY_LATE, "renew_deadline", election.renew_deadline),
    ):
        if value * late >= bound:
            often = "" if late == 1 else f", {late:g} times,"
            findings.problem(at.key(name), f"{value:g} s has{often} to be less than {less}, which is {bound:g} s")


def _check_unique(names: Iterable[tuple[Place, str]], what: str, findings: Findings) -> list[Place]:
    """The places of those whose name was taken before."""
    seen: dict[str, Place] = {}
    repeated = []
    for place, name in names:
        first = seen.setdefault(name, place)
        if name and first is not place:
            line = findings.lines.get(first.key("name"), 0)
            where = f"{first.file}:{line}" if line else first.file
            findings.problem(place.key("name"), f"there is another {what} {name!r}, in {where}")
            repeated.append(place)
    return repeated


def _check_routes(endpoints: list[EndpointEntry], findings: Findings) -> None:
    owners: dict[tuple[str | None, str], str] = {}
    for entry in endpoints:
        for index, route in enumerate(entry.endpoint.routes):
            place = entry.place.key("routes").item(index)
            if findings.touched(place):
                continue
            owner = owners.get((route.host, route.path_prefix))
            owners.setdefault((route.host, route.path_prefix), entry.endpoint.name)
            if owner is not None:
                where = f"{route.host or 'any host'}, {route.path_prefix}"
                findings.problem(place, f"the route ({where}) is taken by the endpoint {owner!r}")
            check_route(route, place, findings)


def check_route(route: schema.Route, place: Place, findings: Findings) -> None:
    """A route by itself."""
    if f"{route.path_prefix}/".startswith(tuple(f"{prefix}/" for prefix in _AZUREML_PREFIXES)):
        findings.problem(place.key("path_prefix"), "is never reached: paths below it name an endpoint themselves")


# --- an endpoint -----------------------------------------------------------------------------------------------------


def check_auth(entry: EndpointEntry, findings: Findings) -> None:
    """What lets clients in: a key, or that none is needed."""
    mode, keys = entry.endpoint.auth_mode, entry.endpoint.keys
    at, keys_at = entry.place.key("auth_mode"), entry.place.key("keys")
    if mode in ("aml_token", "aad_token"):
        findings.problem(at, f"{mode} is not supported by this version yet", "write key, or none for open access")
    elif mode == "key" and not keys.digests() and not findings.touched(at, keys_at):
        mend = "write keys: {primary: file:PATH}, or auth_mode: none for open access"
        findings.problem(keys_at, "there is no key, and auth_mode is key", mend)
    elif mode == "none" and keys.digests():
        findings.note(keys_at, "is not used with auth_mode none")
    if keys.primary is not None and keys.secondary is not None and keys.primary.digest == keys.secondary.digest:
        findings.note(keys_at, "primary and secondary are the same key")


def _check_traffic(entry: EndpointEntry, findings: Findings) -> None:
    names = [deployment.deployment.name for deployment in entry.deployments]
    rules = (
        ("traffic", entry.endpoint.traffic, (0, 100), "they have to add up to 100 (or 0: no traffic)"),
        ("mirror_traffic", entry.endpoint.mirror_traffic, range(101), "100 is the most"),
    )
    for what, shares, sums, mend in rules:
        at = entry.place.key(what)
        whole = not findings.touched(at)
        for name in shares:
            if name not in names and not findings.touched(at.item(name)):
                findings.problem(at.item(name), f"there is no deployment {shown(name)}", did_you_mean(name, names))
        total = sum(shares.values())
        if whole and total not in sums:
            findings.problem(at, f"the percentages add up to {total}", mend)
    if sum(entry.endpoint.traffic.values()) == 0:
        findings.note(entry.place, "no deployment has traffic: requests that do not name one are answered with 404")


# --- a deployment ----------------------------------------------------------------------------------------------------


def _check_deployment(entry: DeploymentEntry, config: schema.RouterConfig, findings: Findings) -> None:
    deployment, place = entry.deployment, entry.place
    check_scale(entry, findings)
    if isinstance(deployment.replicas, schema.StaticReplicas):
        _check_static(entry, deployment.replicas, config, findings)
    elif isinstance(deployment.replicas, schema.ProcessReplicas):
        _check_process(place.key("replicas").key("process"), deployment.replicas, findings)
    elif isinstance(deployment.replicas, schema.KubernetesReplicas) and config.kubernetes is None:
        mend = "write kubernetes: {} at the top level"
        findings.problem(place.key("replicas").key("kubernetes"), "needs a cluster, and none is configured", mend)


def check_scale(entry: DeploymentEntry, findings: Findings) -> None:
    """Number of replicas and capacity: what they are together."""
    deployment, place = entry.deployment, entry.place
    scale = deployment.scale_settings
    at = place.key("scale_setting" if "scale_setting" in entry.given else "scale_settings")
    capacity_at = place.key("request_settings").key("max_concurrent_requests_per_instance")
    if findings.touched(at):
        return
    no_limit = deployment.request_settings.max_concurrent_requests_per_instance == 0
    if no_limit and scale.type != "default" and not findings.touched(capacity_at):
        mend = "set scale_settings.type: default, or a capacity"
        findings.problem(capacity_at, "0 (no limit) leaves nothing to measure utilization by", mend)
    if scale.type == "target_utilization" and scale.min_instances > scale.max_instances:
        findings.problem(at, f"min_instances {scale.min_instances} is more than max_instances {scale.max_instances}")
    if isinstance(deployment.replicas, schema.StaticReplicas):
        count = deployment.instance_count
        if count is not None and count != len(deployment.replicas.addresses):
            findings.note(place.key("instance_count"), "is not used: there are as many replicas as static addresses")
        if scale.automatic:
            findings.note(at, "static replicas cannot be scaled: there are as many as there are addresses")
        return
    if scale.automatic and scale.max_scale_up_rate and scale.max_scale_up_rate < 1:
        findings.problem(at.key("max_scale_up_rate"), f"{scale.max_scale_up_rate:g} would never grow", "write 2, or 0")
    if deployment.cold_start_timeout_ms and not deployment.request_settings.max_queue_length:
        queue_at = place.key("request_settings").key("max_queue_length")
        mend = "allow some requests to wait, or set min_instances: 1"
        findings.problem(queue_at, "0 leaves nobody to wait for the first replica: none would ever be started", mend)
    count = deployment.instance_count
    if count is not None and scale.type == "target_utilization" and deployment.replica_count() != count:
        text = f"{count} is outside of min_instances..max_instances: it starts with {deployment.replica_count()}"
        findings.note(place.key("instance_count"), text)


def _check_static(
    entry: DeploymentEntry, replicas: schema.StaticReplicas, config: schema.RouterConfig, findings: Findings
) -> None:
    at = entry.place.key("replicas").key("static")
    if findings.touched(at):
        return
    if not replicas.addresses:
        findings.note(at, "is empty: requests are answered with 503")
    seen: set[str] = set()
    for index, address in enumerate(replicas.addresses):
        if address in seen:
            findings.problem(at.item(index), f"{address} stands here twice")
        elif address in config.listen:
            findings.problem(at.item(index), f"{address} is where fe itself listens: requests would go round for ever")
        seen.add(address)


def _check_process(at: Place, process: schema.ProcessReplicas, findings: Findings) -> None:
    if findings.touched(at):
        return
    uses_port = any("{port}" in text for text in (*process.command, *process.env.values()))
    if not uses_port:
        findings.note(at.key("command"), "has no {port}: the program has to serve on the port in the variable PORT")
    if process.cwd and not os.path.isdir(process.cwd):
        findings.note(at.key("cwd"), f"there is no folder {shown(process.cwd, 200)}")
    program = process.command[0]
    search = process.env.get("PATH", os.environ.get("PATH"))
    if shutil.which(program, path=search) is None:
        findings.note(at.key("command"), f"there is no program {shown(program, 200)} that can be run")
