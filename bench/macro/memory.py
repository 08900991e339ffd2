"""Memory at rest, and what idle client connections add to it: fe with two workers, nginx and HAProxy with one.

Counted is the memory of all processes of a party, what they share once, and nothing that the kernel has for sockets. A
connection is idle here after it has had one answer: whoever keeps a parser or buffers for it has them by then. Each
round is a new start.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.context import Context, Rounds
from bench.parties import START, Party, Setup, fast_backends, fe
from bench.result import Bar, Measure

WORKERS = 2
ROUNDS = 2  # what is counted does not vary with the machine's load
WAIT_LIMIT = 10.0
CONNECTIONS, QUICK_CONNECTIONS = 10_000, 1_000
SPARE = 1000  # descriptors and connections beside idle ones; nginx closes those when a sixteenth is left
MEGABYTE = 1_000_000
REQUEST = b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n"


def measure(context: Context) -> Iterator[Measure]:
    """MB of each party without clients, and MB that idle connections add."""
    context.need("nginx", "haproxy", "taskset", descriptors=QUICK_CONNECTIONS + SPARE)
    idle: Rounds = {name: [] for name in START}
    added: Rounds = {name: [] for name in START}
    count = min(QUICK_CONNECTIONS if context.quick else CONNECTIONS, context.descriptors - SPARE)
    with fast_backends(context) as backends:
        setup = Setup(backends, connections=count + SPARE)
        for _ in range(min(ROUNDS, context.rounds)):
            for name, start in START.items():
                with fe(context, setup, WORKERS) if name == "fe" else start(context, setup) as party:
                    before = party.memory_bytes()
                    with _clients(party, count):
                        idle[name].append(before / MEGABYTE)
                        added[name].append((party.memory_bytes() - before) / MEGABYTE)
    yield Measure(
        "memory_idle", f"memory without clients, fe with {WORKERS} workers and controller", "MB", idle, [Bar(150)],
        f"With room for {count + SPARE} connections, which nginx and HAProxy set aside at start.",
    )  # fmt: skip
    yield Measure(
        "memory_connections", f"memory that {count:,} idle client connections add", "MB", added,
        [Bar(100)] if count == CONNECTIONS else [],
        "" if count == CONNECTIONS or context.quick else f"No more than {count:,}: the limit of descriptors.",
    )  # fmt: skip


@contextmanager
def _clients(party: Party, count: int) -> Iterator[None]:
    """So many connections, each of which has had an answer and is open as long as the block lasts."""
    with ExitStack() as stack:
        clients: list[socket.socket] = []
        for _ in range(count):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", party.port), WAIT_LIMIT))
            client.sendall(REQUEST)
            if not client.recv(4096).startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{party.name} does not serve connection {len(clients) + 1}")
            clients.append(client)
        yield
        for number, client in enumerate(clients, 1):
            if not _is_open(client):
                raise RuntimeError(f"{party.name} has closed connection {number} of {count}")


def _is_open(client: socket.socket) -> bool:
    client.setblocking(False)
    try:
        return bool(client.recv(4096))  # a rest of the answer
    except BlockingIOError:
        return True
    except ConnectionError:
        return False
