"""Server-sent events: how much later each arrives through fe, nginx and HAProxy than without them.

A back-end (bench/openloop/replica.c) stamps each event when it sends it; the client, on the same machine and so by the
same clock, looks at its clock when the event has come. 8 streams at once from each target, an event every 20 ms in
each, all of them evenly spread over that time, as a model's tokens come.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import deque
from collections.abc import Iterator, Sequence

import numpy as np

from bench import openloop
from bench.context import Context, Rounds
from bench.parties import Setup, parties
from bench.processes import on_core
from bench.result import Measure

NAMES = ("fe", "nginx", "haproxy")
BACKENDS = 4
STREAMS = 8
EVERY_US = 20_000
SILENCE_SECONDS = 10.0  # after which a stream is given up
EVENT = re.compile(rb"data: (\d+)\n\n")
NOTE = (
    "Of the time from an event's sending to its arrival, less that of going direct; differences of percentiles. No bar:"
    " it shows that events are passed on at once. The client is in Python and takes the same for each target."
)


class Stream:
    """One answer of `count` events under way."""

    def __init__(self, target: int, port: int, count: int) -> None:
        """Asks for it."""
        self.target = target
        self.missing = count
        self.text = b""
        self.socket = socket.create_connection(("127.0.0.1", port))
        path = f"/?events={count}&every_us={EVERY_US}"
        self.socket.sendall(f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Length: 0\r\n\r\n".encode())

    def take(self) -> list[float]:
        """How long the events that have just come were under way, in us."""
        data = self.socket.recv(65536)
        now = time.monotonic_ns()
        self.text += data
        stamps = [int(found[1]) for found in EVENT.finditer(self.text)]
        self.text = EVENT.sub(b"", self.text)
        self.missing -= len(stamps)
        if not data:
            raise RuntimeError(f"a stream ended with {self.missing} events missing")
        return [(now - stamp) / 1e3 for stamp in stamps]


def measure(context: Context) -> Iterator[Measure]:
    """Added time of an event in us, median and 99th percentile."""
    context.need("nginx", "haproxy", "taskset", "cc")
    median: Rounds = {name: [] for name in NAMES}
    high: Rounds = {name: [] for name in NAMES}
    with openloop.replicas(context, BACKENDS) as backends, parties(context, NAMES, Setup(backends)) as running:
        ports = [backends[0], *(running[name].port for name in NAMES)]
        for _ in range(context.rounds):
            with on_core(context.load_core):
                taken = watch(ports, round(context.seconds * 1e6 / EVERY_US))
            for name, times in zip(NAMES, taken[1:], strict=True):
                for figures, share in ((median, 50), (high, 99)):
                    figures[name].append(float(np.percentile(times, share) - np.percentile(taken[0], share)))
    yield Measure("event_delay_p50", "added time of a server-sent event, median", "us", median, note=NOTE)
    yield Measure("event_delay_p99", "added time of a server-sent event, 99th percentile", "us", high, note=NOTE)


def watch(ports: Sequence[int], count: int) -> list[list[float]]:
    """STREAMS answers of `count` events from each port: how long the events were under way, in us, by port."""
    taken: list[list[float]] = [[] for _ in ports]
    targets = deque(list(range(len(ports))) * STREAMS)
    step = EVERY_US / 1e6 / len(targets)
    opens = time.monotonic()
    with selectors.DefaultSelector() as selector:
        while targets or selector.get_map():
            now = time.monotonic()
            if targets and now >= opens:
                stream = Stream(targets[0], ports[targets.popleft()], count)
                selector.register(stream.socket, selectors.EVENT_READ, stream)
                opens += step
            ready = selector.select(max(0.0, opens - now) if targets else SILENCE_SECONDS)
            if not ready and not targets:
                raise RuntimeError(f"no event for {SILENCE_SECONDS:g} s")
            for key, _ in ready:
                taken[key.data.target] += key.data.take()
                if key.data.missing == 0:
                    selector.unregister(key.data.socket)
                    key.data.socket.close()
    return taken
