"""What systemd hears, on a real datagram socket."""

from __future__ import annotations

import os
import signal
import socket
import time
import uuid

import pytest

from tests.supervisor.serving import LIMIT, failing, serving


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(LIMIT)
        self.socket.bind(address.replace("@", "\0"))
        self.env = {"NOTIFY_SOCKET": address}

    def hear(self, without: tuple[str, ...] = ("STATUS", "WATCHDOG")) -> list[str]:
        """The next message as lines; those that begin with `without` are dropped."""
        while (message := self.socket.recv(4096).decode()).startswith(without):
            pass
        return message.splitlines()

    def hear_status(self, text: str) -> None:
        while self.hear(without=()) != [f"STATUS={text}"]:
            pass

    def silent(self, seconds: float) -> bool:
        self.socket.settimeout(seconds)
        try:
            self.hear(without=("STATUS",))
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(LIMIT)
        return False


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    heard = Systemd(f"@fe-{uuid.uuid4().hex}" if request.param == "abstract" else str(tmp_path / "notify"))
    yield heard
    heard.socket.close()


def test_start_reload_and_end_are_told_in_order(tmp_path, systemd):
    with serving(tmp_path, env=systemd.env) as served:
        assert systemd.hear() == ["READY=1"]
        before = time.monotonic_ns() // 1000
        served.signal(signal.SIGHUP)
        reloading, stamp = systemd.hear()
        assert reloading == "RELOADING=1"
        assert before <= int(stamp.removeprefix("MONOTONIC_USEC=")) <= time.monotonic_ns() // 1000
        assert systemd.hear() == ["READY=1"]
        served.signal(signal.SIGTERM)
        assert systemd.hear() == ["STOPPING=1"]
        assert served.ended() == 0
        assert systemd.silent(0.05)


def test_ready_waits_for_every_worker_and_the_controller(tmp_path):
    systemd = Systemd(str(tmp_path / "notify"))
    with failing(tmp_path, ("controller", "silent"), env=systemd.env) as served:
        systemd.hear_status("starting")
        served.wait_log("worker . serves", 2)
        os.kill(served.controller(), signal.SIGKILL)
        served.wait_event("controller start again")
        assert "ready workers" not in served.log()
        served.order("controller", "")
        os.kill(served.controller(), signal.SIGKILL)
        assert systemd.hear() == ["READY=1"]
        assert served.stop() == 0


def test_a_reload_that_fails_ends_as_well(tmp_path, systemd):
    with serving(tmp_path, env=systemd.env) as served:
        assert systemd.hear() == ["READY=1"]
        served.order("reload", "bad")
        served.signal(signal.SIGHUP)
        assert systemd.hear()[0] == "RELOADING=1"
        systemd.hear_status("reload failed, see the log")
        assert systemd.hear() == ["READY=1"]


def test_the_watchdog_hears_of_workers_that_serve_and_of_no_others(tmp_path):
    systemd = Systemd(str(tmp_path / "notify"))
    with serving(tmp_path, env={**systemd.env, "WATCHDOG_USEC": "100000"}, worker_timeout=1.0) as served:
        assert systemd.hear() == ["READY=1"]
        for _ in range(5):
            assert systemd.hear(without=("STATUS",)) == ["WATCHDOG=1"]
        served.order("worker", "hang")
        for index in (0, 1):
            os.kill(served.worker(index), signal.SIGKILL)
        served.wait_event("worker-0 start", 2)
        served.wait_event("worker-1 start", 2)
        systemd.hear_status("0 of 2 workers serve")
        assert systemd.silent(0.3)  # six times the interval
        served.order("worker", "")
        for index in (0, 1):
            os.kill(served.worker(index), signal.SIGKILL)
        assert systemd.hear(without=("STATUS",)) == ["WATCHDOG=1"]


def test_a_watchdog_for_another_process_is_not_ours(tmp_path):
    systemd = Systemd(str(tmp_path / "notify"))
    with serving(tmp_path, env={**systemd.env, "WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"}):
        assert systemd.hear() == ["READY=1"]
        assert systemd.silent(0.1)


def test_no_child_speaks_in_our_name(tmp_path):
    systemd = Systemd(str(tmp_path / "notify"))
    with serving(tmp_path, env={**systemd.env, "WATCHDOG_USEC": "9000000"}) as served:
        bridge = served.bridge()
        bridge.send("!environment")
        assert not {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} & set(bridge.heard())
