"""The block `limits` of the configuration: sizes of the shared table, and bounds of the HTTP path.

Owns: their ranges and defaults, those of the HTTP path equal to `fe.model.HttpLimits` (a test compares them).
Never: their effect. Read docs/operations.md for how to size them.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Struct

from fe.config.annotations import MAX_MS, Bytes, Milliseconds, key


class Limits(Struct, frozen=True):
    """Sizes of the shared table (fixed at start), and bounds of the HTTP path (changed by a reload)."""

    deployments: Annotated[int, key("deployments at once", example=64, ge=1, le=65_535)] = 1024
    replicas: Annotated[int, key("replicas at once", example=500, ge=1, le=1_000_000)] = 10_000
    holders: Annotated[int, key("processes that take leases, at least `workers`", example=8, ge=1, le=256)] = 64
    slots: Annotated[
        int, key("requests in flight or waiting at once in each worker", example=2048, ge=16, le=1 << 20)
    ] = 8192
    config_bytes: Annotated[
        Bytes,
        key(
            "largest configuration as handed to workers",
            kind="bytes",
            unit="bytes",
            example="4MiB",
            ge=4096,
            le=1 << 30,
        ),
    ] = 2 << 20
    header_bytes: Annotated[
        Bytes, key("largest header block, else 431", kind="bytes", unit="bytes", example="64KiB", ge=1024, le=1 << 20)
    ] = 32 * 1024
    header_fields: Annotated[int, key("most header fields, else 431", example=200, ge=8, le=10_000)] = 100
    target_bytes: Annotated[
        Bytes, key("longest request target, else 414", kind="bytes", unit="bytes", example="16KiB", ge=64, le=1 << 20)
    ] = 8 * 1024
    header_timeout_ms: Annotated[
        Milliseconds, key("for a whole request head, else 408", unit="ms", example=5000, ge=10, le=MAX_MS)
    ] = 10_000
    idle_timeout_ms: Annotated[
        Milliseconds,
        key("a kept client connection without a request is closed", unit="ms", example=30000, ge=10, le=MAX_MS),
    ] = 75_000
    body_timeout_ms: Annotated[
        Milliseconds,
        key("a body has to bring `body_min_bytes` in each such span", unit="ms", example=20000, ge=10, le=MAX_MS),
    ] = 10_000
    body_min_bytes: Annotated[
        Bytes, key("see `body_timeout_ms`", kind="bytes", unit="bytes", example=256, ge=1, le=1 << 30)
    ] = 1_024
    write_timeout_ms: Annotated[
        Milliseconds,
        key(
            "a client that takes nothing of its answer for this long is closed",
            unit="ms",
            example=60000,
            ge=10,
            le=MAX_MS,
        ),
    ] = 30_000
    connect_timeout_ms: Annotated[
        Milliseconds, key("for a connection to a replica", unit="ms", example=300, ge=1, le=MAX_MS)
    ] = 1_000
    upstream_idle_ms: Annotated[
        Milliseconds,
        key(
            "an unused connection to a replica is kept this long; 0: none is kept",
            unit="ms",
            example=2000,
            ge=0,
            le=MAX_MS,
        ),
    ] = 4_000
    upstream_idle_connections: Annotated[
        int, key("unused connections kept per replica and worker", example=16, ge=0, le=65_536)
    ] = 64
    connections: Annotated[int, key("client connections per worker", example=4096, ge=1, le=1_000_000)] = 16_384
    collect_bytes: Annotated[
        Bytes,
        key(
            "a body up to this is read before a replica is asked for",
            kind="bytes",
            unit="bytes",
            example="256KiB",
            ge=0,
            le=1 << 26,
        ),
    ] = 64 * 1024
