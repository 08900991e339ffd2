"""What the admin API says and takes, as types: the JSON of /api, field by field with its unit.

Owns: the shapes from which fe/control/openapi.json is generated, against which what people send is checked and by which
`fe status` reads answers. Never: making an answer (`fe.control.status`, `fe.control.events`), HTTP.
Answers may gain fields: readers pass over what they do not know. Requests are taken with known fields only.
"""

from __future__ import annotations

from typing import Annotated, Any, Final, get_args

from msgspec import Meta, Struct

from fe.control.events import Kind

MOST_EVENTS: Final = 1000
EVENTS: Final = 100  # unless asked for more


def _about(text: str, **schema: Any) -> Meta:
    return Meta(description=text, extra_json_schema=schema or None)


Seconds = Annotated[float, Meta(description="seconds since the epoch")]
Names = Annotated[str, Meta(description="endpoint/deployment")]
Address = Annotated[str, Meta(description="host:port, [v6]:port or unix:PATH")]


# --- /api/status -----------------------------------------------------------------------------------------------------


class Reloads(Struct):
    """What became of the configurations that were asked for."""

    applied: int
    refused: int
    last_ok: bool


class Worker(Struct):
    """A worker process."""

    index: int
    pid: int
    state: Annotated[str, _about("its life", enum=["free", "starting", "active", "absent"])]
    starts: Annotated[int, _about("how often it was started")]
    slots_in_use: Annotated[int, _about("requests it has in flight or waiting")]


class Share(Struct):
    """How much of a bounded table is in use."""

    used: int
    limit: int


class TableSizes(Struct):
    """The lease table."""

    bytes: int
    deployments: Share
    replicas: Share
    slots: Annotated[int, _about("requests that a worker can have at once")]


class Replica(Struct):
    """A replica of a deployment."""

    address: Address
    state: Annotated[str, _about("`ready`: gets requests", enum=[
        "starting", "ready", "ejected", "draining", "removing", "free",
    ])]  # fmt: skip
    in_flight: int
    failures: Annotated[int, _about("failures in a row")]
    last_probe: Annotated[str | None, _about("what the last probe found; null: it is not probed")]
    held: Annotated[bool, _about("taken out by hand, until it is put back by hand")]


class Latency(Struct):
    """Percentiles of whole requests over the last minute, in milliseconds."""

    p50: float
    p90: float
    p99: float


class Decision(Struct):
    """The last decision that changed the number of replicas."""

    time: Seconds
    desired: Annotated[int, _about("replicas there should be")]
    need: Annotated[int, _about("replicas that the load alone asked for")]
    rule: Annotated[str, _about("which of the autoscaler's rules decided")]
    reason: Annotated[str, _about("a sentence")]


class Scaling(Struct):
    """How a deployment is scaled."""

    min: int
    max: int
    target: Annotated[float, _about("utilization aimed at, 0 to 1")]
    polling_interval: Annotated[float, _about("seconds between two looks at the load")]
    manual: Annotated[bool, _about("the number was set by hand")]
    reason: Annotated[str | None, _about("what the last look at the load came to; null: none yet")]
    last_decision: Decision | None


class History(Struct):
    """The last minutes, oldest point first, at most 150 points; null: nothing is known of that time."""

    period_s: Annotated[float, _about("seconds between two points")]
    end: Annotated[float, _about("time of the last point, seconds since the epoch")]
    utilization: list[float | None]
    in_flight: list[float | None]
    queue_depth: list[float | None]
    ready: list[float | None]
    wanted: list[float | None]


class Deployment(Struct):
    """A deployment, its load and its replicas."""

    name: str
    kind: Annotated[str, _about("who runs its replicas", enum=["process", "static", "kubernetes"])]
    capacity_per_replica: Annotated[int, _about("requests that a replica takes at once; 0: no limit")]
    max_queue_length: int
    wanted: Annotated[int, _about("replicas there should be")]
    ready: Annotated[int, _about("replicas that get requests")]
    starting: int
    failing: int
    in_flight: Annotated[int, _about("requests at replicas")]
    queue_depth: Annotated[int, _about("requests that wait for a place")]
    utilization: Annotated[float | None, _about("requests in flight and waiting to places there are; null: not known")]
    requests_per_second: Annotated[float | None, _about("over the last minute; null: not known yet")]
    latency_ms: Annotated[Latency | None, _about("null: no request in the last minute")]
    scaling: Annotated[Scaling | None, _about("null: the number of replicas is fixed")]
    replicas: list[Replica]
    history: Annotated[History | None, _about("with ?history=1 only")] = None


