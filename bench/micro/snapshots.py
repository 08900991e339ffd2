"""Configurations as the controller publishes them, of any size, for benchmarks. Never: a file, a table."""

from __future__ import annotations

from functools import cache

from fe import model


@cache
def snapshot(endpoints: int) -> model.Snapshot:
    """So many endpoints, each with one deployment, a key and a route: "endpoint-7" has /models/7."""
    return model.Snapshot(endpoints=tuple(map(_endpoint, range(endpoints))))


@cache
def encoded(endpoints: int) -> bytes:
    """The same as bytes for `Table.publish`."""
    return model.encode_snapshot(snapshot(endpoints))


def _endpoint(index: int) -> model.EndpointView:
    deployment = model.DeploymentView(
        name="main", index=index, generation=1, capacity=4, request_timeout_ms=5000, max_queue_wait_ms=500,
        max_body_bytes=1 << 20, on_disconnect="finish", abandon_timeout_ms=9000, retry_on_reset=False, websocket=False,
    )  # fmt: skip
    return model.EndpointView(
        name=f"endpoint-{index}", auth_mode="key", key_digests=(bytes(32),), traffic={"main": 100}, mirror_traffic={},
        routes=(model.RouteView(None, f"/models/{index}"),), deployments=(deployment,),
    )  # fmt: skip
