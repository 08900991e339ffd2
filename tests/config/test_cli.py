"""The command as a user runs it: what it prints, where, and what it exits with."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

import fe
from fe.config.apart import load_apart
from fe.config.load import load
from fe.errors import ConfigError
from tests.config.test_model import CONTRACT
from tests.config.write import GOOD, endpoint, write
from tests.support.fe_process import FeProcess, free_port, wait_for
from tests.support.fe_process import endpoint as served

SECRET = "swordfish-swordfish"  # noqa: S105
COMMAND = Path(sys.executable).parent / "fe-serve"


def run(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    command = [str(COMMAND), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False, **options)


@pytest.mark.parametrize("command", [[str(COMMAND)], [sys.executable, "-m", "fe"]])
def test_version(command):
    result = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=100, check=True)
    assert result.stdout == f"fe-serve {fe.__version__}\n"


def test_help_teaches():
    result = run("--help")
    assert result.returncode == 0
    for word in ("--config", "--check", "SIGHUP", "SIGTERM", "exit codes", "examples:", "docs/configuration.md"):
        assert word in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120


def test_the_configuration_in_the_help_is_right(tmp_path):
    text = run("--help").stdout.split("a first configuration:\n")[1].split("\nsignals:")[0]
    assert run("--check", "--config", write(tmp_path, text)).returncode == 0


@pytest.mark.parametrize("arguments", [[], ["--conf", "x"], ["--config"], ["--config", "x", "y"], ["--check"]])
def test_wrong_usage(arguments):
    result = run(*arguments)
    assert result.returncode == 2
    assert "usage: fe-serve" in result.stderr
    assert result.stdout == ""


# --- --check ---------------------------------------------------------------------------------------------------------


def test_check_says_what_would_run(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/primary").write_text(SECRET)
    path = write(tmp_path, CONTRACT)
    result = run("--check", "--config", path, env={**os.environ, "FRAUD_SECONDARY": f"{SECRET}-2"})
    assert result.returncode == 0, result.stderr
    for text in (
        "127.0.0.1:8080", "127.0.0.1:9901", "2 (as configured)", " MB (1,024 deployments, 10,000 replicas",
        "endpoint fraud", "/api/v1/endpoint/fraud/score", "any host, / and below", "fraud.example, /v1 and below",
        "key: 2 are known", "blue 90 %, green 10 %", "green 5 %", "4 at once per replica, 8 in all",
        "no limit per replica", "at most 100 requests, 250 ms each", "3,000 ms to the head of the answer",
        f"2 local: {tmp_path}/model/serve --port {{port}} --name a b", "fe's own, PORT, MODEL, WORKERS, URL",
        "4 static: 10.0.0.5:5001, [2001:db8::1]:5001, green.example:5001, unix:", "GET / every 10 s",
        "notes", "fe does not use: model, instance_type",
    ):  # fmt: skip
        assert text in result.stdout, text
    assert SECRET not in result.stdout + result.stderr
    assert result.stderr == ""


def test_check_says_how_the_number_of_workers_came_about(tmp_path):
    usable = len(os.sched_getaffinity(0))
    result = run("--check", "--config", write(tmp_path, GOOD))
    assert f"auto: CPUs by affinity {usable}, " in result.stdout
    assert "CPU quota" in result.stdout


@pytest.mark.parametrize("check", [["--check"], []])
def test_problems_are_plain_lines_on_stderr(tmp_path, check):
    path = write(tmp_path, f"workers: 0\nlisten: x\n{endpoint(f'keys: {SECRET}')}")
    result = run(*check, "--config", path)
    assert result.returncode == 2
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines[:-1]] == [
        [f"{path}:1", "workers"],
        [f"{path}:2", "listen"],
        [f"{path}:5", "endpoints[demo].keys"],
    ]
    assert lines[-1] == "fe-serve: 3 problems; nothing was started"
    assert SECRET not in result.stderr


def test_an_absent_file(tmp_path):
    result = run("--config", tmp_path / "absent.yaml")
    assert result.returncode == 2
    assert result.stderr.splitlines() == [
        f"{tmp_path}/absent.yaml: cannot be read: No such file or directory",
        "fe-serve: 1 problem; nothing was started",
    ]


@pytest.mark.parametrize("closed", ["2>&-", "0<&- 1>&- 2>&-", "2>/dev/full 1>/dev/full"])
@pytest.mark.parametrize(("text", "code"), [("workers: 0", 2), (GOOD, 0)])
def test_exit_codes_need_no_output(tmp_path, closed, text, code):
    path = write(tmp_path, text)
    result = subprocess.run(["sh", "-c", f'exec "$0" --check --config "$1" {closed}', str(COMMAND), str(path)],
                            timeout=100, check=False)  # fmt: skip
    assert result.returncode == code


# --- reading in a child ----------------------------------------------------------------------------------------------


def test_read_apart_is_the_same(tmp_path):
    path = str(write(tmp_path, f"{GOOD}limits: {{slots: 99}}\nmodel: x\n".replace("model: x\n", "")))
    before = sorted(os.listdir("/proc/self/fd"))
    assert load_apart(path) == tuple(load(path))
    write(tmp_path, "workers: 0\nlisten: x\n")
    with pytest.raises(ConfigError) as apart:
        load_apart(path)
    with pytest.raises(ConfigError) as here:
        load(path)
    assert apart.value.problems == here.value.problems
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_reading_takes_does_not_stay(tmp_path):
    code = (
        "import sys; from fe.config.apart import load_apart; load_apart(sys.argv[1]);"
        "print([name for name in ('yaml', 'fe.config.load', 'fe.config.kinds') if name in sys.modules])"
    )
    command = [sys.executable, "-c", code, str(write(tmp_path, GOOD))]
    assert subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout == "[]\n"


# --- serving ---------------------------------------------------------------------------------------------------------


def test_a_log_file_that_cannot_be_opened(tmp_path):
    result = run("--config", write(tmp_path, f"{GOOD}log: {{file: absent/fe.log}}\n"))
    assert result.returncode == 3
    assert result.stderr == (
        f"fe-serve: the log file '{tmp_path}/absent/fe.log' cannot be opened: No such file or directory\n"
    )


def test_a_busy_port(tmp_path):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        text = GOOD.replace("8080", str(port)) + f"admin: 127.0.0.1:{free_port()}\n"
        result = run("--config", write(tmp_path, text))
    assert result.returncode == 3
    (line,) = [line for line in result.stderr.splitlines() if line.startswith("fe-serve: ")]
    assert f"127.0.0.1:{port}" in line


@pytest.mark.parametrize(("limit", "workers"), [(6, 1), (12, 1), (16, 1), (24, 1), (71, 1), (79, 2)])
def test_too_few_descriptors(tmp_path, limit, workers):
    file = write(tmp_path, f"workers: {workers}\n{GOOD}")
    done = subprocess.run(
        ["prlimit", f"--nofile={limit}", COMMAND, "--config", file], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 3
    assert f"may have {limit} descriptors open here" in done.stderr
    assert "Traceback" not in done.stderr


def test_log_file_in_json_moved_and_opened_again(tmp_path):
    path, moved = tmp_path / "fe.json", tmp_path / "fe.json.1"
    config = {"endpoints": [served(["127.0.0.1:1"])], "log": {"file": str(path), "format": "json"}}
    with FeProcess(config) as serving:
        path.rename(moved)
        serving.signal(signal.SIGUSR1)
        wait_for(path.exists, "the file is opened again")
        serving.reload()
        wait_for(lambda: "reload" in path.read_text(), "the new file is written to")
        assert serving.output() == ""
    entries = [json.loads(line) for file in (moved, path) for line in file.read_text().splitlines()]
    assert {entry["process"] for entry in entries} >= {"supervisor", "controller"}
    assert all({"time", "level", "pid", "message"} <= entry.keys() for entry in entries)


def test_a_reload_that_is_refused_says_why():
    with FeProcess({"endpoints": [served(["127.0.0.1:1"])]}) as serving:
        serving.reload({"workers": 2, "endpoints": [served(["127.0.0.1:1", "127.0.0.1:2"])]})
        said = "workers cannot change while fe-serve runs (from 1 to 2)"
        wait_for(lambda: said in serving.output(), "the difference is named")
        serving.write({**serving.config, "listne": 5})
        serving.signal(signal.SIGHUP)
        wait_for(lambda: "listne: is not a key that is known here; did you mean 'listen'?" in serving.output(), "named")
