"""From the configuration that is served to another one, without sending traffic where nobody answers yet.

Owns: one rule. Where a change in the cluster gives a share of an endpoint's traffic to a deployment that had none and
has no ready replica (nor is scaled to zero, so that the first request starts one), that endpoint's traffic stays as it
is until it has one. Nothing else has to wait for it: in a cluster changes come one by one and all the time. Never: the
network, state; a pure function.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final

import msgspec

from fe.config import schema
from fe.control.kubernetes.merging import whole

_NONE: Final[dict[str, int]] = {}


def hold_back(
    before: Mapping[str, Mapping[str, int]],
    wanted: schema.RouterConfig,
    found: Collection[str],
    is_ready: Callable[[str], bool],
) -> tuple[schema.RouterConfig, dict[str, list[str]]]:
    """What can be served now on the way to `wanted`, and by endpoint the deployments that it waits for.

    before: by endpoint, the traffic as it is now.
    found: deployments ("endpoint/deployment") that the cluster has brought; those of files are waited for elsewhere.
    """
    waiting: dict[str, list[str]] = {}
    endpoints = []
    for endpoint in wanted.endpoints:
        former = before.get(endpoint.name, _NONE)
        names = {deployment.name for deployment in endpoint.deployments}
        stays = {name: share for name, share in former.items() if share and name in names}
        fresh = [name for name, share in endpoint.traffic.items() if share and not former.get(name)]
        unready = [name for name in fresh if (full := f"{endpoint.name}/{name}") in found and not is_ready(full)]
        if stays and unready:
            waiting[endpoint.name] = unready
            endpoint = msgspec.structs.replace(endpoint, traffic=whole(stays))
        endpoints.append(endpoint)
    return msgspec.structs.replace(wanted, endpoints=tuple(endpoints)), waiting
