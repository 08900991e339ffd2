"""The cluster's part of what is served: objects as they stand, put together with what the files say.

Owns: the moment from which the cluster's word counts (everything has been seen), what came of putting it together,
the problems of objects, and what a successor has to know of all that. Never: the seeing (`view`), the rules of
putting together (`merging`, `transition`), carrying it out (`fe.control.plane`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from fe.config import schema
from fe.config.snapshot import decode_config
from fe.control.kubernetes.heritage import Heritage, inherit
from fe.control.kubernetes.merging import Merged, merge
from fe.control.kubernetes.objects import Ref
from fe.control.kubernetes.transition import hold_back
from fe.control.kubernetes.view import View
from fe.control.state import ClusterLegacy
from fe.errors import ConfigError
from fe.log import logger

log = logger("control.kubernetes")

PLURALS: Final = {"OnlineEndpoint": "onlineendpoints", "OnlineDeployment": "onlinedeployments"}
UNSEEN: Final = "the cluster has not been seen since the controller's restart: the models found in it would be dropped"


class Served:
    """What the cluster brings. `legacy`: what a former controller knew of it; `config`: what that one served."""

    def __init__(
        self,
        views: Mapping[str, View],
        is_ready: Callable[[str], bool],
        legacy: ClusterLegacy | None,
        config: schema.RouterConfig | None,
    ) -> None:
        self._views = views
        self._is_ready = is_ready
        self._legacy = legacy
        self.known = legacy is not None  # it has been put together once, here or by the former controller
        self.heritage: Heritage = {} if legacy is None or config is None else inherit(config, legacy.owners)
        self.merged: Merged | None = None
        self.generations: dict[Ref, int] = {}  # of the objects that what is served came from
        self._read: dict[Ref, int] = {}
        self.problems: list[str] = []  # of objects
        self.waiting: dict[str, list[str]] = {}  # by endpoint: deployments that get traffic once they are ready

    @property
    def settled(self) -> bool:
        """Everything has been seen, or cannot be: what is not there does not exist."""
        return bool(self._views) and all(view.settled for view in self._views.values())

    @property
    def paths(self) -> tuple[str, ...]:
        """Of lists that a former controller had seen whole."""
        return () if self._legacy is None else self._legacy.seen

    def combine(
        self, files: schema.RouterConfig, applied: schema.RouterConfig | None, namespace: str
    ) -> schema.RouterConfig:
        """What the files say, with the objects beside it. Raises ConfigError while that cannot be known.

        applied: what is served now; as long as the objects are not known after a restart, it stays.
        """
        if not self.settled:
            if self._legacy is None or applied is None:
                return files
            if files != decode_config(self._legacy.files):
                raise ConfigError([UNSEEN])
            return applied
        self._legacy, self.known = None, True
        self.heritage.clear()
        views = self._views.values()
        endpoints = [one for view in views for one in view.endpoints.values()]
        deployments = [one for view in views for one in (*view.deployments.values(), *view.plain.values())]
        self._read = {ref: _generation(value) for kind in PLURALS for ref, value in self.values(kind)}
        merged = self.merged = merge(files, endpoints, deployments, namespace)
        self._tell_problems(merged)
        before = self._stated(merged)
        if applied is not None:
            before |= {endpoint.name: endpoint.traffic for endpoint in applied.endpoints}
        config, self.waiting = hold_back(before, merged.config, merged.deployments, self._is_ready)
        return config

    def on_carried_out(self) -> None:
        """What was put together last is served."""
        self.generations = self._read

    def is_current(self, ref: Ref, value: Mapping[str, Any]) -> bool:
        """What is served came from this version of the object, and not from an earlier one."""
        return self.generations.get(ref) == _generation(value)

    def legacy(self, files: bytes, namespace: str) -> ClusterLegacy:
        """What a successor has to know. files: the configuration of the files, encoded."""
        if self._legacy is not None:
            return self._legacy
        views = self._views.values()
        seen = tuple(view.paths[kind] for view in views for kind, one in view.reflectors.items() if one.synced)
        refs = {} if self.merged is None else self.merged.endpoints | self.merged.deployments
        owners = {name: (ref.kind, ref.namespace, ref.name) for name, ref in refs.items()}
        return ClusterLegacy(files, namespace, seen, owners)

    def found(self, name: str) -> bool:
        """The deployment is one that the cluster has brought."""
        return self.merged is not None and name in self.merged.deployments

    def values(self, kind: str) -> Iterator[tuple[Ref, Mapping[str, Any]]]:
        """The objects of one of fe's own kinds, as they stand in the cluster."""
        for view in self._views.values():
            for key, held in view.held(PLURALS[kind]).items():
                yield Ref(kind, *key), held.value

    def value_of(self, ref: Ref) -> Mapping[str, Any] | None:
        """One of them."""
        return next((value for one, value in self.values(ref.kind) if one == ref), None)

    def _stated(self, merged: Merged) -> dict[str, Mapping[str, int]]:
        """By endpoint, the traffic that its status states: as front-ends have it that have been there for longer."""
        found = {}
        for ref, value in self.values("OnlineEndpoint"):
            traffic = (value.get("status") or {}).get("traffic")
            if isinstance(traffic, dict) and all(isinstance(share, int) for share in traffic.values()):
                found[ref] = traffic
        return {name: found[ref] for name, ref in merged.endpoints.items() if ref in found}

    def _tell_problems(self, merged: Merged) -> None:
        found = sorted(str(problem) for problems in merged.problems.values() for problem in problems)
        for problem in found:
            if problem not in self.problems:
                log.warning("an object is not served as it says", problem=problem)
        self.problems = found


def _generation(value: Mapping[str, Any]) -> int:
    return int(value["metadata"].get("generation") or 0)
