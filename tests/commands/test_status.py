"""`fe status`: the table on a pipe and on a terminal, the JSON, where it looks for fe-serve, how it fails."""

from __future__ import annotations

import json
import signal

import pytest

from tests.commands.running import OnTerminal, fe, stranger
from tests.page import scenes
from tests.support.backends import Backend
from tests.support.client import request
from tests.support.fe_process import FeProcess, dead_port, endpoint, wait_for

NASTY = "\x1b]0;gone\x07\x1b[2J\r\n\u202eevil[red]\x9b1m\x7f"


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    socket = tmp_path_factory.mktemp("admin") / "admin.sock"
    with Backend() as one, Backend() as two:
        config = {"admin_actions": True, "endpoints": [endpoint([one.address, two.address])]}
        on_socket = {**config, "admin": f"unix:{socket}"}
        with FeProcess(config) as running, FeProcess(on_socket, wait=False) as beside:
            wait_for(lambda: socket.exists() and beside.controller(), "the second one serves")
            yield running, beside, str(socket)


def at(running: FeProcess) -> list[str]:
    return ["--admin", f"127.0.0.1:{running.admin_port}"]


def test_on_a_pipe_it_is_plain_text(served):
    running, _, _ = served
    with running.client() as client:
        for _ in range(3):
            assert client.exchange(request("/", "POST", b"x")).status == 200
    result = fe("status", *at(running))
    assert (result.returncode, result.stderr) == (0, "")
    head, empty, titles, *rows = result.stdout.splitlines()
    assert head.startswith("fe 0.1.0 | ready | configuration 1 | workers 1/1 | slots 0/")
    assert empty == ""
    assert titles.split("  ")[0] == "DEPLOYMENT"
    assert len(rows) == 1
    cells = rows[0].split()
    assert cells[:3] == ["model/blue", "100%", "2/2"]
    assert rows[0].index("2/2") + 3 == titles.index("READY") + 5, "columns are aligned"
    assert result.stdout.isprintable() is False
    assert all(line.isprintable() for line in result.stdout.splitlines())


def test_a_replica_that_gets_no_requests_has_a_line(served):
    running, _, _ = served
    address = json.loads(running.admin("/api/status")[1])["endpoints"][0]["deployments"][0]["replicas"][0]["address"]
    assert fe("drain", "model/blue", address, *at(running)).returncode == 0
    lines = fe("status", "--once", *at(running)).stdout.splitlines()
    assert lines[-2].split()[:3] == ["model/blue", "100%", "1/2"]
    assert lines[-1].split()[:4] == [address, "draining,", "by", "hand"]
    assert fe("undrain", "model/blue", address, *at(running)).returncode == 0


def test_json_is_the_status_itself(served):
    running, _, _ = served
    result = fe("status", "--json", *at(running))
    assert (result.returncode, result.stderr) == (0, "")
    shown, asked = json.loads(result.stdout), json.loads(running.admin("/api/status")[1])
    assert shown.keys() == asked.keys()
    assert shown["controller_pid"] == running.controller()


def test_the_configuration_says_where(served):
    running, beside, socket = served
    for process in (running, beside):
        result = fe("status", "--json", "--config", str(process.file))
        assert json.loads(result.stdout)["controller_pid"] == process.controller()
        result = fe("status", "--json", "--config", process.folder.name)
        assert (result.returncode, result.stderr) == (0, "")
        assert json.loads(result.stdout)["controller_pid"] == process.controller()
    result = fe("status", "--json", "--admin", f"unix:{socket}")
    assert json.loads(result.stdout)["controller_pid"] == beside.controller()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("admin: []", "is empty: this fe-serve has no admin server"),
        ("admin: 127.0.0.1:0", "admin: port 0 is any free one"),
        ("admin: nowhere", "has no port from 0 to 65535"),
        ("admin: [", "is not YAML"),
        (None, "cannot be read"),
    ],
)
def test_configurations_that_do_not_say_where(tmp_path, text, said):
    file = tmp_path / "fe.yaml"
    if text is not None:
        file.write_text(text)
    result = fe("status", "--config", str(file))
    assert (result.returncode, result.stdout) == (2, "")
    assert said in result.stderr


