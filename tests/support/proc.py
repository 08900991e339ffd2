"""What /proc says about processes, and what a metrics page says.

Owns: reading. The only thing done to a process here is `kill`. Never waits.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
LISTEN = "0A"


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def state(pid: int) -> str:
    """The letter that ps shows (R, S, D, T, Z); empty for a process that is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def alive(pid: int) -> bool:
    """Runs: neither gone nor a zombie."""
    return state(pid) not in ("", "Z")


def name(pid: int) -> str:
    """What a process calls itself; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def sleeps(pid: int) -> int:
    """How often the process has gone to sleep of its own will: one that spins never does."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"^voluntary_ctxt_switches:\s+(\d+)", status, re.MULTILINE)[0])


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    with contextlib.suppress(ProcessLookupError):  # it may have been quicker
        os.kill(pid, number)


def with_environment(entry: str) -> list[int]:
    """Processes whose initial environment holds this `NAME=value`."""
    wanted = entry.encode()
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (folder / "environ").read_bytes().split(b"\0") and alive(int(folder.name)):
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def private_bytes(pid: int) -> int:
    """Memory that belongs to this process alone, and would be free without it."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(size) for size in re.findall(r"^Private_(?:Clean|Dirty): +(\d+) kB", text, re.MULTILINE)) * 1024


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def sockets(pid: int) -> set[str]:
    """Inodes of the sockets a process has open."""
    inodes = set()
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            try:
                link = os.readlink(f"/proc/{pid}/fd/{name}")
            except OSError:
                continue
            if link.startswith("socket:["):
                inodes.add(link[8:-1])
    except OSError:
        pass
    return inodes


def _tcp() -> Iterator[tuple[int, int, str, str]]:
    """Local port, remote port, state and inode of every TCP socket."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        words = line.split()
        yield int(words[1].rpartition(":")[2], 16), int(words[2].rpartition(":")[2], 16), words[3], words[9]


def listens(pid: int, port: int) -> bool:
    """Whether a process holds a socket that listens on this port."""
    wanted = {inode for local, _, state, inode in _tcp() if local == port and state == LISTEN}
    return bool(wanted & sockets(pid))


def connections(pids: list[int], port: int) -> dict[int, set[int]]:
    """By process: the remote ports of the connections that it holds at its `port`."""
    own = {pid: sockets(pid) for pid in pids}
    found: dict[int, set[int]] = {pid: set() for pid in pids}
    for local, remote, state, inode in _tcp():
        if local == port and state != LISTEN:
            for pid in pids:
                if inode in own[pid]:
                    found[pid].add(remote)
    return found


def samples(page: str, name: str) -> list[tuple[dict[str, str], float]]:
    """Labels and values of the samples of one metric."""
    return [
        (dict(LABEL.findall(labels)), float(value)) for found, labels, value in SAMPLE.findall(page) if found == name
    ]


def has_end_unread(port: int) -> bool:
    """Whether the kernel has the end of some client of this local port, and bytes before it that nobody has read."""
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, connection, queues = line.split()[:5]
        if connection == "08" and local.endswith(f":{port:04X}") and int(queues.partition(":")[2], 16):  # CLOSE_WAIT
            return True
    return False
