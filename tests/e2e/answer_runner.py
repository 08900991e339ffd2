"""Runs response cases: replicas send in lockstep, piece by piece, and the clients' views are judged.

Owns: the plan of each attempt, the lockstep between test and back-end threads, the judgement. As in runner.py a request
answered by fe's only worker proves that the worker has read what was sent before it. Each batch goes to an endpoint of
its own, because fe sets replicas aside that answer as badly as these. The table is corpus_answers.py.
"""

from __future__ import annotations

import contextlib
import itertools
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.e2e.corpus_answers import Answer
from tests.e2e.runner import EVERY, GUID
from tests.support.backends import LIMIT, Backend, Exchange
from tests.support.client import Client, Response
from tests.support.fe_process import Config, FeProcess, endpoint
from tests.support.wire import EndedError, MalformedError

BATCH = 100
OWN = {"x-request-id", "azureml-model-deployment", "content-length", "transfer-encoding", "connection", "date"}
_numbers = itertools.count(1)


@dataclass
class Attempt:
    answer: Answer
    pieces: list[bytes]
    how: str
    mark: str
    connection: int = -1  # of the back-end
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.answer.name} ({self.how}): {text}")


def _attempt(answer: Answer, how: str, cuts: Sequence[int]) -> Attempt:
    edges = [0, *cuts, len(answer.data)]
    pieces = [answer.data[a:b] for a, b in itertools.pairwise(edges)]
    return Attempt(answer, pieces, how, f"{next(_numbers):07d}")


def whole(answers: Iterable[Answer]) -> Iterator[Attempt]:
    for answer in answers:
        yield _attempt(answer, "whole", [])


