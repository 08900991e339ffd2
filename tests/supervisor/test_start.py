"""Starting: what each process has, and clear ends where something is missing."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from fe.errors import EXIT_CONFIG, EXIT_RESOURCE, EXIT_WORKER
from tests.supervisor.serving import failing, serving
from tests.support import proc


def test_workers_and_controller_serve_under_their_names(tmp_path):
    with serving(tmp_path, workers=3) as served:
        pids = {served.worker(index) for index in range(3)}
        answers = {int(served.client().ask("pid")) for _ in range(60)}
        assert answers == pids
        assert served.controller() not in pids
        assert sorted(served.events()) == ["controller start", *(f"worker-{index} start" for index in range(3))]


def test_each_process_has_only_the_descriptors_it_needs(tmp_path):
    with serving(tmp_path, workers=2) as served:
        port, admin = served.address()[1], served.bridge().socket.getpeername()[1]
        for worker in (served.worker(0), served.worker(1)):
            assert proc.listens(worker, port)
            assert not proc.listens(worker, admin)
            assert not {"fe-state", "pipe"} & kinds(worker)
        controller = served.controller()
        assert proc.listens(controller, admin)
        assert not proc.listens(controller, port)
        assert "pipe" not in kinds(controller)  # neither the supervisor's signals nor the keepers' reports
        assert served.worker(0) != 0


def kinds(pid: int) -> set[str]:
    links = [os.readlink(f"/proc/{pid}/fd/{name}") for name in os.listdir(f"/proc/{pid}/fd")]
    return {link.partition(":")[0].removeprefix("/memfd").strip() for link in links} | {
        "fe-state" for link in links if "fe-state" in link
    }


def test_descriptors_are_raised_to_the_hard_limit(tmp_path):
    with serving(tmp_path, before=["sh", "-c", 'ulimit -S -n 256; exec "$@"', "sh"]) as served:
        hard = min(int(limits(served.worker(0))[1]), 1 << 20)
        assert int(limits(served.worker(0))[0]) == hard > 256
        assert int(limits(served.controller())[0]) == hard
        bridge = served.bridge()
        replica = bridge.spawn("r", "sleep", "1000", stop_grace=1)
        assert limits(replica)[0] == "256"  # what the user has set for their own programs


def limits(pid: int) -> list[str]:
    for line in Path(f"/proc/{pid}/limits").read_text().splitlines():
        if line.startswith("Max open files"):
            return line.split()[3:5]
    raise AssertionError("no such limit")


@pytest.mark.parametrize(
    ("orders", "code", "words"),
    [
        (("worker", "exit 1"), EXIT_WORKER, r"worker \d could not start 3 times in a row.*exit code 1"),
        (("worker", "exit 0"), EXIT_WORKER, r"worker \d could not start 3 times in a row.*exit code 0"),
        (("worker", f"exit {EXIT_RESOURCE}"), EXIT_RESOURCE, r"worker \d could not start: it ended with exit code 3"),
        (("worker", "raise"), EXIT_WORKER, r"(?s)RuntimeError: as the test wanted.*could not start 3 times in a row"),
        (("controller", "exit 1"), EXIT_WORKER, r"the controller could not start 3 times in a row.*exit code 1"),
        (("controller", f"exit {EXIT_CONFIG}"), EXIT_CONFIG, r"the controller could not start: it ended with exit"),
        (("controller", "raise"), EXIT_WORKER, r"(?s)RuntimeError: as the test wanted.*the controller could not start"),
        (("controller", "fatal"), 3, r"fe-serve: the test wants it so"),
    ],
)
def test_a_child_that_cannot_start_ends_everything_with_its_reason(tmp_path, orders, code, words):
    with failing(tmp_path, orders) as served:
        assert served.ended() == code
        served.wait_log(words)


@pytest.mark.parametrize(
    ("orders", "words"),
    [
        (("worker", "hang"), r"worker \d has not started to serve within \d+\.\d s"),
        (("controller", "hang"), r"the controller has not applied its configuration within 1 s"),
        (("controller", "silent"), r"the controller has not applied its configuration within 1 s"),
    ],
)
def test_a_child_that_takes_too_long_counts_as_one_that_cannot_start(tmp_path, orders, words):
    with failing(tmp_path, orders, start_timeout=0.8, workers=1) as served:
        assert served.ended() == EXIT_WORKER
        served.wait_log(words, 3)
        served.wait_log("could not start 3 times in a row: it was killed by SIGKILL")


def test_a_busy_port_is_an_error_that_names_it(tmp_path):
    second = tmp_path / "second"
    second.mkdir()
    with serving(tmp_path) as served:
        host, port = served.address()
        with failing(second, listen=[f"{host}:{port}"]) as refused:
            assert refused.ended() == EXIT_RESOURCE
            refused.wait_log(f"fe-serve: cannot listen on {host}:{port}: something listens there already; stop it")
        assert served.client().ask("pid")


def test_more_workers_than_holders_is_an_error(tmp_path):
    with failing(tmp_path, workers=9) as served:
        assert served.ended() == EXIT_RESOURCE
        served.wait_log("9 workers need as many holders; raise limits.holders")


def test_a_stop_while_starting_ends_it(tmp_path):
    with failing(tmp_path, ("controller", "silent")) as served:
        served.wait_event("worker-0 start")
        served.wait_event("controller start")
        served.signal(signal.SIGTERM)
        assert served.ended() == 0


def test_a_unix_socket_is_shared_and_removed_at_the_end(tmp_path):
    path = tmp_path / "fe.sock"
    with serving(tmp_path, listen=[f"unix:{path}"]) as served:
        assert served.client().ask("pid")
        assert served.stop() == 0
    assert not path.exists()


def test_the_socket_file_of_a_killed_server_is_replaced(tmp_path):
    path = tmp_path / "fe.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(path))
        gone.listen()
    with serving(tmp_path, listen=[f"unix:{path}"]) as served:
        assert served.client().ask("pid")


@pytest.mark.parametrize("file", [False, True])
def test_a_path_that_lives_is_not_touched(tmp_path, file):
    path = tmp_path / "fe.sock"
    with socket.socket(socket.AF_UNIX) as living:
        if file:
            path.write_text("precious")
        else:
            living.bind(str(path))
            living.listen()
        with failing(tmp_path, listen=[f"unix:{path}"]) as served:
            assert served.ended() == EXIT_RESOURCE
            served.wait_log(
                f"cannot listen on unix:{path}: " + ("a file that is not a socket" if file else "something")
            )
    assert path.exists()
