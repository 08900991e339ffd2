"""What every benchmark is run with: how long, how often, on which cores, where its files go, what it says meanwhile."""

from __future__ import annotations

import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.result import Measure

Rounds = dict[str, list[float]]


class MissingToolError(Exception):
    """A program that a benchmark needs is not installed; the message says how to get it."""


# Program -> Debian package.
PACKAGES = {
    "nginx": "nginx-light", "haproxy": "haproxy", "wrk": "wrk", "h2load": "nghttp2-client", "taskset": "util-linux",
    "strace": "strace", "cc": "gcc",
}  # fmt: skip


@dataclass(frozen=True)
class Context:
    """How to measure. `quick` asks for what fits into a few seconds a measure; its figures only show that it works."""

    folder: Path  # for files of the run, removed after it
    quick: bool
    rounds: int  # how often each party has its turn
    seconds: float  # how long a turn takes, about

    @property
    def proxy_core(self) -> int:
        """Where proxies run: the first usable core."""
        return min(os.sched_getaffinity(0))

    @property
    def load_core(self) -> int:
        """Where clients and back-ends run: the next one, or the same where there is only one."""
        return sorted(os.sched_getaffinity(0))[:2][-1]

    def need(self, *programs: str) -> None:
        """Raises MissingToolError naming all that are not installed."""
        lacking = [name for name in programs if shutil.which(name) is None]
        if lacking:
            packages = sorted({PACKAGES.get(name, name) for name in lacking})
            raise MissingToolError(f"missing: {', '.join(lacking)}; apt-get install {' '.join(packages)}")

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        print(f"bench: {text}", file=sys.stderr, flush=True)


def free_ports(count: int) -> list[int]:
    """Loopback ports on which nobody listens, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


__all__ = ["PACKAGES", "Context", "Measure", "MissingToolError", "Rounds", "free_ports"]
