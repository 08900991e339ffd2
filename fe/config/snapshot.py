"""What becomes of a configuration: the snapshot for workers, the table's limits, a private copy in bytes.

Owns: the translation of the model to `fe.model` and the lease table's limits, the comparison of two configurations,
the encoding in which a controller leaves the applied configuration to its successor. Never: files or YAML. Clear-text
keys do not occur.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from fe import model
from fe.config import schema

if TYPE_CHECKING:
    from fe._core import Limits as TableLimits

TABLE_LIMITS: Final = ("deployments", "replicas", "holders", "slots", "config_bytes")
STATIC: Final = ("listen", "admin", "workers", "drain_timeout", "worker_timeout")
STATIC_LOG: Final = ("level", "format", "file")


def http_limits(config: schema.RouterConfig) -> model.HttpLimits:
    """The bounds of the data path."""
    return model.HttpLimits(*(getattr(config.limits, name) for name in model.HttpLimits.__struct_fields__))


def table_limits(config: schema.RouterConfig, workers: int) -> TableLimits:
    """The limits with which the lease table is made, for this many workers."""
    from fe._core import Limits

    return Limits(workers=workers, **{name: getattr(config.limits, name) for name in TABLE_LIMITS})


def build_snapshot(config: schema.RouterConfig, records: Mapping[tuple[str, str], tuple[int, int]]) -> model.Snapshot:
    """What workers serve from. `records` has the table's (index, generation) for each (endpoint, deployment)."""
    return model.Snapshot(
        endpoints=tuple(_build_endpoint(endpoint, records) for endpoint in config.endpoints),
        trusted_proxies=config.trusted_proxies,
        http=http_limits(config),
        access_log=config.log.access,
    )


def _build_endpoint(
    endpoint: schema.Endpoint, records: Mapping[tuple[str, str], tuple[int, int]]
) -> model.EndpointView:
    return model.EndpointView(
        name=endpoint.name,
        auth_mode=endpoint.auth_mode,
        key_digests=endpoint.keys.digests() if endpoint.auth_mode == "key" else (),
        traffic=endpoint.traffic,
        mirror_traffic=endpoint.mirror_traffic,
        routes=tuple(model.RouteView(route.host, route.path_prefix) for route in endpoint.routes),
        deployments=tuple(
            _build_deployment(deployment, *records[endpoint.name, deployment.name])
            for deployment in endpoint.deployments
        ),
    )


def _build_deployment(deployment: schema.Deployment, index: int, generation: int) -> model.DeploymentView:
    settings = deployment.request_settings
    return model.DeploymentView(
        name=deployment.name,
        index=index,
        generation=generation,
        capacity=settings.max_concurrent_requests_per_instance,
        request_timeout_ms=settings.request_timeout_ms,
        max_queue_wait_ms=settings.max_queue_wait_ms,
        max_body_bytes=settings.max_body_bytes,
        on_disconnect=settings.on_disconnect,
        abandon_timeout_ms=settings.abandon_timeout_ms,
        retry_on_reset=settings.retry_on_reset,
        websocket=settings.websocket,
        cold_start_timeout_ms=deployment.cold_start_timeout_ms or _gap_ms(deployment),
    )


def _gap_ms(deployment: schema.Deployment) -> int:
    """How long requests wait while no replica is ready. That no pod is, for a moment, is nothing out of the ordinary:
    they are replaced, one is all there is, the node is emptied; so it counts as waiting for a place."""
    pods = isinstance(deployment.replicas, schema.KubernetesReplicas)
    return deployment.request_settings.max_queue_wait_ms if pods else 0


def snapshot_bytes(config: schema.RouterConfig) -> int:
    """How many bytes the published configuration takes (to be held against limits.config_bytes)."""
    records = {
        (endpoint.name, deployment.name): (0xFFFFFFFF, 0xFFFFFFFF)
        for endpoint in config.endpoints
        for deployment in endpoint.deployments
    }
    return len(model.encode_snapshot(build_snapshot(config, records)))


def static_differences(old: schema.RouterConfig, new: schema.RouterConfig) -> list[str]:
    """What differs and cannot change while running, a sentence each. Empty: `new` can be applied."""
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in STATIC]
    pairs += [(f"log.{name}", getattr(old.log, name), getattr(new.log, name)) for name in STATIC_LOG]
    pairs += _kubernetes_pairs(old.kubernetes, new.kubernetes)
    pairs += [(f"limits.{name}", getattr(old.limits, name), getattr(new.limits, name)) for name in TABLE_LIMITS]
    return [
        f"{name} cannot change while fe-serve runs (from {_shown(before)} to {_shown(after)}): restart it"
        for name, before, after in pairs
        if before != after
    ]


def _kubernetes_pairs(old: schema.Kubernetes | None, new: schema.Kubernetes | None) -> list[tuple[str, object, object]]:
    """The settings of the cluster, or just whether there is one."""
    if old is None or new is None:
        return [("kubernetes", "on" if old else "off", "on" if new else "off")]
    names = [field.name for field in msgspec.structs.fields(schema.Kubernetes) if field.name != "election"]
    pairs = [(f"kubernetes.{name}", getattr(old, name), getattr(new, name)) for name in names]
    return pairs + [
        (f"kubernetes.election.{field.name}", getattr(old.election, field.name), getattr(new.election, field.name))
        for field in msgspec.structs.fields(schema.Election)
    ]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    return ", ".join(map(str, value)) or "none" if isinstance(value, tuple) else str(value)


def key_variables(config: schema.RouterConfig) -> set[str]:
    """The environment variables that hold keys of endpoints (`env:NAME`)."""
    secrets = [key for endpoint in config.endpoints for key in (endpoint.keys.primary, endpoint.keys.secondary) if key]
    return {one.origin.removeprefix("env:") for one in secrets if one.origin.startswith("env:")}


def process_start(
    process: schema.ProcessReplicas, port: int, environ: Mapping[str, str], config: schema.RouterConfig
) -> tuple[tuple[str, ...], dict[str, str], str | None]:
    """Command, whole environment and output file of a local replica that is to serve on `port`.

    `{port}` is put in everywhere. From `environ` (fe's own) the variables that hold keys of endpoints are left out,
    and those by which systemd talks to fe alone.
    """
    hidden = {"NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}
    hidden |= key_variables(config)
    inherited = {name: value for name, value in environ.items() if name not in hidden}
    stated = {name: value.replace("{port}", str(port)) for name, value in process.env.items()}
    command = tuple(word.replace("{port}", str(port)) for word in process.command)
    output = process.output and process.output.replace("{port}", str(port))
    return command, {**inherited, "PORT": str(port), **stated}, output


def encode_config(config: schema.RouterConfig) -> bytes:
    """The configuration as bytes for a successor process. Keys are digests in it, environment variables as they are."""
    return msgspec.msgpack.encode(config)


def decode_config(raw: bytes) -> schema.RouterConfig:
    """The inverse of `encode_config`. Raises msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(raw, type=schema.RouterConfig)
