"""What a former controller served of the cluster's objects, as if they had been read just now.

Owns: the way back from the applied configuration to objects, for those that are wrong by now: they are served as they
were before, and a restart of the controller makes no difference. Never: the network, state; a pure function. Read next:
view.py, which asks when it meets an object with problems.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec

from fe.config import schema
from fe.control.kubernetes.objects import DeploymentObject, EndpointObject, Ref

Heritage: TypeAlias = dict[Ref, EndpointObject | DeploymentObject]


def inherit(config: schema.RouterConfig, owners: Mapping[str, tuple[str, str, str]]) -> Heritage:
    """The objects behind `config`. owners: by "endpoint" or "endpoint/deployment", which object it came from."""
    found: Heritage = {}
    for endpoint in config.endpoints:
        owner = owners.get(endpoint.name)
        if owner is not None and Ref(*owner).kind == "OnlineEndpoint":
            found[Ref(*owner)] = _endpoint(Ref(*owner), endpoint)
        for deployment in endpoint.deployments:
            owner = owners.get(f"{endpoint.name}/{deployment.name}")
            if owner is not None:
                found[Ref(*owner)] = _deployment(Ref(*owner), endpoint, deployment)
    return found


def _endpoint(ref: Ref, endpoint: schema.Endpoint) -> EndpointObject:
    own = {name: getattr(endpoint.request_defaults, name) for name in schema.OWN_REQUEST_KEYS}
    bare = msgspec.structs.replace(endpoint, deployments=())
    return EndpointObject(ref, "", endpoint.name, bare, own, traffic_given=True)


def _deployment(ref: Ref, endpoint: schema.Endpoint, deployment: schema.Deployment) -> DeploymentObject:
    return DeploymentObject(
        ref,
        "",
        endpoint.name,
        deployment,
        msgspec.structs.asdict(deployment.request_settings),
        auth_mode=endpoint.auth_mode,
        traffic=endpoint.traffic.get(deployment.name),
    )
