"""Real workers around a lease table whose controller and supervisor is the test: it says when a replica is ready, how
many there are, who dies. What a configuration file and probes would decide by the clock is decided here by a call.

Owns: the table, one listening socket for each worker, their processes (`python -m tests.e2e.data_plane`, which is
`fe.worker.main` and nothing else), the snapshot they serve, their access lines. Every wait has a limit.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any

from fe import _core, log, model, worker
from fe._core import Limits, Table
from tests.support import proc
from tests.support.backends import Backend
from tests.support.client import Client
from tests.support.fe_process import wait_for

ROOT = Path(__file__).parents[2]
STOP_LIMIT = 60.0
LIMITS = Limits(deployments=8, replicas=32, holders=4, slots=256, workers=4, config_bytes=1 << 16)
SETTINGS: dict[str, Any] = {
    "capacity": 1,
    "request_timeout_ms": 60_000,
    "max_queue_wait_ms": 0,
    "max_body_bytes": 4_000_000,
    "on_disconnect": "finish",
    "abandon_timeout_ms": 60_000,
    "retry_on_reset": False,
    "websocket": False,
    "cold_start_timeout_ms": 60_000,
}


def sockaddr(port: int) -> bytes:
    """127.0.0.1 and this port as the kernel wants it."""
    return socket.AF_INET.to_bytes(2, sys.byteorder) + port.to_bytes(2) + socket.inet_aton("127.0.0.1") + bytes(8)


class DataPlane:
    """An endpoint for each name in `deployments`, below `/<name>`; values are changes of SETTINGS, and `max_queue`."""

    def __init__(self, workers: int = 1, drain_timeout: float = 20, **deployments: dict[str, Any]) -> None:
        self.table = Table.create(LIMITS)
        self.folder = tempfile.TemporaryDirectory(prefix="fe-data-")
        self.log = Path(self.folder.name) / "log"
        self.drain_timeout = drain_timeout
        self.eventfds = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(workers + 1)]  # the last one is the controller's
        for index, fd in enumerate(self.eventfds[:-1]):
            self.table.name_eventfd(index, fd)
        self.table.name_control_eventfd(self.eventfds[-1])
        self.sockets = [socket.create_server(("127.0.0.1", 0), backlog=512) for _ in range(workers)]
        self.views: dict[str, model.DeploymentView] = {}
        self.publish(**deployments)
        self.processes = [self._start(index) for index in range(workers)]
        self.exit_codes = [0] * workers  # what the workers have to end with

    def _start(self, index: int) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as output:
            options = {
                "table": self.table.fd, "index": index, "eventfds": self.eventfds[:-1], "log": output.fileno(),
                "listening": self.sockets[index].fileno(), "drain_timeout": self.drain_timeout,
            }  # fmt: skip
            passed = [self.table.fd, output.fileno(), self.sockets[index].fileno(), *self.eventfds]
            command = [sys.executable, "-m", "tests.e2e.data_plane", json.dumps(options)]
            return subprocess.Popen(
                command, pass_fds=passed, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def __enter__(self) -> DataPlane:
        self.wait_active()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            for process in self.processes:
                process.terminate()
            statuses = [process.wait(STOP_LIMIT) for process in self.processes]
            if kind is None:
                assert statuses == self.exit_codes, self.log.read_text()
                assert self.table.check() == []
                assert "Traceback" not in self.log.read_text()
        finally:
            for process in self.processes:
                process.kill()
                process.wait()
            for one in self.sockets:
                one.close()
            for fd in self.eventfds:
                os.close(fd)
            self.folder.cleanup()

    # --- what a controller does ---

    def publish(self, **deployments: dict[str, Any]) -> None:
        """Serves these from now on; those that are no longer among them are removed."""
        for name in self.views.keys() - deployments.keys():
            self.table.remove_deployment(self.views.pop(name).index)
        for name, changes in deployments.items():
            settings = SETTINGS | changes
            max_queue = settings.pop("max_queue", 100)
            if name not in self.views:
                index, generation = self.table.add_deployment(f"{name}/blue", settings["capacity"], max_queue)
                self.views[name] = model.DeploymentView("blue", index, generation, **settings)
        endpoints = tuple(self._view(name, view) for name, view in self.views.items())
        http = model.HttpLimits(collect_bytes=16_384, connect_timeout_ms=5_000)
        self.table.publish(model.encode_snapshot(model.Snapshot(endpoints, http=http, access_log=True)))

    def _view(self, name: str, view: model.DeploymentView) -> model.EndpointView:
        return model.EndpointView(name, "none", (), {"blue": 100}, {}, (model.RouteView(None, f"/{name}"),), (view,))

    def add(self, name: str, replica: Backend | int) -> int:
        """A replica, given as a port or a back-end, is ready from now on."""
        port = replica if isinstance(replica, int) else replica.port
        return self.table.add_replica(self.views[name].index, sockaddr(port), _core.REPLICA_READY)

    def called(self) -> bool:
        """Whether the controller has been rung since the last look."""
        try:
            return os.eventfd_read(self.eventfds[-1]) > 0
        except BlockingIOError:
            return False

    # --- what a supervisor does ---

    def wait_active(self) -> None:
        count = len(self.processes)
        wait_for(
            lambda: all(self.table.holder_state(i).state == _core.HOLDER_ACTIVE for i in range(count)),
            "every worker serves",
        )

    def kill(self, index: int) -> int:
        """A worker dies and is recovered: how many of its requests were dropped. Another one takes its place."""
        self.processes[index].kill()
        self.processes[index].wait()
        self.table.mark_absent(index)
        dropped = self.table.recover(index)
        self.processes[index] = self._start(index)
        self.wait_active()
        return dropped

    # --- what clients see ---

    def client(self, worker: int = 0) -> Client:
        return Client(self.sockets[worker].getsockname()[:2])

    def drains(self, worker: int = 0) -> bool:
        """Whether the worker accepts nobody any more; the socket itself stays open here."""
        return not proc.listens(self.processes[worker].pid, self.sockets[worker].getsockname()[1])

    def wait_queue(self, name: str, length: int) -> None:
        wait_for(lambda: self.queue(name) == length, f"{length} requests wait")

    def queue(self, name: str) -> int:
        return self.table.glance(self.views[name].index)[3]

    def in_flight(self, name: str) -> int:
        return self.table.glance(self.views[name].index)[0]

    def counter(self, name: str, counter: str) -> int:
        """Of all workers together."""
        statistics, column = self.table.statistics(), model.COUNTER_INDEX[counter]
        return sum(statistics[row, self.views[name].index, column] for row in range(len(self.processes)))

    def line(self, request_id: str | None) -> dict[str, Any]:
        """The access line of this request."""

        def found() -> dict[str, Any] | None:
            whole = self.log.read_text().rpartition("\n")[0]  # the last line may be under way
            lines = [json.loads(line) for line in whole.splitlines() if line.startswith("{")]
            return next((line for line in lines if line.get("id") == request_id), None)

        line: dict[str, Any] = wait_for(found, f"the access line of {request_id}")
        return line


def main(options: dict[str, Any]) -> int:
    """A worker process."""
    log.configure("worker", level="info")
    listening = socket.socket(fileno=options["listening"])
    listening.setblocking(False)
    runtime = model.WorkerRuntime(
        table=Table.attach(options["table"]),
        index=options["index"],
        eventfds=tuple(options["eventfds"]),
        listeners=(model.Listener(listening, "test", options["index"]),),
        drain_timeout=options["drain_timeout"],
        log_fd=options["log"],
        log_json=True,
    )
    return worker.main(runtime)


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
