"""The `kubernetes` block and replicas in the cluster: what they are read as, every mistake, and what cannot change."""

from __future__ import annotations

import pytest

from fe.config import schema
from fe.config.describe import describe
from fe.config.snapshot import decode_config, encode_config, static_differences
from tests.config.write import GOOD, deployment, endpoint, loaded, problems

PODS = "replicas: {kubernetes: {deployment: m}}"


def block(text: str) -> str:
    return f"{GOOD}kubernetes: {text}\n"


def in_cluster(lines: str = "", replicas: str = PODS) -> str:
    return deployment(lines, replicas) + "kubernetes: {}\n"


def only(config: schema.RouterConfig) -> schema.Deployment:
    return config.endpoints[0].deployments[0]


def test_an_empty_block_turns_it_on(tmp_path):
    cluster = loaded(tmp_path, block("{}")).config.kubernetes
    assert cluster == schema.Kubernetes()
    assert cluster.election == schema.Election("fe", "", 15, 10, 2)
    assert loaded(tmp_path, block("null")).config.kubernetes is None
    assert loaded(tmp_path, GOOD).config.kubernetes is None


def test_every_key(tmp_path):
    text = block(
        "{kubeconfig: k/config, context: prod, namespaces: [a, b-1, a], identity: fe-0, siblings: 'app=fe,!x',"
        " election: {lease: fe.x, namespace: n, duration: 3s, renew_deadline: 2, retry: 500ms}}"
    )
    config = loaded(tmp_path, text).config
    assert config.kubernetes == schema.Kubernetes(
        f"{tmp_path}/k/config", "prod", ("a", "b-1"), "fe-0", schema.Election("fe.x", "n", 3, 2, 0.5), "app=fe,!x"
    )
    assert decode_config(encode_config(config)) == config


@pytest.mark.parametrize(
    "selector", ["app=fe", "app == fe", "a/b!=c", "x.io/app in (a, b)", "app notin (a),tier", "!canary", "app="]
)
def test_selectors(tmp_path, selector):
    assert loaded(tmp_path, block(f"{{siblings: '{selector}'}}")).config.kubernetes.siblings == selector


@pytest.mark.parametrize(
    ("text", "path", "reason"),
    [
        ("[x]", "kubernetes", "has to be a mapping"),
        ("{namespace: a}", "kubernetes.namespace", "did you mean 'namespaces'?"),
        ("{namespaces: a}", "kubernetes.namespaces", "has to be a list of namespaces"),
        ("{namespaces: [A]}", "kubernetes.namespaces[0]", "'A' is not the name of a namespace"),
        ("{namespaces: [a.b]}", "kubernetes.namespaces[0]", "is not the name of a namespace"),
        (f"{{namespaces: [{'a' * 64}]}}", "kubernetes.namespaces[0]", "at most 63"),
        ("{namespaces: ['*', a]}", "kubernetes.namespaces[0]", "it has to stand alone"),
        ("{siblings: 'a b'}", "kubernetes.siblings", "is not a label selector; write for example"),
        ("{siblings: 'a,,b'}", "kubernetes.siblings", "is not a label selector"),
        ("{siblings: 'a in b'}", "kubernetes.siblings", "is not a label selector"),
        ("{election: {lease: Fe}}", "kubernetes.election.lease", "is not the name of an object in the cluster"),
        ("{election: {lease: a..b}}", "kubernetes.election.lease", "is not the name of an object"),
        ("{election: {duration: 10}}", "kubernetes.election.renew_deadline", "10 s has to be less than duration"),
        ("{election: {retry: 10s}}", "kubernetes.election.retry", "less than renew_deadline, which is 10 s"),
        ("{election: {duration: 500ms}}", "kubernetes.election.duration", "is too little: 1 s is the least"),
        ("{duration: 5}", "kubernetes.duration", "it belongs in kubernetes.election"),
    ],
)
def test_mistakes_in_the_block(tmp_path, text, path, reason):
    [problem] = problems(tmp_path, block(text))
    assert problem.startswith(f"fe.yaml:9: {path}: ")
    assert reason in problem


def test_replicas_in_the_cluster(tmp_path):
    assert only(loaded(tmp_path, in_cluster()).config).replicas == schema.KubernetesReplicas("m", "", 5001)
    text = in_cluster(replicas="replicas: {kubernetes: {deployment: a.b, namespace: x, port: 80}}")
    assert only(loaded(tmp_path, text).config).replicas == schema.KubernetesReplicas("a.b", "x", 80)


