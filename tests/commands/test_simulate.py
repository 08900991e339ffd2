"""`fe simulate`: the table, the JSON, the picture, settings of a configuration, and its errors."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.commands.run import fe, refused
from tests.config.write import write

LOAD = ("--load", "poisson:50rps,5m", "--service", "lognormal:200ms,0.8")


def simulated(*arguments: object) -> dict:
    result = fe("simulate", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_table_for_people():
    result = fe("simulate", *LOAD, "--every", "1m")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0] == "load       poisson:50rps,5m; service lognormal:200ms,0.8; seed 1"
    assert lines[1] == "replicas   1 to 100, 1 at first, of capacity 1; target 70 %; start-up constant:30s"
    assert lines[2] == "queue      at most 1,000 requests, 0.5 s each"
    assert lines[4].split()[:4] == ["time", "requests/s", "desired", "ready"]
    assert [line.split()[0] for line in lines[5:10]] == ["0:00:00", "0:01:00", "0:02:00", "0:03:00", "0:04:00"]
    assert [line.split()[0] for line in lines[11:]] == ["requests", "refused", "waits", "replicas"]
    assert max(map(len, lines)) <= 120


def test_every_change_has_its_reason():
    text = fe("simulate", *LOAD, "--explain").stdout
    assert "changes of the number of replicas\n  0:00:01  1 -> " in text
    assert "(burst) " in text
    assert "(target 70 %): " in text
    quiet = fe("simulate", "--load=steady:0rps,10m", "--service=constant:1s", "--explain").stdout
    assert quiet.endswith("changes of the number of replicas\n  none\n")


def test_as_json():
    found = simulated(*LOAD)
    total = found["total"]
    assert found["settings"]["max_instances"] == 100
    assert total["arrived"] == total["served"] + sum(total["refused"].values()) + total["in_system"]
    assert sum(row["arrived"] for row in found["rows"]) == total["arrived"]
    assert found["changes"][0]["before"] == 1
    assert found == simulated(*LOAD)
    assert found != simulated(*LOAD, "--seed", 2)


def test_load_without_a_replica_is_null():
    found = simulated("--load=steady:1rps,10s", "--service=constant:1s", "--min-instances=0", "--every=1s")
    assert found["rows"][3]["utilization"] is None
    assert "no replica" in fe("simulate", "--load=steady:1rps,10s", "--service=constant:1s", "--min-instances=0").stdout


def test_every_setting_is_an_option():
    given = {
        "concurrency": 2, "max_queue_length": 7, "max_queue_wait": "2s", "min_instances": 0, "max_instances": 9,
        "target": 50, "polling_interval": "500ms", "scale_down_delay": "10s", "scale_to_zero_delay": "20s",
        "cold_start_timeout": "3s", "max_scale_up_rate": 1.5, "instances": 3, "start_up": "uniform:1-2s", "seed": 9,
    }  # fmt: skip
    options = [f"--{name.replace('_', '-')}={value}" for name, value in given.items()]
    read = {
        "max_queue_wait": 2, "target": 0.5, "polling_interval": 0.5, "scale_down_delay": 10, "scale_to_zero_delay": 20,
        "cold_start_timeout": 3,
    }  # fmt: skip
    settings = simulated(*LOAD, *options)["settings"]
    assert settings == given | read | {"load": LOAD[1], "service": LOAD[3]}


# --- from a configuration --------------------------------------------------------------------------------------------

CONFIG = """
endpoints:
  - name: demo
    auth_mode: none
    traffic: {main: 100}
    deployments:
      - name: main
        request_settings: {max_concurrent_requests_per_instance: 4, max_queue_wait_ms: 250, max_queue_length: 50}
        scale_settings:
          min_instances: 2
          max_instances: 30
          target_utilization_percentage: 60
          scale_down_delay: 90
        instance_count: 5
        replicas: {process: {command: [python3, serve.py, "{port}"]}}
      - name: fixed
        replicas: {static: ["127.0.0.1:5001", "127.0.0.1:5002"]}
      - name: free
        scale_settings: {type: default}
        request_settings: {max_concurrent_requests_per_instance: 0}
        replicas: {static: ["127.0.0.1:5003"]}
