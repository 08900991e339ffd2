"""Ending: the order of a drain, the second signal, and kill -9 of any process."""

from __future__ import annotations

import os
import signal

import pytest

from fe.errors import EXIT_CUT_OFF
from tests.supervisor.serving import serving
from tests.support import proc


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_drain_finishes_requests_and_ends_in_order(tmp_path, number):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        script = "trap 'echo replica term >> events; exit' TERM; echo replica up >> events; sleep 1000 & wait"
        bridge.spawn("r", "sh", "-c", script, cwd=str(tmp_path))
        served.wait_event("replica up")
        client = served.client()
        assert client.ask("lease") == "held"
        served.signal(number)
        assert bridge.heard() == {"type": "drain"}
        served.wait_event("worker-0 term")
        served.wait_event("worker-1 term")
        assert client.ask("done")
        assert served.ended() == 0
        events = served.events()
        ends = max(events.index("worker-0 end"), events.index("worker-1 end"))
        assert events.index("controller drain") < ends < events.index("controller term")
        assert ends < events.index("replica term")


def test_children_end_properly_without_standard_output(tmp_path):
    """Started with it closed, a child once ran on as a second supervisor."""
    with serving(tmp_path, before=["sh", "-c", 'exec "$@" >&-', "sh"]) as served:
        served.signal(signal.SIGTERM)
        assert served.ended() == 0
        assert "Traceback" not in served.log()


def test_a_second_signal_ends_everything_at_once(tmp_path):
    with serving(tmp_path) as served:
        bridge = served.bridge()
        bridge.spawn("r", "sh", "-c", "trap '' TERM; sleep 1000; sleep 1000")
        client = served.client_of(served.worker(0))
        assert client.ask("lease") == "held"
        served.signal(signal.SIGTERM)
        served.wait_event("worker-0 term")
        served.signal(signal.SIGTERM)
        assert served.ended() == EXIT_CUT_OFF
        assert "worker-0 end" not in served.events()


def test_a_second_signal_ends_the_grace_of_replicas(tmp_path):
    with serving(tmp_path) as served:
        served.bridge().spawn("r", "sh", "-c", "trap '' TERM; sleep 1000; sleep 1000")
        served.signal(signal.SIGINT)
        served.wait_event("controller term")
        served.signal(signal.SIGINT)
        assert served.ended() == 0  # no request was cut off


def test_drain_timeout_cuts_off_what_is_left(tmp_path):
    with serving(tmp_path, drain_timeout=0.2) as served:
        client = served.client_of(served.worker(1))
        assert client.ask("lease") == "held"
        served.signal(signal.SIGTERM)
        assert served.ended() == EXIT_CUT_OFF
        served.wait_log("drain_timeout is over")
        served.wait_log(r"worker 1 was killed by SIGKILL; requests were cut off held=1")


def test_a_worker_that_does_not_end_without_requests_costs_no_exit_code(tmp_path):
    with serving(tmp_path, drain_timeout=0.2) as served:
        served.order("worker", "stubborn")
        assert served.stop() == 0


def test_a_worker_that_dies_while_draining_is_not_replaced(tmp_path):
    with serving(tmp_path) as served:
        keeps = served.client_of(served.worker(0))
        assert keeps.ask("lease") == "held"
        served.signal(signal.SIGTERM)
        served.wait_event("worker-0 term")
        os.kill(served.worker(0), signal.SIGKILL)
        assert served.ended() == EXIT_CUT_OFF
        assert served.events().count("worker-0 start") == 1


@pytest.mark.parametrize("also", [[], ["controller"], ["controller", "worker"]])
def test_nothing_outlives_a_killed_supervisor(tmp_path, also):
    with serving(tmp_path) as served:
        served.bridge().spawn("r", "sh", "-c", "trap '' TERM; sleep 1000; sleep 1000")
        victims = [served.controller()] if "controller" in also else []
        victims += [served.worker(0), served.worker(1)] if "worker" in also else []
        for pid in [served.pid, *victims]:
            proc.kill(pid)
        assert served.ended() == -signal.SIGKILL


def test_signals_that_a_launcher_left_blocked_are_heard(tmp_path):
    with serving(tmp_path, before=["env", "--block-signal=TERM,CHLD,HUP"]) as served:
        os.kill(served.worker(0), signal.SIGKILL)
        served.wait_log("worker 0 serves", 2)
        assert served.stop() == 0


def test_a_signal_for_the_whole_group_is_one_stop(tmp_path):
    with serving(tmp_path, before=["setsid"]) as served:
        assert os.getpgid(served.pid) == served.pid
        client = served.client_of(served.worker(0))
        assert client.ask("lease") == "held"
        os.killpg(served.pid, signal.SIGINT)  # a terminal's Ctrl-C
        served.wait_event("worker-0 term")
        assert client.ask("done")
        assert served.ended() == 0
