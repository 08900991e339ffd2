"""Local replicas as the controller asks for them: reports, their life beyond a controller's, and what is refused."""

from __future__ import annotations

import json
import os
import signal
import sys

import pytest

from tests.supervisor.serving import comm, serving
from tests.supervisor.test_keeper import DAEMON
from tests.support import proc
from tests.support.fe_process import wait_for

STUBBORN = ("sh", "-c", "trap '' TERM; sleep 1000; sleep 1000")


def keepers(served):
    return [pid for pid in proc.children(served.pid) if comm(pid) == "fe-keeper"]


def test_a_replica_runs_and_its_end_is_reported(tmp_path):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        pid = bridge.spawn("a", "sh", "-c", "echo $WHO; echo $0 >&2; sleep 1000", cwd=str(tmp_path), output="out",
                           env={"WHO": "me", "PATH": os.environ["PATH"], "FE_SERVED": served.mark})  # fmt: skip
        assert proc.alive(pid)
        assert bridge.running() == {"a": pid}
        wait_for(lambda: (tmp_path / "out").read_text() == "me\nsh\n", "its output")
        os.kill(pid, signal.SIGKILL)
        assert bridge.heard("exited") == {"type": "exited", "id": "a", "status": -9}
        assert bridge.running() == {}
        bridge.spawn("b", "sh", "-c", "exit 5", cwd=str(tmp_path), output="out")
        assert bridge.heard("exited") == {"type": "exited", "id": "b", "status": 5}
        assert (tmp_path / "out").read_text().startswith("me\n")  # appended to


def test_output_without_a_file_goes_to_stderr_of_fe(tmp_path):
    with serving(tmp_path) as served:
        served.bridge().spawn("a", "sh", "-c", "echo from a replica")
        served.wait_log("^from a replica$|\nfrom a replica\n")


def test_stop_ends_the_group_with_its_grace(tmp_path):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        bridge.spawn("polite", "sh", "-c", "trap 'exit 3' TERM; echo up; sleep 1000 & wait")
        bridge.spawn("stubborn", *STUBBORN, stop_grace=0.2)
        served.wait_log("(^|\n)up\n")
        bridge.message("stop", id="polite")
        bridge.message("stop", id="polite")  # twice costs nothing
        assert bridge.heard("exited") == {"type": "exited", "id": "polite", "status": 3}
        bridge.message("stop", id="stubborn")
        bridge.message("list")
        told = {message["type"]: message for message in (bridge.heard(), bridge.heard())}  # the end may come first
        assert told["running"]["replicas"] == {}  # it still runs, but nobody should count on it
        assert told["exited"]["id"] == "stubborn"
        assert keepers(served) == []


def test_one_that_is_stopped_as_soon_as_it_was_asked_for_ends(tmp_path):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        bridge.send_spawn("a", "sleep", "1000")
        bridge.message("stop", id="a")
        told = [bridge.heard(), bridge.heard()]
        assert [(message["type"], message["id"]) for message in told] == [("spawned", "a"), ("exited", "a")]
        assert bridge.running() == {}
        wait_for(lambda: not keepers(served), "no keeper stays")


def test_replicas_outlive_the_controller(tmp_path):
    with serving(tmp_path) as served:
        pids = {name: served.bridge().spawn(name, *STUBBORN, stop_grace=0) for name in ("a",)}
        killed = served.controller()
        os.kill(killed, signal.SIGKILL)
        served.wait_event("controller start again")
        bridge = served.bridge()
        assert bridge.running() == pids
        assert all(proc.alive(pid) for pid in pids.values())
        bridge.message("stop", id="a")
        assert bridge.heard("exited")["id"] == "a"


