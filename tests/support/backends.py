"""Back-ends (replicas) that record everything and answer as scripted.

Owns: listening sockets and one thread per connection. A script is a function of an `Exchange`; which one runs is
chosen by the request's target (`Backend.on`). Counts at every arrival how many *open* connections have an unanswered
request: that is what a replica's capacity promises to bound. Never sleeps for luck: tests release `threading.Event`s.
Ready-made scripts are in scripts.py.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from tests.support import wire
from tests.support.wire import EndedError, Head, MalformedError, Stream

LIMIT = 60.0  # nothing a back-end waits for takes longer


@dataclass
class Request:
    """A request as the back-end received it. `body` is None until it has been read whole."""

    head: Head
    connection: int
    body: bytes | None = None

    @property
    def method(self) -> str:
        return self.head.start[0]

    @property
    def target(self) -> str:
        return self.head.start[1]

    def header(self, name: str) -> str | None:
        return self.head.value(name)


@dataclass
class Exchange:
    """One request on one connection, in the hands of a script."""

    backend: Backend
    stream: Stream
    request: Request
    keep: bool = True  # after the script: read another request, or close
    answered: bool = False

    @property
    def sock(self) -> socket.socket:
        return self.stream.sock

    def read_body(self) -> bytes:
        """The whole body; `EndedError` when it is truncated. Sends no 100: fe has to answer an Expect itself."""
        if self.request.body is None:
            self.request.body = wire.read_body(self.stream, wire.body_framing(self.request.head))
        return self.request.body

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def finish(self, data: bytes = b"") -> None:
        """Sends the last bytes of the answer. The request counts as answered before they leave, not after."""
        self.backend._end(self)
        if data:
            self.sock.sendall(data)

    def wait(self, gate: threading.Event) -> None:
        """Waits until the test lets go. The end of the back-end lets go of everything."""
        for _ in range(int(LIMIT * 20)):
            if gate.wait(0.05) or self.backend.closing.is_set():
                return
        raise AssertionError("a gate was never opened")

    def close(self) -> None:
        self.backend._end(self)
        self.keep = False
        self.sock.close()

    def reset(self) -> None:
        self.backend._end(self)
        self.keep = False
        wire.reset(self.sock)


Script = Callable[[Exchange], None]


def ok(exchange: Exchange) -> None:
    """200 with a short body, connection kept."""
    exchange.read_body()
    exchange.finish(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: text/plain\r\n\r\nok")


@dataclass
class Backend:
    """A replica on a loopback port (or a unix socket). Use it in a `with` block."""

    script: Script = ok
    name: str = "backend"
    path: str | None = None  # of a unix socket
    requests: list[Request] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)  # what no strict parser would accept from fe
    connections: list[Stream] = field(default_factory=list)
    record: bool = True
    peak: int = 0  # most open connections with an unanswered request at any arrival

    def __post_init__(self) -> None:
        self.scripts: dict[str, Script] = {}
        self.closing = threading.Event()
        self.changed = threading.Condition()
        self._busy: list[Exchange | Stream] = []
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self._place: socket.socket | None = None
        self.port = 0
        self.listen()

    # --- what tests use ---

    @property
    def address(self) -> str:
        return f"unix:{self.path}" if self.path else f"127.0.0.1:{self.port}"

    def on(self, target: str, script: Script) -> None:
        """Requests for `target` (without its query) are answered by `script`."""
        self.scripts[target] = script

    def listen(self) -> None:
        """Accepts connections (again): on the same port as before, once it has one."""
        if self.path:
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(self.path)
        else:
            self._place = self._place or self._bound()  # never listens; while nobody does, the port is not given away
            self.port = self._place.getsockname()[1]
            listener = self._bound()
        listener.listen(1024)
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _bound(self) -> socket.socket:
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", self.port))
        return sock

    def refuse(self) -> None:
        """From now on connections are refused; those there are stay."""
        if self._listener is not None:
            self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None

    def drop_connections(self) -> None:
        """Ends every connection there is."""
        for stream in list(self.connections):
            _shutdown(stream.sock)

    def seen(self, target: str) -> list[Request]:
        """The requests for `target` so far."""
        return [request for request in list(self.requests) if request.target.partition("?")[0] == target]

    def wait_until(self, condition: Callable[[], bool], what: str = "condition") -> None:
        """Waits for something about this back-end, looked at after every arrival and answer."""
        with self.changed:
            if not self.changed.wait_for(condition, LIMIT):
                raise AssertionError(f"{self.name}: {what} never came; {len(self.requests)} requests seen")

    def wait_requests(self, count: int, target: str | None = None) -> None:
        def enough() -> bool:
            return len(self.requests if target is None else self.seen(target)) >= count

        self.wait_until(enough, f"request number {count} for {target or 'anything'}")

    @property
    def busy(self) -> int:
        """Open connections with an unanswered request at this moment."""
        with self.changed:
            return sum(not wire.peer_has_left(one.sock) for one in self._busy)

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self.refuse()
        self.drop_connections()
        if self._place is not None:
            self._place.close()
        for thread in list(self._threads):
            thread.join(5)

    # --- one thread per connection ---

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            if sock.family == socket.AF_INET:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            stream = Stream(sock, self.record)
            self.connections.append(stream)
            thread = threading.Thread(target=self._serve, args=(stream, len(self.connections) - 1), daemon=True)
            thread.start()
            self._threads.append(thread)  # whose end is waited for: one that runs

    def _serve(self, stream: Stream, number: int) -> None:
        try:
            while self._serve_one(stream, number):
                pass
        except OSError:
            pass  # fe closed or reset the connection: its right at any time
        except (MalformedError, EndedError) as error:
            if not self.closing.is_set() and not isinstance(error, EndedError):
                self.faults.append(f"connection {number}: {error}")
        finally:
            with self.changed:
                self._busy = [one for one in self._busy if one.sock is not stream.sock]
                self.changed.notify_all()
            stream.sock.close()

    def _serve_one(self, stream: Stream, number: int) -> bool:
        stream.sock.settimeout(None)
        if not stream.buffer and not stream.fill():
            return False
        stream.sock.settimeout(LIMIT)
        self._begin(stream)
        head = wire.read_head(stream, wire.REQUEST_LINE)
        exchange = Exchange(self, stream, Request(head, number))
        with self.changed:
            self.requests.append(exchange.request)
            self.changed.notify_all()
        script = self.scripts.get(exchange.request.target.partition("?")[0], self.script)
        script(exchange)
        self._end(exchange)
        return exchange.keep

    def _begin(self, stream: Stream) -> None:
        with self.changed:
            self._busy.append(stream)
            if len(self._busy) > self.peak:
                self.peak = max(self.peak, sum(not wire.peer_has_left(one.sock) for one in self._busy))

    def _end(self, exchange: Exchange) -> None:
        if exchange.answered:
            return
        exchange.answered = True
        with self.changed:
            self._busy = [one for one in self._busy if one.sock is not exchange.sock]
            self.changed.notify_all()


def _shutdown(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):  # it may be closed already
        sock.shutdown(socket.SHUT_RDWR)
