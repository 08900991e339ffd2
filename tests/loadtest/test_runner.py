"""`python -m loadtest` end to end: locust as a process, through fe and against it, its report, its exit codes, its end.

Each run takes some seconds: locust looks at the number of users once a second.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import uuid

import pytest

from loadtest import figures, installation
from loadtest.__main__ import main
from tests.loadtest.simulator import Simulator, example
from tests.project import tree
from tests.support import proc
from tests.support.backends import Backend
from tests.support.fe_process import free_port, wait_for

LIMIT = 100
COMMAND = [sys.executable, "-m", "loadtest"]
EXAMPLE = ("--endpoint", "scores", "--stream-endpoint", "tokens")


def run(*arguments: object, **environment: str) -> tuple[int, str]:
    """The exit code and all that is said. No process of it may be left."""
    mark = uuid.uuid4().hex
    result = subprocess.run(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=LIMIT,
        cwd=tree.ROOT, stdin=subprocess.DEVNULL, env={**os.environ, "FE_LOADTEST_MARK": mark, **environment},
    )  # fmt: skip
    assert proc.with_environment(f"FE_LOADTEST_MARK={mark}") == []
    return result.returncode, result.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "http://127.0.0.1:1", "--config", "x"], "give one of them"),
        (["--admin", "http://127.0.0.1:1"], "--admin goes with --url"),
        (["--url", "127.0.0.1:8080"], "write it as http://"),
        (["--url", "http://user:secret@host"], "write it as http://"),
        (["--url", "http://127.0.0.1:1"], "--endpoint: mixed needs one"),
        (["--duration", "soon"], "'soon' is no time"),
        (["--users", "0"], "'0' is no whole number above 0"),
        (["--scenario", "flood"], "there are steady"),
        (["--key", "plain"], "file:PATH or env:NAME"),
    ],
)
def test_wrong_usage(arguments, said, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert said in capsys.readouterr().err


def test_mixed_load_through_fe(tmp_path):
    report = tmp_path / "report.html"
    config = example(tmp_path)
    status, said = run(
        "--config", config, *EXAMPLE, "--duration", "3s", "--users", 20, "--rate", 60, "--report", report
    )
    assert status == 0, said
    for wanted in (
        "split of scores: blue ",
        ": as configured",
        "fe counted scores/blue: ",
        "violations 0",
        "SSE      tokens/main gap",
    ):
        assert wanted in said, said
    assert "scores/green" in report.read_text()
    # A worker that the machine stops is rightly missed by its neighbour.
    bad = re.findall(r"^\S+ (?:warning|error) (?!.* is absent: ).*", (tmp_path / "fe.log").read_text(), re.MULTILINE)
    assert bad == []


def test_more_at_once_than_the_servers_take_fails(tmp_path):
    """fe is told 2, the servers 1: they notice, and so does the runner, of whose run it is."""
    config = example(
        tmp_path, **{"--concurrency 2 --service-time lognormal:20ms,0.8": "--concurrency 1 --service-time 200ms"}
    )
    url, admin = installation.addresses(config)
    common = (
        "--url", url, "--admin", admin, "--endpoint", "scores", "--scenario", "steady", "--deployment", "blue",
        "--duration", "2s", "--report", tmp_path / "report.html",
    )  # fmt: skip
    with installation.running(config, admin, tmp_path / "fe.log"):
        status, said = run(*common, "--users", 60, "--rate", 60)
        assert status == 1, said
        assert "requests above its 1" in said
        status, said = run(*common, "--users", 1, "--rate", 4)
    assert status == 0, said
    assert "violations 0; since their start at most 2 at once" in said


def test_a_replica_that_starts_anew_counts_from_there():
    def replica(requests: int, violations: int) -> figures.Replicas:
        return {"here": ("scores/blue", {"requests": requests, "violations": violations, "peak": 2, "concurrency": 1})}

    [(_, stats)] = figures.since(replica(10, 3), replica(14, 4)).values()
    assert (stats["requests"], stats["violations"]) == (4, 1)
    for before in ({}, replica(10, 3)):
        [(_, stats)] = figures.since(before, replica(5, 1)).values()
        assert (stats["requests"], stats["violations"]) == (5, 1)


@pytest.mark.parametrize("report", [".", "a-file/report.html"])
def test_a_report_that_cannot_be_written(report, tmp_path):
    """Said at once, not after the run."""
    (tmp_path / "a-file").touch()
    status, said = run("--url", "http://127.0.0.1:1", "--endpoint", "x", "--report", tmp_path / report)
    assert status == 3
    assert re.fullmatch(r"loadtest: --report .*: (Is a directory|File exists)\n", said)


def test_an_interrupted_run_ends_everything(tmp_path):
    mark, report, config = uuid.uuid4().hex, tmp_path / "report.html", example(tmp_path)
    process = subprocess.Popen(
        [*COMMAND, "--config", str(config), *EXAMPLE, "--duration", "1h", "--report", str(report)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tree.ROOT, stdin=subprocess.DEVNULL,
        env={**os.environ, "FE_LOADTEST_MARK": mark},
    )  # fmt: skip
    ours = f"FE_LOADTEST_MARK={mark}"
    try:
        wait_for(lambda: len(proc.with_environment(ours)) > 15, "fe-serve, its replicas and locust run", limit=LIMIT)
        process.send_signal(signal.SIGINT)
        said, _ = process.communicate(timeout=LIMIT)
        assert process.returncode == 130, said
        assert "everything that was started has ended" in said
        assert proc.with_environment(ours) == []
    finally:
        for pid in proc.with_environment(ours):
            proc.kill(pid)
        process.wait()


def test_a_port_that_is_taken(tmp_path):
    port = free_port()
    config = example(tmp_path, **{"listen: ": f"listen: 127.0.0.1:{port} # "})
    with socket.create_server(("127.0.0.1", port)):
        status, said = run("--config", config, *EXAMPLE, "--report", tmp_path / "report.html")
    assert status == 3
    assert "fe-serve ended with exit code 3" in said
    assert f"127.0.0.1:{port}" in said


def test_a_configuration_with_mistakes(tmp_path):
    config = example(tmp_path, **{"listen:": "listne:"})
    status, said = run("--config", config, *EXAMPLE, "--report", tmp_path / "report.html")
    assert status == 3
    assert "listne" in said


def against(port: int, tmp_path, *arguments: object, **environment: str) -> tuple[int, str]:
    """A run of two seconds against whatever serves there."""
    return run(
        "--url", f"http://127.0.0.1:{port}", "--endpoint", "x", "--duration", "2s", "--users", 4, "--rate", 20,
        "--report", tmp_path / "report.html", *arguments, **environment,
    )  # fmt: skip


def test_failures_above_the_limit(tmp_path):
    with Simulator("--service-time", "0ms", "--fail", "status:503=1") as simulator:
        status, said = against(simulator.port, tmp_path, "--scenario", "spike")
    assert status == 1
    assert "where --max-failures is 0 %" in said
    assert "503" in said, "a model's own 503 is no refusal of fe's, in no scenario"


def test_several_processes_report_as_one(tmp_path):
    with Simulator("--service-time", "0ms") as simulator:
        # The processes report every 3 s. At the end the master waits half a second for the last figures of each, which
        # may be too short on a busy machine: so some have to come before.
        several = ("--processes", 2, "--duration", "9s")
        status, said = against(simulator.port, tmp_path, "--scenario", "steady", *several)
        counted = simulator.stats()["requests"]
    assert status == 0, said
    [reported] = re.findall(r"^POST +x/- +(\d+) +0\(0\.00%\)", said, re.MULTILINE)
    assert 0 < int(reported) <= counted, said


def test_events_cut_short_are_failures(tmp_path):
    options = ("--service-time", "0ms", "--stream", "4", "--stream-interval", "1ms", "--fail", "close-mid-answer=1")
    with Simulator(*options) as simulator:
        status, said = against(simulator.port, tmp_path, "--stream-endpoint", "x", "--scenario", "streaming")
    assert status == 1
    assert "cut off after 1 events" in said


def test_a_key_is_sent_and_not_shown(tmp_path):
    key = "a-key-that-nobody-sees"
    with Backend() as backend:
        status, said = against(
            backend.port, tmp_path, "--scenario", "steady", "--key", "env:SOME_KEY", "--deployment", "blue",
            "--path", "/score", SOME_KEY=key,
        )  # fmt: skip
        seen = list(backend.requests)
        assert backend.faults == []
    assert status == 0, said
    assert {one.header("authorization") for one in seen} == {f"Bearer {key}"}
    assert {one.header("azureml-model-deployment") for one in seen} == {"blue"}
    assert {(one.method, one.target, len(one.body or b"")) for one in seen} == {("POST", "/score", 256)}
    assert key not in said + (tmp_path / "report.html").read_text()
