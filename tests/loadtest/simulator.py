"""The simulated model server as a process, and the example for load tests with what this run needs.

Owns: the process from its start, through the lines in which it says its ports, to its end. Every wait has a limit.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from tests.project import tree
from tests.support.client import Client
from tests.support.fe_process import free_port, wait_for

LIMIT = 60.0
COMMAND = [sys.executable, "-m", "loadtest.server"]


class Simulator:
    """`python -m loadtest.server OPTIONS` on free ports. Use it in a `with` block."""

    def __init__(self, *options: str, ports: int = 1, **environment: str) -> None:
        self.process = subprocess.Popen(
            [*COMMAND, *options, *(["--port", "0"] if ports == 1 and "PORT" not in environment else [])],
            cwd=tree.ROOT,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        lines = [self.process.stdout.readline() for _ in range(ports)]
        assert all("serving on 127.0.0.1:" in line for line in lines), lines
        self.ports = [int(line.rpartition(":")[2]) for line in lines]

    @property
    def port(self) -> int:
        return self.ports[0]

    def client(self, port: int = 0) -> Client:
        return Client(("127.0.0.1", port or self.port))

    def stats(self, port: int = 0) -> dict[str, Any]:
        """GET /stats, on a connection of its own."""
        with self.client(port) as client:
            answer = client.get("/stats")
        assert answer.status == 200
        stats: dict[str, Any] = answer.json()
        return stats

    def wait_stats(self, **wanted: object) -> dict[str, Any]:
        """Waits until the statistics have these values."""
        wait_for(lambda: wanted.items() <= self.stats().items(), f"{wanted}")
        return self.stats()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(LIMIT)

    def __enter__(self) -> Simulator:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            status = self.stop()
            assert kind is not None or status == 0
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdout is not None:
                self.process.stdout.close()


def example(folder: Path, **replaced: str) -> Path:
    """examples/loadtest.yaml with free ports, this interpreter, long limits, and further texts replaced."""
    text = (tree.ROOT / "examples/loadtest.yaml").read_text()
    changes = {
        "127.0.0.1:18080": f"127.0.0.1:{free_port()}",
        "127.0.0.1:19901": f"127.0.0.1:{free_port()}",
        "cwd: ..": f"cwd: {tree.ROOT}",
        ".venv/bin/python": sys.executable,
        "max_queue_wait_ms: 1000": "max_queue_wait_ms: 60000",  # a machine that stops for seconds is no overload
        "request_timeout_ms: 20000": "request_timeout_ms: 60000",
        **replaced,
    }
    for old, new in changes.items():
        assert old in text, old
        text = text.replace(old, new)
    file = folder / "fe.yaml"
    file.write_text(text)
    return file
