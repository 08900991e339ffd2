"""Every kind of mistake: each is told with file, line, path and reason, and all of them at once."""

from __future__ import annotations

import os
import re

import pytest

from fe.config.load import load
from fe.errors import ConfigError
from tests.config.write import GOOD, deployment, endpoint, loaded, problems, write

DEPLOYMENT = "endpoints[demo].deployments[main]"
SETTINGS = f"{DEPLOYMENT}.request_settings"


def top(text: str) -> str:
    return GOOD + text + "\n"


def listen(text: str) -> str:
    return GOOD.replace("listen: 127.0.0.1:8080", f"listen: {text}")


def static(text: str) -> str:
    return GOOD.replace('["127.0.0.1:5001"]', text)


def process(text: str) -> str:
    return deployment("", f"replicas: {{process: {text}}}")


def routes(text: str) -> str:
    return endpoint(f"auth_mode: none\nroutes: {text}")


CASES = [
    # unknown keys, with the nearest known one
    (top("worker: 2"), "worker", "not a key that is known here; did you mean 'workers'?"),
    (top("log: {acces: true}"), "log.acces", "did you mean 'access'?"),
    (endpoint("auth_mode: none\nrouts: []"), "endpoints[demo].routs", "did you mean 'routes'?"),
    (deployment("request_settings: {max_queue_wait: 5}"), f"{SETTINGS}.max_queue_wait", "'max_queue_wait_ms'?"),
    (deployment("readiness_probe: {perod: 5}"), f"{DEPLOYMENT}.readiness_probe.perod", "did you mean 'period'?"),
    (process("{command: x, cmd: y}"), f"{DEPLOYMENT}.replicas.process.cmd", "not a key"),
    # types
    (top("workers: two"), "workers", "has to be a whole number, not 'two'"),
    (top("workers: '2'"), "workers", "has to be a whole number"),
    (top("workers: 2.5"), "workers", "has to be a whole number"),
    (top("workers: true"), "workers", "has to be a whole number"),
    (top("workers: .nan"), "workers", "has to be a whole number"),
    (top("workers: 0x10"), "workers", "has to be a whole number"),
    (top("drain_timeout: .inf"), "drain_timeout", "has to be a time in seconds, not '.inf'"),
    (top("drain_timeout: .nan"), "drain_timeout", "has to be a time in seconds"),
    (top("drain_timeout: [1]"), "drain_timeout", "has to be a time in seconds, not a list"),
    (top("drain_timeout: 5 parsecs"), "drain_timeout", "write for example 30, 0.5, 500ms, 30s or 1m"),
    (top("log: yes"), "log", "has to be a mapping of keys to values, not a single value"),
    (top("log: {access: 1}"), "log.access", "has to be true or false, not '1'"),
    (top("log: {access: 'true'}"), "log.access", "has to be true or false"),
    (top("log: {level: inf}"), "log.level", "one of debug, info, warning, error, not 'inf'; did you mean 'info'?"),
    (top("max_body_bytes: 100 bytes"), "max_body_bytes", "has to be a size in bytes"),
    (deployment("request_settings: {request_timeout_ms: 5s}"), f"{SETTINGS}.request_timeout_ms", "whole number of ms"),
    (deployment("request_settings: [1]"), SETTINGS, "a mapping of keys to values, not a list"),
    (top("trusted_proxies: 10.0.0.0/8"), "trusted_proxies", "has to be a list of addresses or networks"),
    (endpoint("auth_mode: none\ntraffic: [main]"), "endpoints[demo].traffic", "a mapping of deployments to percent"),
    (endpoint("auth_mode: [none]"), "endpoints[demo].auth_mode", "not a list"),
    ("endpoints: {demo: 1}\n", "endpoints", "has to be a list, not a mapping"),
    ("endpoints: [demo]\n", "endpoints[0]", "has to be a mapping of keys to values"),
    ("- listen\n", "", "has to be a mapping of keys to values, not a list"),
    ("listen\n", "", "has to be a mapping of keys to values, not a single value"),
    # ranges
    (top("workers: 0"), "workers", "'0' is too little: 1 is the least"),
    (top("workers: -1"), "workers", "is too little"),
    (top("workers: 999999999999999999999999"), "workers", "is too much"),
    (top("workers: 9999999999999999999999999999999"), "workers", "has to be a whole number"),
    (top("drain_timeout: 1e999"), "drain_timeout", "is too much: 86,400 s is the most"),
    (top("drain_timeout: 1e99"), "drain_timeout", "is too much: 86,400 s is the most"),
    (top("limits: {header_bytes: 2GiB}"), "limits.header_bytes", "is too much: 1,048,576 bytes is the most"),
    (top("limits: {slots: 1}"), "limits.slots", "is too little"),
    (deployment("request_settings: {request_timeout_ms: 0}"), f"{SETTINGS}.request_timeout_ms", "1 ms is the least"),
    (deployment("readiness_probe: {period: 0}"), f"{DEPLOYMENT}.readiness_probe.period", "is too little"),
    # names
    (endpoint("auth_mode: none").replace("demo", "ab"), "endpoints[ab].name", "3 to 32 characters"),
    (endpoint("auth_mode: none").replace("demo", "a" * 33), f"endpoints[{'a' * 33}].name", "3 to 32 characters"),
    (endpoint("auth_mode: none").replace("demo", "1abc"), "endpoints[1abc].name", "a letter first"),
    (endpoint("auth_mode: none").replace("demo", "a--b"), "endpoints[a--b].name", "single dashes"),
    (endpoint("auth_mode: none").replace("demo", "abc-"), "endpoints[abc-].name", "is not a name"),
    (endpoint("auth_mode: none").replace("demo", "a_b"), "endpoints[a_b].name", "is not a name"),
    (endpoint("auth_mode: none").replace("demo", "äbc"), "endpoints[äbc].name", "is not a name"),
    (
        endpoint("auth_mode: none").replace("- name: main", "- name: 'a/b'"),
        "endpoints[demo].deployments[a/b].name",
        "is not a name",
    ),
    ("endpoints: [{auth_mode: none}]\n", "endpoints[0]", "the key 'name' is missing"),
    ("endpoints: [{auth_mode: none, name: }]\n", "endpoints[0].name", "has no value"),
    (endpoint("auth_mode: none", "scale_settings: {}"), DEPLOYMENT, "the key 'replicas' is missing"),
    # duplicates
    (top("workers: 1\nworkers: 2"), "workers", "stands here a second time, after line 9"),
    (GOOD.replace("traffic", "auth_mode"), "endpoints[0].auth_mode", "stands here a second time, after line 4"),
    (GOOD + GOOD.split("endpoints:\n")[1], "endpoints[1].name", "there is another endpoint 'demo', in fe.yaml:3"),
    (
        GOOD + "".join(GOOD.splitlines(keepends=True)[6:]),
        "endpoints[demo].deployments[1].name",
        "there is another deployment 'main', in fe.yaml:7",
    ),
    # traffic
    (GOOD.replace("100}", "90}"), "endpoints[demo].traffic", "add up to 90; they have to add up to 100"),
    (GOOD.replace("100}", "100%}"), "endpoints[demo].traffic[main]", "leave out the %"),
    (GOOD.replace("100}", "101}"), "endpoints[demo].traffic[main]", "101' is too much"),
    (
        GOOD.replace("{main: 100}", "{man: 100}"),
        "endpoints[demo].traffic[man]",
        "there is no deployment 'man'; did you",
    ),
    (
        endpoint("auth_mode: none\nmirror_traffic: {x: 5}"),
        "endpoints[demo].mirror_traffic[x]",
        "there is no deployment",
    ),
    (endpoint("auth_mode: none\nmirror_traffic: {main: -5}"), "endpoints[demo].mirror_traffic[main]", "is too little"),
    # credentials
    (endpoint(""), "endpoints[demo].keys", "there is no key, and auth_mode is key; write keys: {primary: file:PATH}"),
    (endpoint("auth_mode: key\nkeys: {}"), "endpoints[demo].keys", "there is no key"),
    (endpoint("auth_mode: aml_token"), "endpoints[demo].auth_mode", "aml_token is not supported by this version yet"),
    (endpoint("auth_mode: aad_token"), "endpoints[demo].auth_mode", "aad_token is not supported by this version yet"),
    (endpoint("auth_mode: keys"), "endpoints[demo].auth_mode", "did you mean 'key'?"),
    # scale
    (
        deployment("request_settings: {max_concurrent_requests_per_instance: 0}"),
        f"{SETTINGS}.max_concurrent_requests_per_instance",
        "0 (no limit) leaves nothing to measure utilization by; set scale_settings.type: default, or a capacity",
    ),
    (
        deployment("scale_settings: {type: default}\nscale_setting: {type: default}"),
        f"{DEPLOYMENT}.scale_setting",
        "means the same as 'scale_settings', which is given too",
    ),
    (deployment("scale_setting: {min_instances: 3}"), f"{DEPLOYMENT}.scale_setting", "3 is more than max_instances 1"),
    # routes
    (routes("[{path_prefix: v1}]"), "endpoints[demo].routes[0].path_prefix", "begin with '/'"),
    (routes("[{path_prefix: /a//b}]"), "endpoints[demo].routes[0].path_prefix", "is not a path prefix"),
    (routes("[{path_prefix: /a/../b}]"), "endpoints[demo].routes[0].path_prefix", "is not a path prefix"),
    (routes("[{path_prefix: '/a?b'}]"), "endpoints[demo].routes[0].path_prefix", "is not a path prefix"),
    (routes("[{path_prefix: '/a#b'}]"), "endpoints[demo].routes[0].path_prefix", "is not a path"),
    (routes("[{path_prefix: '/a b'}]"), "endpoints[demo].routes[0].path_prefix", "write blanks as %20"),
    (routes("[{path_prefix: '/a%2'}]"), "endpoints[demo].routes[0].path_prefix", "is not a path prefix"),
    (routes("[{path_prefix: /api/v1/endpoint/x}]"), "endpoints[demo].routes[0].path_prefix", "is never reached"),
    (routes("[{host: 'ml.example:80'}]"), "endpoints[demo].routes[0].host", "without port"),
    (routes("[{host: '*.example'}]"), "endpoints[demo].routes[0].host", "or wildcard"),
    (routes("[{host: '[::x]'}]"), "endpoints[demo].routes[0].host", "is not a host name"),
    (routes("[{host: [a]}]"), "endpoints[demo].routes[0].host", "has to be text, not a list"),
    (top("log: {file: ''}"), "log.file", "has to be text that is not empty"),
    (routes("[{}]"), "endpoints[demo].routes[0]", "has neither host nor path_prefix"),
    (routes("[/v1]"), "endpoints[demo].routes[0]", "has to be a mapping"),
    (routes("/v1"), "endpoints[demo].routes", "has to be a list of routes"),
    (
        routes("[{path_prefix: /a}, {host: h}, {path_prefix: /a/}]"),
        "endpoints[demo].routes[2]",
        "taken by the endpoint 'demo'",
    ),
    # addresses
    (listen("8080"), "listen", "has no host; write 0.0.0.0:8080"),
    (listen("':8080'"), "listen", "has no host; write 0.0.0.0:8080"),
    (listen("'*:8080'"), "listen", "has no host"),
    (listen("fe.example:8080"), "listen", "has a host name; write the IP address"),
    (listen("127.0.0.1"), "listen", "has no port"),
    (listen("127.0.0.1:65536"), "listen", "has no port from 0 to 65535"),
    (listen("127.0.0.1:http"), "listen", "has no port"),
    (listen("::1:8080"), "listen", "write an IPv6 address in brackets, as in [::1]:8080"),
    (listen("'[::x]:8080'"), "listen", "has no IPv6 address"),
    (listen("'[fe80::1%eth0]:8080'"), "listen", "has a zone"),
    (listen("'unix:'"), "listen", "has no path"),
    (listen(f"unix:/{'x' * 107}"), "listen", "longer than 107 bytes"),
    (listen("http://127.0.0.1:80"), "listen", "has a scheme"),
    (listen("[]"), "listen", "names no address"),
    (listen("[unix:/run/a, unix:/run/x/../a]"), "listen", "unix:/run/a stands here twice"),
    (listen("[127.0.0.1:80, [1]]"), "listen[1]", "has to be an address, not a list"),
    (listen("[127.0.0.1:80, 127.0.0.1:80]"), "listen", "127.0.0.1:80 stands here twice"),
    (listen("[0.0.0.0:80, 127.0.0.1:80]"), "listen", "127.0.0.1:80 collides with 0.0.0.0:80"),
    (top("admin: 127.0.0.1:8080"), "admin", "127.0.0.1:8080 collides with 127.0.0.1:8080 in listen"),
    (top("admin: 0.0.0.0:8080"), "admin", "0.0.0.0:8080 collides with 127.0.0.1:8080 in listen"),
    (static("['a.example']"), f"{DEPLOYMENT}.replicas.static[0]", "has no port"),
    (static("['a.example:0']"), f"{DEPLOYMENT}.replicas.static[0]", "has port 0"),
    (static("['https://a.example:80']"), f"{DEPLOYMENT}.replicas.static[0]", "fe speaks plain HTTP"),
    (static("['a.example:80/score']"), f"{DEPLOYMENT}.replicas.static[0]", "is not host:port"),
    (static("['-a.example:80']"), f"{DEPLOYMENT}.replicas.static[0]", "neither an IP address nor a host name"),
    (static("['256.1.1.1:80']"), f"{DEPLOYMENT}.replicas.static[0]", "neither an IP address nor a host name"),
    (static("['0.0.0.0:80']"), f"{DEPLOYMENT}.replicas.static[0]", "is not an address to connect to"),
    (static("[a:80, b:80, a:80]"), f"{DEPLOYMENT}.replicas.static[2]", "a:80 stands here twice"),
    (static("['127.0.0.1:8080']"), f"{DEPLOYMENT}.replicas.static[0]", "where fe itself listens"),
    (static("127.0.0.1:80"), f"{DEPLOYMENT}.replicas.static", "has to be a list of addresses"),
    (top("trusted_proxies: [10.0.0.1/8]"), "trusted_proxies[0]", "bits behind its mask; write 10.0.0.0/8"),
    (top("trusted_proxies: [proxy.example]"), "trusted_proxies[0]", "neither an IP address nor a network"),
    # replicas
    (deployment("", "replicas: {}"), f"{DEPLOYMENT}.replicas", "exactly one key, static, process or kubernetes"),
    (deployment("", "replicas: {static: [], process: {}}"), f"{DEPLOYMENT}.replicas", "exactly one key"),
    (deployment("", "replicas: [a:80]"), f"{DEPLOYMENT}.replicas", "write replicas: {static: [...]}"),
    (process("{}"), f"{DEPLOYMENT}.replicas.process", "the key 'command' is missing"),
    (process("{command: ''}"), f"{DEPLOYMENT}.replicas.process.command", "has no program"),
    (process("{command: []}"), f"{DEPLOYMENT}.replicas.process.command", "has no program"),
    (process("{command: {a: b}}"), f"{DEPLOYMENT}.replicas.process.command", "has to be a list of strings"),
    (process("{command: [a, [b]]}"), f"{DEPLOYMENT}.replicas.process.command", "has to be a list of strings"),
    (process('{command: "a \'b"}'), f"{DEPLOYMENT}.replicas.process.command", "cannot be split into words"),
    (process('{command: ["a\\0"]}'), f"{DEPLOYMENT}.replicas.process.command", "has a NUL in it"),
    (process("{command: a, env: {'A-B': 1}}"), f"{DEPLOYMENT}.replicas.process.env.A-B", "not the name of an env"),
    (process("{command: a, env: [A=1]}"), f"{DEPLOYMENT}.replicas.process.env", "a mapping of names to values"),
    (process("{command: a, stop_grace: -1}"), f"{DEPLOYMENT}.replicas.process.stop_grace", "is too little: 0 s"),
    # limits
    (top("workers: 9\nlimits: {holders: 8}"), "limits.holders", "8 is less than workers (9)"),
    (
        deployment("instance_count: 11", "replicas: {process: {command: a}}") + "limits: {replicas: 10}\n",
        "limits.replicas",
        "10 is less than the 12 replicas that there may be",
    ),
]


