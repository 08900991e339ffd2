"""The vocabulary that both planes and the supervisor share: what is said across a process boundary, and its names.

Owns: the snapshot that the controller publishes and the workers serve from, the messages between supervisor and
controller, the meaning of the statistics record, the reasons of fe's own answers. Never: I/O, the user's configuration
(that is `fe.config`). Everything here is plain data; the shared memory that carries it is `fe._core`.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from fe._core import Table


# --- The snapshot: what workers serve from ---------------------------------------------------------------------------


class DeploymentView(msgspec.Struct, frozen=True):
    """A deployment as a worker sees it; `index` and `generation` name its record in the lease table."""

    name: str
    index: int
    generation: int
    capacity: int
    request_timeout_ms: int
    max_queue_wait_ms: int
    max_body_bytes: int
    on_disconnect: str  # "finish" or "abort"
    abandon_timeout_ms: int
    retry_on_reset: bool
    websocket: bool
    cold_start_timeout_ms: int = 0  # requests wait this long for the first replica; 0: without one they are refused


class RouteView(msgspec.Struct, frozen=True):
    """A configured route: requests for `host` (None: any) below `path_prefix` go to the endpoint, path unchanged."""

    host: str | None
    path_prefix: str


class EndpointView(msgspec.Struct, frozen=True):
    """An endpoint as a worker sees it. Keys are never here, only their SHA-256 digests."""

    name: str
    auth_mode: str  # "none" or "key"
    key_digests: tuple[bytes, ...]
    traffic: dict[str, int]  # deployment -> percent
    mirror_traffic: dict[str, int]
    routes: tuple[RouteView, ...]
    deployments: tuple[DeploymentView, ...]


class HttpLimits(msgspec.Struct, frozen=True):
    """Bounds of the data path; times in ms, sizes in bytes."""

    header_bytes: int = 32 * 1024
    header_fields: int = 100
    target_bytes: int = 8 * 1024
    header_timeout_ms: int = 10_000  # a request head has to be complete within this from its first byte
    idle_timeout_ms: int = 75_000  # a kept client connection without a request
    body_timeout_ms: int = 10_000  # a body has to bring at least `body_min_bytes` in each such span
    body_min_bytes: int = 1_024
    write_timeout_ms: int = 30_000  # a client that takes nothing of its answer for this long is closed
    connect_timeout_ms: int = 1_000
    upstream_idle_ms: int = 4_000  # an unused kept connection to a replica
    upstream_idle_connections: int = 64  # kept per replica and worker
    connections: int = 16_384  # client connections per worker
    collect_bytes: int = 64 * 1024  # a body up to this is collected before a lease is asked for


class Snapshot(msgspec.Struct, frozen=True):
    """Everything a worker needs to serve, published whole by the controller through `Table.publish`."""

    endpoints: tuple[EndpointView, ...]
    trusted_proxies: tuple[str, ...] = ()  # networks in CIDR notation
    http: HttpLimits = msgspec.field(default_factory=HttpLimits)
    access_log: bool = False


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The snapshot as the bytes that `Table.publish` takes."""
    return msgspec.msgpack.encode(snapshot)


def decode_snapshot(raw: bytes) -> Snapshot:
    """The inverse of `encode_snapshot`. Raises msgspec.DecodeError on anything else."""
    return msgspec.msgpack.decode(raw, type=Snapshot)


# --- Statistics: what the numbers in a record mean -------------------------------------------------------------------

# Status codes get a counter each as far as they are registered; another one counts for its class (x00).
STATUS_CODES: Final = (
    100, 101, 102, 103,
    200, 201, 202, 203, 204, 205, 206, 207, 208, 226,
    300, 301, 302, 303, 304, 305, 307, 308,
    400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418,
    421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 499,
    500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
)  # fmt: skip

# Why fe itself answered (or closed) instead of passing a replica's answer on.
REASONS: Final = (
    "bad_request", "unauthorized", "no_route", "no_deployment", "body_too_large", "client_timeout",
    "queue_full", "queue_wait", "no_replica", "no_slot",
    "connect_failed", "replica_closed", "replica_invalid", "replica_timeout", "client_gone",
    "draining", "internal",
)  # fmt: skip