def test_a_configuration_with_other_mistakes_says_where(served, tmp_path):
    running, _, _ = served
    file = tmp_path / "fe.yaml"
    file.write_text(f"admin: [127.0.0.1:{running.admin_port}]\nnonsense: 1\nendpoints: [{{name: x, auth_mode: key}}]\n")
    assert fe("status", "--config", str(file)).returncode == 0


def test_nobody_there(tmp_path):
    for where in (f"127.0.0.1:{dead_port()}", f"unix:{tmp_path}/none.sock"):
        result = fe("status", "--admin", where)
        assert (result.returncode, result.stdout) == (3, "")
        assert result.stderr.startswith(f"fe status: no fe-serve answers on {where}: ")


@pytest.mark.parametrize(
    "words", [["--interval", "0"], ["--interval", "x"], ["--interval", "nan"], ["--once", "--json"]]
)
def test_wrong_usage(words):
    result = fe("status", *words)
    assert (result.returncode, result.stdout) == (2, "")


@pytest.mark.parametrize(
    "raw",
    [b"", b"\x1b[2Jnot http\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", None],
    ids=["closes", "nonsense", "cut", "404"],
)
def test_something_else_answers(raw):
    with stranger(["x"], 404, raw) as other:
        result = fe("status", "--admin", other.address)
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("fe status: ")
    assert all(line.isprintable() for line in result.stderr.splitlines())


def hostile() -> dict:
    """A status in which every text would like to steer the terminal."""
    replica = {"address": NASTY, "state": NASTY, "in_flight": 0, "failures": 0, "last_probe": NASTY, "held": True}
    decision = {"time": 0.0, "desired": 1, "need": 1, "rule": NASTY, "reason": NASTY}
    deployment = {
        "name": NASTY, "kind": NASTY, "capacity_per_replica": 1, "max_queue_length": 1, "wanted": 1, "ready": 0,
        "starting": 0, "failing": 1, "in_flight": 0, "queue_depth": 0, "utilization": 1.5, "requests_per_second": 12.34,
        "latency_ms": {"p50": 1.0, "p90": 2.0, "p99": 1234.5}, "replicas": [replica],
        "scaling": {
            "min": 1, "max": 2, "target": 0.7, "polling_interval": 1.0, "manual": True, "reason": NASTY,
            "last_decision": decision,
        },
    }  # fmt: skip
    endpoint = {
        "name": NASTY, "auth_mode": NASTY, "traffic": {NASTY: 90}, "mirror_traffic": {NASTY: 10}, "routes": [],
        "deployments": [deployment],
    }  # fmt: skip
    share = {"used": 1, "limit": 2}
    return {
        "version": NASTY, "time": 60.0, "config_version": 1, "controller_pid": 1, "ready": False, "not_ready": [NASTY],
        "actions": False, "reloads": {"applied": 1, "refused": 1, "last_ok": False}, "endpoints": [endpoint],
        "workers": [{"index": 0, "pid": 1, "state": NASTY, "starts": 1, "slots_in_use": 3}],
        "table": {"bytes": 1, "deployments": share, "replicas": share, "slots": 8}, "of_the_future": [NASTY],
        "kubernetes": {**scenes.away(1, NASTY), "problems": [NASTY], "conflicts": {f"{NASTY}/{NASTY}": [NASTY]}},
    }  # fmt: skip


def test_what_an_answer_says_cannot_steer_the_terminal():
    with stranger(hostile()) as other:
        table = fe("status", "--admin", other.address)
        document = fe("status", "--json", "--admin", other.address)
        with OnTerminal("status", "--once", "--admin", other.address) as terminal:
            terminal.wait_for(lambda seen: "last probe" in seen, "the table")
            terminal.end(0)
    assert (table.returncode, document.returncode) == (0, 0)
    for text in (table.stdout, document.stdout):
        assert all(line.isprintable() for line in text.splitlines())
    assert json.loads(document.stdout) == hostile()
    for words in (
        "not ready",
        "the last reload was refused",
        "90% +10%",
        "0/1",
        "150% of 70%",
        "12.3",
        "1234",
        "by hand",
    ):
        assert words in table.stdout
    for steering in ("\x1b]", "\x1b[2J", "\x07", "\u202e", "\x9b", "\x7f"):
        assert steering not in terminal.seen
    assert "evil[red]" in terminal.seen