@pytest.mark.parametrize(("text", "path", "reason"), CASES, ids=lambda value: re.sub(r"\W+", "-", str(value))[-60:])
def test_one_mistake_is_one_problem(tmp_path, text, path, reason):
    found = problems(tmp_path, text)
    assert len(found) == 1, found
    match = re.fullmatch(r"fe\.yaml:(\d+): (?:(\S+): )?(.*)", found[0])
    assert match, found[0]
    assert (match[2] or "") == path
    assert reason in match[3]
    key = re.split(r"[.\[]", path)[-1].rstrip("]")
    if not key.isdigit() and "missing" not in reason and "there is no key" not in reason:
        assert key in text.splitlines()[int(match[1]) - 1]


def test_all_problems_at_once(tmp_path):
    text = """\
    listen: nowhere
    workers: 0
    log: {level: loud}
    endpoints:
      - name: x
        auth_mode: kee
        traffic: {blue: 50}
        deployments:
          - name: blu
            request_settings: {max_queue_wait_m: 5, request_timeout_ms: soon}
            replicas: {static: [nowhere]}
      - name: other
        deployments: [{name: main}]
    """
    found = problems(tmp_path, text)
    lines = [int(problem.split(":")[1]) for problem in found]
    assert lines == sorted(lines)
    for place in ("listen", "workers", "log.level", "endpoints[x].name", "endpoints[x].auth_mode",
                  "endpoints[x].traffic[blue]", "endpoints[x].deployments[blu].request_settings.max_queue_wait_m",
                  "endpoints[x].deployments[blu].request_settings.request_timeout_ms",
                  "endpoints[x].deployments[blu].replicas.static[0]", "endpoints[other].deployments[main]",
                  "endpoints[other].keys"):  # fmt: skip
        assert sum(f": {place}: " in problem for problem in found) == 1, (place, found)
    assert len(found) == 12  # and that the percentages do not add up