# Plain counters beside them.
COUNTS: Final = (
    "requests", "queued", "retries", "request_bytes", "response_bytes",
    "mirrored", "mirror_skipped", "abandoned", "connections", "upstream_connections", "access_lines_lost",
)  # fmt: skip

COUNTER_NAMES: Final = (
    *COUNTS,
    *(f"reason_{reason}" for reason in REASONS),
    *(f"status_{code}" for code in STATUS_CODES),
)
COUNTER_INDEX: Final = {name: index for index, name in enumerate(COUNTER_NAMES)}

# Durations: the whole request, waiting for a lease, from the lease to the response head.
HISTOGRAM_NAMES: Final = ("total", "queue", "replica")


# --- Between supervisor and its children -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Listener:
    """A listening socket, opened by the supervisor before the fork and inherited by every worker."""

    socket: socket.socket
    address: str  # as configured, for messages
    worker: int | None  # whose it is (SO_REUSEPORT, one per worker), or None: shared by all (AF_UNIX)


@dataclass(frozen=True)
class WorkerRuntime:
    """What a worker process is started with."""

    table: Table
    index: int  # also its holder's index and its row in the statistics
    eventfds: tuple[int, ...]  # one per worker; eventfds[index] is rung for this one
    listeners: tuple[Listener, ...]
    drain_timeout: float  # seconds
    log_fd: int  # where access lines go
    log_json: bool  # as JSON objects, else for people


@dataclass(frozen=True)
class ControllerRuntime:
    """What the controller process is started with."""

    table: Table
    workers: int
    eventfd: int  # rung by workers (ejections, removals that have emptied)
    supervisor: socket.socket  # SOCK_SEQPACKET: the messages below, one JSON document each
    admin: tuple[socket.socket, ...]  # listening sockets of the admin server
    config_path: str
    state_fd: int  # a memfd that outlives the controller: the last applied configuration; closed in workers
    restarted: bool  # a predecessor has been here: take up its state


class Spawn(msgspec.Struct, tag="spawn", frozen=True):
    """Controller -> supervisor: start a local replica as `id` (chosen by the controller, never used twice)."""

    id: str
    argv: tuple[str, ...]
    env: dict[str, str]  # the whole environment
    cwd: str
    output: str | None  # a file to append to; None: fe's stderr
    stop_grace: float  # seconds between SIGTERM and SIGKILL when it is ended


class Stop(msgspec.Struct, tag="stop", frozen=True):
    """Controller -> supervisor: end a local replica with its whole process group."""

    id: str


class ListReplicas(msgspec.Struct, tag="list", frozen=True):
    """Controller -> supervisor: which local replicas are there? Answered by `Running`."""


class Ready(msgspec.Struct, tag="ready", frozen=True):
    """Controller -> supervisor: the first configuration is applied (systemd is told READY=1 after it)."""


class Fatal(msgspec.Struct, tag="fatal", frozen=True):
    """Controller -> supervisor: cannot go on at start-up; fe-serve ends with this message and exit code."""

    message: str
    exit_code: int


class Reloaded(msgspec.Struct, tag="reloaded", frozen=True):
    """Controller -> supervisor: a reload has ended (systemd is told READY=1); `error` is None when it was applied."""

    error: str | None


class Alive(msgspec.Struct, tag="alive", frozen=True):
    """Controller -> supervisor, every second or so: its loop turns. Whoever has sent one and then stops is replaced."""


class Spawned(msgspec.Struct, tag="spawned", frozen=True):
    """Supervisor -> controller: the replica runs under process id `pid`; `error` says why it does not."""

    id: str
    pid: int
    error: str | None


class Exited(msgspec.Struct, tag="exited", frozen=True):
    """Supervisor -> controller: a local replica and its process group are gone."""

    id: str
    status: int  # exit code, or minus the signal


class Running(msgspec.Struct, tag="running", frozen=True):
    """Supervisor -> controller: the local replicas there are, by id, with their process ids."""

    replicas: dict[str, int]


class Drain(msgspec.Struct, tag="drain", frozen=True):
    """Supervisor -> controller: fe-serve is ending; stop scaling and probing, answer /readyz with 503."""


ToSupervisor = Spawn | Stop | ListReplicas | Ready | Fatal | Reloaded | Alive
ToController = Spawned | Exited | Running | Drain
