"""Children that die or hang while fe-serve serves: what they held, who takes over, when the next one starts."""

from __future__ import annotations

import os
import re
import signal
import time

import pytest

from fe.supervisor.children import Backoff
from tests.supervisor.serving import serving
from tests.support import proc
from tests.support.fe_process import stopped, wait_for


def test_a_killed_worker_gives_back_what_it_held_and_is_replaced(tmp_path):
    with serving(tmp_path) as served:
        bridge, first, other = served.bridge(), served.worker(0), served.worker(1)
        holders = [served.client_of(first), served.client_of(first), served.client_of(other)]
        assert [client.ask("lease") for client in holders] == ["held"] * 3
        assert bridge.load() == {"in_flight": 3, "check": []}
        os.kill(first, signal.SIGKILL)
        served.wait_log(r"worker 0 was killed by SIGKILL; what it held is given back ended=\d+ ran_s=\S+ held=2")
        assert bridge.load() == {"in_flight": 1, "check": []}
        served.wait_log("worker 0 serves", 2)
        assert served.worker(0) != first
        assert (served.worker(1), holders[2].ask("done")) == (other, str(other))
        assert served.client_of(served.worker(0)).ask("lease") == "held"


def test_connections_in_a_dead_workers_queue_are_served(tmp_path):
    with serving(tmp_path, workers=2) as served:
        dead = served.worker(0)
        with stopped(dead):
            clients = [served.client() for _ in range(40)]  # some of them in its accept queue: no two of 40 are alike
            for client in clients:
                client.send("pid")
            proc.kill(dead)
        answers = {int(client.line()) for client in clients}
        assert answers == {served.worker(0), served.worker(1)} - {dead}


def test_a_hung_worker_is_killed_and_replaced(tmp_path):
    with serving(tmp_path, worker_timeout=0.5) as served:
        hung, other = served.worker(1), served.worker(0)
        os.kill(hung, signal.SIGSTOP)
        served.wait_log(r"worker 1 has given no sign of life for \d+\.\d s: it is killed and replaced")
        served.wait_log("worker 1 serves", 2)
        assert served.worker(1) != hung
        # Another one may have been held up by the machine.
        assert served.worker(0) == other or "worker 0 has given no sign of life" in served.log()


def test_workers_are_not_blamed_for_a_suspended_machine(tmp_path):
    with serving(tmp_path, worker_timeout=0.5) as served:
        everybody = [served.pid, served.worker(0), served.worker(1)]
        workers = everybody[1:]
        for pid in everybody:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(2.0)  # the suspension itself
        resumed = time.monotonic()
        served.signal(signal.SIGCONT)
        served.signal(signal.SIGHUP)
        served.wait_event("controller hup")  # its loop has turned
        for pid in workers:
            os.kill(pid, signal.SIGCONT)
        assert served.client().ask("pid")
        now = [served.worker(0), served.worker(1)]
        blamed = [float(for_s) for for_s in re.findall(r"no sign of life for (\d+\.\d) s", served.log())]
        assert now == workers or blamed
        # Where the machine was slow once more, that may be held against them, but not the suspension.
        assert all(for_s <= time.monotonic() - resumed + 0.1 for for_s in blamed)


def test_a_worker_that_cannot_come_back_leaves_the_others_serving(tmp_path):
    with serving(tmp_path, listen=[f"unix:{tmp_path}/fe.sock"]) as served:
        served.order("worker", "exit 1")
        other = served.worker(1)
        os.kill(served.worker(0), signal.SIGKILL)
        served.wait_log(r"worker 0 ended with exit code 1", 4)  # more often than is allowed at the start
        assert {int(served.client_of(other).ask("pid")) for _ in range(3)} == {other}
        served.order("worker", "")
        served.wait_log("worker 0 serves", 2)


def test_no_worker_left_and_none_that_starts_is_the_end(tmp_path):
    with serving(tmp_path, workers=1) as served:
        served.order("worker", "exit 1")
        os.kill(served.worker(0), signal.SIGKILL)
        assert served.ended() == 4
        served.wait_log("worker 0 could not start 3 times in a row")


def test_a_killed_controller_is_replaced_and_nobody_else_notices(tmp_path):
    with serving(tmp_path) as served:
        workers, killed = [served.worker(0), served.worker(1)], served.controller()
        client = served.client()
        assert client.ask("lease") == "held"
        os.kill(killed, signal.SIGKILL)
        served.wait_event("controller start again")
        assert served.bridge().load() == {"in_flight": 1, "check": []}
        assert [served.worker(0), served.worker(1)] == workers
        assert client.ask("done")
        assert served.controller() != killed


def test_a_controller_that_cannot_come_back_leaves_the_workers_serving(tmp_path):
    with serving(tmp_path) as served:
        served.order("controller", "fatal")
        os.kill(served.controller(), signal.SIGKILL)
        served.wait_log("the controller ended with exit code 0", 4)
        assert served.client().ask("pid")
        served.order("controller", "")
        served.wait_log("the controller is ready", 2)


@pytest.mark.parametrize("orders", ["!hang", "!close"])
def test_a_controller_that_hangs_is_killed_and_replaced(tmp_path, orders):
    with serving(tmp_path, controller_timeout=0.4) as served:
        bridge = served.bridge()
        bridge.send(f'{{"type": "alive"}}\n{orders}')
        served.wait_log(r"the controller .*: it is killed and replaced")
        served.wait_event("controller start again")


def test_a_reload_reaches_the_controller_and_its_result_the_log(tmp_path):
    with serving(tmp_path) as served:
        served.signal(signal.SIGHUP)
        served.wait_log("the configuration was reloaded")
        served.order("reload", "bad")
        served.signal(signal.SIGHUP)
        served.wait_log('the configuration was not reloaded, the last one stays reason="it is bad"')


def test_a_reload_is_not_lost_while_the_controller_is_away(tmp_path):
    with serving(tmp_path) as served:
        served.order("controller", "exit 1")
        os.kill(served.controller(), signal.SIGKILL)
        served.wait_log("the controller was killed by SIGKILL")
        served.signal(signal.SIGHUP)
        served.wait_log("reload asked for")
        assert "controller hup" not in served.events()
        served.order("controller", "")
        served.wait_event("controller hup")


def test_a_reload_that_dies_with_the_controller_is_done_by_its_successor(tmp_path):
    with serving(tmp_path) as served:
        served.order("reload", "deaf")
        served.signal(signal.SIGHUP)
        served.wait_event("controller hup")
        served.order("reload", "")
        os.kill(served.controller(), signal.SIGKILL)
        served.wait_event("controller hup", 2)
        served.wait_log("the configuration was reloaded")


def test_logs_are_reopened_in_every_process(tmp_path):
    with serving(tmp_path) as served:
        pids = {served.pid, served.worker(0), served.worker(1), served.controller()}
        served.signal(signal.SIGUSR1)
        wait_for(lambda: {f"reopen {pid}" for pid in pids} <= set(served.events()), "all have reopened")


def test_backoff_starts_at_once_after_a_long_run_and_doubles_after_short_ones():
    backoff = Backoff(first=0.1, longest=5.0, steady=10.0)
    assert backoff.delay(10.0) == 0.0
    for most in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0):
        assert most / 2 <= backoff.delay(1.0) <= most
    assert backoff.delay(11.0) == 0.0
    assert backoff.delay(0.0) <= 0.1
