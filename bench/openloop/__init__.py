"""Requests at times set beforehand, and when each was answered: the schedule in, an array out.

Owns: the files that openloop.c reads and writes. Never: which schedule, and what the times mean: that is said in
bench/macro/latency.py and bench/macro/queue.py. A busy target delays no later request, so that what it makes wait is
counted, however many they are. replica.c is the back-end that holds a request for as long as its path says.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.context import Context, free_ports
from bench.macro.cpu import REQUEST
from bench.native import build
from bench.processes import process

FOLDER = Path(__file__).parent
# struct record in openloop.c; times are ns after the start.
RECORD = np.dtype(
    [(name, np.int64) for name in ("scheduled", "sent", "first_byte", "end")]
    + [(name, np.uint32) for name in ("target", "status", "service_us", "in_flight")]
)
FIELDS = (
    "Host: bench\r\nContent-Type: application/json\r\nAccept: application/json\r\nUser-Agent: bench/1\r\n"
    f"Accept-Encoding: identity\r\nX-Trace: 0123456789abcdef\r\nContent-Length: {len(REQUEST)}\r\n\r\n"
)
Records = NDArray[np.void]
PERCENTILE_LABEL = "1 / (1 - share of requests): 100 is the 99th percentile"


def send(context: Context, ports: Sequence[int], schedule: Iterable[tuple[int, int, str]]) -> Records:
    """POSTs as scheduled - (ns after the start, index in `ports`, path) - from the load core; a RECORD each, in order.

    RuntimeError when one was not answered with 200.
    """
    request, times, records = (context.folder / f"openloop.{ending}" for ending in ("request", "schedule", "records"))
    request.write_text(FIELDS + REQUEST)
    times.write_text("".join(f"{at} {target} {path}\n" for at, target, path in schedule))
    ran = subprocess.run(
        ["taskset", "-c", str(context.load_core), str(build(context, FOLDER / "openloop.c")),
         str(request), str(times), str(records), *map(str, ports)],
        capture_output=True, text=True,
    )  # fmt: skip
    if ran.returncode:
        raise RuntimeError(f"openloop: {ran.stderr.strip()}; targets were {list(ports)}")
    return np.fromfile(records, RECORD)


@contextmanager
def replicas(context: Context, count: int) -> Iterator[list[int]]:
    """So many ports of one replica.c on the load core."""
    ports = free_ports(count)
    with process(context, context.load_core, str(build(context, FOLDER / "replica.c")), *map(str, ports)) as running:
        running.wait_until_served(*ports)
        yield ports


def percentiles(values: NDArray[np.float64], points: int = 200) -> tuple[list[float], list[float]]:
    """A latency curve: x as PERCENTILE_LABEL says, as far as there are values, evenly on a logarithmic scale; and y."""
    x = np.geomspace(1, len(values), points)
    return x.tolist(), np.quantile(values, 1 - 1 / x).tolist()
