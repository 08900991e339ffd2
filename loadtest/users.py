"""The users: each sends a request when one is due, judges the answer and tells locust what came of it.

Owns: ScoreUser and StreamUser, the names under which locust counts. Never: how many users there are (`scenarios.py`),
when they send (`pace.py`).

POST endpoint/deployment          answers with 200, and failures; of streams the time to the head
503  endpoint/deployment code     refusals, where the scenario expects them
SSE  ... first event, gap, whole  of streams; also `delay`: by how much an event was slower than the stream's first
LATE endpoint                     requests sent later than planned, and by how much: there are too few users
"""

from __future__ import annotations

import json
import time
from typing import Any, Final

import gevent
from locust import FastHttpUser, task

from loadtest.load import Load
from loadtest.pace import Pace

# fe's codes for "more than there is room for"; a 503 for another reason is a failure in any scenario.
OVERLOAD: Final = ("queue_full", "queue_wait", "no_slot")
LATE: Final = 0.010  # seconds; below it is what a busy loop of locust's own causes


class LoadUser(FastHttpUser):
    """What both kinds have in common. `load` is set once, before users are made."""

    abstract = True
    connection_timeout = 10.0
    network_timeout = 120.0
    concurrency = 1
    load: Load

    def __init__(self, environment: Any) -> None:
        super().__init__(environment)
        self.pace = Pace(self.load.each, self.load.poisson)

    def wait_time(self) -> float:
        """Called by locust between two requests."""
        return self.pace.until_next()

    def on_start(self) -> None:
        """Waits for the first request's time too."""
        gevent.sleep(self.pace.until_next())

    def begin(self, endpoint: str) -> dict[str, Any]:
        """Notes how late the request is; returns the arguments that all requests have."""
        late = self.pace.begin()
        if late > LATE:
            self.note("LATE", endpoint, late)
        return {"data": self.load.body, "headers": self.load.headers, "name": f"{endpoint}/-", "catch_response": True}

    def note(self, kind: str, name: str, seconds: float, length: int = 0) -> None:
        """A figure of its own in locust's statistics."""
        self.environment.events.request.fire(
            request_type=kind, name=name, response_time=seconds * 1000, response_length=length, exception=None,
            context={},
        )  # fmt: skip

    def judge(self, response: Any, endpoint: str) -> bool:
        """Names the request by who answered and decides what it counts as. True for 200, which stays undecided."""
        headers = response.headers or {}
        name = f"{endpoint}/{headers.get('azureml-model-deployment') or '-'}"
        response.request_meta["name"] = name
        if response.status_code == 200:
            return True
        if not response.status_code:
            response.failure(f"no answer: {_shown(response.error)}")
            return False
        code = _code(response)
        if response.status_code == 503 and code in OVERLOAD and headers.get("retry-after"):
            if self.load.scenario.overload:
                response.request_meta.update(request_type="503", name=f"{name} {code}")
                response.success()
            else:
                response.failure(f"503 {code}")
        else:
            response.failure(f"{response.status_code} {code}".strip())
        return False


class ScoreUser(LoadUser):
    """Asks for a score and takes the whole answer."""

    weight = 3

    @task
    def score(self) -> None:
        endpoint = self.load.pick(self.load.endpoints)
        common = self.begin(endpoint)
        with self.client.post(self.load.target(endpoint), **common) as response:
            if self.judge(response, endpoint):
                response.success()


class StreamUser(LoadUser):
    """Asks for events and takes each as it comes."""

    weight = 1

    @task
    def stream(self) -> None:
        endpoint = self.load.pick(self.load.streams)
        common = self.begin(endpoint)
        began = time.perf_counter()
        with self.client.post(self.load.target(endpoint), stream=True, **common) as response:
            if self.judge(response, endpoint):
                self._take_events(response, response.request_meta["name"], began)

    def _take_events(self, response: Any, name: str, began: float) -> None:
        """Up to the end of the body. An answer that is cut off, or has no event, is a failure."""
        if not (response.headers.get("content-type") or "").startswith("text/event-stream"):
            response.failure("the answer is no stream of events")
            return
        events = 0
        previous = offset = began
        try:
            # Not iter_lines or iter_content: they wait until 1024 bytes are together, which delays small events.
            while event := response.stream.readline(b"\n\n"):
                now = time.perf_counter()
                self.note("SSE", f"{name} {'gap' if events else 'first event'}", now - previous, len(event))
                sent = _sent(event)
                if sent is not None and events:
                    self.note("SSE", f"{name} delay", max(0.0, now - offset - sent))
                elif sent is not None:
                    offset = now - sent
                previous = now
                events += 1
        except Exception as error:
            response.failure(f"cut off after {events} events: {_shown(error)}")
            return
        if events:
            self.note("SSE", f"{name} whole", previous - began)
            response.success()
        else:
            response.failure("no event came")


def _sent(event: bytes) -> float | None:
    """Seconds since its stream began at which the simulated server sent this event; None for other servers' events."""
    at = event.find(b'"at_us":')
    if at < 0:
        return None
    number = event[at + 8 :].partition(b",")[0]
    return int(number) / 1e6 if number.isdigit() else None


def _code(response: Any) -> str:
    """The code in fe's error body, empty in other bodies."""
    try:
        return str(json.loads(response.content)["error"]["code"])
    except Exception:
        return ""


def _shown(error: object) -> str:
    """What kind of error it was. Its text has ports and addresses, which would make every failure one of its own."""
    return type(error).__name__
