"""CPU time per proxied request: one worker of fe beside nginx and HAProxy, measured in turn in one run.

    .venv/bin/python bench/cpu_per_request.py [--rounds 5] [--seconds 4]

The proxy is pinned to core 0; wrk and the back-ends (one nginx worker on four ports, answering 132 bytes of JSON) to
core 1; 64 connections, POST with 260 bytes of JSON and 7 header fields. What is compared is user and system time of all
processes of a proxy over the requests it served. Machines are shared and noisy: quote the ratios, not the figures.
Needs the Debian packages nginx, haproxy and wrk. Never part of the tests: a timing proves nothing there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

ANSWER = '{"result": [0.123456789, 0.987654321, 0.555555555, 0.333333333], "model": "bench", "ok": true, "ms": 1.2345}'
REQUEST = '{"data": [' + ", ".join(["0.1234567"] * 22) + ', "a", "b"]}'
BACKENDS = (9101, 9102, 9103, 9104)
FE, NGINX, HAPROXY, ADMIN = 9111, 9112, 9113, 9119

WRK = f"""
wrk.method = "POST"
wrk.body = '{REQUEST}'
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "application/json"
wrk.headers["User-Agent"] = "bench/1"
wrk.headers["Accept-Encoding"] = "identity"
wrk.headers["X-Trace"] = "0123456789abcdef"
"""

NGINX_COMMON = """
worker_processes 1; worker_cpu_affinity {mask}; daemon off; pid {folder}/{name}.pid; error_log {folder}/{name}.err;
events {{ worker_connections 4096; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; {http} }}
"""

HAPROXY_CONF = """
global
  nbthread 1
  maxconn 4096
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
  timeout queue 5s
  http-reuse always
frontend clients
  bind 127.0.0.1:{port}
  default_backend replicas
backend replicas
  balance leastconn
{servers}
"""

FE_CONF = """
listen: 127.0.0.1:{port}
admin: 127.0.0.1:{admin}
workers: 1
endpoints:
  - name: bench
    auth_mode: none
    traffic: {{main: 100}}
    routes: [{{path_prefix: /}}]
    deployments:
      - name: main
        request_settings: {{max_concurrent_requests_per_instance: 32, max_queue_wait_ms: 500, request_timeout_ms: 5000}}
        replicas: {{static: [{replicas}]}}
"""


def write_configurations(folder: Path) -> None:
    """All configurations, as files in `folder`."""
    listens = " ".join(f"listen 127.0.0.1:{port};" for port in BACKENDS)
    answer = f"server {{ {listens} location / {{ default_type application/json; return 200 '{ANSWER}'; }} }}"
    servers = " ".join(f"server 127.0.0.1:{port} max_conns=32;" for port in BACKENDS)
    proxy = (
        f"upstream replicas {{ zone replicas 256k; least_conn; {servers} keepalive 128; }}"
        f"server {{ listen 127.0.0.1:{NGINX}; location / {{ proxy_pass http://replicas; proxy_http_version 1.1;"
        ' proxy_set_header Connection ""; } }'
    )
    for name, mask, http in (("backends", "10", answer), ("nginx", "01", proxy)):
        (folder / f"{name}.conf").write_text(NGINX_COMMON.format(folder=folder, name=name, mask=mask, http=http))
    lines = "\n".join(f"  server s{port} 127.0.0.1:{port} maxconn 32" for port in BACKENDS)
    (folder / "haproxy.conf").write_text(HAPROXY_CONF.format(port=HAPROXY, servers=lines))
    replicas = ", ".join(f'"127.0.0.1:{port}"' for port in BACKENDS)
    (folder / "fe.yaml").write_text(FE_CONF.format(port=FE, admin=ADMIN, replicas=replicas))
    (folder / "post.lua").write_text(WRK)


@contextmanager
def running(core: int, *command: str) -> Iterator[int]:
    """A process on one core; its pid."""
    process = subprocess.Popen(["taskset", "-c", str(core), *command], stderr=subprocess.DEVNULL)
    try:
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_until_served(port: int) -> None:
    """Returns when a request is answered with 200; SystemExit after 20 s."""
    end = time.monotonic() + 20
    while time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"{}", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"nothing serves on port {port}")


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def cpu_seconds(pids: list[int]) -> float:
    """User and system time of these processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def measure(port: int, pids: list[int], seconds: int, folder: Path) -> tuple[float, float]:
    """CPU time per request in us, and requests per second."""
    before = cpu_seconds(pids)
    command = ["taskset", "-c", "1", "wrk", "-t1", "-c64", f"-d{seconds}s", "-s", str(folder / "post.lua")]
    said = subprocess.run([*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, check=True).stdout
    used = cpu_seconds(pids) - before
    if "Non-2xx" in said or "Socket errors" in said:
        raise SystemExit(f"errors on port {port}:\n{said}")
    requests = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    return used / requests * 1e6, requests / seconds


def main() -> None:
    """Runs everything and prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    arguments = parser.parse_args()
    lacking = [name for name in ("nginx", "haproxy", "wrk", "taskset") if shutil.which(name) is None]
    if lacking:
        raise SystemExit(f"missing: {', '.join(lacking)}; install them: apt-get install nginx haproxy wrk util-linux")
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        write_configurations(folder)
        stack.enter_context(running(1, "nginx", "-c", str(folder / "backends.conf")))
        fe_serve = str(Path(sys.executable).with_name("fe-serve"))
        pids = {
            "fe": stack.enter_context(running(0, fe_serve, "--config", str(folder / "fe.yaml"))),
            "nginx": stack.enter_context(running(0, "nginx", "-c", str(folder / "nginx.conf"))),
            "haproxy": stack.enter_context(running(0, "haproxy", "-f", str(folder / "haproxy.conf"))),
        }
        ports = {"fe": FE, "nginx": NGINX, "haproxy": HAPROXY}
        for port in ports.values():
            wait_until_served(port)
        results: dict[str, list[tuple[float, float]]] = {party: [] for party in ports}
        for _ in range(arguments.rounds):
            for party, port in ports.items():
                results[party].append(measure(port, family(pids[party]), arguments.seconds, folder))
    report(results)


def report(results: dict[str, list[tuple[float, float]]]) -> None:
    """Medians, spread, and the ratio to fe round by round."""
    print("| party | CPU us/request, median (min-max) | requests/s | fe / party |")
    print("|---|---|---|---|")
    for party, values in results.items():
        costs = [cost for cost, _ in values]
        ratio = statistics.median(mine[0] / theirs[0] for mine, theirs in zip(results["fe"], values, strict=True))
        print(
            f"| {party} | {statistics.median(costs):.1f} ({min(costs):.1f}-{max(costs):.1f})"
            f" | {statistics.median(rate for _, rate in values):,.0f} | {ratio:.2f} |"
        )


if __name__ == "__main__":
    main()
