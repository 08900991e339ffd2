"""The one typed model of fe's configuration: what a user can set, in which unit, with which default and bounds.

Owns: the structs, and with each field its meaning (`Meta.description`), unit, bounds and example, from which the
reader (`fe.config.reader`), the checks and docs/configuration.md are made. Never: reading files (`fe.config.load`),
checks across fields (`fe.config.rules`). Secrets are digests from the moment they are read: no clear text is kept.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Struct

from fe.config.annotations import MAX_SECONDS, Percent, Seconds, Secret, key
from fe.config.deployment_schema import (
    OWN_REQUEST_KEYS,
    Deployment,
    Probe,
    ProcessReplicas,
    RequestSettings,
    ScaleSettings,
    StaticReplicas,
)
from fe.config.kubernetes_schema import Election, Kubernetes, KubernetesReplicas
from fe.config.limits import Limits

__all__ = [
    "OWN_REQUEST_KEYS", "Deployment", "Election", "Endpoint", "Keys", "Kubernetes", "KubernetesReplicas", "Limits",
    "LogSettings", "Probe", "ProcessReplicas", "RequestSettings", "Route", "RouterConfig", "ScaleSettings", "Secret",
    "StaticReplicas",
]  # fmt: skip


class Keys(Struct, frozen=True):
    """The two keys of an endpoint with `auth_mode: key`; each can be replaced while the other is in use."""

    primary: Annotated[Secret | None, key("first key", kind="secret", example="file:keys/primary")] = None
    secondary: Annotated[Secret | None, key("second key", kind="secret", example="env:FE_DEMO_SECONDARY")] = None

    def digests(self) -> tuple[bytes, ...]:
        """SHA-256 digests of the keys there are, without repetition."""
        return tuple(dict.fromkeys(secret.digest for secret in (self.primary, self.secondary) if secret is not None))


class Route(Struct, frozen=True):
    """Requests for `host` below `path_prefix` go to the endpoint, path unchanged. At least one of the two is given."""

    host: Annotated[
        str | None, key("host name of the request, without port; any host if absent", kind="host", example="ml.example")
    ] = None
    path_prefix: Annotated[
        str, key("whole segments: `/v1` matches `/v1` and `/v1/x`, not `/v10`", kind="path_prefix", example="/v1")
    ] = "/"


class Endpoint(Struct, frozen=True):
    """What clients call: a name, credentials, routes and the split of its traffic over deployments."""

    name: Annotated[
        str, key("3-32 letters, digits, single dashes, letter first", kind="endpoint_name", example="fraud-score")
    ]
    auth_mode: Annotated[
        Literal["key", "none", "aml_token", "aad_token"],
        key(
            "`key`: `Authorization: Bearer <key>`; `none`: open to all; tokens are not supported by this version",
            example="none",
        ),
    ] = "key"
    keys: Annotated[Keys, key("with `auth_mode: key`: text, `file:PATH` or `env:NAME`")] = Keys()
    traffic: Annotated[
        dict[str, Percent],
        key(
            "deployment to percent, sum 0 or 100; if absent, a single deployment gets all",
            kind="percentages",
            unit="%",
            example={"blue": 90, "green": 10},
            numbers=(0, 100),
        ),
    ] = msgspec.field(default_factory=dict)
    mirror_traffic: Annotated[
        dict[str, Percent],
        key(
            "deployment to percent of requests copied to it, answers dropped",
            kind="percentages",
            unit="%",
            example={"green": 10},
            numbers=(0, 100),
        ),
    ] = msgspec.field(default_factory=dict)
    routes: Annotated[
        tuple[Route, ...],
        key(
            "further ways to it, beside `/api/v1/endpoint/<name>/` and `/api/v1/service/<name>/`",
            kind="routes",
            example=[{"host": "ml.example", "path_prefix": "/"}],
        ),
    ] = ()
    deployments: Annotated[tuple[Deployment, ...], key("its deployments")] = ()
    request_defaults: RequestSettings = RequestSettings()  # no key of its own: fe's own request keys as they hold here


class LogSettings(Struct, frozen=True):
    """What is written about fe's own doings."""

    level: Annotated[Literal["debug", "info", "warning", "error"], key("least severity", example="debug")] = "info"
    format: Annotated[Literal["human", "json"], key("lines for people, or one JSON object each", example="json")] = (
        "human"
    )
    access: Annotated[bool, key("one line per request", example=True)] = False
    file: Annotated[
        str | None,
        key("file that gets the log, appended; default: stderr", kind="file_path", example="/var/log/fe.log"),
    ] = None


class RouterConfig(Struct, frozen=True):
    """Everything fe-serve is told."""

    listen: Annotated[
        tuple[str, ...],
        key(
            "where clients are served: IP:port, [v6]:port or unix:PATH, one or a list; port 0: any free one",
            kind="listen_address",
            example=["0.0.0.0:8080", "unix:run/fe.sock"],
        ),
    ] = ("127.0.0.1:8080",)
    admin: Annotated[
        tuple[str, ...],
        key(
            "where metrics and health are served; not for clients: it has no credentials; [] for none",
            kind="listen_address",
            example="127.0.0.1:9901",
        ),
    ] = ("127.0.0.1:9901",)
    admin_actions: Annotated[
        bool,
        key(
            "whoever reaches `admin` may drain replicas and scale deployments by hand; else it only shows", example=True
        ),
    ] = False
    workers: Annotated[
        int | Literal["auto"],
        key("worker processes; `auto`: one per usable CPU", kind="workers", example=4, numbers=(1, 256)),
    ] = "auto"
    drain_timeout: Annotated[
        Seconds,
        key(
            "time that requests get to finish when fe-serve is told to end",
            kind="seconds",
            unit="s",
            example="1m",
            ge=0,
            le=MAX_SECONDS,
        ),
    ] = 30.0
    worker_timeout: Annotated[
        Seconds,
        key(
            "a worker without a sign of life for this long is replaced",
            kind="seconds",
            unit="s",
            example=5,
            ge=1,
            le=3600,
        ),
    ] = 10.0
    trusted_proxies: Annotated[
        tuple[str, ...],
        key("addresses or networks whose forwarding headers are believed", kind="network", example=["10.0.0.0/8"]),
    ] = ()
    log: Annotated[LogSettings, key("what is logged, and how")] = LogSettings()
    kubernetes: Annotated[
        Kubernetes | None, key("find models in a Kubernetes cluster and scale them; `{}` turns it on")
    ] = None
    limits: Annotated[Limits, key("sizes and bounds")] = Limits()
    endpoints: Annotated[tuple[Endpoint, ...], key("what is served")] = ()
    request_defaults: RequestSettings = RequestSettings()  # no key of its own: fe's own request keys as they hold here