def test_routes_of_two_endpoints(tmp_path):
    text = """\
    endpoints:
      - {name: one, auth_mode: none, routes: [{path_prefix: /a}, {host: h}], deployments: []}
      - {name: two, auth_mode: none, routes: [{path_prefix: /a/b}, {host: H, path_prefix: /}], deployments: []}
    """
    assert problems(tmp_path, text) == [
        "fe.yaml:3: endpoints[two].routes[1]: the route (h, /) is taken by the endpoint 'one'"
    ]


def test_mirrors_add_up_to_more_than_everything(tmp_path):
    text = """\
    endpoints:
      - name: demo
        auth_mode: none
        traffic: {one: 100}
        mirror_traffic: {one: 60, two: 60}
        deployments: [{name: one, replicas: {static: [a:1]}}, {name: two, replicas: {static: [a:1]}}]
    """
    assert problems(tmp_path, text) == [
        "fe.yaml:5: endpoints[demo].mirror_traffic: the percentages add up to 120; 100 is the most"
    ]


def test_snapshot_too_large_for_the_table(tmp_path):
    static = ", ".join(f"{{path_prefix: /{index}}}" for index in range(500))
    found = problems(tmp_path, routes(f"[{static}]") + "limits: {config_bytes: 4096}\n")
    assert len(found) == 1
    assert "limits.config_bytes: 4,096 is less than the" in found[0]


