"""Processes of a benchmark: whether they serve, what they use, and that none outlives the run, however it ends."""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.context import Context, UnmetNeedError, free_ports, raise_descriptors
from bench.processes import Process, memory_bytes, process
from tests.project import tree
from tests.support import proc
from tests.support.fe_process import wait_for

LIMIT = 60
SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
# A run whose only benchmark starts a process, says which, and waits for it.
RUN = """
import sys, types
from bench import __main__ as command
from bench.processes import process
def measure(context):
    with process(context, context.load_core, "sleep", "600") as started:
        print(started.pid, flush=True)
        started.running.wait()
    yield
command.MODULES = ("waiting",)
sys.modules["bench.waiting"] = types.ModuleType("bench.waiting")
sys.modules["bench.waiting"].measure = measure
sys.exit(command.main())
"""


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path, quick=True, rounds=1, seconds=1.0)


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    """A server of another program; its port has to follow."""
    file = tmp_path / "server.py"
    file.write_text(SERVER)
    return [sys.executable, str(file)]


@pytest.fixture
def served(context: Context, command: list[str]) -> Iterator[tuple[Process, int]]:
    """One that runs, and its port."""
    [port] = free_ports(1)
    with process(context, context.load_core, *command, str(port)) as running:
        running.wait_until_served(port)
        yield running, port


def test_a_descendant_serves(context: Context, command: list[str]) -> None:
    [port] = free_ports(1)
    script = f"{' '.join(command)} {port} & trap 'kill $!' TERM; wait"
    with process(context, context.load_core, "sh", "-c", script) as running:
        running.wait_until_served(port)


def test_who_ends_says_why(context: Context) -> None:
    with (
        process(context, context.load_core, "sh", "-c", "echo no such option >&2; exit 3") as running,
        pytest.raises(RuntimeError, match=r"sh-\w+ ended with exit code 3, and says:\nno such option"),
    ):
        running.wait_until_served(*free_ports(1))


def test_the_answer_of_another_is_none(context: Context, command: list[str], served: tuple[Process, int]) -> None:
    """Whose port is taken is not measured as the one who has it."""
    with (
        process(context, context.load_core, *command, str(served[1])) as running,
        pytest.raises(RuntimeError, match="Address already in use"),
    ):
        running.wait_until_served(served[1])


def test_what_processes_share_counts_once(context: Context, command: list[str], served: tuple[Process, int]) -> None:
    [port] = free_ports(1)
    with process(context, context.load_core, *command, str(port)) as other:
        other.wait_until_served(port)
        pids = served[0].pid, other.pid
        each, together = [memory_bytes([pid]) for pid in pids], memory_bytes(pids)
        [resident] = re.findall(r"^Rss: +(\d+) kB", Path(f"/proc/{pids[0]}/smaps_rollup").read_text(), re.MULTILINE)
    assert max(each) < together < sum(each)
    assert each[0] == pytest.approx(int(resident) * 1024, abs=16 * 1024), "all but the kernel's own few pages"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_nothing_outlives_a_run(number: signal.Signals, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", RUN, "--out", str(tmp_path / "out")], cwd=tree.ROOT, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, env={**os.environ, "TMPDIR": str(tmp_path)},
    ) as run:  # fmt: skip
        assert run.stdout is not None
        pid = int(run.stdout.readline())
        assert proc.alive(pid)
        run.send_signal(number)
        _, said = run.communicate(timeout=LIMIT)
    wait_for(lambda: not proc.alive(pid), "its process ends", limit=LIMIT)
    if number != signal.SIGKILL:
        assert run.returncode == 130, said
        assert "interrupted" in said
        assert list(tmp_path.glob("fe-bench-*")) == []


def test_descriptors(context: Context) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        assert context.descriptors == 256
        with pytest.raises(UnmetNeedError, match="256 descriptors"):
            context.need(descriptors=257)
        raise_descriptors()
        assert context.descriptors == before[1]
        context.need(descriptors=257)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
