"""fe's own answers: their texts, their shape, and that each is well-formed on the wire."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from fe import model
from fe.proxy import _access
from fe.proxy.answers import ANSWERS, CONTINUE, Answer, build_answer, refusal
from tests.support.wire import STATUS_LINE, Head, body_framing, parse_head

ID = b"01234567-89ab-4def-8123-456789abcdef"
DOCUMENT = Path(__file__).parents[2] / "docs" / "http.md"
MET = (7, 4, 2, 3, 100)  # in flight, capacity of a replica, ready, waiting, most that may wait
EVERY = [pytest.param(answer, id=answer.code) for answer in ANSWERS.values()]


def built(answer: Answer, **options: Any) -> tuple[Head, bytes]:
    raw = build_answer(answer, ID, **options)
    top, separator, body = raw.partition(b"\r\n\r\n")
    head = parse_head(top + separator, STATUS_LINE)
    if not options.get("head_only"):
        assert body_framing(head) == len(body)
    return head, body


@pytest.mark.parametrize("answer", EVERY)
@pytest.mark.parametrize("plain", [False, True])
def test_every_answer_is_well_formed(answer: Answer, plain: bool) -> None:
    head, body = built(answer, name="my-model", plain=plain)
    assert head.start[1] == str(answer.status)
    assert answer.reason in model.REASONS
    assert answer.status in model.STATUS_CODES
    assert head.value("x-request-id") == ID.decode()
    assert (head.value("date") or "").endswith(" GMT")
    assert (head.value("connection") == "close") == answer.close
    assert b"{name}" not in body
    if plain:
        assert head.value("content-type") == "text/plain; charset=utf-8"
        assert body.count(b"\n") == 1
    else:
        error = json.loads(body)["error"]
        assert head.value("content-type") == "application/json"
        assert (error["code"], error["request_id"]) == (answer.code, ID.decode())


@pytest.mark.parametrize("answer", EVERY)
def test_head_has_the_same_fields_and_no_body(answer: Answer) -> None:
    head, body = built(answer, name="my-model")
    other, nothing = built(answer, name="my-model", head_only=True)
    assert nothing == b""
    assert {name for name, _ in other.headers} == {name for name, _ in head.headers}
    assert other.value("content-length") == str(len(body))


@pytest.mark.parametrize("answer", EVERY)
@pytest.mark.parametrize("head_only", [False, True])
@pytest.mark.parametrize("plain", [False, True])
def test_a_state_is_added_to_what_stands_there_without(answer: Answer, plain: bool, head_only: bool) -> None:
    state = _access.state(MET, 1_250_000_000, plain=plain)
    options: dict[str, Any] = {"name": "my-model", "plain": plain, "head_only": head_only}
    without, before = built(answer, **options)
    head, body = built(answer, **options, state=state)
    assert head.start == without.start
    assert int(head.value("content-length") or 0) == int(without.value("content-length") or 0) + len(state)
    if head_only:
        assert body == b""
    elif plain:
        assert body == before + state
    else:
        error = json.loads(body)["error"]
        assert error.pop("state") == {
            "in_flight": 7, "capacity": 8, "ready_replicas": 2, "queue_length": 3, "max_queue_length": 100,
            "waited_ms": 1250.0,
        }  # fmt: skip
        assert error == json.loads(before)["error"]


def test_a_state_in_words() -> None:
    assert _access.state(MET, 1_250_999_999, plain=True) == (
        b"In flight: 7 of 8; ready replicas: 2; waiting: 3 of 100; this request waited 1250.9 ms.\n"
    )
    assert _access.state((7, 0, 2, 0, 0), plain=True) == (
        b"In flight: 7; ready replicas: 2; waiting: 0 of 0; this request waited 0.0 ms.\n"
    )


@pytest.mark.parametrize("number", [0, 1, 2**32 - 1])
@pytest.mark.parametrize("ready", [0, 1, 2**20])
@pytest.mark.parametrize("waited_ns", [-1, 0, 99_999, 100_000, 2**62])
def test_a_state_of_any_size(number: int, ready: int, waited_ns: int) -> None:
    met = (number, number, ready, number, number)
    state = json.loads(b"{" + _access.state(met, waited_ns)[2:] + b"}")["state"]
    assert state == {
        "in_flight": number, "capacity": number * ready if number else None, "ready_replicas": ready,
        "queue_length": number, "max_queue_length": number, "waited_ms": max(waited_ns, 0) // 100_000 / 10,
    }  # fmt: skip
    assert str(number * ready).encode() in _access.state(met, waited_ns, plain=True)


def test_the_document_shows_every_number_of_a_state() -> None:
    example = DOCUMENT.read_text().partition("```json\n")[2].partition("```")[0]
    state = json.loads(b"{" + _access.state(MET)[2:] + b"}")["state"]
    assert list(json.loads(example)["error"]["state"]) == list(state)


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        ("queue_full", 503, "Too many requests for service my-model (overloaded)"),
        ("queue_wait", 503, "Too many requests for service my-model (overloaded)"),
        ("no_slot", 503, "Too many requests for service my-model (overloaded)"),
        ("no_replica", 503, "No ready replicas for service my-model."),
        ("replica_closed", 502, "Replica closed connection before replying"),
    ],
)
def test_texts_that_clients_match_on(code: str, status: int, text: str) -> None:
    for plain in (False, True):
        head, body = built(ANSWERS[code], name="my-model", plain=plain)
        assert head.start[1] == str(status)
        assert text.encode() in body


def test_fields_that_belong_to_a_status() -> None:
    assert built(ANSWERS["unauthorized"])[0].value("www-authenticate") == "Bearer"
    assert "POST" in (built(ANSWERS["method_not_allowed"])[0].value("allow") or "")
    for answer in ANSWERS.values():
        assert (built(answer)[0].value("retry-after") is not None) == (answer.status == 503)


@pytest.mark.parametrize("status", [400, 405, 414, 417, 431, 501, 505])
def test_refusals(status: int) -> None:
    answer = refusal(status)
    assert (answer.status, answer.close, answer.reason) == (status, True, "bad_request")
    head, body = built(answer, message="Host is missing.")
    assert json.loads(body)["error"]["message"] == "Host is missing."
    assert head.value("connection") == "close"


def test_what_a_request_adds() -> None:
    head, body = built(
        ANSWERS["replica_invalid"], name="m", detail="its Content-Length is malformed", close=True,
        client_request_id=b"me", deployment_line=b"azureml-model-deployment: main\r\n",
    )  # fmt: skip
    assert head.value("x-ms-client-request-id") == "me"
    assert head.value("azureml-model-deployment") == "main"
    assert head.value("connection") == "close"
    assert json.loads(body)["error"]["detail"] == "its Content-Length is malformed"


def test_answers_do_not_mix() -> None:
    """They are rendered once and kept: nothing of one request may be left for the next."""
    first = build_answer(ANSWERS["queue_wait"], ID, name="one", client_request_id=b"me")
    second = build_answer(ANSWERS["queue_wait"], ID[::-1], name="two")
    assert b"service one " in first
    assert b"service two " in second
    assert b"me\r\n" not in second
    assert second.count(ID[::-1]) == 2


def test_continue() -> None:
    assert CONTINUE == b"HTTP/1.1 100 Continue\r\n\r\n"


def test_every_reason_that_is_answered_has_an_answer() -> None:
    silent = {"client_gone"}
    assert {answer.reason for answer in ANSWERS.values()} == set(model.REASONS) - silent


def test_the_document_names_every_answer() -> None:
    table = DOCUMENT.read_text().partition("| status | codes |")[2].partition("##")[0]
    assert set(re.findall(r"`(\w+)`", table)) == set(ANSWERS)
    for answer in ANSWERS.values():
        assert re.search(rf"^\| [\d, ]*{answer.status}[\d, ]* \| .*`{answer.code}`", table, re.MULTILINE), answer.code
