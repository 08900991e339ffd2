"""What a good configuration is read as, and what becomes of it: snapshot, table limits, private copy, differences."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from fe import _core, model
from fe.config import limits, schema
from fe.config.load import load_value
from fe.config.snapshot import (
    build_snapshot,
    decode_config,
    encode_config,
    http_limits,
    process_start,
    snapshot_bytes,
    static_differences,
    table_limits,
)
from tests.config.write import GOOD, deployment, endpoint, loaded

CONTRACT = """\
listen: 127.0.0.1:8080
admin: 127.0.0.1:9901
workers: 2
drain_timeout: 30
trusted_proxies: [10.0.0.0/8, 192.0.2.7]
max_queue_length: 100
endpoints:
  - name: fraud
    auth_mode: key
    keys: {primary: file:keys/primary, secondary: env:FRAUD_SECONDARY}
    traffic: {blue: 90, green: 10}
    mirror_traffic: {green: 5}
    routes: [{path_prefix: /}, {host: Fraud.Example, path_prefix: /v1/}]
    deployments:
      - name: blue
        endpoint_name: fraud
        model: azureml:fraud:3
        instance_type: Standard_DS3_v2
        app_insights_enabled: true
        request_settings:
          request_timeout_ms: 3000
          max_concurrent_requests_per_instance: 4
          max_queue_wait_ms: 250
        scale_setting: {type: target_utilization, min_instances: 2, max_instances: 2, polling_interval: 1}
        liveness_probe: {initial_delay: 5, period: 10, timeout: 2, success_threshold: 1, failure_threshold: 30}
        readiness_probe: {initial_delay: 5, period: 10}
        environment_variables: {MODEL: base, WORKERS: 1}
        replicas:
          process:
            command: ./serve --port {port} --name 'a b'
            env: {MODEL: blue, URL: "http://127.0.0.1:{port}/"}
            cwd: model
            output: logs/{port}.log
            stop_grace: 5s
      - name: green
        scale_settings: {type: default}
        request_settings: {max_concurrent_requests_per_instance: 0}
        replicas: {static: [10.0.0.5:5001, "[2001:DB8::1]:5001", green.example:5001, unix:run/green.sock]}
