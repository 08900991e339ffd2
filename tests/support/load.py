"""A steady load: client threads that send one request after another and remember what came of each.

Owns: the threads and their records. A thread goes on over new connections after a failure and notes which worker of fe
had accepted the connection, so that a test can tell whose requests were lost. Never retries a request.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support.client import Client, request
from tests.support.wire import EndedError, MalformedError


@dataclass
class Outcome:
    """What came of one request: a status, or in `failure` how it failed. `reused`: not the first on its connection."""

    client: int
    connection: int  # the client's source port
    status: int = 0
    failure: str = ""
    reused: bool = False
    told: str = ""  # what the body of a bad answer says

    @property
    def good(self) -> bool:
        return self.status == 200


@dataclass
class Load:
    """`clients` threads. Use it in a `with` block; the end of the block waits for the requests that are under way."""

    connect: Callable[[], Client]
    clients: int
    target: str = "/"
    body: bytes = b"x"
    per_connection: int = 0  # requests on a connection before a new one; 0: no limit
    outcomes: list[Outcome] = field(default_factory=list)
    refused: int = 0  # connections that were not accepted: not a request

    def __post_init__(self) -> None:
        self.stopping = threading.Event()
        self.changed = threading.Condition()
        self._threads = [threading.Thread(target=self._run, args=(n,), daemon=True) for n in range(self.clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a client of the load never ended"

    def wait_more(self, count: int, limit: float = 60.0) -> None:
        """Waits until `count` further requests have ended."""
        with self.changed:
            wanted = len(self.outcomes) + count
            if not self.changed.wait_for(lambda: len(self.outcomes) >= wanted, limit):
                raise AssertionError(f"the load stands still: {self.summary()}")

    @property
    def failures(self) -> list[Outcome]:
        return [one for one in list(self.outcomes) if not one.good]

    def summary(self) -> str:
        kinds: dict[str, int] = {}
        for one in list(self.outcomes):
            kind = one.failure or f"{one.status} {one.told}".strip()
            kinds[kind] = kinds.get(kind, 0) + 1
        return f"{kinds}, {self.refused} connections refused"

    def _run(self, number: int) -> None:
        while not self.stopping.is_set():
            try:
                client = self.connect()
            except OSError:
                self.refused += 1
                if self.stopping.wait(0.02):
                    return
                continue
            with client:
                self._use(number, client)

    def _use(self, number: int, client: Client) -> None:
        """Requests on one connection, until it ends or has served enough."""
        client.stream.record = False
        port = client.sock.getsockname()[1] if isinstance(client.sock.getsockname(), tuple) else 0
        count = 0
        while not self.stopping.is_set() and (not self.per_connection or count < self.per_connection):
            outcome = Outcome(number, port, reused=count > 0)
            keep = self._one(client, outcome)
            with self.changed:
                self.outcomes.append(outcome)
                self.changed.notify_all()
            if not keep:
                return
            count += 1

    def _one(self, client: Client, outcome: Outcome) -> bool:
        """One request; whether the connection can serve another."""
        try:
            response = client.exchange(request(self.target, "POST", self.body))
        except (EndedError, MalformedError, OSError) as error:
            outcome.failure = f"{type(error).__name__} {getattr(error, 'how', '')}".strip()
            return False
        outcome.status = response.status
        if not outcome.good:
            outcome.told = response.body[:300].decode("ascii", "replace")
        return not response.closes
