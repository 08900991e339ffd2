"""A running host (tests/supervisor/host.py) as tests see it: processes, log, events, clients, the bridge.

Owns: its folder and its end; whatever a test leaves behind fails it. Every wait has a limit.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support import proc
from tests.support.fe_process import wait_for

LIMIT = 60.0
ROOT = Path(__file__).parents[2]


class Lines:
    """A connection on which lines go back and forth."""

    def __init__(self, address: Any) -> None:
        family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
        self.socket = socket.socket(family)
        self.socket.settimeout(LIMIT)
        self.socket.connect(address)
        self._file = self.socket.makefile("rb")

    def send(self, line: str) -> None:
        self.socket.sendall(line.encode() + b"\n")

    def line(self) -> str:
        line = self._file.readline()
        if not line:
            raise EOFError
        return line.decode().strip()

    def ask(self, line: str) -> str:
        self.send(line)
        return self.line()

    def close(self) -> None:
        self._file.close()
        self.socket.close()


class Bridge(Lines):
    """The controller, played by the test: JSON messages, and orders with a `!`."""

    def __init__(self, address: Any, env: dict[str, str]) -> None:
        super().__init__(address)
        self._env = env

    def message(self, type_: str, **fields: Any) -> None:
        self.send(json.dumps({"type": type_, **fields}))

    def heard(self, type_: str | None = None) -> dict[str, Any]:
        """The next message of the supervisor; of this type, the others are dropped."""
        while True:
            message: dict[str, Any] = json.loads(self.line())
            if type_ in (None, message.get("type")):
                return message

    def spawn(self, id_: str, *argv: str, **fields: Any) -> int:
        """Starts a replica; its process id."""
        self.send_spawn(id_, *argv, **fields)
        message = self.heard("spawned")
        assert (message["id"], message["error"]) == (id_, None)
        return int(message["pid"])

    def send_spawn(self, id_: str, *argv: str, **fields: Any) -> None:
        spawn = {"id": id_, "argv": argv, "env": self._env, "cwd": "/", "output": None, "stop_grace": 30}
        self.message("spawn", **{**spawn, **fields})

    def running(self) -> dict[str, int]:
        self.message("list")
        found: dict[str, int] = self.heard("running")["replicas"]
        return found

    def load(self) -> dict[str, Any]:
        self.send("!load")
        found: dict[str, Any] = json.loads(self.line())
        return found


class Serving:
    """The supervisor in a process of its own."""

    def __init__(self, folder: Path, before: Sequence[str] = (), env: dict[str, str] | None = None, **options: Any):
        self.folder = folder
        self.mark = uuid.uuid4().hex
        options = {"listen": ["127.0.0.1:0"], "admin": ["127.0.0.1:0"], "workers": 2, **options}
        command = [*before, sys.executable, "-m", "tests.supervisor.host", json.dumps(options)]
        self.env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {}), "FE_SERVED": self.mark}
        with (folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.env
            )
        self.pid = self.process.pid

    # --- what it says ---

    def log(self) -> str:
        return (self.folder / "log").read_text(errors="replace")

    def wait_log(self, pattern: str, count: int = 1) -> list[str]:
        """Waits until the log has `count` matches of this regular expression; what its last ones have matched."""

        def found() -> list[str] | None:
            matches = re.findall(pattern, self.log())
            return matches if len(matches) >= count else None

        try:
            matches: list[str] = wait_for(found, f"{count} times in the log: {pattern}", LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None
        return matches

    def ready(self, times: int = 1) -> Serving:
        self.wait_log(r"\bready workers=", times)
        return self

    def events(self) -> list[str]:
        try:
            return (self.folder / "events").read_text().splitlines()
        except FileNotFoundError:
            return []

    def wait_event(self, text: str, count: int = 1) -> None:
        try:
            wait_for(lambda: self.events().count(text) >= count, f"event {text}", LIMIT)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log()}") from None

    def order(self, name: str, text: str) -> None:
        """What a fresh worker or controller does at its start."""
        part = self.folder / f"{name}.part"
        part.write_text(text)
        part.replace(self.folder / name)

    # --- its processes ---

    def named(self, name: str) -> int:
        """The supervisor's child of this name."""
        found = [pid for pid in proc.children(self.pid) if comm(pid) == name and proc.alive(pid)]
        return found[0] if found else 0

    def worker(self, index: int) -> int:
        return int(wait_for(lambda: self.named(f"fe-worker-{index}"), f"worker {index}", LIMIT))

    def controller(self) -> int:
        return int(wait_for(lambda: self.named("fe-controller"), "the controller", LIMIT))

    def survivors(self) -> list[int]:
        return proc.with_environment(f"FE_SERVED={self.mark}")

    def all_gone(self) -> None:
        wait_for(lambda: not self.survivors(), "no process of it is left", LIMIT)

    # --- talking to it ---

    def address(self) -> Any:
        where = self.wait_log(r"listening on (\S+)")[0]
        return where.removeprefix("unix:") if where.startswith("unix:") else _pair(where)

    def client(self) -> Lines:
        return Lines(self.address())

    def client_of(self, worker: int) -> Lines:
        """A connection that this worker (by pid) has accepted."""
        for _ in range(200):
            client = self.client()
            if int(client.ask("pid")) == worker:
                return client
            client.close()
        raise AssertionError(f"worker {worker} accepts nothing")

    def bridge(self) -> Bridge:
        return Bridge(_pair(self.wait_log(r"admin on (\S+)")[0]), self.env)

    # --- its end ---

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def ended(self) -> int:
        """Waits for its end; the exit code. Nothing may be left."""
        try:
            code = self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end:\n{self.log()}") from None
        self.all_gone()
        return code

    def stop(self) -> int:
        self.signal(signal.SIGTERM)
        return self.ended()

    def clean_up(self) -> None:
        for pid in self.survivors():
            proc.kill(pid)
        self.process.wait(LIMIT)


def comm(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def _pair(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


@contextmanager
def serving(folder: Path, **options: Any) -> Iterator[Serving]:
    """A host that is ready; ended at the end, when the test has not done so, and that has to be clean."""
    served = Serving(folder, **options)
    try:
        yield served.ready()
        if served.process.poll() is None:
            assert served.stop() == 0, served.log()
    finally:
        served.clean_up()


@contextmanager
def failing(folder: Path, *orders: tuple[str, str], **options: Any) -> Iterator[Serving]:
    """A host that may not get ready; `orders` are files that it finds."""
    for name, text in orders:
        (folder / name).write_text(text)
    served = Serving(folder, **options)
    try:
        yield served
    finally:
        served.clean_up()
