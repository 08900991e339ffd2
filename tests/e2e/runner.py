"""Runs corpus cases against fe: many connections at once, in lockstep, piece by piece.

Owns: attempts (a case with a way to cut it into pieces) and the judgement of what came of them. Between two pieces is a
barrier: a request that fe's only worker answers *after* it has read every piece sent before, so that a cut is a cut.
Never waits by time. The tables are in corpus*.py.
"""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.e2e.corpus import Case, Forwarded
from tests.support import wire
from tests.support.backends import Backend, Request
from tests.support.client import Client, EndedError, Response, request
from tests.support.fe_process import FeProcess
from tests.support.wire import MalformedError

BATCH = 100
EVERY = 1000  # cases up to this size are cut at every byte, larger ones here and there
GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
OWN = {
    "host", "content-length", "transfer-encoding", "x-request-id", "x-ms-client-request-id", "x-forwarded-for",
    "x-forwarded-proto", "x-forwarded-host", "x-real-ip", "forwarded",
}  # fmt: skip
_numbers = itertools.count(1)


@dataclass
class Attempt:
    """A case, cut into pieces. `canary`: a plain request behind it, in the last piece."""

    case: Case
    pieces: list[bytes]
    mark: str
    how: str
    canary: bool = False
    problems: list[str] = field(default_factory=list)

    def problem(self, text: str) -> None:
        self.problems.append(f"{self.case.name} ({self.how}): {text}")


def _attempt(case: Case, how: str, cuts: Sequence[int], canary: bool = False) -> Attempt:
    mark = f"{next(_numbers):07d}"
    data = case.bytes_for(mark)
    edges = [0, *cuts, len(data)]
    pieces = [data[a:b] for a, b in itertools.pairwise(edges)]
    if canary:
        pieces[-1] += request(f"/canary/{mark}")
    return Attempt(case, pieces, mark, how, canary)


def whole(cases: Iterable[Case]) -> Iterator[Attempt]:
    """Each case in one piece, without and with a canary behind it in the same piece."""
    for case in cases:
        yield _attempt(case, "whole", [])
        yield _attempt(case, "with a canary", [], canary=True)


def _size(case: Case) -> int:
    return len(case.bytes_for("0000000"))


