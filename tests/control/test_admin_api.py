"""What lies below /api: real answers hold to openapi.json, queries and changes do what it says, nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import OpenAPIV31SpecValidator

from fe import model
from fe.control import admin_types as types
from fe.control.admin_api import OPENAPI, Api
from tests.control.admin_client import ask, post
from tests.control.harness import COMMAND, eventually, on_loop
from tests.control.world import World, endpoint, world

A, B = "127.0.0.1:7001", "127.0.0.1:7002"
ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = json.loads(OPENAPI.read_text())
OWN = {
    "scale_settings": {"min_instances": 1, "max_instances": 3},
    "replicas": {"process": {"command": [*COMMAND, "the-secret-argument"], "env": {"TOKEN": "the-secret-token"}}},
}


def config(**settings: Any) -> dict[str, Any]:
    keyed = endpoint("keyed", {"blue": [A, B]}, auth_mode="key", keys={"primary": "the-secret-key"})
    return {"admin_actions": True, "endpoints": [keyed, endpoint("own", {"green": OWN})], **settings}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "fe.yaml"


def holds(answer: Any, path: str, status: int = 200, method: str = "get") -> None:
    """The answer has the shape that the document gives it."""
    responses = DOCUMENT["paths"][path][method]["responses"]
    described = responses.get(str(status), responses.get("default"))
    schema = {**described["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}
    Draft202012Validator(schema).validate(answer)


def nothing_more(answer: Any, kind: Any) -> None:
    """Every field is one that is described: what the type does not know would be lost on the way."""
    assert msgspec.to_builtins(msgspec.convert(answer, kind)) == answer


def test_the_document_is_valid_openapi():
    OpenAPIV31SpecValidator(DOCUMENT).validate()


@on_loop
async def test_the_document_has_the_routes_that_there_are(file):
    async with world(file, config()) as w:
        served = {(route.path, route.method.lower()) for route in Api(w.plane).routes()}
        described = {
            (path, method) for path, item in DOCUMENT["paths"].items() for method in item if method in ("get", "post")
        }
        assert described == served | {(path, "get") for path in ("/healthz", "/readyz", "/metrics")}
        answer = await ask(w, "/api/openapi.json")
        assert (answer.type, answer.json) == ("application/json; charset=utf-8", DOCUMENT)


def test_people_are_told_of_every_path_and_code():
    text = (ROOT / "docs/admin-api.md").read_text()
    assert [path for path in DOCUMENT["paths"] if f" {path}`" not in text] == []
    sources = [
        (OPENAPI.parent / name).read_text() for name in ("admin.py", "admin_api.py", "admin_guard.py", "actions.py")
    ]
    codes = {code for source in sources for code in re.findall(r'\b\d{3}, "([a-z_]+)"', source)}
    assert len(codes) >= 12
    assert [code for code in sorted(codes) if f"`{code}`" not in text] == []


@on_loop
async def test_a_status_is_as_described(file):
    async with world(file, config()) as w:
        await eventually(lambda: w.states("own/green") == ["ready"], "ready")
        plain = (await ask(w, "/api/status")).json
        holds(plain, "/api/status")
        shown = [one for found in plain["endpoints"] for one in found["deployments"]]
        assert [one["scaling"] is None for one in shown] == [True, False]
        assert all("history" not in one for one in shown)
        await eventually(lambda: w.plane.scaler.tracks["own/green"].trend.rate() is not None, "two points of history")
        full = (await ask(w, "/api/status?history=1")).json
        holds(full, "/api/status")
        nothing_more(full, types.Status)
        series = full["endpoints"][1]["deployments"][0]["history"]
        assert len({len(series[name]) for name in ("utilization", "in_flight", "queue_depth", "ready", "wanted")}) == 1
        assert (full["actions"], full["table"]["deployments"]["used"]) == (True, 2)


@on_loop
async def test_the_configuration_is_shown_without_secrets(file):
    async with world(file, config()) as w:
        answer = await ask(w, "/api/config")
        holds(answer.json, "/api/config")
        assert [one["name"] for one in answer.json["endpoints"]] == ["keyed", "own"]
        assert "TOKEN" in answer.text
        assert "secret" not in answer.text
        assert w.snapshot.endpoints[0].key_digests[0].hex() not in answer.text


@on_loop
async def test_events_are_as_described_and_can_be_chosen(file):
    async with world(file, config()) as w:
        await eventually(lambda: w.states("own/green") == ["ready"], "ready")
        assert (await post(w, "/api/deployments/keyed/blue/drain", {"replica": A})).status == 200
        assert await w.reload("nonsense: 1")
        everything = (await ask(w, "/api/events")).json
        holds(everything, "/api/events")
        nothing_more(everything, types.Events)
        events = everything["events"]
        assert [one["id"] for one in events] == sorted(one["id"] for one in events)
        assert everything["last"] == events[-1]["id"]
        keyed = (await ask(w, "/api/events?deployment=keyed%2Fblue")).json["events"]
        assert {one["deployment"] for one in keyed} == {"keyed/blue"}
        assert (keyed[-1]["kind"], keyed[-1]["replica"]) == ("drain", A)
        assert (await ask(w, "/api/events?limit=1")).json["events"] == events[-1:]
        after = (await ask(w, f"/api/events?after={events[0]['id']}")).json["events"]
        assert after == events[1:]
        assert (await ask(w, f"/api/events?after={everything['last']}")).json["events"] == []
        assert (await ask(w, "/api/events?deployment=no/body")).json["events"] == []


@pytest.mark.parametrize(
    "path",
    [
        "/api/status?history=2", "/api/status?history=", "/api/status?more=1", "/api/status?history=1&history=1",
        "/api/events?after=-1", "/api/events?after=x", "/api/events?after=1.5", "/api/events?after=99999999999999999",
        "/api/events?limit=0", "/api/events?limit=1001", "/api/events?limit=%D9%A1", "/api/events?since=1",
        f"/api/events?deployment={'x' * 101}", "/api/config?all=1", "/api/openapi.json?x",
    ],
)  # fmt: skip
@on_loop
async def test_queries_that_are_not_described_are_refused(file, path):
    async with world(file, config()) as w:
        answer = await ask(w, path)
        assert (answer.status, answer.code) == (400, "bad_query")
        holds(answer.json, path.partition("?")[0], 400)


# --- changes ---------------------------------------------------------------------------------------------------------


async def change(w: World, name: str, action: str, body: Any, status: int, **headers: str) -> Any:
    """Asks for it; the answer, whose status and shape are those described."""
    answer = await post(w, f"/api/deployments/{name}/{action}", body, **headers)
    assert answer.status == status, answer
    holds(answer.json, f"/api/deployments/{{endpoint}}/{{deployment}}/{action}", status, "post")
    return answer.json


@on_loop
async def test_a_replica_is_drained_and_put_back(file):
    async with world(file, config()) as w:
        assert await change(w, "keyed/blue", "drain", {"replica": A}, 200) == {"replica": A, "state": "draining"}
        assert w.states("keyed/blue") == ["draining", "ready"]
        replicas = (await ask(w, "/api/status")).json["endpoints"][0]["deployments"][0]["replicas"]
        assert [(one["address"], one["held"]) for one in replicas] == [(A, True), (B, False)]
        put_back = await change(w, "keyed/blue", "undrain", {"replica": A}, 200)
        assert put_back == {"replica": A, "state": "ready"}
        assert w.states("keyed/blue") == ["ready", "ready"]


@on_loop
async def test_a_deployment_is_scaled(file):
    async with world(file, config()) as w:
        assert await change(w, "own/green", "scale", {"count": 2}, 200) == {"desired": 2, "former": 1}
        await eventually(lambda: w.states("own/green") == ["ready", "ready"], "two replicas")
        assert (await ask(w, "/api/status")).json["endpoints"][1]["deployments"][0]["wanted"] == 2


@on_loop
async def test_what_cannot_be_done_says_why(file):
    async with world(file, config()) as w:
        for name, action, body, status, code in (
            ("keyed/blue", "scale", {"count": 3}, 409, "not_scalable"),
            ("own/green", "scale", {"count": 4}, 409, "out_of_bounds"),
            ("own/green", "scale", {"count": -1}, 400, "bad_request"),
            ("own/green", "scale", {"count": 1.5}, 400, "bad_request"),
            ("own/green", "scale", {"count": True}, 400, "bad_request"),
            ("own/none", "scale", {"count": 1}, 404, "no_deployment"),
            ("keyed/blue", "drain", {"replica": "127.0.0.1:1"}, 404, "no_replica"),
            ("keyed/blue", "undrain", {"replica": B}, 404, "no_replica"),
        ):
            answer = await change(w, name, action, body, status)
            assert answer["error"]["code"] == code, answer
        assert w.states("keyed/blue") == ["ready", "ready"]
        w.peer.host.say(model.Drain())
        await eventually(lambda: w.plane.draining, "heard")
        answer = await change(w, "own/green", "scale", {"count": 2}, 409)
        assert answer["error"]["code"] == "draining"


@on_loop
async def test_changes_are_off_unless_the_configuration_allows_them(file):
    async with world(file, config(admin_actions=False)) as w:
        for name, action, body in (
            ("keyed/blue", "drain", {"replica": A}),
            ("keyed/blue", "undrain", {"replica": A}),
            ("own/green", "scale", {"count": 2}),
            ("no/body", "scale", {"count": 2}),
        ):
            answer = await change(w, name, action, body, 403)
            assert answer["error"]["code"] == "actions_disabled"
        assert (await ask(w, "/api/status")).json["actions"] is False
        assert w.states("keyed/blue") == ["ready", "ready"]