def test_a_cluster_has_a_line_and_conflicts_stand_at_their_deployment():
    cluster = scenes.cluster(conflicts={"rents/main": ["HorizontalPodAutoscaler hpa"]}, problems=[f"canary: {NASTY}"])
    with stranger({**scenes.quiet(), "kubernetes": cluster}) as other:
        lines = fe("status", "--admin", other.address).stdout.splitlines()
        with OnTerminal("status", "--once", "--admin", other.address) as terminal:
            terminal.wait_for(lambda seen: "conflict" in seen, "the conflict")
            terminal.end(0)
    assert lines[1] == "kubernetes: this front-end scales | 3 front-ends | seen as it is"
    assert lines[2].startswith("kubernetes: canary: ")
    assert lines[3] == ""
    assert [line.split()[0] for line in lines[5:]] == ["rents/main", "conflict"]
    assert lines[6].endswith("HorizontalPodAutoscaler hpa scales the same pods: fe leaves their number alone")
    assert "this front-end scales" in terminal.seen
    assert all(line.isprintable() for line in lines)


@pytest.mark.parametrize(
    ("cluster", "line"),
    [
        (scenes.cluster(leading=False, leader="fe-2"), "fe-2 scales | 3 front-ends | seen as it is"),
        (
            scenes.away(40.2, "no"),
            "no front-end scales: no | 3 front-ends | API server away for 40 s, serving the last known state: no",
        ),
        (
            scenes.cluster(leading=False, leader="fe-0", siblings=[], views=[]),  # itself, as last heard
            "no front-end scales | 0 front-ends | being looked at for the first time",
        ),
        (
            scenes.cluster(views=[scenes.view("pods", 0, seconds_since_sync=None, trouble="403 no", refused=True)]),
            "this front-end scales | 3 front-ends | fe may not see pods of models: 403 no",
        ),
        (
            scenes.cluster(views=[scenes.view("pods", 0, seconds_since_sync=None, trouble="away")]),
            "this front-end scales | 3 front-ends | API server not reached yet: away",
        ),
    ],
)
def test_how_well_a_cluster_is_seen(cluster, line):
    with stranger({**scenes.quiet(), "kubernetes": cluster}) as other:
        assert fe("status", "--admin", other.address).stdout.splitlines()[1] == f"kubernetes: {line}"


def test_an_output_without_these_letters_gets_the_table_too():
    with stranger(hostile()) as other:
        result = fe("status", "--admin", other.address, PYTHONIOENCODING="ascii")
    assert (result.returncode, result.stderr) == (0, "")
    assert "\\ufffd" in result.stdout


def test_on_a_terminal_it_follows_until_it_is_told_to_end(served):
    running, _, _ = served
    with OnTerminal("status", "--interval", "0.1", *at(running)) as terminal:
        terminal.wait_for(lambda seen: "model/blue" in seen and "2/2" in seen, "the table")
        config = {"endpoints": [endpoint(["127.0.0.1:1"], name="another", prefix=None), *running.config["endpoints"]]}
        running.reload(config)
        terminal.wait_for(lambda seen: "another/blue" in seen, "the deployment that has come")
        assert terminal.end(signal.SIGINT) == 0
        assert terminal.seen.rstrip().splitlines()[-1].strip().startswith(("model/blue", "another/blue"))


def test_on_a_terminal_it_waits_for_one_that_has_gone():
    config = {"endpoints": [endpoint(["127.0.0.1:1"])]}
    with FeProcess(config) as running, OnTerminal("status", "--interval", "0.1", *at(running)) as terminal:
        terminal.wait_for(lambda seen: "model/blue" in seen, "the table")
        assert running.stop() == 0
        terminal.wait_for(lambda seen: "no fe-serve answers" in seen, "that it has gone")
        assert terminal.process.poll() is None
        assert terminal.end(signal.SIGINT) == 0
