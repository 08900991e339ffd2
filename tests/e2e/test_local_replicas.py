"""Replicas that fe runs itself: whatever dies, they neither vanish nor linger, and no request is lost to a change.

Owns: fe-serve with `replicas: process`. The parts on their own are judged in tests/supervisor and tests/control.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import proc
from tests.support.fe_process import Config, FeProcess, wait_for
from tests.support.load import Load

SERVER = Path(__file__).parents[1] / "support" / "model_server.py"


def _config(name: str = "one", count: int = 2) -> Config:
    command = [sys.executable, str(SERVER), "{port}", name, "with-a-child"]
    local = {
        "name": "local",
        "instance_count": count,
        "request_settings": {
            "max_concurrent_requests_per_instance": 4,
            "max_queue_wait_ms": 60000,
            "request_timeout_ms": 60000,
        },
        "replicas": {"process": {"command": command, "stop_grace": 5}},
    }
    return {
        "endpoints": [
            {"name": "model", "auth_mode": "none", "routes": [{"path_prefix": "/"}], "deployments": [local]},
        ]
    }


@pytest.fixture(scope="module")
def fe() -> Iterator[FeProcess]:
    with FeProcess(_config(), workers=2) as one:
        wait_for(lambda: len(_answering(one)) == 2, "both replicas serve")
        yield one


def _answering(fe: FeProcess) -> set[int]:
    """Process ids of the replicas that answer now."""
    with fe.client() as client:
        answers = [client.get("/") for _ in range(12)]
    return {answer.json()["pid"] for answer in answers if answer.status == 200}


def test_a_replica_that_dies_is_replaced(fe: FeProcess) -> None:
    before = _answering(fe)
    victim = min(before)
    os.kill(victim, signal.SIGKILL)
    after = wait_for(lambda: len(now := _answering(fe)) == 2 and victim not in now and now, "a successor serves")
    assert before - {victim} < after


def test_a_killed_controller_disturbs_no_replica(fe: FeProcess) -> None:
    before = _answering(fe)
    with Load(fe.client, 8, per_connection=5) as load:
        load.wait_more(50)
        victim = int(wait_for(fe.controller, "a controller"))
        os.kill(victim, signal.SIGKILL)
        wait_for(lambda: fe.controller() not in (None, victim) and fe.ready(), "a new controller")
        load.wait_more(50)
    assert load.failures == []
    assert _answering(fe) == before


def test_a_changed_command_is_rolled_out_without_a_loss(fe: FeProcess) -> None:
    before = _answering(fe)
    with Load(fe.client, 8, per_connection=5) as load:
        load.wait_more(50)
        fe.reload(_config("two", 3))
        wait_for(lambda: len(_answering(fe)) == 3 and not before & _answering(fe), "three new ones serve")
        wait_for(lambda: not any(map(proc.alive, before)), "the old ones are gone")
        load.wait_more(50)
        fe.reload(_config("two", 2))
        wait_for(lambda: len(_answering(fe)) == 2, "one less")
    assert load.failures == []
    with fe.client() as client:
        assert client.get("/").json()["name"] == "two"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_behind(number: signal.Signals) -> None:
    with FeProcess(_config()) as fe:
        wait_for(lambda: len(_answering(fe)) == 2, "both replicas serve")
        assert len(fe.survivors()) >= 2 + 2 * 3  # worker, controller; keeper, server and its child of each replica
        fe.signal(number)
        assert fe.process.wait(90) == (0 if number != signal.SIGKILL else -9)
        wait_for(lambda: not fe.survivors(), "no process is left")