def test_an_end_while_the_controller_is_away_is_seen_in_the_list(tmp_path):
    with serving(tmp_path) as served:
        pid = served.bridge().spawn("a", *STUBBORN, stop_grace=0)
        served.order("controller", "exit 1")
        os.kill(served.controller(), signal.SIGKILL)
        os.kill(pid, signal.SIGKILL)
        served.wait_log("a replica has ended replica=a status=-9")
        served.order("controller", "")
        served.wait_log("the controller is ready", 2)
        assert served.bridge().running() == {}


def test_what_cannot_be_started_is_reported_with_its_reason(tmp_path):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        cases = [
            ({"argv": ["no-such-command-anywhere"]}, "its command: No such file or directory"),
            ({"cwd": "/no/such/folder"}, "its working directory: No such file or directory"),
            ({"output": "/no/such/folder/out"}, "/no/such/folder/out: "),
            ({"cwd": "relative"}, "its working directory is not absolute"),
            ({"argv": []}, "its command is empty"),
            ({"argv": ["a\0b"]}, "NUL"),
            ({"env": {"A=B": "c"}}, "environment"),
            ({"stop_grace": -1}, "stop_grace"),
            ({"id": ""}, "id"),
            ({"id": "x" * 1000}, "id"),
        ]
        for wrong, reason in cases:
            fields = {"id": "r", "argv": ["sleep", "1000"], **wrong}
            bridge.send_spawn(fields.pop("id"), *fields.pop("argv"), **fields)
            message = bridge.heard()
            assert (message["type"], message["pid"]) == ("spawned", 0)
            assert reason in message["error"]
        wait_for(lambda: not keepers(served), "no keeper stays")
        bridge.spawn("r", "sleep", "1000")  # its id is free again
        bridge.send_spawn("r", "sleep", "1000")
        assert "in use" in bridge.heard("spawned")["error"]


@pytest.mark.parametrize("raw", ["{", "[]", '{"type":"unknown"}', '{"type":"spawn"}', '{"type":"stop","id":7}', "\xff"])
def test_messages_that_make_no_sense_cost_nothing(tmp_path, raw):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        bridge.send(raw)
        served.wait_log("the controller sent a message that makes no sense")
        assert bridge.running() == {}
        assert "controller start again" not in served.events()


def test_a_flood_of_messages_does_not_keep_the_supervisor_from_its_work(tmp_path):
    with serving(tmp_path) as served:
        bridge, killed = served.bridge(), served.worker(0)
        flood = "\n".join([json.dumps({"type": "list"})] * 3000)
        bridge.send(flood)
        os.kill(killed, signal.SIGKILL)
        served.wait_log("worker 0 serves", 2)
        for _ in range(3000):
            bridge.heard("running")


def test_what_a_killed_keeper_leaves_behind_is_ended(tmp_path):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        script = f"{sys.executable} -c '{DAEMON}'; (trap '' TERM; sleep 1000) & echo up; sleep 1000"
        bridge.spawn("a", "sh", "-c", script, output="out", cwd=str(tmp_path))
        wait_for(lambda: (tmp_path / "out").read_text() == "daemon\nup\n", "it has its descendants")
        [keeper] = keepers(served)
        known = {served.pid, served.worker(0), served.worker(1), served.controller()}
        assert len(served.survivors()) >= len(known) + 3
        os.kill(keeper, signal.SIGKILL)
        assert bridge.heard("exited")["status"] == -9
        wait_for(lambda: set(served.survivors()) == known, "what was below it is gone")


def test_children_of_the_environment_that_started_fe_are_left_alone(tmp_path):
    with serving(tmp_path, before=["sh", "-c", 'sleep 1000 & exec "$@"', "sh"]) as served:
        [stranger] = wait_for(lambda: [p for p in proc.children(served.pid) if comm(p) == "sleep"], "it sleeps")
        bridge = served.bridge()
        bridge.spawn("a", "sleep", "1000")
        [keeper] = keepers(served)
        os.kill(keeper, signal.SIGKILL)
        assert bridge.heard("exited")["status"] == -9
        assert proc.alive(stranger)
        os.kill(stranger, signal.SIGKILL)
