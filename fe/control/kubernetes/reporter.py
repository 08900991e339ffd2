"""The status of fe's own objects, brought up to date.

Owns: when which object is written to: at once where something has changed, seldom where only figures have, and never
more often than that. Never: what a status looks like (`object_status`). Only the front-end that leads writes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol

from fe.config import schema
from fe.control.deployment import Deployment
from fe.control.kubernetes.client import ApiError, UnreachableError
from fe.control.kubernetes.election import NotLeadingError
from fe.control.kubernetes.object_status import (
    AT_ZERO,
    EMPTY,
    NO_CONFLICT,
    DeploymentStatus,
    EndpointStatus,
    LastDecision,
    Patch,
    Verdict,
    deployment_patch,
    endpoint_patch,
)
from fe.control.kubernetes.objects import GROUP, VERSION, Problem, Ref
from fe.control.kubernetes.served import PLURALS
from fe.control.kubernetes.watch import Backoff
from fe.control.scaler import Track
from fe.log import logger

if TYPE_CHECKING:
    from fe.control.kubernetes.hub import Hub

log = logger("control.kubernetes")

LOOK: Final = 0.5  # seconds between two looks at all objects
EVERY: Final = 1.0  # between two writes to one object
FIGURES_EVERY: Final = 15.0  # likewise, where only figures differ
AT_ONCE: Final = 20  # writes at one look
WRITE_WITHIN: Final = 5.0
MERGE: Final = "application/merge-patch+json"


class Router(Protocol):
    """What deployments do now."""

    def live(self) -> Mapping[str, Deployment]: ...

    def tracks(self) -> Mapping[str, Track]: ...


@dataclass
class Pace:
    """When an object may be written to again."""

    at: float = float("-inf")  # of the last write
    not_before: float = float("-inf")
    backoff: Backoff = field(default_factory=lambda: Backoff(EVERY, 60.0))


class Reporter:
    """Writes every status that has changed."""

    def __init__(self, hub: Hub, router: Router) -> None:
        self._hub = hub
        self._router = router
        self._paces: dict[Ref, Pace] = {}
        self._told: dict[Ref, tuple[Any, ...]] = {}  # from what there was nothing to write
        self._trouble = ""

    async def run(self) -> None:
        """For as long as it is not cancelled."""
        while True:
            await asyncio.sleep(LOOK)
            if self._hub.leading and self._hub.served.merged is not None:
                try:
                    await self._round()
                except Exception:
                    log.exception("the status of objects could not be written")

    async def _round(self) -> None:
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        patches = dict(self._patches(now))
        self._paces = {ref: pace for ref, pace in self._paces.items() if ref in patches}
        self._told = {ref: told for ref, told in self._told.items() if ref in patches}
        due = [(ref, patch) for ref, patch in patches.items() if patch is not None and self._is_due(ref, patch)]
        due.sort(key=lambda one: (not one[1].urgent, self._paces[one[0]].at))  # who has waited longest first
        await asyncio.gather(*(self._write(ref, patch) for ref, patch in due[:AT_ONCE]))

    def _is_due(self, ref: Ref, patch: Patch) -> bool:
        now, pace = time.monotonic(), self._paces.setdefault(ref, Pace())
        return now >= pace.not_before and now >= pace.at + (EVERY if patch.urgent else FIGURES_EVERY)

    async def _write(self, ref: Ref, patch: Patch) -> None:
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{ref.namespace}/{PLURALS[ref.kind]}/{ref.name}/status"
        query = {"fieldManager": "fe"}
        pace = self._paces[ref]
        pace.at = time.monotonic()
        hub = self._hub
        try:
            limit = min(WRITE_WITHIN, hub.fence())
            await hub.cluster.call("PATCH", path, query, patch.body, MERGE, limit, hub.fence)
        except NotLeadingError:
            log.debug("a status was not written: the lead has ended", object=ref)
        except (ApiError, UnreachableError) as error:
            pace.not_before = time.monotonic() + pace.backoff.next()
            ordinary = isinstance(error, ApiError) and error.status in (404, 409)  # gone, or changed meanwhile
            if not ordinary and str(error) != self._trouble:
                self._trouble = str(error)
                log.warning("the status of an object could not be written", object=ref, reason=error)
        else:
            self._trouble = ""
            pace.backoff.reset()

    # --- what is to stand there ---

    def _patches(self, now: str) -> Iterator[tuple[Ref, Patch | None]]:
        hub = self._hub
        merged = hub.served.merged
        assert merged is not None
        endpoints = {ref: name for name, ref in merged.endpoints.items()}
        deployments = {ref: name for name, ref in merged.deployments.items()}
        served = {endpoint.name: endpoint for endpoint in hub.applied.endpoints} if hub.applied is not None else {}
        for ref, value in hub.served.values("OnlineEndpoint"):
            endpoint = served.get(endpoints.get(ref, ""))
            status, unserved = self._endpoint(endpoint), self._unserved(endpoint)
            problems = self._waits(ref, endpoint, merged.problems.get(ref, ()))
            build = partial(endpoint_patch, value, status, problems, now, unserved)
            yield ref, self._unless_told(ref, value, (status, problems, unserved), build)
        for ref, value in hub.served.values("OnlineDeployment"):
            status, problems, *verdicts = said = self._deployment(ref, deployments.get(ref, ""))
            build = partial(deployment_patch, value, status, problems, verdicts[0], now, *verdicts[1:])
            yield ref, self._unless_told(ref, value, said, build)

    def _unless_told(
        self, ref: Ref, value: Mapping[str, Any], said: tuple[Any, ...], build: Callable[[], Patch | None]
    ) -> Patch | None:
        """The patch for an object, unless what is said about it is what stands there, or is about another version."""
        if self._told.get(ref) == (value, said) or not self._hub.served.is_current(ref, value):
            return None
        patch = build()
        if patch is None:
            self._told[ref] = value, said
        return patch

    def _endpoint(self, endpoint: schema.Endpoint | None) -> EndpointStatus:
        if endpoint is None:
            return EndpointStatus()
        live = self._router.live()
        found = [live.get(f"{endpoint.name}/{one.name}") for one in endpoint.deployments]
        return EndpointStatus(
            scoring_path=f"/api/v1/endpoint/{endpoint.name}/score",
            deployments=len(endpoint.deployments),
            ready_replicas=sum(one.load.ready for one in found if one is not None),
            traffic=dict(endpoint.traffic),
        )

    def _unserved(self, endpoint: schema.Endpoint | None) -> list[str]:
        """Deployments that have a share of the traffic and nobody to answer it."""
        if endpoint is None:
            return []
        shares = endpoint.traffic.items()
        return [name for name, share in shares if share and not self._hub.is_ready(f"{endpoint.name}/{name}")]

    def _waits(self, ref: Ref, endpoint: schema.Endpoint | None, problems: tuple[Problem, ...]) -> tuple[Problem, ...]:
        """The problems, and that traffic does not go yet where the object says."""
        names = self._hub.served.waiting.get(endpoint.name, ()) if endpoint is not None else ()
        text = f"no replica of {' and '.join(names)} is ready yet; until then traffic goes where it went"
        return (*problems, Problem(ref, "spec.traffic", "Progressing", text)) if names else problems

    def _deployment(self, ref: Ref, name: str) -> tuple[Any, ...]:
        """Status, problems and verdicts, as `deployment_patch` has them."""
        merged = self._hub.served.merged
        problems = () if merged is None else merged.problems.get(ref, ())
        deployment, provider = self._router.live().get(name), self._hub.providers.get(name)
        if deployment is None or provider is None:
            return DeploymentStatus(), problems, Verdict(False, "NotServed", "it is not served")
        claims = provider.target.claims if provider.scales else ()
        text = f"{' and '.join(claims)} scales the same pods"
        conflict = Verdict(True, "AutoscalerFound", text) if claims else NO_CONFLICT
        empty = AT_ZERO if self._hub.starts_on_request(deployment) else self._empty(name)
        return self._figures(deployment, name), problems, self._scaling(name), conflict, empty

    def _empty(self, name: str) -> Verdict:
        target = self._hub.providers[name].target
        if target.seen and target.workload is None:
            return Verdict(False, "TargetMissing", f"there is no Deployment {target}")
        return EMPTY

    def _figures(self, deployment: Deployment, name: str) -> DeploymentStatus:
        load = deployment.load
        ready, starting, _ = deployment.counts(load)
        track = self._router.tracks().get(name)
        used = track.utilization(load.capacity, ready + starting) if track is not None else None
        return DeploymentStatus(
            endpoint=name.partition("/")[0],
            desired_replicas=deployment.wanted,
            ready_replicas=ready,
            utilization_percentage=None if used is None else round(100 * used),
            queue_depth=load.queue_depth,
            last_decision=None if track is None else _last_decision(track),
        )

    def _scaling(self, name: str) -> Verdict:
        """Whether fe sets the number. The words stay the same while nothing changes."""
        provider = self._hub.providers[name]
        plan, bar = provider.plan, provider.bar()
        if not provider.scales:
            return Verdict(False, "LeftAlone", "its number of replicas is not stated, and left as it is")
        if bar is not None:
            return Verdict(False, bar.reason, bar.text)
        if plan.scale is None:
            return Verdict(True, "Fixed", f"always {plan.stated}")
        bounds = f"{plan.scale.min_instances} to {plan.scale.max_instances} replicas"
        return Verdict(True, "FollowsLoad", f"{bounds}, {100 * plan.scale.target:g} % in use")


def _last_decision(track: Track) -> LastDecision | None:
    changed = track.changed
    if changed is None:
        return None
    return LastDecision(_time(track.decided_at), changed.desired, changed.rule, changed.reason)


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