def split(answers: Iterable[Answer]) -> Iterator[Attempt]:
    """In two pieces, once for every byte where an answer can be cut."""
    for answer in answers:
        size = len(answer.data)
        places = range(1, size) if size <= EVERY else sorted({*range(1, 40), *range(40, size, size // 20)})
        for place in places:
            yield _attempt(answer, f"cut at {place}", [place])


def bytewise(answers: Iterable[Answer]) -> Iterator[Attempt]:
    for answer in answers:
        yield _attempt(answer, "byte by byte", range(1, min(len(answer.data), 200)))


class Lockstep:
    """Back-end threads send piece n of their answer only once the test has come to step n."""

    def __init__(self, attempts: Sequence[Attempt]) -> None:
        self.attempts = {attempt.mark: attempt for attempt in attempts}
        self.steps = max(len(attempt.pieces) for attempt in attempts)
        lock = threading.Lock()
        self.changed = threading.Condition(lock)  # the test waits here
        self.stepped = threading.Condition(lock)  # and here all the others, who are not woken by each other
        self.arrived = 0
        self.step = -1
        self.sent = [0] * self.steps

    def serve(self, exchange: Exchange) -> None:
        """The back-end's script."""
        attempt = self.attempts[exchange.request.target.rpartition("/")[2]]
        attempt.connection = exchange.request.connection
        exchange.read_body()
        with self.changed:
            self.arrived += 1
            self.changed.notify_all()
        for number, piece in enumerate(attempt.pieces):
            self._wait(self.stepped, lambda: self.step >= number, f"step {number}")  # noqa: B023 (called at once)
            with contextlib.suppress(OSError):  # fe has seen enough and closed
                _send(exchange, piece, attempt.answer.then if number == len(attempt.pieces) - 1 else "")
            with self.changed:
                self.sent[number] += 1
                self.changed.notify_all()

    def advance(self, step: int) -> None:
        """Lets everyone send piece `step` and waits until they have."""
        self._wait(self.changed, lambda: self.arrived == len(self.attempts), "every request to arrive")
        with self.stepped:
            self.step = step
            self.stepped.notify_all()
        due = sum(len(attempt.pieces) > step for attempt in self.attempts.values())
        self._wait(self.changed, lambda: self.sent[step] == due, f"{due} pieces number {step}")

    def _wait(self, changed: threading.Condition, condition: Callable[[], bool], what: str) -> None:
        with changed:
            if not changed.wait_for(condition, LIMIT):
                raise AssertionError(
                    f"lockstep waited for {what}; {self.arrived} arrived, step {self.step}, {self.sent}"
                )


def _send(exchange: Exchange, piece: bytes, then: str) -> None:
    if then == "keep":
        exchange.finish(piece)
        return
    exchange.send(piece)
    if then == "close":
        exchange.close()
    elif then == "reset":
        exchange.reset()


def endpoints(backend: Backend, count: int) -> list[Config]:
    """`bad0`, `bad1`, ... in front of the back-end, and one for all other paths."""
    settings = {"max_concurrent_requests_per_instance": 512, "request_timeout_ms": 300_000}
    batches = [endpoint([backend.address], f"bad{n}", f"/bad{n}", **settings) for n in range(count)]
    return [*batches, endpoint([backend.address], "rest", "/", **settings)]


class Runner:
    def __init__(self, fe: FeProcess, backend: Backend, batches: int) -> None:
        self.fe = fe
        self.backend = backend
        self.batches = iter(range(batches))
        self.heads: dict[str, set[bytes]] = defaultdict(set)

    def run(self, attempts: Iterable[Attempt]) -> int:
        """Runs and judges all attempts; returns how many. All problems are reported together."""
        problems: list[str] = []
        done: list[Attempt] = []
        queue = iter(attempts)
        while batch := list(itertools.islice(queue, BATCH)):
            self._run_batch(batch, f"/bad{next(self.batches)}")
            problems += [text for attempt in batch for text in attempt.problems]
            done += batch
        problems += self._misused(done)
        problems += [
            f"{name}: {len(forms)} heads: {sorted(forms)[:2]}" for name, forms in self.heads.items() if len(forms) > 1
        ]
        if problems:
            raise AssertionError(f"{len(problems)} problems in {len(done)} attempts:\n" + "\n".join(problems[:40]))
        return len(done)

    def _run_batch(self, batch: list[Attempt], prefix: str) -> None:
        lockstep = Lockstep(batch)
        clients = [self.fe.client() for _ in batch]
        try:
            for client, attempt in zip(clients, batch, strict=True):
                self.backend.on(f"{prefix}/{attempt.mark}", lockstep.serve)
                client.send(_request(attempt, f"{prefix}/{attempt.mark}"))
            with self.fe.client() as barrier:
                for step in range(lockstep.steps):
                    lockstep.advance(step)
                    if barrier.get("/barrier").status != 200:
                        raise AssertionError("the barrier request failed")
            for client, attempt in zip(clients, batch, strict=True):
                self._judge(client, attempt)
        finally:
            for client in clients:
                client.reset()  # leaves no TIME_WAIT behind

    def _judge(self, client: Client, attempt: Attempt) -> None:
        answer = attempt.answer
        try:
            response = client.read_response(answer.method)
        except EndedError as error:
            if answer.end not in ("broken", "spoiled"):
                attempt.problem(f"{error}")
            return
        except (MalformedError, TimeoutError) as error:
            attempt.problem(f"{type(error).__name__}: {error}")
            return
        if response.status == 502 and answer.end in ("refused", "spoiled"):
            self._go_on(client, attempt, response)
        elif answer.end != "good":
            attempt.problem(f"the client takes this for a complete answer: {response}")
        else:
            self._judge_good(attempt, response)
            self._go_on(client, attempt, response)

    def _judge_good(self, attempt: Attempt, response: Response) -> None:
        answer = attempt.answer
        got = (response.status, response.body, tuple(int(head.start[1]) for head in response.interim))
        if got != (answer.status, answer.body, answer.interim):
            attempt.problem(f"the client got {got}")
        if response.head.start[0] != "1.1":
            attempt.problem(f"version {response.head.start[0]}")
        others = tuple((n.lower(), v) for n, v in response.head.headers if n.lower() not in OWN)
        if others != answer.headers:
            attempt.problem(f"end-to-end headers {others}, not {answer.headers}")
        if response.header("azureml-model-deployment") != "blue":
            attempt.problem("no azureml-model-deployment")
        if answer.version == "1.0" and response.framing == "chunked":
            attempt.problem("chunks for an HTTP/1.0 client")
        self.heads[answer.name].add(_neutral(response))

    def _go_on(self, client: Client, attempt: Attempt, response: Response) -> None:
        """The client's own connection stays, whatever the replica did, unless it was told otherwise."""
        if not GUID.fullmatch(response.header("x-request-id") or ""):
            attempt.problem("no x-request-id")
        if response.closes:
            client.ended()
            if response.status != 502 and attempt.answer.version != "1.0":
                attempt.problem("the client's connection was closed")
        elif attempt.answer.version == "1.0":
            attempt.problem("an HTTP/1.0 connection stays open")
        elif client.get(f"/canary/{attempt.mark}").body != b"canary":
            attempt.problem("the canary did not get its own answer")

    def _misused(self, attempts: Iterable[Attempt]) -> Iterator[str]:
        """Connections on which fe must not have sent another request, but did."""
        last: dict[int, str] = {}
        for one in list(self.backend.requests):
            last[one.connection] = one.target
        for attempt in attempts:
            if not attempt.answer.reusable and not last[attempt.connection].endswith(attempt.mark):
                yield f"{attempt.answer.name} ({attempt.how}): its connection was used for {last[attempt.connection]}"


def _request(attempt: Attempt, target: str) -> bytes:
    body = b"" if attempt.answer.method == "HEAD" else b"question"
    line = f"{attempt.answer.method} {target} HTTP/{attempt.answer.version}\r\nHost: t\r\n"
    return line.encode() + (b"Content-Length: %d\r\n\r\n" % len(body) if body else b"\r\n") + body


def _neutral(response: Response) -> bytes:
    return re.sub(rb"(?im)^(x-request-id|date): .*\r\n", b"", response.head.raw)