def split(cases: Iterable[Case]) -> Iterator[Attempt]:
    """Each case in two pieces, once for every byte where it can be cut."""
    for case in cases:
        size = _size(case)
        places = (
            range(1, size)
            if size <= EVERY
            else sorted({*range(1, 60), *range(60, size, size // 20), *range(size - 20, size)})
        )
        for place in places:
            yield _attempt(case, f"cut at {place}", [place])


def bytewise(cases: Iterable[Case]) -> Iterator[Attempt]:
    """Each case one byte at a time (the large ones only their beginning)."""
    for case in cases:
        yield _attempt(case, "byte by byte", range(1, min(_size(case), 250)))


def run(fe: FeProcess, backend: Backend, attempts: Iterable[Attempt]) -> int:
    """Runs all attempts and judges them; returns how many. All problems are reported together."""
    problems: list[str] = []
    count = 0
    heads: dict[str, set[bytes]] = defaultdict(set)
    queue = iter(attempts)
    while batch := list(itertools.islice(queue, BATCH)):
        before = len(backend.requests)
        _run_batch(fe, batch)
        _judge_batch(batch, backend.requests[before:], heads)
        problems += [text for attempt in batch for text in attempt.problems]
        count += len(batch)
    for name, forms in heads.items():
        if len(forms) > 1:
            problems.append(f"{name}: {len(forms)} different heads reached the replica: {sorted(forms)[:2]}")
    if problems:
        raise AssertionError(f"{len(problems)} problems in {count} attempts:\n" + "\n".join(problems[:40]))
    return count


def _run_batch(fe: FeProcess, batch: list[Attempt]) -> None:
    clients = [fe.client() for _ in batch]
    try:
        with fe.client() as barrier:
            for number in range(max(len(attempt.pieces) for attempt in batch)):
                for client, attempt in zip(clients, batch, strict=True):
                    if number < len(attempt.pieces):
                        client.try_send(attempt.pieces[number])
                if barrier.get("/barrier").status != 200:
                    raise AssertionError("the barrier request failed")
        for client, attempt in zip(clients, batch, strict=True):
            try:
                _read_answers(client, attempt)
            except (MalformedError, EndedError, TimeoutError) as error:
                attempt.problem(f"{type(error).__name__}: {error}")
    finally:
        for client in clients:
            client.reset()  # leaves no TIME_WAIT behind


def _read_answers(client: Client, attempt: Attempt) -> None:
    case = attempt.case
    methods = itertools.chain(case.methods, itertools.repeat("POST"))
    for wanted, method in zip(case.answers, methods, strict=False):
        response = client.read_response(method)
        allowed = wanted if isinstance(wanted, tuple) else (wanted,)
        if response.status not in allowed:
            attempt.problem(f"answer {response.status} where {wanted} is due: {response.body[:100]!r}")
        if not GUID.fullmatch(response.header("x-request-id") or ""):
            attempt.problem(f"x-request-id {response.header('x-request-id')!r} is no GUID")
    if not case.open:
        if not response.closes:
            attempt.problem(f"the last answer does not say Connection: close: {response.head.raw!r}")
        client.ended()
        return
    if not attempt.canary:
        client.send(request(f"/canary/{attempt.mark}"))
    _check_canary(attempt, client.read_response("GET"))


def _check_canary(attempt: Attempt, response: Response) -> None:
    if response.status != 200 or response.body != b"canary":
        attempt.problem(f"the canary got {response.status} {response.body[:100]!r}")


def _judge_batch(batch: list[Attempt], seen: list[Request], heads: dict[str, set[bytes]]) -> None:
    by_mark: dict[str, list[Request]] = defaultdict(list)
    marks = re.compile("|".join(attempt.mark for attempt in batch).encode())
    for one in seen:
        found = marks.search(one.head.raw)
        by_mark[found[0].decode() if found else ""].append(one)
    for attempt in batch:
        _judge(attempt, by_mark[attempt.mark], heads)
    for stray in by_mark[""]:
        if stray.target != "/barrier":
            batch[0].problem(f"a request nobody sent (one of this batch): {stray.head.raw!r}")


def _judge(attempt: Attempt, seen: list[Request], heads: dict[str, set[bytes]]) -> None:
    canaries = [one for one in seen if one.target == f"/canary/{attempt.mark}"]
    if len(canaries) != attempt.case.open:
        attempt.problem(f"the replica saw {len(canaries)} canaries")
    rest = [one for one in seen if one not in canaries]
    if len(rest) != len(attempt.case.forwarded):
        attempt.problem(
            f"the replica saw {len(rest)} requests of {len(attempt.case.forwarded)}: {[r.head.raw for r in rest]}"
        )
        return
    for number, (one, wanted) in enumerate(zip(rest, attempt.case.forwarded, strict=True)):
        for text in _differences(one, wanted, attempt.mark):
            attempt.problem(text)
        heads[f"{attempt.case.name} #{number}"].add(_neutral(one, attempt.mark))


def _differences(one: Request, wanted: Forwarded, mark: str) -> Iterator[str]:
    target = wanted.target.replace("@ID@", mark)
    if one.head.start != (wanted.method, target, "1.1"):
        yield f"request line {one.head.start}, not {(wanted.method, target)}"
    if one.body != wanted.body.replace(b"@ID@", mark.encode()):
        yield f"body {one.body!r}, not {wanted.body!r}"
    if one.header("host") != wanted.host:
        yield f"host {one.header('host')!r}, not {wanted.host!r}"
    own: wire.Headers = []
    others: wire.Headers = []
    for name, value in one.head.headers:
        (own if name.lower() in OWN else others).append((name.lower(), value))
    if others != [(name.lower(), value) for name, value in wanted.headers]:
        yield f"end-to-end headers {others}, not {wanted.headers}"
    if len({name for name, _ in own}) != len(own):
        yield f"a header of fe's own stands twice: {own}"
    if not GUID.fullmatch(one.header("x-request-id") or ""):
        yield f"x-request-id {one.header('x-request-id')!r}"
    if one.header("x-forwarded-for") != "127.0.0.1" or one.header("x-forwarded-proto") != "http":
        yield f"forwarding headers {own}"


def _neutral(one: Request, mark: str) -> bytes:
    """The head without what differs from request to request: it must not depend on how the bytes arrived."""
    identity = (one.header("x-request-id") or "-").encode()
    return one.head.raw.replace(identity, b"@REQUEST@").replace(mark.encode(), b"@ID@")
