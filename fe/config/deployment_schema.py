"""The part of the model that is one deployment: how requests get in, how many replicas there are, where they are.

Owns: `Deployment` and what stands in it, from files and from the cluster alike. Never: endpoints and the router
(`fe.config.schema`, by which names others take these structs), the form of a key (`fe.config.annotations`).
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

import msgspec
from msgspec import Struct

from fe.config.annotations import MAX_MS, MAX_SECONDS, Bytes, Milliseconds, Percent, Seconds, key
from fe.config.kubernetes_schema import KubernetesReplicas


class RequestSettings(Struct, frozen=True):
    """How requests of a deployment are admitted, queued and timed."""

    request_timeout_ms: Annotated[
        Milliseconds,
        key(
            "from the lease to the response head, then the longest silence in the answer; else 504",
            unit="ms",
            example=30000,
            ge=1,
            le=MAX_MS,
        ),
    ] = 5000
    max_concurrent_requests_per_instance: Annotated[
        int,
        key(
            "capacity of a replica; 0: no limit, only with `scale_settings.type: default`",
            example=4,
            ge=0,
            le=1_000_000,
        ),
    ] = 1
    max_queue_wait_ms: Annotated[
        Milliseconds,
        key("longest wait for a free replica, else 503; 0: do not wait", unit="ms", example=2000, ge=0, le=MAX_MS),
    ] = 500
    max_queue_length: Annotated[
        int,
        key(
            "most requests that wait at once, across all workers; one more gets 503 at once",
            example=200,
            ge=0,
            le=1_000_000,
        ),
    ] = 1000
    max_body_bytes: Annotated[
        Bytes, key("largest request body, else 413", kind="bytes", unit="bytes", example="250MB", ge=0, le=1 << 50)
    ] = 100 << 20
    on_disconnect: Annotated[
        Literal["finish", "abort"],
        key(
            "when the client leaves or 504 was sent: `finish` keeps the replica's place until it has answered, "
            "`abort` closes the connection and frees the place at once (servers that cancel)",
            example="abort",
        ),
    ] = "finish"
    abandon_timeout_ms: Annotated[
        Milliseconds,
        key(
            "with `finish`: how long an abandoned request may still hold its place",
            unit="ms",
            example=60000,
            ge=0,
            le=MAX_MS,
        ),
    ] = 60_000
    retry_on_reset: Annotated[
        bool,
        key("retry any method, POST too, when a reused connection closes before the answer", example=True),
    ] = False
    websocket: Annotated[bool, key("pass WebSocket upgrades on", example=True)] = False


# These keys of RequestSettings are fe's own: they may also stand in the deployment, the endpoint or at the top level.
OWN_REQUEST_KEYS: Final = (
    "max_queue_length", "max_body_bytes", "on_disconnect", "abandon_timeout_ms", "retry_on_reset", "websocket",
)  # fmt: skip


class ScaleSettings(Struct, frozen=True):
    """How many replicas there should be."""

    type: Annotated[
        Literal["default", "target_utilization"],
        key("`default`: always `instance_count`; `target_utilization`: as many as the load needs", example="default"),
    ] = "target_utilization"
    min_instances: Annotated[int, key("fewest replicas", example=2, ge=0, le=100_000)] = 1
    max_instances: Annotated[int, key("most replicas", example=10, ge=1, le=100_000)] = 1
    target_utilization_percentage: Annotated[
        Percent, key("the share of capacity in use that scaling aims at", unit="%", example=60, ge=1, le=100)
    ] = 70
    polling_interval: Annotated[
        Seconds, key("between two looks at the load", kind="seconds", unit="s", example=1, ge=0.1, le=3600)
    ] = 1.0
    scale_down_delay: Annotated[
        Seconds,
        key("down only to the highest need of this long", kind="seconds", unit="s", example="2m", ge=0, le=MAX_SECONDS),
    ] = 60.0
    scale_to_zero_delay: Annotated[
        Seconds,
        key(
            "with `min_instances: 0`: the last replica is ended after this long without any load",
            kind="seconds",
            unit="s",
            example="15m",
            ge=0,
            le=MAX_SECONDS,
        ),
    ] = 300.0
    cold_start_timeout: Annotated[
        Seconds,
        key(
            "with `min_instances: 0`: how long requests wait for the first replica, else 503",
            kind="seconds",
            unit="s",
            example="2m",
            ge=0.001,
            le=MAX_SECONDS,
        ),
    ] = 60.0
    max_scale_up_rate: Annotated[
        float,
        key(
            "at one look the number grows at most by this factor of the ready replicas (at least by one); 0: no limit",
            kind="number",
            example=2,
            ge=0,
            le=1000,
        ),
    ] = 0.0

    @property
    def automatic(self) -> bool:
        """The number follows the load."""
        return self.type == "target_utilization" and self.max_instances > self.min_instances


class Probe(Struct, frozen=True):
    """An HTTP GET that tells whether a replica lives, or is ready. 200-399 is a success."""

    path: Annotated[str, key("what is asked for", kind="path", example="/health")] = "/"
    period: Annotated[
        Seconds, key("between two probes", kind="seconds", unit="s", example=5, ge=0.05, le=MAX_SECONDS)
    ] = 10.0
    initial_delay: Annotated[
        Seconds,
        key("after the start, before failures count", kind="seconds", unit="s", example=30, ge=0, le=MAX_SECONDS),
    ] = 10.0
    timeout: Annotated[Seconds, key("for the answer", kind="seconds", unit="s", example=1, ge=0.05, le=MAX_SECONDS)] = (
        2.0
    )
    success_threshold: Annotated[int, key("successes in a row that make it ready", example=1, ge=1, le=1000)] = 1
    failure_threshold: Annotated[int, key("failures in a row that make it unready", example=3, ge=1, le=100_000)] = 30


class StaticReplicas(Struct, frozen=True, tag_field="kind", tag="static"):
    """Replicas that run elsewhere: `static: [address, ...]`, each host:port, [v6]:port or unix:PATH."""

    addresses: Annotated[tuple[str, ...], key("where they are", kind="replica_address", example="10.0.0.5:5001")]


class ProcessReplicas(Struct, frozen=True, tag_field="kind", tag="process"):
    """Replicas that fe runs on this machine: `process: {command: ...}`, one process and port each."""

    command: Annotated[
        tuple[str, ...],
        key(
            "a list of strings, or one string split like a shell without running one; `{port}` is the port to serve; "
            "a relative program path starts at `cwd`",
            kind="command",
            example=["python", "serve.py", "--port", "{port}"],
        ),
    ]
    env: Annotated[
        dict[str, str],
        key(
            "added to fe's environment and to the deployment's `environment_variables`; `PORT` is set too",
            kind="environment",
            example={"MODEL": "v1", "LISTEN": "127.0.0.1:{port}"},
        ),
    ] = msgspec.field(default_factory=dict)
    cwd: Annotated[str, key("working directory; default: the file's folder", kind="file_path", example="model")] = ""
    output: Annotated[
        str | None,
        key(
            "file that gets its output, appended; default: fe's stderr",
            kind="file_path",
            example="logs/model-{port}.log",
        ),
    ] = None
    stop_grace: Annotated[
        Seconds, key("between SIGTERM and SIGKILL", kind="seconds", unit="s", example="20s", ge=0, le=MAX_SECONDS)
    ] = 10.0


class Deployment(Struct, frozen=True):
    """A set of interchangeable replicas and the rules by which requests get to them."""

    name: Annotated[
        str, key("1-32 letters, digits, single dashes, letter first", kind="deployment_name", example="blue")
    ]
    replicas: Annotated[
        StaticReplicas | ProcessReplicas | KubernetesReplicas,
        key(
            "where the replicas are: `static`, `process` or `kubernetes`",
            kind="replicas",
            example={"static": ["127.0.0.1:5001"]},
        ),
    ]
    request_settings: Annotated[RequestSettings, key("admission, queue and timeouts")] = RequestSettings()
    scale_settings: Annotated[ScaleSettings, key("number of replicas; `scale_setting` is accepted too")] = (
        ScaleSettings()
    )
    instance_count: Annotated[
        int | None,
        key(
            "number of replicas; with `max_instances` above `min_instances` the number to start with",
            example=2,
            numbers=(0, 100_000),
        ),
    ] = None
    liveness_probe: Annotated[Probe | None, key("a replica that fails it is restarted (process) or set aside")] = None
    readiness_probe: Annotated[Probe | None, key("a replica that fails it gets no requests")] = None

    def replica_count(self) -> int:
        """How many replicas there should be as configured, at the start; for `static` how many there are."""
        scale = self.scale_settings
        if isinstance(self.replicas, StaticReplicas):
            return len(self.replicas.addresses)
        if self.scales:
            wanted = scale.min_instances if self.instance_count is None else self.instance_count
            return max(scale.min_instances, min(wanted, scale.max_instances))
        if self._pinned:
            return scale.min_instances
        return 1 if self.instance_count is None else self.instance_count

    def most_replicas(self) -> int:
        """How many replicas there may be at some time; of a changed command one more, which replaces the others."""
        most = self.scale_settings.max_instances if self.scales else self.replica_count()
        return most + isinstance(self.replicas, ProcessReplicas)

    @property
    def scales(self) -> bool:
        """The number of its replicas follows the load: what runs them can start and end them."""
        return self.scale_settings.automatic and not isinstance(self.replicas, StaticReplicas)

    @property
    def left_alone(self) -> bool:
        """Pods whose number nobody has stated: it is whatever the cluster says, and `replica_count` a guess."""
        stated = self.instance_count is not None or self._pinned
        return isinstance(self.replicas, KubernetesReplicas) and not self.scales and not stated

    @property
    def _pinned(self) -> bool:
        """Both bounds are one number. 1 may be what nobody has written: there `instance_count` may differ."""
        scale = self.scale_settings
        return scale.type != "default" and scale.min_instances == scale.max_instances != 1

    @property
    def cold_start_timeout_ms(self) -> int:
        """How long requests wait for the first replica; 0: they do not."""
        waits = self.scales and self.scale_settings.min_instances == 0
        return max(1, round(self.scale_settings.cold_start_timeout * 1000)) if waits else 0
