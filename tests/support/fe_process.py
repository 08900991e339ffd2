"""fe-serve as a real process: configuration, start, pids, metrics, faults, end.

Owns: one running fe-serve and its temporary folder. Knows fe by its public face only: the command, the configuration
file, the admin port, signals and exit codes. Every wait has a limit. At the end no process of it may be left.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.support import proc
from tests.support.client import Address, Client, EndedError, request

START_LIMIT = 60.0
STOP_LIMIT = 60.0
WAIT_LIMIT = 60.0
SHARES = 16  # more than there are test processes side by side
Config = dict[str, Any]


def _own_ports() -> Iterator[int]:
    """Ports above those of outgoing connections, below which fe picks its local replicas': this test process' share."""
    highest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[1])
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % SHARES
    span = range(highest_outgoing + 1, 65536) if highest_outgoing < 65000 else range(11000, 32000)
    ports = span[worker::SHARES]
    first = random.randrange(len(ports))  # noqa: S311
    return itertools.cycle([*ports[first:], *ports[:first]])


_ports = _own_ports()


def free_port() -> int:
    """A port nobody listens on, and that no other process of the tests picks meanwhile."""
    while True:
        port = next(_ports)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


_unused: list[socket.socket] = []


def dead_port() -> int:
    """A loopback port that refuses connections, and that nobody else can take as long as this process lives."""
    held = socket.socket()
    held.bind(("127.0.0.1", 0))  # and never listens
    _unused.append(held)
    return int(held.getsockname()[1])


def wait_for(condition: Callable[[], Any], what: str, limit: float = WAIT_LIMIT) -> Any:
    """Polls until `condition` is true and returns its value. Fails after `limit` seconds."""
    end = time.monotonic() + limit
    while not (value := condition()):
        if time.monotonic() > end:
            raise AssertionError(f"never within {limit} s: {what}")
        time.sleep(0.01)
    return value


@contextlib.contextmanager
def stopped(pid: int) -> Iterator[None]:
    """What happens in the block, the process finds at once when it goes on."""
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: proc.state(pid) == "T", "stopped")
        yield
    finally:
        proc.kill(pid, signal.SIGCONT)


def deployment(replicas: list[str], name: str = "blue", **settings: Any) -> Config:
    """A deployment with static replicas; `settings` are keys of request_settings."""
    return {
        "name": name,
        "scale_settings": {"type": "default"},
        "request_settings": {"max_concurrent_requests_per_instance": 64, "request_timeout_ms": 60000, **settings},
        "replicas": {"static": replicas},
    }


def endpoint(replicas: list[str], name: str = "model", prefix: str | None = "/", **settings: Any) -> Config:
    """An endpoint without keys, with one deployment that takes all its traffic."""
    routes = {} if prefix is None else {"routes": [{"path_prefix": prefix}]}
    return {
        "name": name,
        "auth_mode": "none",
        "traffic": {"blue": 100},
        **routes,
        "deployments": [deployment(replicas, **settings)],
    }


class FeProcess:
    """A running fe-serve. `config` needs `endpoints`; addresses, workers and the log are filled in where missing."""

    def __init__(
        self,
        config: Config,
        *,
        workers: int = 1,
        also_listen: Sequence[str] = (),
        wait: bool = True,
        open_files: int | None = None,
    ) -> None:
        self.command = str(Path(sys.executable).parent / "fe-serve")
        self.folder = tempfile.TemporaryDirectory(prefix="fe-e2e-")
        self.mark = uuid.uuid4().hex
        self.port, self.admin_port = free_port(), free_port()
        self.config: Config = {
            "listen": [f"127.0.0.1:{self.port}", *also_listen],
            "admin": f"127.0.0.1:{self.admin_port}",
            "workers": workers,
            "drain_timeout": 20,
            **config,
        }
        self.file = Path(self.folder.name) / "fe.yaml"
        self.log = Path(self.folder.name) / "fe.log"
        self.env = {**os.environ, "FE_E2E_MARK": self.mark}
        self.open_files = open_files  # a limit on descriptors, soft and hard
        self.write(self.config)
        self.process = self._launch()
        if wait:
            self._wait_ready()

    # --- start and end ---

    def _launch(self) -> subprocess.Popen[bytes]:
        command = [self.command, "--config", str(self.file)]
        if self.open_files:
            command = ["prlimit", f"--nofile={self.open_files}", *command]
        with self.log.open("ab") as log:
            return subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.env)

    def _wait_ready(self) -> None:
        end = time.monotonic() + START_LIMIT
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > end:
                self.kill_all()
                raise AssertionError(f"fe-serve did not get ready (exit {self.process.poll()}):\n{self.output()}")
            time.sleep(0.02)

    def __enter__(self) -> FeProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process.poll() is None:
                status = self.stop()
                if kind is None:
                    assert status == 0, f"exit code {status}:\n{self.output()}"
            if kind is None:
                wait_for(lambda: not self.survivors(), "every process of fe is gone")
        finally:
            self.kill_all()
            self.folder.cleanup()

    def signal(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def stop(self, limit: float = STOP_LIMIT) -> int:
        """SIGTERM; the exit code."""
        self.signal(signal.SIGTERM)
        try:
            return self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.kill_all()
            raise AssertionError(f"fe-serve did not end on SIGTERM:\n{self.output()}") from None

    def kill_all(self) -> None:
        for pid in [self.process.pid, *self.survivors()]:
            if pid != self.process.pid or self.process.poll() is None:
                proc.kill(pid)
        self.process.wait()

    def survivors(self) -> list[int]:
        """Processes that carry this instance's mark in their environment, the supervisor itself not counted."""
        return [pid for pid in proc.with_environment(f"FE_E2E_MARK={self.mark}") if pid != self.process.pid]

    # --- configuration ---

    def write(self, config: Config) -> None:
        """Replaces the configuration file as an editor would: at once."""
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(config, indent=1))
        part.replace(self.file)

    def reload(self, config: Config | None = None) -> None:
        if config is not None:
            self.config = {**self.config, **config}
            self.write(self.config)
        self.signal(signal.SIGHUP)

    # --- what it says ---

    def output(self) -> str:
        return self.log.read_text(errors="replace")[-8000:]

    def admin(self, path: str) -> tuple[int, bytes]:
        with Client(("127.0.0.1", self.admin_port)) as client:
            answer = client.exchange(request(path, headers={"Connection": "close"}, host="localhost"), "GET")
            return answer.status, answer.body

    def ready(self) -> bool:
        try:
            return self.admin("/readyz")[0] == 200
        except (OSError, EndedError):
            return False

    def metric(self, name: str, **labels: str) -> float:
        """The sum of all samples of `name` that carry these labels."""
        _, body = self.admin("/metrics")
        return sum(value for labelled, value in proc.samples(body.decode(), name) if labels.items() <= labelled.items())

    def wait_metric(self, name: str, value: float, **labels: str) -> None:
        wait_for(lambda: self.metric(name, **labels) == value, f"{name}{labels or ''} == {value}")

    def wait_idle(self) -> None:
        """Leases and queue are back to nothing."""
        wait_for(
            lambda: self.metric("fe_in_flight") == 0 == self.metric("fe_queue_depth"),
            "no lease held, nobody in a queue",
        )

    # --- its processes ---

    @property
    def address(self) -> Address:
        return ("127.0.0.1", self.port)

    def client(self, **options: Any) -> Client:
        return Client(self.address, **options)

    def workers(self) -> list[int]:
        """Process ids of the workers that run."""
        return self._named("fe-worker-")

    def controller(self) -> int | None:
        return next(iter(self._named("fe-controller")), None)

    def _named(self, name: str) -> list[int]:
        return [p for p in proc.children(self.process.pid) if proc.name(p).startswith(name) and proc.alive(p)]

    def connections(self) -> dict[int, set[int]]:
        """By worker: the source ports of the clients whose connections it holds."""
        return proc.connections(self.workers(), self.port)

    def worker_of(self, client: Client) -> int:
        """The worker that has accepted this client's connection."""
        own = client.sock.getsockname()[1]

        def holder() -> int:
            return next((pid for pid, ports in self.connections().items() if own in ports), 0)

        return int(wait_for(holder, "the connection is accepted"))