@pytest.mark.parametrize(
    ("replicas", "path", "reason"),
    [
        ("{}", "", "the key 'deployment' is missing"),
        ("{deployment: M}", ".deployment", "is not the name of an object"),
        ("{deployment: m, namespace: a/b}", ".namespace", "is not the name of a namespace"),
        ("{deployment: m, port: 0}", ".port", "is too little: 1"),
        ("{deployment: m, port: 65536}", ".port", "is too much: 65,535"),
        ("{deployment: m, cluster: x}", ".cluster", "is not a key that is known here"),
    ],
)
def test_mistakes_in_replicas(tmp_path, replicas, path, reason):
    [problem] = problems(tmp_path, in_cluster(replicas=f"replicas: {{kubernetes: {replicas}}}"))
    assert f"endpoints[demo].deployments[main].replicas.kubernetes{path}: " in problem
    assert reason in problem


def test_replicas_in_the_cluster_need_a_cluster(tmp_path):
    [problem] = problems(tmp_path, deployment("", PODS))
    assert problem.endswith(
        "endpoints[demo].deployments[main].replicas.kubernetes: needs a cluster, and none is configured; "
        "write kubernetes: {} at the top level"
    )


@pytest.mark.parametrize(
    ("lines", "scales", "alone", "count", "most"),
    [
        ("", False, True, 1, 1),
        ("instance_count: 3", False, False, 3, 3),
        ("instance_count: 0", False, False, 0, 0),
        ("scale_settings: {type: default}", False, True, 1, 1),
        ("scale_settings: {min_instances: 2, max_instances: 2}", False, False, 2, 2),
        ("scale_settings: {min_instances: 2, max_instances: 2}\ninstance_count: 1", False, False, 2, 2),
        ("scale_settings: {max_instances: 5}", True, False, 1, 5),
        ("scale_settings: {min_instances: 0, max_instances: 5}\ninstance_count: 2", True, False, 2, 5),
    ],
)
def test_who_says_how_many_pods_there_are(tmp_path, lines, scales, alone, count, most):
    main = only(loaded(tmp_path, in_cluster(lines)).config)
    assert (main.scales, main.left_alone, main.replica_count(), main.most_replicas()) == (scales, alone, count, most)


def test_environment_variables_are_not_those_of_pods(tmp_path):
    notes = loaded(tmp_path, in_cluster("environment_variables: {A: b}")).notes
    assert any("environment_variables: is not used: replicas in the cluster" in note for note in notes)


def test_what_holds_for_deployments_that_join_later(tmp_path):
    """fe's own request keys at the top level and in the endpoint are kept, resolved, for objects of the cluster."""
    text = endpoint("auth_mode: none\nmax_queue_length: 7") + "max_queue_length: 5\nwebsocket: true\n"
    config = loaded(tmp_path, text).config
    assert config.request_defaults == schema.RequestSettings(max_queue_length=5, websocket=True)
    assert config.endpoints[0].request_defaults == schema.RequestSettings(max_queue_length=7, websocket=True)


def test_nothing_of_it_can_change(tmp_path):
    off, on = loaded(tmp_path, GOOD).config, loaded(tmp_path, block("{}")).config
    assert static_differences(off, on) == ["kubernetes cannot change while fe-serve runs (from off to on): restart it"]
    assert static_differences(on, on) == []
    other = loaded(tmp_path, block("{namespaces: [a], context: x, election: {retry: 1}}")).config
    assert static_differences(on, other) == [
        "kubernetes.context cannot change while fe-serve runs (from none to x): restart it",
        "kubernetes.namespaces cannot change while fe-serve runs (from none to a): restart it",
        "kubernetes.election.retry cannot change while fe-serve runs (from 2.0 to 1.0): restart it",
    ]


def test_described(tmp_path):
    text = in_cluster("scale_settings: {min_instances: 2, max_instances: 9}")
    lines = "\n".join(describe(loaded(tmp_path, text).config, "1", 0))
    for said in ("fe's own namespace", "by the Lease fe in the same namespace, 15 s", "app.kubernetes.io/name=fe",
                 "2 pods, those of the Deployment m, port 5001", "2 to 9 replicas"):  # fmt: skip
        assert said in lines
    text = in_cluster("readiness_probe: {period: 5}")
    lines = "\n".join(describe(loaded(tmp_path, text).config, "1", 0))
    assert "readiness     not used: whether a pod is ready is the kubelet's word" in lines
    assert "GET" not in lines
    assert "as many pods as there are" in "\n".join(describe(loaded(tmp_path, in_cluster()).config, "1", 0))
    text = block("{kubeconfig: /k, context: c, namespaces: ['*'], election: {namespace: n}}")
    lines = "\n".join(describe(loaded(tmp_path, text).config, "1", 0))
    assert "by /k, context c" in lines
    assert "all namespaces" in lines
    assert "by the Lease fe in n" in lines