"""


@pytest.fixture
def contract(tmp_path):
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/primary").write_text("first-key-of-fraud\n")
    return loaded(tmp_path, CONTRACT, {"FRAUD_SECONDARY": "second-key-of-fraud"})


def test_contract_configuration(contract, tmp_path):
    config = contract.config
    fraud = config.endpoints[0]
    blue, green = fraud.deployments
    assert config.trusted_proxies == ("10.0.0.0/8", "192.0.2.7/32")
    assert fraud.routes == (schema.Route(None, "/"), schema.Route("fraud.example", "/v1"))
    assert fraud.keys.digests() == tuple(
        hashlib.sha256(key).digest() for key in (b"first-key-of-fraud", b"second-key-of-fraud")
    )
    assert blue.request_settings == schema.RequestSettings(3000, 4, 250, max_queue_length=100)
    assert blue.replica_count() == 2
    assert blue.readiness_probe == schema.Probe(period=10, initial_delay=5)
    assert blue.replicas == schema.ProcessReplicas(
        command=(f"{tmp_path}/model/serve", "--port", "{port}", "--name", "a b"),
        env={"MODEL": "blue", "WORKERS": "1", "URL": "http://127.0.0.1:{port}/"},
        cwd=f"{tmp_path}/model",
        output=f"{tmp_path}/logs/{{port}}.log",
        stop_grace=5.0,
    )
    assert green.replicas == schema.StaticReplicas(
        ("10.0.0.5:5001", "[2001:db8::1]:5001", "green.example:5001", f"unix:{tmp_path}/run/green.sock")
    )
    assert green.scale_settings.type == "default"


def test_unused_keys_of_the_schema_are_noted(contract):
    noted = [note for note in contract.notes if "does not use" in note]
    assert len(noted) == 1
    assert "model, instance_type, app_insights_enabled" in noted[0]
    assert "fe.yaml:15: endpoints[fraud].deployments[blue]: " in noted[0]


def test_defaults(tmp_path):
    config = loaded(tmp_path, GOOD).config
    main = config.endpoints[0].deployments[0]
    assert (config.admin, config.workers, config.drain_timeout) == (("127.0.0.1:9901",), "auto", 30)
    assert config.worker_timeout == 10
    assert not config.log.access
    assert main.request_settings == schema.RequestSettings(
        5000, 1, 500, 1000, 100 << 20, "finish", 60_000, False, False
    )
    assert main.scale_settings == schema.ScaleSettings("target_utilization", 1, 1, 70, 1.0)
    assert (main.instance_count, main.liveness_probe, main.readiness_probe) == (None, None, None)
    assert schema.Probe() == schema.Probe("/", 10, 10, 2, 1, 30)


def test_null_is_as_if_absent(tmp_path):
    given = GOOD + "workers: null\nlog:\nadmin: ~\n"
    assert loaded(tmp_path, given).config == loaded(tmp_path, GOOD).config


def test_a_null_auth_mode_does_not_open_an_endpoint(tmp_path):
    text = endpoint("auth_mode: null\nkeys: {primary: a-key-that-is-long-enough}")
    assert loaded(tmp_path, text).config.endpoints[0].auth_mode == "key"


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30", 30), ("0.5", 0.5), ("500ms", 0.5), ("30s", 30), ("1m", 60), ("'2 min'", 120), ("1.5h", 5400), ("1e2", 100)],
)
def test_seconds(tmp_path, written, seconds):
    assert loaded(tmp_path, f"{GOOD}drain_timeout: {written}\n").config.drain_timeout == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("written", "size"),
    [("5", 5), ("1_000", 1000), ("100MB", 100_000_000), ("64MiB", 64 << 20), ("1.5 kB", 1500), ("'2GiB'", 2 << 30)],
)
def test_sizes(tmp_path, written, size):
    text = deployment(f"max_body_bytes: {written}")
    assert loaded(tmp_path, text).config.endpoints[0].deployments[0].request_settings.max_body_bytes == size


@pytest.mark.parametrize(
    ("written", "addresses"),
    [
        ("localhost:80", ("127.0.0.1:80",)),
        ("'[::]:80'", ("[::]:80",)),
        ("unix:/run/fe.sock", ("unix:/run/fe.sock",)),
        ("[127.0.0.1:0, 127.0.0.1:0]", ("127.0.0.1:0", "127.0.0.1:0")),
        ("['0.0.0.0:80', '[::]:80']", ("0.0.0.0:80", "[::]:80")),
    ],
)
def test_listeners(tmp_path, written, addresses):
    assert loaded(tmp_path, GOOD.replace("127.0.0.1:8080", written)).config.listen == addresses


def test_route_of_an_ipv6_host(tmp_path):
    text = endpoint("auth_mode: none\nroutes: [{host: '[2001:DB8:0::1]'}, {path_prefix: '/a%20b/c'}]")
    assert loaded(tmp_path, text).config.endpoints[0].routes == (
        schema.Route("[2001:db8::1]", "/"),
        schema.Route(None, "/a%20b/c"),
    )


def test_admin_can_be_switched_off(tmp_path):
    assert loaded(tmp_path, GOOD + "admin: []\n").config.admin == ()


@pytest.mark.parametrize(
    ("block", "count"),
    [
        ("scale_settings: {type: default}", 1),
        ("scale_settings: {type: default}\ninstance_count: 3", 3),
        ("scale_settings: {min_instances: 2, max_instances: 5}", 2),
        ("scale_settings: {min_instances: 2, max_instances: 5}\ninstance_count: 4", 4),
        ("scale_settings: {min_instances: 0}", 0),
        ("scale_settings: {min_instances: 3, max_instances: 3}\ninstance_count: 1", 3),
        ("scale_settings: {min_instances: 3, max_instances: 3}\ninstance_count: 5", 3),
        ("scale_settings: {type: default, min_instances: 3, max_instances: 3}\ninstance_count: 1", 1),
        ("instance_count: 2", 2),
    ],
)
def test_number_of_local_replicas(tmp_path, block, count):
    text = deployment(block, "replicas: {process: {command: [sh, -c, 'serve {port}']}}")
    assert loaded(tmp_path, text).config.endpoints[0].deployments[0].replica_count() == count


def test_a_single_deployment_gets_all_traffic_unless_told_otherwise(tmp_path):
    text = endpoint("auth_mode: none")
    assert loaded(tmp_path, text).config.endpoints[0].traffic == {"main": 100}
    none = loaded(tmp_path, endpoint("auth_mode: none\ntraffic: {main: 0}"))
    assert none.config.endpoints[0].traffic == {"main": 0}
    assert any("answered with 404" in note for note in none.notes)


def test_anchors_merges_and_plain_json(tmp_path):
    text = """\
    x-defaults: &defaults {auth_mode: none, max_queue_length: 7}
    endpoints:
      - <<: *defaults
        name: one
        deployments: [&main {name: main, replicas: {static: [a:1]}}]
      - {<<: *defaults, name: two, max_queue_length: 8, deployments: [*main]}
    """
    one, two = loaded(tmp_path, text).config.endpoints
    assert one.deployments[0].request_settings.max_queue_length == 7
    assert two.deployments[0].request_settings.max_queue_length == 8
    as_json = '{"endpoints": [{"name": "one", "auth_mode": "none", "deployments": []}]}'
    assert loaded(tmp_path, as_json).config.endpoints[0].name == "one"


def test_values_in_place_of_a_file():
    value = {"workers": 2, "endpoints": [{"name": "demo", "auth_mode": "none", "deployments": []}]}
    config = load_value(value).config
    assert (config.workers, config.endpoints[0].name) == (2, "demo")


# --- what becomes of it ----------------------------------------------------------------------------------------------


def test_snapshot_has_everything_a_worker_needs(contract):
    records = {("fraud", "blue"): (3, 7), ("fraud", "green"): (4, 1)}
    snapshot = build_snapshot(contract.config, records)
    (fraud,) = snapshot.endpoints
    assert (fraud.auth_mode, len(fraud.key_digests)) == ("key", 2)
    assert fraud.traffic == {"blue": 90, "green": 10}
    assert fraud.mirror_traffic == {"green": 5}
    assert fraud.routes[1] == model.RouteView("fraud.example", "/v1")
    assert [(d.name, d.index, d.generation, d.capacity) for d in fraud.deployments] == [
        ("blue", 3, 7, 4),
        ("green", 4, 1, 0),
    ]
    assert snapshot.trusted_proxies == ("10.0.0.0/8", "192.0.2.7/32")
    assert model.decode_snapshot(model.encode_snapshot(snapshot)) == snapshot
    assert snapshot_bytes(contract.config) >= len(model.encode_snapshot(snapshot))


def test_keys_of_an_open_endpoint_are_not_passed_on(tmp_path):
    config = loaded(tmp_path, endpoint("auth_mode: none\nkeys: {primary: a-key-that-is-long-enough}")).config
    snapshot = build_snapshot(config, {("demo", "main"): (0, 0)})
    assert snapshot.endpoints[0].key_digests == ()


def test_private_copy_is_the_same(contract):
    assert decode_config(encode_config(contract.config)) == contract.config
    with pytest.raises(msgspec.DecodeError):
        decode_config(b"\x81\xa4nope\x01" + b"x" * 9)


def test_limits_are_those_of_the_table_and_of_the_data_path(tmp_path):
    own = {field.name: field.default for field in msgspec.structs.fields(limits.Limits)}
    table = {name: value for name, value in _core.Limits()._asdict().items() if name != "workers"}
    http = {field.name: field.default for field in msgspec.structs.fields(model.HttpLimits)}
    assert own == table | http
    config = loaded(tmp_path, GOOD + "limits: {slots: 100, header_bytes: 4KiB}\n").config
    assert table_limits(config, 3) == _core.Limits(slots=100, workers=3)
    assert http_limits(config) == model.HttpLimits(header_bytes=4096)


def test_static_differences(tmp_path):
    old = loaded(tmp_path, GOOD).config
    changed = GOOD.replace("8080", "8081") + (
        "admin: []\nworkers: 3\ndrain_timeout: 5\nworker_timeout: 5\nlog: {level: debug, format: json, file: x}\n"
        "limits: {slots: 64, holders: 8, deployments: 5, replicas: 5, config_bytes: 1MiB}\n"
    )
    found = static_differences(old, loaded(tmp_path, changed).config)
    assert len(found) == 13
    assert found[0].startswith("listen cannot change while fe-serve runs (from 127.0.0.1:8080 to 127.0.0.1:8081)")
    assert "limits.slots cannot change while fe-serve runs (from 8192 to 64): restart it" in found


def test_the_rest_may_change(tmp_path):
    old = loaded(tmp_path, GOOD).config
    changed = (
        GOOD.replace("5001", "5002") + "log: {access: true}\nlimits: {header_bytes: 9000}\ntrusted_proxies: [::1]\n"
    )
    assert static_differences(old, loaded(tmp_path, changed.replace("[::1]", "['::1']")).config) == []


def test_start_of_a_local_replica(contract):
    process = contract.config.endpoints[0].deployments[0].replicas
    environ = {"PATH": "/bin", "FRAUD_SECONDARY": "second-key-of-fraud", "NOTIFY_SOCKET": "/n", "PORT": "1"}
    command, environment, output = process_start(process, 5007, environ, contract.config)
    assert command[1:] == ("--port", "5007", "--name", "a b")
    assert environment == {
        "PATH": "/bin", "PORT": "5007", "MODEL": "blue", "WORKERS": "1", "URL": "http://127.0.0.1:5007/",
    }  # fmt: skip
    assert output is not None
    assert output.endswith("logs/5007.log")
