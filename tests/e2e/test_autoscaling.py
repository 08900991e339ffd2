"""Replicas follow the load, on real processes: up at the first look after a step, down after the delay, from nothing.

Owns: fe-serve with local replicas of capacity 1 whose number is scaled. The rules are judged in tests/autoscaler, their
carrying out in tests/control/test_scaler.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from tests.support import proc
from tests.support.client import Client, request
from tests.support.fe_process import Config, FeProcess, wait_for
from tests.support.load import Load

SERVER = Path(__file__).parents[1] / "support" / "slow_model.py"
NAMES = {"endpoint": "model", "deployment": "local"}


def _config(log: Path, milliseconds: int, low: int, high: int, *more: str, **scale: Any) -> Config:
    command = [sys.executable, str(SERVER), "{port}", str(milliseconds), str(log), *more]
    settings = {"polling_interval": 0.2, "scale_down_delay": 1, "min_instances": low, "max_instances": high, **scale}
    local = {
        "name": "local",
        "request_settings": {"max_queue_wait_ms": 60000, "request_timeout_ms": 60000},
        "scale_settings": settings,
        "replicas": {"process": {"command": command}},
    }
    one = {"name": "model", "auth_mode": "none", "routes": [{"path_prefix": "/"}], "deployments": [local]}
    return {"endpoints": [one], "admin_actions": True}


def _status(fe: FeProcess) -> dict[str, Any]:
    [endpoint] = json.loads(fe.admin("/api/status")[1])["endpoints"]
    found: dict[str, Any] = endpoint["deployments"][0]
    return found


def _scalings(fe: FeProcess) -> list[dict[str, Any]]:
    events = json.loads(fe.admin("/api/events?limit=1000")[1])["events"]
    return [event for event in events if event["kind"] == "scale"]


def _served(log: Path) -> list[tuple[str, str]]:
    """Replica and body of every request, in the order in which work on it began."""
    lines = log.read_text().splitlines() if log.exists() else []
    return [(pid, body) for pid, _, body in (line.partition(" ") for line in lines)]


def test_a_step_of_load_brings_replicas_and_its_end_takes_them_away(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with FeProcess(_config(log, 50, 1, 4), workers=2) as fe:
        wait_for(lambda: _status(fe)["ready"] == 1, "the first replica")
        with Load(fe.client, 20) as load:
            first = wait_for(lambda: _scalings(fe), "a decision")[0]
            needed = min(4, first["figures"]["need"])  # 4, unless not all clients are there yet
            assert (first["from"], max(2, needed) <= first["to"] <= 4) == (1, True)
            assert first["figures"]["rule"] in ("burst", "up", "max")
            wait_for(lambda: _status(fe)["ready"] == 4, "all of them")
            load.wait_more(100)
        assert load.failures == []
        wait_for(lambda: _status(fe)["wanted"] == 1 and len(_status(fe)["replicas"]) == 1, "back to the least")
        assert _scalings(fe)[-1]["to"] == 1
        assert fe.metric("fe_requests_total", code="200", **NAMES) == len(load.outcomes)
    assert "overlap" not in {body for _, body in _served(log)}


def test_from_nothing_in_the_order_of_arrival(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    scale = {"cold_start_timeout": 100, "scale_to_zero_delay": 1}
    with FeProcess(_config(log, 5, 0, 2, str(gate), **scale), workers=2) as fe, contextlib.ExitStack() as stack:
        assert _status(fe)["replicas"] == []
        clients: list[Client] = []
        for number in range(50):
            clients.append(stack.enter_context(fe.client()))
            clients[-1].send(request("/", "POST", b"%d" % number))
            fe.wait_metric("fe_queue_depth", len(clients), **NAMES)
        gate.touch()  # until now no replica has come up
        for number, client in enumerate(clients):
            answer = client.read_response()
            assert (answer.status, answer.body) == (200, b"%d" % number)
        by_replica: dict[str, list[int]] = {}
        for pid, body in _served(log):
            by_replica.setdefault(pid, []).append(int(body))
        assert sorted(number for numbers in by_replica.values() for number in numbers) == list(range(50))
        assert all(numbers == sorted(numbers) for numbers in by_replica.values())
        wait_for(lambda: _status(fe)["replicas"] == [], "and back to nothing")
        assert _scalings(fe)[0]["from"] == 0
        assert _scalings(fe)[-1]["to"] == 0


def test_the_end_of_fe_waits_for_the_first_replica_of_those_who_wait(tmp_path: Path) -> None:
    log, gate = tmp_path / "log", tmp_path / "gate"
    config = {**_config(log, 5, 0, 1, str(gate), cold_start_timeout=60), "drain_timeout": 60}
    with FeProcess(config, workers=1) as fe, fe.client() as client:
        client.send(request("/", "POST", b"last"))
        fe.wait_metric("fe_queue_depth", 1, **NAMES)
        wait_for(lambda: _status(fe)["replicas"], "a replica is started")
        fe.signal(signal.SIGTERM)
        wait_for(lambda: not fe.ready(), "it drains")
        gate.touch()
        answer = client.read_response()
        assert (answer.status, answer.body) == (200, b"last")
        client.close()
        assert fe.process.wait(90) == 0


def test_a_controller_killed_while_scaling_up_leaves_no_replica_behind_and_starts_none_twice(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with FeProcess(_config(log, 20, 1, 6, scale_down_delay=600), workers=2) as fe:
        wait_for(lambda: _status(fe)["ready"] == 1, "the first replica")
        with Load(fe.client, 12) as load:
            wait_for(lambda: _scalings(fe), "a decision")
            victim = int(wait_for(fe.controller, "a controller"))
            os.kill(victim, signal.SIGKILL)
            wait_for(lambda: fe.controller() not in (None, victim) and fe.ready(), "a new controller")
            wait_for(lambda: _status(fe)["ready"] == 6, "it goes on with the same number")
            load.wait_more(50)
        assert load.failures == []
        keepers = [pid for pid in proc.children(fe.process.pid) if proc.name(pid) == "fe-keeper"]
        assert len(keepers) == 6
        assert _status(fe)["wanted"] == 6
    assert "overlap" not in {body for _, body in _served(log)}
