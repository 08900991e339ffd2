"""What a configuration would run, in words for a terminal: the answer of `fe-serve --check`.

Owns: the text. Never: keys, values of environment variables, judgement (the checks are in `fe.config.rules`).
"""

from __future__ import annotations

from collections.abc import Iterator

from fe.config import schema


def describe(config: schema.RouterConfig, workers: str, table_bytes: int) -> Iterator[str]:
    """Lines about the router and each endpoint. `workers`: how many, and how that came about."""
    limits, log = config.limits, config.log
    yield _row("listen", ", ".join(config.listen))
    yield _row("admin", ", ".join(config.admin) or "none")
    yield _row("workers", workers)
    sizes = f"{limits.deployments:,} deployments, {limits.replicas:,} replicas, {limits.holders:,} holders"
    yield _row("shared table", f"{table_bytes / 1e6:.1f} MB ({sizes} with {limits.slots:,} slots each)")
    yield _row("drain", f"at most {_seconds(config.drain_timeout)}")
    yield _row("trusted proxies", ", ".join(config.trusted_proxies) or "none")
    access = "with a line per request" if log.access else "no line per request"
    yield _row("log", f"{log.format}, from level {log.level}, {access}, to {log.file or 'stderr'}")
    if config.kubernetes is not None:
        yield from _kubernetes(config.kubernetes)
    for endpoint in config.endpoints:
        yield ""
        yield from _endpoint(endpoint)


def _row(name: str, text: str, indent: int = 0) -> str:
    return f"{' ' * indent}{name:<{18 - indent}}{text}"


def _kubernetes(cluster: schema.Kubernetes) -> Iterator[str]:
    reach = f"by {cluster.kubeconfig}" if cluster.kubeconfig else "by the pod's service account or the usual kubeconfig"
    yield _row("kubernetes", f"{reach}, {f'context {cluster.context}' if cluster.context else 'its current context'}")
    everywhere = cluster.namespaces == ("*",)
    yield _row("models in", "all namespaces" if everywhere else ", ".join(cluster.namespaces) or "fe's own namespace")
    election = cluster.election
    where = f"in {election.namespace or 'the same namespace'}, {_seconds(election.duration)}"
    yield _row("election", f"by the Lease {election.lease} {where}; siblings are {cluster.siblings}")


def _endpoint(endpoint: schema.Endpoint) -> Iterator[str]:
    yield f"endpoint {endpoint.name}"
    yield _row("scoring URI", f"/api/v1/endpoint/{endpoint.name}/score", 2)
    for route in endpoint.routes:
        yield _row("route", f"{route.host or 'any host'}, {route.path_prefix} and below", 2)
    count = len(endpoint.keys.digests())
    auth = {"none": "none: open to everybody", "key": f"key: {count} {'is' if count == 1 else 'are'} known"}
    yield _row("auth", auth.get(endpoint.auth_mode, endpoint.auth_mode), 2)
    yield _row("traffic", _shares(endpoint.traffic) or "none", 2)
    if endpoint.mirror_traffic:
        yield _row("mirrored", _shares(endpoint.mirror_traffic), 2)
    for deployment in endpoint.deployments:
        yield from _deployment(deployment)


def _deployment(deployment: schema.Deployment) -> Iterator[str]:
    settings = deployment.request_settings
    count, capacity = deployment.replica_count(), settings.max_concurrent_requests_per_instance
    yield f"  deployment {deployment.name}"
    yield from _replicas(deployment, count)
    in_all = f"{capacity:,} at once per replica" + ("" if deployment.left_alone else f", {capacity * count:,} in all")
    yield _row("capacity", in_all if capacity else "no limit per replica", 4)
    if deployment.cold_start_timeout_ms:
        yield _row("cold start", f"requests wait {deployment.cold_start_timeout_ms:,} ms for a first replica", 4)
    yield _row("queue", f"at most {settings.max_queue_length:,} requests, {settings.max_queue_wait_ms:,} ms each", 4)
    yield _row("timeout", f"{settings.request_timeout_ms:,} ms to the head of the answer", 4)
    leave = {
        "finish": f"the replica finishes, for at most {settings.abandon_timeout_ms:,} ms",
        "abort": "the connection to the replica is closed",
    }
    yield _row("client leaves", leave[settings.on_disconnect], 4)
    yield _row("largest body", f"{settings.max_body_bytes:,} bytes", 4)
    switches = [name for name in ("retry_on_reset", "websocket") if getattr(settings, name)]
    if switches:
        yield _row("also", ", ".join(switches), 4)
    pods = isinstance(deployment.replicas, schema.KubernetesReplicas)
    for name, probe in (("readiness", deployment.readiness_probe), ("liveness", deployment.liveness_probe)):
        if probe is not None and pods:
            yield _row(name, "not used: whether a pod is ready is the kubelet's word", 4)
        elif probe is not None:
            every = f"GET {probe.path} every {_seconds(probe.period)}, {_seconds(probe.timeout)} to answer"
            yield _row(name, f"{every}, {probe.failure_threshold} failures", 4)


def _replicas(deployment: schema.Deployment, count: int) -> Iterator[str]:
    replicas = deployment.replicas
    if isinstance(replicas, schema.StaticReplicas):
        yield _row("replicas", f"{count} static: {_listed(replicas.addresses)}", 4)
        return
    if isinstance(replicas, schema.KubernetesReplicas):
        number = "as many pods as there are" if deployment.left_alone else f"{count} pods"
        target = "/".join(filter(None, (replicas.namespace, replicas.deployment)))
        yield _row("replicas", f"{number}, those of the Deployment {target}, port {replicas.port}", 4)
    else:
        yield _row("replicas", f"{count} local: {' '.join(replicas.command)}", 4)
    scale = deployment.scale_settings
    if deployment.scales:
        bounds = (
            f"{scale.min_instances} to {scale.max_instances} replicas, {scale.target_utilization_percentage} % in use"
        )
        yield _row("scaling", f"{bounds}, looked at every {_seconds(scale.polling_interval)}", 4)
    if isinstance(replicas, schema.ProcessReplicas):
        yield _row("folder", replicas.cwd, 4)
        if replicas.env:
            yield _row("environment", f"fe's own, PORT, {', '.join(replicas.env)}", 4)
        yield _row("output", replicas.output or "fe's stderr", 4)


def _listed(addresses: tuple[str, ...], most: int = 8) -> str:
    rest = len(addresses) - most
    return ", ".join(addresses[:most]) + (f" and {rest} more" if rest > 0 else "")


def _shares(shares: dict[str, int]) -> str:
    return ", ".join(f"{name} {percent} %" for name, percent in shares.items() if percent)


def _seconds(seconds: float) -> str:
    return f"{seconds:g} s"
