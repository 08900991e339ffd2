"""Processes that a benchmark starts: on their cores, until they serve, what they use, and their end whatever happens.

Owns: all of that, and the file in the run's folder that has what each of them says. Never: what they are told to do
(parties.py). Should this process be killed, the kernel has them end.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.context import Context

START_LIMIT = 20.0
STOP_LIMIT = 60.0
LINES_SHOWN = 12  # of what a process has said
TICKS = os.sysconf("SC_CLK_TCK")
LISTEN = "0A"  # a state in /proc/net/tcp
PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Process:
    """A process that has been started."""

    running: subprocess.Popen[bytes]
    output: Path  # what it says, on stdout and stderr

    @property
    def pid(self) -> int:
        return self.running.pid

    def wait_until_served(self, *ports: int) -> None:
        """Returns when it answers a POST to each of these ports. RuntimeError with what it says when it never will.

        A port may be somebody else's, whose answers would then be measured under a wrong name.
        """
        end = time.monotonic() + START_LIMIT
        while not (all(map(_is_answered, ports)) and self._listens(ports)):
            if self.running.poll() is not None:
                raise RuntimeError(self._why(f"ended with exit code {self.running.returncode}"))
            if time.monotonic() > end:
                raise RuntimeError(self._why(f"does not serve port {', '.join(map(str, ports[:3]))}"))
            time.sleep(0.002)

    def _listens(self, ports: Sequence[int]) -> bool:
        """Whether all sockets that listen there are its own or its descendants'."""
        with contextlib.suppress(OSError):  # one of them is ending
            listening = _listening(ports)
            return bool(listening) and listening <= _sockets(family(self.pid))
        return False

    def _why(self, what: str) -> str:
        said = self.output.read_text(errors="replace").splitlines()[-LINES_SHOWN:]
        return "\n".join((f"{self.output.stem} {what}, and says{':' if said else ' nothing'}", *said))


def die_with_parent() -> None:
    """For `preexec_fn`: SIGTERM for this process when its parent is gone."""
    _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


@contextmanager
def process(context: Context, core: int | str, *command: str) -> Iterator[Process]:
    """A process on one core (or several: "0,2"), ended with SIGTERM when the block ends."""
    handle, name = tempfile.mkstemp(".log", f"{Path(command[0]).name}-", context.folder)
    with open(handle, "wb") as output:
        running = subprocess.Popen(
            ["taskset", "-c", str(core), *command], stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        yield Process(running, Path(name))
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(timeout=STOP_LIMIT)
        except subprocess.TimeoutExpired:
            os.killpg(running.pid, signal.SIGKILL)
            running.wait()
            raise


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """This thread, and threads that it starts, on one core until the block ends."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


# --- Who serves a port -----------------------------------------------------------------------------------------------


def ask(port: int) -> bytes:
    """The body that a POST is answered with. OSError when there is none, or another status than 200."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", data=b"{}", timeout=2) as answer:
        body: bytes = answer.read()
        return body


def _is_answered(port: int) -> bool:
    try:
        ask(port)
    except OSError:
        return False
    return True


def _listening(ports: Sequence[int]) -> set[str]:
    """The inodes of all sockets that listen on these ports."""
    wanted = {f"{port:04X}" for port in ports}
    found = set()
    with open("/proc/net/tcp") as table:
        next(table)
        for line in table:
            fields = line.split()
            if fields[3] != LISTEN:
                break  # they come first, and thousands may follow that are closed
            if fields[1].rpartition(":")[2] in wanted:
                found.add(fields[9])
    return found


def _sockets(pids: Iterable[int]) -> set[str]:
    """The inodes of all sockets that these processes have."""
    links = (os.readlink(entry.path) for pid in pids for entry in os.scandir(f"/proc/{pid}/fd"))
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


# --- What they use ---------------------------------------------------------------------------------------------------


def family(pid: int) -> list[int]:
    """A process and all its descendants."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(descendant for child in children for descendant in family(int(child)))]


def cpu_seconds(pids: Sequence[int]) -> float:
    """User and system time of these processes so far."""
    ticks = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / TICKS


def memory_bytes(pids: Sequence[int]) -> int:
    """Memory of a family of processes: private pages, and each part of a file that some of them share, once.

    PSS would do for what only they share (memory that was there before a fork). Of a library that strangers use too it
    has only a part, so it falls with what else runs.
    """
    own = 0
    shared: dict[tuple[str, str, str], int] = {}  # (offset, device, inode) -> the most that one of them has of it
    for pid in pids:
        for mapping in re.split(r"^(?=[0-9a-f]+-[0-9a-f]+ )", Path(f"/proc/{pid}/smaps").read_text(), flags=re.M)[1:]:
            offset, device, inode = mapping.split(maxsplit=5)[2:5]
            kb = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB$", mapping, re.M)}
            if inode == "0":
                own += kb["Pss"]
            else:
                own += kb["Private_Clean"] + kb["Private_Dirty"]
                key = (offset, device, inode)
                shared[key] = max(shared.get(key, 0), kb["Shared_Clean"] + kb["Shared_Dirty"])
    return (own + sum(shared.values())) * 1024