def test_thousands_of_problems_are_cut(tmp_path):
    found = problems(tmp_path, "\n".join(f"unknown{index}: 1" for index in range(5000)))
    assert len(found) == 201
    assert found[-1] == "4800 more problems are not shown"


def test_ten_thousand_replicas(tmp_path):
    addresses = ", ".join(f"10.0.{index >> 8}.{index & 255}:5001" for index in range(10_000))
    config = loaded(tmp_path, static(f"[{addresses}]")).config
    assert config.endpoints[0].deployments[0].replica_count() == 10_000
    (problem,) = problems(tmp_path, static(f"[{addresses}, '127.0.0.1:1']"))
    assert "limits.replicas: 10000 is less than the 10001 replicas that there may be" in problem


def test_nothing_can_wait_for_a_first_replica(tmp_path):
    scale = "scale_settings: {min_instances: 0, max_instances: 2}\nrequest_settings: {max_queue_length: 0}"
    [problem] = problems(tmp_path, deployment(scale, "replicas: {process: {command: 'sh {port}'}}"))
    assert "request_settings.max_queue_length: 0 leaves nobody to wait for the first replica" in problem


def test_hints_do_not_hinder(tmp_path):
    """Settings that have no effect, or that will fail later, are notes and not problems."""
    text = endpoint("auth_mode: none", "instance_count: 5\nenvironment_variables: {A: b}\nreplicas: {static: [a:1]}")
    notes = loaded(tmp_path, text).notes
    assert any("instance_count: is not used" in note for note in notes)
    assert any("environment_variables: is not used" in note for note in notes)
    run = deployment("", "replicas: {process: {command: no-such-program --serve, cwd: nowhere}}")
    notes = loaded(tmp_path, run).notes
    assert any("has no {port}" in note for note in notes)
    assert any("there is no program 'no-such-program'" in note for note in notes)
    assert any("there is no folder" in note for note in notes)
    process = "replicas: {process: {command: 'sh {port}'}}"
    scales = deployment("scale_settings: {max_instances: 3}\ninstance_count: 5", process)
    assert any(
        "is outside of min_instances..max_instances: it starts with 3" in n for n in loaded(tmp_path, scales).notes
    )
    fixed = deployment("scale_settings: {min_instances: 3, max_instances: 3}\ninstance_count: 1", process)
    assert any("1 is outside of min_instances..max" in note for note in loaded(tmp_path, fixed).notes)
    scales = deployment("scale_settings: {max_instances: 3}", "replicas: {static: [a:1]}")
    assert any("static replicas cannot be scaled" in note for note in loaded(tmp_path, scales).notes)
    assert any("static: is empty" in note for note in loaded(tmp_path, static("[]")).notes)
    assert any("every request is answered with 404" in note for note in loaded(tmp_path, "workers: 1").notes)


def test_unreadable_files(tmp_path):
    absent = tmp_path / "absent.yaml"
    with pytest.raises(ConfigError, match=f"^{absent}: cannot be read: No such file or directory$"):
        load(str(absent))
    fifo = tmp_path / "fifo.yaml"
    os.mkfifo(fifo)
    with pytest.raises(ConfigError, match="it is not a regular file"):
        load(str(fifo))
    with pytest.raises(ConfigError, match="cannot be read"):
        load("a\0b")
    empty = write(tmp_path, "# nothing\n", "empty.yaml")
    with pytest.raises(ConfigError, match=r"empty\.yaml: is empty"):
        load(str(empty))
