"""Who is measured: fe, nginx and HAProxy in front of the same back-ends, set up alike and pinned to one core.

Owns: their configurations. Never: their processes (processes.py), nor load.
Each gets what its documentation recommends for this task: nginx a shared zone, least_conn and kept connections,
HAProxy leastconn and http-reuse always, both the same bound of requests per back-end as fe's replicas.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.context import Context, free_ports
from bench.processes import ask, cpu_seconds, family, memory_bytes, process

RESULT = "0.123456789, 0.987654321, 0.555555555, 0.333333333, 0.777777777, 0.1111111"
ANSWER = f'{{"result": [{RESULT}], "model": "bench", "ok": true, "ms": 1.2345}}'  # 132 bytes
SHORT_ANSWER = f"location / {{ default_type application/json; return 200 '{ANSWER}'; }}"
FE_SERVE = str(Path(sys.executable).with_name("fe-serve"))

# `user`: started by root, workers would be somebody who may not look into the folder. Without temporary files: nobody
# else writes a large answer to disk.
NGINX = """
user root; worker_processes {workers}; worker_cpu_affinity {masks}; daemon off;
pid {folder}/{name}.pid; error_log stderr;
events {{ worker_connections {connections}; }}
http {{
  access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; client_max_body_size 0;
  proxy_max_temp_file_size 0; client_body_temp_path {folder}/{name}-body;
  proxy_temp_path {folder}/{name}-proxy;
  fastcgi_temp_path {folder}/{name}-f; uwsgi_temp_path {folder}/{name}-u; scgi_temp_path {folder}/{name}-s;
  {http}
}}
"""

HAPROXY = """
global
  nbthread 1
  maxconn {connections}
  no strict-limits
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 60s
  http-reuse always
  option http-no-delay
frontend clients
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance leastconn
{servers}
"""


@dataclass(frozen=True)
class Setup:
    """What all parties of a run have in common."""

    backends: Sequence[int]  # loopback ports
    capacity: int = 32  # requests at once per back-end
    connections: int = 4096  # that nginx and HAProxy may have
    fe: Mapping[str, Any] = field(default_factory=dict)  # further settings of fe, at the top level
    fe_requests: Mapping[str, Any] = field(default_factory=dict)  # further request_settings
    fe_deployment: Mapping[str, Any] = field(default_factory=dict)  # further settings of its deployment


@dataclass(frozen=True)
class Party:
    """A proxy that runs."""

    name: str
    port: int
    pid: int
    admin: int | None = None  # fe's
    config: Path | None = None  # fe's

    def processes(self) -> list[int]:
        """Its process and all descendants."""
        return family(self.pid)

    def cpu_seconds(self) -> float:
        """User and system time of all its processes so far."""
        return cpu_seconds(self.processes())

    def memory_bytes(self) -> int:
        """Memory of all its processes, what they share counted once."""
        return memory_bytes(self.processes())


@contextmanager
def fast_backends(context: Context, count: int = 4) -> Iterator[list[int]]:
    """One nginx worker on the load core that answers 132 bytes of JSON on so many ports."""
    with nginx_backends(context, SHORT_ANSWER, [context.load_core], count) as ports:
        yield ports


@contextmanager
def nginx_backends(context: Context, server: str, cores: Sequence[int], count: int = 4) -> Iterator[list[int]]:
    """nginx with a worker on each of these cores that serves this (what stands in `server {}`) on so many ports."""
    ports = free_ports(count)
    option = " reuseport" if len(cores) > 1 else ""  # else the first worker to wake takes most connections
    listens = " ".join(f"listen 127.0.0.1:{port}{option};" for port in ports)
    conf = _nginx(context, f"backends-{ports[0]}", cores, f"server {{ {listens} {server} }}")
    with process(context, _listed(cores), "nginx", "-c", str(conf)) as running:
        running.wait_until_served(*ports)
        yield ports


@contextmanager
def parties(context: Context, names: Sequence[str], setup: Setup) -> Iterator[dict[str, Party]]:
    """These proxies (of "fe", "nginx", "haproxy"), each with one worker on the proxy core, serving a back-end's answer.

    Once here, so that under load the status is all that has to be looked at.
    """
    with ExitStack() as stack:
        running = {name: stack.enter_context(START[name](context, setup)) for name in names}
        for name, party in running.items():
            if ask(party.port) != ask(setup.backends[0]):
                raise RuntimeError(f"{name} does not pass on what its back-end answers")
        yield running


@contextmanager
def fe(context: Context, setup: Setup, workers: int = 1, core: int | str | None = None) -> Iterator[Party]:
    """fe-serve, with the contract's configuration, on the proxy core or another, or several: "0,2"."""
    port, admin = free_ports(2)
    config = {
        "listen": f"127.0.0.1:{port}", "admin": f"127.0.0.1:{admin}", "workers": workers,
        "endpoints": [{
            "name": "bench", "auth_mode": "none", "traffic": {"main": 100}, "routes": [{"path_prefix": "/"}],
            "deployments": [{
                "name": "main",
                "request_settings": {
                    "max_concurrent_requests_per_instance": setup.capacity, "max_queue_wait_ms": 60_000,
                    "request_timeout_ms": 60_000, **setup.fe_requests,
                },
                "replicas": {"static": [f"127.0.0.1:{backend}" for backend in setup.backends]},
                **setup.fe_deployment,
            }],
        }],
        **setup.fe,
    }  # fmt: skip
    file = context.folder / f"fe-{port}.yaml"
    file.write_text(json.dumps(config))
    cores = context.proxy_core if core is None else core
    with process(context, cores, FE_SERVE, "--config", str(file)) as running:
        running.wait_until_served(port)
        yield Party("fe", port, running.pid, admin, file)


