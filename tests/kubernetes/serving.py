"""A real fe-serve beside an emulated cluster (`town`): how it is begun, what it serves, and what it says of it.

Owns: the words in which tests and the soak speak of both. Every wait has a limit.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.kubernetes.relay import Relay
from tests.kubernetes.scene import LASTING, online_deployment, online_endpoint, workload
from tests.kubernetes.town import Town
from tests.support.fe_process import FeProcess, wait_for
from tests.support.load import Load

Json = dict[str, Any]
TARGET = "/api/v1/endpoint/one/score"
# A pod that ends while the cluster cannot be seen closes kept connections under requests: those may be sent again.
RESENT = {"retry_on_reset": True}
PATIENT = {"max_concurrent_requests_per_instance": 4, "max_queue_wait_ms": 60000, "request_timeout_ms": 60000}


def fe(
    town: Town, folder: Path, user: str = "admin", workers: int = 2, relay: Relay | None = None, **more: Any
) -> FeProcess:
    """relay: the way to the API server; more: keys of the block `kubernetes`."""
    block = {"kubeconfig": town.kubeconfig(folder, user, relay), "identity": user, "election": LASTING, **more}
    return FeProcess({"kubernetes": block, "endpoints": []}, workers=workers)


def model(town: Town, replicas: int = 3, **spec: Any) -> None:
    """An endpoint with one deployment, whose pods run at once."""
    target = {"port": town.port}
    served = online_deployment(target=target, **{"request_settings": PATIENT, **spec})
    town.create(workload(replicas=replicas), online_endpoint(), served)
    town.wait_pods(replicas)


def load(process: FeProcess, clients: int = 8) -> Load:
    return Load(process.client, clients, TARGET, per_connection=50)


def status(process: FeProcess) -> Json:
    return dict(json.loads(process.admin("/api/status")[1]))


def leads(process: FeProcess) -> bool:
    return bool(status(process)["kubernetes"]["leading"])


def replicas(process: FeProcess) -> dict[str, Json]:
    """Address -> a replica of the first deployment."""
    endpoints = status(process)["endpoints"]
    found = endpoints[0]["deployments"][0]["replicas"] if endpoints and endpoints[0]["deployments"] else []
    return {one["address"].partition(":")[0]: one for one in found}


def is_current(process: FeProcess, town: Town) -> bool:
    """Whether fe sends requests to exactly the pods that serve."""
    serving = {pod["status"]["podIP"] for pod in town.pods().values() if is_ready(pod)}
    return {one for one, it in replicas(process).items() if it["state"] == "ready"} == serving


def wait_ready(process: FeProcess, town: Town) -> None:
    wait_for(lambda: is_current(process, town), "fe's replicas are the cluster's ready pods")


def is_ready(pod: Json) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in pod["status"]["conditions"])