class Route(Struct):
    """A configured way to an endpoint, beside /api/v1/endpoint/NAME/."""

    host: Annotated[str | None, _about("null: any host")]
    path_prefix: str


class Endpoint(Struct):
    """What clients call."""

    name: str
    auth_mode: str
    traffic: Annotated[dict[str, int], _about("deployment to percent")]
    mirror_traffic: Annotated[dict[str, int], _about("deployment to percent of requests copied to it")]
    routes: list[Route]
    deployments: list[Deployment]


class Sibling(Struct):
    """A front-end in the cluster."""

    identity: Annotated[str, _about("name of its pod")]
    address: str
    since: Seconds


class View(Struct):
    """What is seen of one kind of objects."""

    namespace: Annotated[str, _about("`*`: all")]
    kind: Annotated[str, _about("as in a path: `pods`")]
    objects: Annotated[int, _about("how many are kept")]
    seconds_since_sync: Annotated[float | None, _about("0: it is watched; null: never seen yet")]
    trouble: Annotated[str | None, _about("why it is not seen")]
    refused: Annotated[bool, _about("the server does not know this kind, or does not let fe see it, and never did")]


class Kubernetes(Struct):
    """The cluster in which models are found, and who scales them."""

    identity: Annotated[str, _about("of this front-end")]
    namespace: Annotated[str, _about("of this front-end; empty: not known yet")]
    reached_by: Annotated[str | None, _about("the configuration in use; null: none yet")]
    leading: Annotated[bool, _about("this front-end scales")]
    leader: Annotated[str | None, _about("the one that scales; null: none is known")]
    election_trouble: str | None
    siblings: Annotated[list[Sibling], _about("the longest there first, this one included")]
    views: list[View]
    conflicts: Annotated[dict[str, list[str]], _about("by deployment: what else scales its pods")]
    problems: Annotated[list[str], _about("why objects are not served as they say")]
    waiting: Annotated[dict[str, list[str]], _about("by endpoint: deployments that get traffic once they are ready")]
    scale_writes: Annotated[dict[str, int], _about("numbers of replicas written, by what became of it")]


class Status(Struct):
    """What fe is doing at this moment."""

    version: Annotated[str, _about("of fe")]
    time: Seconds
    config_version: Annotated[int, _about("of the snapshot that workers serve from")]
    controller_pid: int
    ready: Annotated[bool, _about("as /readyz says it")]
    not_ready: Annotated[list[str], _about("why not")]
    actions: Annotated[bool, _about("whether changes by hand are allowed (`admin_actions`)")]
    reloads: Reloads
    workers: list[Worker]
    table: TableSizes
    endpoints: list[Endpoint]
    kubernetes: Annotated[Kubernetes | None, _about("null: there is no cluster")] = None


# --- /api/events -----------------------------------------------------------------------------------------------------


class Event(Struct, rename={"before": "from", "after": "to"}):
    """Something that happened, and why."""

    id: Annotated[int, _about("grows by one with each event")]
    time: Seconds
    kind: Annotated[str, _about("what it was", enum=list(get_args(Kind)))]
    deployment: Names | None
    replica: Address | None
    before: Annotated[int | None, _about("replicas before")]
    after: Annotated[int | None, _about("replicas after")]
    reason: Annotated[str, _about("a sentence")]
    figures: Annotated[dict[str, float | str], _about("the figures behind it")]


class Events(Struct):
    """The newest events, oldest first."""

    last: Annotated[int, _about("id of the newest event there is; it begins anew with the controller")]
    events: list[Event]


# --- changes ---------------------------------------------------------------------------------------------------------


class ScaleRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """How many replicas there should be."""

    count: Annotated[int, Meta(ge=0, le=100_000)]


class ReplicaRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """Which replica."""

    replica: Annotated[Address, Meta(min_length=1, max_length=200)]


class ScaleAnswer(Struct):
    """The number of replicas there should be, and that before."""

    desired: int
    former: int


class ReplicaAnswer(Struct):
    """A replica, and the state it is in now."""

    replica: Address
    state: str


class ErrorDetail(Struct):
    """Why not. Codes are stable, messages are for people."""

    code: str
    message: str


class ErrorAnswer(Struct):
    """Every error below /api."""

    error: ErrorDetail
