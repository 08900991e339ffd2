"""A folder of files, documents as `az ml` has them, and from how far fe's own request keys are taken."""

from __future__ import annotations

import pytest

from fe.config.load import load
from fe.errors import ConfigError
from tests.config.write import loaded, problems, write

ENDPOINT = """\
$schema: https://azuremlschemas.azureedge.net/latest/kubernetesOnlineEndpoint.schema.json
name: fraud
compute: azureml:cluster
auth_mode: key
traffic: {blue: 100}
keys: {primary: file:key}
"""
BLUE = """\
$schema: https://azuremlschemas.azureedge.net/latest/kubernetesOnlineDeployment.schema.json
name: blue
type: kubernetes
endpoint_name: fraud
model: {path: ../model}
environment: {image: img, conda_file: env.yml}
code_configuration: {code: ., scoring_script: score.py}
request_settings: {request_timeout_ms: 3000, max_queue_wait_ms: 300}
scale_settings: {type: default}
instance_count: 1
replicas: {static: [unix:blue.sock]}
"""
OWN = ("max_queue_length", "max_body_bytes", "on_disconnect", "abandon_timeout_ms", "retry_on_reset", "websocket")


def problems_in(path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    return [problem.replace(f"{path}/", "") for problem in caught.value.problems]


@pytest.fixture
def folder(tmp_path):
    conf = tmp_path / "conf"
    write(conf, "listen: 127.0.0.1:9000\nmax_queue_length: 9\n", "00-router.yaml")
    write(conf, ENDPOINT, "fraud.yml")
    write(conf, BLUE, "fraud-blue.yaml")
    write(conf, "not: read", ".hidden.yaml")
    write(conf, "not read", "notes.txt")
    write(conf, "a-key-that-is-long-enough", "key").chmod(0o600)
    return conf


def test_router_endpoint_and_deployment(folder):
    config, notes = load(str(folder), {})
    (fraud,) = config.endpoints
    (blue,) = fraud.deployments
    assert config.listen == ("127.0.0.1:9000",)
    assert (fraud.name, blue.name) == ("fraud", "blue")
    assert (blue.request_settings.request_timeout_ms, blue.request_settings.max_queue_length) == (3000, 9)
    assert blue.replicas.addresses == (f"unix:{folder}/blue.sock",)
    assert [note.replace(f"{folder}/", "") for note in notes] == [
        "fraud.yml:1: has keys that fe does not use: compute",
        "fraud-blue.yaml:1: has keys that fe does not use: type, model, environment, code_configuration",
    ]


def test_no_router_file_is_needed(folder):
    (folder / "00-router.yaml").unlink()
    assert load(str(folder), {}).config.listen == ("127.0.0.1:8080",)


def test_several_documents_in_a_file(tmp_path, folder):
    key = f"file:{folder}/key"
    text = f"workers: 3\n---\n{ENDPOINT.replace('file:key', key)}---\n{BLUE}---\n"
    config = loaded(tmp_path, text).config
    assert config.workers == 3
    assert config.endpoints[0].deployments[0].name == "blue"
    wrong = text.replace("request_timeout_ms: 3000", "request_timeout_ms: no").replace(
        "auth_mode: key", "auth_mode: no"
    )
    assert [problem.split(": ")[:2] for problem in problems(tmp_path, wrong)] == [
        ["fe.yaml:6", "auth_mode"],
        ["fe.yaml:17", "request_settings.request_timeout_ms"],
    ]


def test_problems_name_their_files(folder):
    write(folder, BLUE.replace("300}", "now}"), "fraud-blue.yaml")
    write(folder, BLUE.replace("blue", "green").replace("fraud", "freud"), "green.yaml")
    write(folder, ENDPOINT, "twice.yaml")
    found = problems_in(folder)
    assert len(found) == 3
    assert found[0].startswith("fraud-blue.yaml:8: request_settings.max_queue_wait_ms: has to be a whole number")
    assert found[1].startswith("green.yaml:4: endpoint_name: there is no endpoint 'freud'; did you mean 'fraud'?")
    assert found[2] == "twice.yaml:2: name: there is another endpoint 'fraud', in fraud.yml:2"


def test_two_routers(folder):
    write(folder, "workers: 2\n", "99.yaml")
    assert problems_in(folder) == ["99.yaml:1: is a second document with the router's settings, beside 00-router.yaml"]


def test_a_deployment_without_its_endpoint(folder):
    write(folder, BLUE.replace("endpoint_name: fraud\n", ""), "fraud-blue.yaml")
    assert any("fraud-blue.yaml:1: endpoint_name: is missing" in problem for problem in problems_in(folder))


def test_an_inline_deployment_of_another_endpoint(tmp_path):
    text = """\
    endpoints:
      - name: demo
        auth_mode: none
        deployments: [{name: main, endpoint_name: other, replicas: {static: [a:1]}}]
    """
    assert problems(tmp_path, text) == [
        "fe.yaml:4: endpoints[demo].deployments[main].endpoint_name: is 'other', but it stands in the endpoint 'demo'"
    ]


def test_an_empty_folder(tmp_path):
    assert problems_in(tmp_path) == [f"{tmp_path}: the folder has no file that ends in .yaml or .yml"]


# --- the nearest of fe's own request keys holds ----------------------------------------------------------------------

VALUES = {
    "max_queue_length": (1, 2, 3, 4),
    "max_body_bytes": (10, 20, 30, 40),
    "on_disconnect": ("abort", "finish", "abort", "finish"),
    "abandon_timeout_ms": (100, 200, 300, 400),
    "retry_on_reset": (True, False, True, False),
    "websocket": (True, False, True, False),
}


def levels(given: list[str]) -> str:
    """A configuration with these lines at the top level, in the endpoint, the deployment and its request_settings."""
    top, endpoint, deployment, settings = given
    return f"""\
{top}
endpoints:
  - name: demo
    auth_mode: none
    {endpoint}
    deployments:
      - name: main
        {deployment}
        replicas: {{static: [a:1]}}
        request_settings:
          request_timeout_ms: 5
          {settings}
      - {{name: other, replicas: {{static: [a:1]}}}}
"""


@pytest.mark.parametrize("name", OWN)
@pytest.mark.parametrize("nearest", range(4))
def test_the_nearest_wins(tmp_path, name, nearest):
    lines = [f"{name}: {str(value).lower()}" if level <= nearest else "" for level, value in enumerate(VALUES[name])]
    main, other = loaded(tmp_path, levels(lines)).config.endpoints[0].deployments
    assert getattr(main.request_settings, name) == VALUES[name][nearest]
    assert getattr(other.request_settings, name) == VALUES[name][min(nearest, 1)]
    assert main.request_settings.request_timeout_ms == 5


@pytest.mark.parametrize("level", range(4))
def test_a_mistake_is_told_where_it_stands(tmp_path, level):
    lines = ["websocket: maybe" if level == index else "" for index in range(4)]
    places = ("", "endpoints[demo].", "endpoints[demo].deployments[main].",
              "endpoints[demo].deployments[main].request_settings.")  # fmt: skip
    (problem,) = problems(tmp_path, levels(lines))
    assert f": {places[level]}websocket: has to be true or false, not 'maybe'" in problem


@pytest.mark.parametrize("name", ["request_timeout_ms", "max_queue_wait_ms", "max_concurrent_requests_per_instance"])
def test_keys_of_the_schema_stand_in_request_settings_only(tmp_path, name):
    (problem,) = problems(tmp_path, levels([f"{name}: 5", "", "", ""]))
    assert f"{name}: is not a key that is known here" in problem
    assert problem.endswith("it belongs in request_settings")
