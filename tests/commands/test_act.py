"""`fe drain`, `fe undrain` and `fe scale` against a real fe-serve: what they change, what they say, how they end."""

from __future__ import annotations

import json

import pytest

from tests.commands.running import fe, stranger
from tests.control.harness import COMMAND
from tests.support.backends import Backend
from tests.support.fe_process import FeProcess, dead_port, endpoint, wait_for

OWN = {
    "name": "own",
    "auth_mode": "none",
    "deployments": [
        {
            "name": "green",
            "scale_settings": {"min_instances": 1, "max_instances": 3},
            "replicas": {"process": {"command": list(COMMAND)}},
        }
    ],
}


@pytest.fixture(scope="module")
def served():
    with Backend() as one, Backend() as two:
        config = {"admin_actions": True, "endpoints": [endpoint([one.address, two.address]), OWN]}
        with FeProcess(config) as running:
            yield running, one.address, two.address


def at(running: FeProcess) -> list[str]:
    return ["--admin", f"127.0.0.1:{running.admin_port}"]


def deployments(running: FeProcess) -> list[dict]:
    status = json.loads(running.admin("/api/status")[1])
    return [one for found in status["endpoints"] for one in found["deployments"]]


def test_drain_and_undrain(served):
    running, one, _ = served
    drained = fe("drain", "model/blue", one, *at(running))
    assert (drained.returncode, drained.stderr) == (0, "")
    assert drained.stdout.startswith(f"model/blue: {one} is draining")
    assert [replica["state"] for replica in deployments(running)[0]["replicas"]] == ["draining", "ready"]
    back = fe("undrain", "model/blue", one, *at(running))
    assert (back.returncode, back.stderr) == (0, "")
    assert back.stdout.startswith(f"model/blue: {one} is back, now ")
    wait_for(lambda: deployments(running)[0]["ready"] == 2, "both replicas are ready")


def test_scale(served):
    running, _, _ = served
    wait_for(lambda: deployments(running)[1]["ready"] == 1, "the local replica is ready")
    scaled = fe("scale", "own/green", "2", *at(running))
    assert (scaled.returncode, scaled.stdout, scaled.stderr) == (0, "own/green: replicas wanted: 2, before: 1\n", "")
    wait_for(lambda: deployments(running)[1]["ready"] == 2, "a second one is ready")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["scale", "model/blue", "3"], "model/blue has static replicas"),
        (["scale", "own/green", "4"], "own/green may have 1 to 3 replicas"),
        (["scale", "no/body", "1"], "there is no deployment no/body"),
        (["drain", "model/blue", "127.0.0.1:1"], "model/blue has no replica at 127.0.0.1:1"),
        (["undrain", "model/blue", "127.0.0.1:1"], "model/blue has no replica at 127.0.0.1:1"),
        (["drain", "mod?el/blu#e", "127.0.0.1:1"], "there is no deployment mod?el/blu#e"),
    ],
)
def test_what_is_refused_says_why(served, words, said):
    refused = fe(*words, *at(served[0]))
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith(f"fe {words[0]}: {said}")


def test_without_leave_the_mend_is_named():
    with Backend() as one, FeProcess({"endpoints": [endpoint([one.address])]}) as running:
        refused = fe("drain", "model/blue", one.address, *at(running))
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "`admin_actions: true` in the configuration allows them" in refused.stderr
        assert deployments(running)[0]["ready"] == 1


@pytest.mark.parametrize(
    "words",
    [
        ["drain", "model", "a:1"], ["drain", "a/b/c", "a:1"], ["drain", "/b", "a:1"], ["drain", "model/blue"],
        ["scale", "model/blue", "-1"], ["scale", "model/blue", "many"], ["scale", "model/blue", "1.5"],
        ["scale", "model/blue", "1", "--admin", "nowhere"], ["scale", "model/blue", "1", "--admin", "http://a:1"],
        ["scale", "model/blue", "1", "--admin", "a:1", "--config", "b"],
    ],
)  # fmt: skip
def test_wrong_usage(words):
    result = fe(*words)
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr


def test_nobody_there():
    result = fe("drain", "model/blue", "a:1", "--admin", f"127.0.0.1:{dead_port()}")
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("fe drain: no fe-serve answers on 127.0.0.1:")


@pytest.mark.parametrize("status", [200, 409])
def test_what_an_answer_says_cannot_steer_the_terminal(status):
    nasty = "\x1b]0;gone\x07\x1b[2J\r\n\u202eevil\x9b1m"
    answers = {200: {"replica": nasty, "state": nasty}, 409: {"error": {"code": nasty, "message": nasty}}}
    with stranger(answers[status], status) as other:
        result = fe("drain", "model/blue", "a:1", "--admin", other.address)
    assert result.returncode == (0 if status == 200 else 1)
    said = result.stdout + result.stderr
    assert "evil" in said
    assert all(character.isprintable() or character == "\n" for character in said)
    assert said.count("\n") == 1
