"""Mending the table although somebody was stopped while holding one of its locks."""

from __future__ import annotations

import os
import signal
import time

import pytest

from fe.errors import FeError
from fe.supervisor import repair
from tests.supervisor.serving import ROOT, serving
from tests.support import proc
from tests.support.fe_process import wait_for

# Its named crash points stop a debug build at any store, here one that happens under a deployment's lock.
DEBUG = {"PYTHONPATH": f"{ROOT / 'build/debug'}:{ROOT}"}


def be_patient() -> bool:
    """Nobody is in the way of a repair that is late: the machine is busy."""
    return True


def test_the_result_comes_from_a_child():
    assert repair.repair_apart(os.getpid, be_patient) != os.getpid()


def test_a_repair_that_is_killed_is_done_again(tmp_path):
    def work() -> int:
        with (tmp_path / "tries").open("a+") as tries:
            tries.write("x")
            tries.seek(0)
            if len(tries.read()) < 3:
                tries.flush()
                os.kill(os.getpid(), signal.SIGKILL)
        return 7

    assert repair.repair_apart(work, be_patient) == 7
    assert (tmp_path / "tries").read_text() == "xxx"


def test_a_repair_that_never_succeeds_is_an_error():
    with pytest.raises(FeError, match="every process that tries"):
        repair.repair_apart(lambda: os.kill(os.getpid(), signal.SIGKILL) or 0, be_patient)


def test_who_holds_a_repair_up_is_ended_and_then_it_is_done(monkeypatch):
    monkeypatch.setattr(repair, "PATIENCE", 0.05)
    monkeypatch.setattr(repair, "TRIES", 1000)
    lock, holder = os.pipe()  # its writing end stands for a lock: the repair gets it when the holder is dead
    stopped = os.fork()
    if stopped == 0:
        signal.raise_signal(signal.SIGSTOP)
        os._exit(0)
    os.close(holder)
    calls = []

    def on_late() -> bool:
        calls.append(1)
        if len(calls) == 2:
            proc.kill(stopped)
        return False

    assert repair.repair_apart(lambda: len(os.read(lock, 1)), on_late) == 0
    os.waitpid(stopped, 0)
    os.close(lock)
    assert len(calls) >= 2


def test_nobody_to_blame_is_an_error_in_the_end(monkeypatch):
    monkeypatch.setattr(repair, "PATIENCE", 0.01)
    lock, holder = os.pipe()
    with pytest.raises(FeError, match="stays taken"):
        repair.repair_apart(lambda: len(os.read(lock, 1)), lambda: False)
    os.close(lock)
    os.close(holder)


def test_nobody_is_blamed_while_the_repair_itself_is_at_work(monkeypatch):
    """Nor while somebody is silent who may go on, until there has been more than enough time for that."""
    monkeypatch.setattr(repair, "PATIENCE", 0.01)
    blamed = []

    def work() -> int:
        while time.process_time() < 0.3:
            pass
        return 7

    # It is late some thirty times. For a moment it may wait for something else than a processor; with somebody blamed
    # TRIES times it would be an error.
    assert repair.repair_apart(work, lambda: bool(blamed.append(1))) == 7
    blamed.clear()
    monkeypatch.setattr(repair, "TURNS", 20)
    lock, holder = os.pipe()
    with pytest.raises(FeError, match="stays taken"):
        repair.repair_apart(lambda: len(os.read(lock, 1)), lambda: not blamed.append(1))
    os.close(lock)
    os.close(holder)
    assert repair.TRIES < len(blamed) <= 20


def test_who_waits_for_a_processor_is_not_taken_for_one_that_hangs(tmp_path):
    with serving(tmp_path, workers=3, worker_timeout=200.0, env=DEBUG) as served:
        stopped, busy, killed = (served.worker(index) for index in range(3))
        clients = [served.client_of(worker) for worker in (busy, stopped)]
        clients[0].send("spin")
        clients[1].send("stop inside")
        wait_for(lambda: proc.state(stopped) == "T", "it has stopped")
        os.kill(killed, signal.SIGKILL)
        served.wait_log("worker 0 is silent and may hold up the repair of the lease table: it is killed and replaced")
        served.wait_log("worker 0 serves", 2)
        served.wait_log("worker 2 serves", 2)
        assert served.worker(1) == busy
        proc.kill(busy)
        served.wait_log("worker 1 serves", 2)


def test_a_worker_that_was_stopped_inside_a_lock_does_not_stop_the_others_replacement(tmp_path):
    with serving(tmp_path, env=DEBUG) as served:
        stopped, killed = served.worker(0), served.worker(1)
        client = served.client_of(stopped)
        client.send("stop inside")
        wait_for(lambda: proc.state(stopped) == "T", "it has stopped")
        os.kill(killed, signal.SIGKILL)
        served.wait_log("worker 0 is silent and may hold up the repair of the lease table: it is killed and replaced")
        served.wait_log("worker 0 serves", 2)
        served.wait_log("worker 1 serves", 2)
        assert served.bridge().load() == {"in_flight": 0, "check": []}
