"""System calls per request in fe's worker, counted by strace, with everything kept alive: a proxy needs two reads and
two writes.

h2load rather than wrk, since it ends after a number of requests: none is counted that was only begun. What the 64
connections cost at their start and end is in the figures, a hundredth of a call.
"""

from __future__ import annotations

import re
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.context import Context, Rounds
from bench.macro.cpu import CONNECTIONS, REQUEST
from bench.parties import Party, Setup, fast_backends, fe
from bench.result import Bar, Measure

KINDS = {
    "reads": {"read", "readv", "recvfrom", "recvmsg"},
    "writes": {"write", "writev", "sendto", "sendmsg"},
    "epoll_wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2"},
    "epoll_ctl": {"epoll_ctl"},
}
ATTACH_LIMIT = 10.0
WAIT_LIMIT = 60.0


def measure(context: Context) -> Iterator[Measure]:
    """Calls per request, by kind."""
    context.need("nginx", "h2load", "strace", "taskset")
    requests = 5_000 if context.quick else 10_000
    samples: Rounds = {kind: [] for kind in (*KINDS, "other")}
    with fast_backends(context) as backends, fe(context, Setup(backends)) as party:
        for _ in range(context.rounds):
            with _traced(context, _worker(party)) as summary:
                _load(context, party, requests)
            counts = _counts(summary.read_text())
            for kind, names in KINDS.items():
                samples[kind].append(sum(counts.pop(name, 0) for name in names) / requests)
            samples["other"].append(sum(counts.values()) / requests)
    yield Measure(
        "syscalls", "system calls of fe's worker per request", "", samples,
        [Bar(2.05, party="reads"), Bar(2.05, party="writes")],
        "strace makes the worker many times slower, so it finds more to do at each turn, and its clock, which it reads"
        " 100 times a second, weighs more: most of what is above 2 reads.",
    )  # fmt: skip


def _worker(party: Party) -> int:
    for pid in party.processes():
        if Path(f"/proc/{pid}/comm").read_text().strip() == "fe-worker-0":
            return pid
    raise RuntimeError("fe has no worker")


@contextmanager
def _traced(context: Context, pid: int) -> Iterator[Path]:
    """strace counts the calls of this process within the block; the file has its summary after it."""
    summary = context.folder / "strace.txt"
    strace = subprocess.Popen(
        ["taskset", "-c", str(context.load_core), "strace", "-c", "-f", "-p", str(pid), "-o", str(summary)],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert strace.stderr is not None
    try:
        said = strace.stderr.readline() if select.select([strace.stderr], [], [], ATTACH_LIMIT)[0] else "nothing"
        if " attached" not in said:
            raise RuntimeError(f"strace may not look at another process here (CAP_SYS_PTRACE?): {said.strip()}")
        yield summary
    finally:
        strace.send_signal(signal.SIGINT)  # it lets go and writes its summary
        try:
            strace.communicate(timeout=WAIT_LIMIT)
        except subprocess.TimeoutExpired:
            strace.kill()
            strace.communicate()


def _load(context: Context, party: Party, requests: int) -> None:
    body = context.folder / "body.json"
    body.write_text(REQUEST)
    said = subprocess.run(
        ["taskset", "-c", str(context.load_core), "h2load", "--h1", f"-n{requests}", f"-c{CONNECTIONS}", "-t1",
         "-d", str(body), "-H", "Content-Type: application/json", f"http://127.0.0.1:{party.port}/"],
        capture_output=True, text=True, check=True, timeout=WAIT_LIMIT,
    ).stdout  # fmt: skip
    found = re.search(r"status codes: (\d+) 2xx", said)
    if found is None or int(found[1]) != requests:
        raise RuntimeError(f"fe had errors:\n{said}")


def _counts(summary: str) -> dict[str, int]:
    """Calls by name, from a table of share, seconds, microseconds per call, calls, errors (or nothing), name."""
    rows = [line.split() for line in summary.splitlines()]
    return {row[-1]: int(row[3]) for row in rows if len(row) in (5, 6) and row[3].isdigit() and row[-1] != "total"}