"""


def test_settings_of_a_configuration(tmp_path):
    config = ("--config", write(tmp_path, CONFIG), "--deployment")
    settings = simulated(*LOAD, *config, "demo/main")["settings"]
    wanted = {
        "concurrency": 4, "max_queue_wait": 0.25, "max_queue_length": 50, "min_instances": 2, "max_instances": 30,
        "target": 0.6, "scale_down_delay": 90, "instances": 5, "scale_to_zero_delay": 300, "polling_interval": 1,
    }  # fmt: skip
    assert {name: settings[name] for name in wanted} == wanted
    changed = simulated(*LOAD, *config, "demo/main", "--target=80", "--max-instances=3")["settings"]
    assert (changed["target"], changed["max_instances"], changed["instances"]) == (0.8, 3, 3)


def test_a_fixed_number_of_replicas(tmp_path):
    config = ("--config", write(tmp_path, CONFIG), "--deployment")
    found = simulated(*LOAD, *config, "demo/fixed")
    assert [found["settings"][name] for name in ("min_instances", "max_instances", "instances")] == [2, 2, 2]
    assert found["changes"] == []
    assert simulated(*LOAD, *config, "demo/free", "--concurrency=3")["settings"]["concurrency"] == 3
    assert "no limit of requests per replica; give it one with --concurrency" in refused(
        "simulate", *LOAD, *config, "demo/free"
    )


def test_errors_of_a_configuration(tmp_path):
    path = write(tmp_path, CONFIG)
    last = refused("simulate", *LOAD, "--config", path, "--deployment", "demo/mian")
    assert last == (
        f"fe simulate: {path}: there is no deployment 'demo/mian'; there are: demo/main, demo/fixed, demo/free"
    )
    assert "go together" in refused("simulate", *LOAD, "--config", path)
    assert "go together" in refused("simulate", *LOAD, "--deployment", "demo/main")
    assert "cannot be read" in refused("simulate", *LOAD, "--config", tmp_path / "absent", "--deployment", "a/b")
    assert "workers" in refused(
        "simulate", *LOAD, "--config", write(tmp_path, "workers: 0", "bad.yaml"), "--deployment", "a/b"
    )


# --- traces ----------------------------------------------------------------------------------------------------------


def test_a_trace(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_text("".join(f"{at / 10} 0.5\n" for at in range(600)))
    found = simulated("--trace", path)
    assert found["total"]["arrived"] == 600
    path.write_text("1\n2 0.5\n")
    last = refused("simulate", "--trace", path)
    assert last == f"fe simulate: {path} does not say it of every request"
    assert simulated("--trace", path, "--service=constant:1s")["total"]["arrived"] == 2
    path.write_text("1\nx\n")
    assert refused("simulate", "--trace", path).startswith(f"fe simulate: {path}:2: 'x' is not an arrival in seconds")
    assert "cannot be read: No such file" in refused("simulate", "--trace", tmp_path / "absent")


# --- pictures --------------------------------------------------------------------------------------------------------


def test_a_picture(tmp_path):
    path = tmp_path / "out.png"
    result = fe("simulate", *LOAD, "--png", path)
    assert result.returncode == 0, result.stderr
    assert path.read_bytes().startswith(b"\x89PNG\r\n")
    assert result.stdout.startswith("load ")


@pytest.mark.parametrize("name", ["absent/out.png", "out.nonsense"])
def test_a_picture_that_cannot_be_written(tmp_path, name):
    result = fe("simulate", *LOAD, "--png", tmp_path / name)
    assert result.returncode == 3
    assert f"{name} cannot be written" in result.stderr
    assert "Traceback" not in result.stderr


def test_without_matplotlib(tmp_path):
    """Said before anything is simulated in vain."""
    code = (
        "import sys; sys.modules['matplotlib'] = None; from fe.commands.main import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, "simulate", *LOAD, "--png", str(tmp_path / "out.png")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 3
    assert result.stdout == ""
    assert result.stderr == (
        "fe simulate: --png needs matplotlib, which is not installed: pip install 'fe-router[plot]'\n"
    )


# --- wrong usage -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--service=constant:1s"], "one of the arguments --load --trace is required"),
        (["--load=steady:1rps,1m"], "--service is missing: how long does a request take?"),
        (["--load=steady:1rps,1m", "--trace=x", "--service=constant:1s"], "not allowed with argument"),
        (["--load=ramp:5rps,1m", "--service=constant:1s"], "argument --load: 'ramp:5rps,1m': '5rps' is not a range"),
        ([*LOAD, "--start-up=soon"], "argument --start-up: 'soon' is none of lognormal:MEAN,SIGMA"),
        ([*LOAD, "--min-instances=9", "--max-instances=8"], "--min-instances 9 is more than --max-instances 8"),
        ([*LOAD, "--min-instances=-1"], "is not a whole number"),
        ([*LOAD, "--max-instances=0"], "0 is too little: 1 is the least"),
        ([*LOAD, "--polling-interval=0"], "--polling-interval is too little: 1ms is the least"),
        ([*LOAD, "--target=0"], "0 % is too little"),
    ],
)
def test_errors(arguments, words):
    assert words in refused("simulate", *arguments)
