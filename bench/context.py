"""What every benchmark is run with: how long, how often, on which cores, where its files go, what it says meanwhile."""

from __future__ import annotations

import os
import resource
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from bench.result import Measure

Rounds = dict[str, list[float]]


class UnmetNeedError(Exception):
    """The machine lacks what a benchmark needs; the message says how to get it."""


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

    @property
    def descriptors(self) -> int:
        """How many a process may have: this one, and any that it starts."""
        return resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def need(self, *programs: str, descriptors: int = 0) -> None:
        """Raises UnmetNeedError naming all that are not installed, and a limit of descriptors that is too low."""
        unmet = []
        if lacking := [name for name in programs if shutil.which(name) is None]:
            packages = sorted({PACKAGES.get(name, name) for name in lacking})
            unmet.append(f"missing: {', '.join(lacking)}; apt-get install {' '.join(packages)}")
        if self.descriptors < descriptors:
            unmet.append(
                f"a process has {self.descriptors:,} descriptors at most (ulimit -Hn), of {descriptors:,} needed"
            )
        if unmet:
            raise UnmetNeedError("; ".join(unmet))

    def say(self, text: str) -> None:
        """Progress, on stderr."""
        print(f"bench: {text}", file=sys.stderr, flush=True)


def raise_descriptors() -> None:
    """As many as this process and its children may have. The usual limit is low for the sake of select()."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_ports(count: int) -> list[int]:
    """Loopback ports on which nobody listens, all different."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


__all__ = ["PACKAGES", "Context", "Measure", "Rounds", "UnmetNeedError", "free_ports"]