@contextmanager
def nginx(context: Context, setup: Setup) -> Iterator[Party]:
    """nginx with one worker."""
    [port] = free_ports(1)
    servers = " ".join(f"server 127.0.0.1:{backend} max_conns={setup.capacity};" for backend in setup.backends)
    http = (
        f"upstream replicas {{ zone replicas 256k; least_conn; {servers} keepalive 128;"
        " keepalive_requests 1000000000; }"
        f"server {{ listen 127.0.0.1:{port} backlog=4096; location / {{ proxy_pass http://replicas;"
        ' proxy_http_version 1.1; proxy_set_header Connection ""; proxy_request_buffering off; proxy_buffering on; } }'
    )
    conf = _nginx(context, f"proxy-{port}", [context.proxy_core], http, setup.connections)
    with process(context, context.proxy_core, "nginx", "-c", str(conf)) as running:
        running.wait_until_served(port)
        yield Party("nginx", port, running.pid)


@contextmanager
def haproxy(context: Context, setup: Setup) -> Iterator[Party]:
    """HAProxy with one thread."""
    [port] = free_ports(1)
    servers = "\n".join(
        f"  server s{backend} 127.0.0.1:{backend} maxconn {setup.capacity}" for backend in setup.backends
    )
    conf = context.folder / f"haproxy-{port}.conf"
    conf.write_text(HAPROXY.format(port=port, connections=setup.connections, servers=servers))
    with process(context, context.proxy_core, "haproxy", "-f", str(conf)) as running:
        running.wait_until_served(port)
        yield Party("haproxy", port, running.pid)


def _nginx(context: Context, name: str, cores: Sequence[int], http: str, connections: int = 4096) -> Path:
    conf = context.folder / f"{name}.conf"
    masks = " ".join(bin(1 << core)[2:] for core in cores)
    conf.write_text(NGINX.format(
        folder=context.folder, name=name, connections=connections, workers=len(cores), masks=masks, http=http
    ))  # fmt: skip
    return conf


def _listed(cores: Sequence[int]) -> str:
    return ",".join(map(str, cores))


START = {"fe": fe, "nginx": nginx, "haproxy": haproxy}
