"""The manifests of deploy/kubernetes are valid, fit together, and ask for no more than fe needs.

Schemas are those of the oldest Kubernetes that docs/install.md promises and of the newest known, taken strictly: an
unknown field is an error. What may be called is test_access.py's.
"""

from __future__ import annotations

import subprocess
import sys

import kubernetes_validate
import pytest
import yaml

from fe import __version__
from tests.deploy.conftest import FOLDER, MINE
from tests.project import tree

OVERLAYS = ("overlays/single", "overlays/ha")
FOLDERS = sorted(str(file.parent.relative_to(FOLDER)) for file in FOLDER.glob("o*/*/kustomization.yaml"))
VERSIONS = ("1.27", kubernetes_validate.latest_version())
FOREIGN = ("ServiceMonitor",)  # of Prometheus' operator: not Kubernetes' own, so there is no schema


def one(objects, kind, name="fe"):
    (found,) = [item for item in objects if item["kind"] == kind and item["metadata"]["name"] == name]
    return found


def pod(objects):
    return one(objects, "Deployment")["spec"]["template"]


def container(objects):
    (only,) = pod(objects)["spec"]["containers"]
    return only


def router(objects):
    """The name of the ConfigMap, and fe.yaml in it."""
    (config,) = [item for item in objects if item["kind"] == "ConfigMap"]
    return config["metadata"]["name"], yaml.safe_load(config["data"]["fe.yaml"])


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS)
def test_objects_are_valid(build, folder, version):
    for item in build(folder):
        if item["kind"] not in FOREIGN:
            kubernetes_validate.validate(item, version, strict=True)


def test_validation_would_notice(build):
    spoiled = {**one(build("overlays/single"), "Service"), "speck": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(spoiled, VERSIONS[0], strict=True)


@pytest.mark.parametrize("folder", FOLDERS)
def test_nothing_lies_outside_its_namespace(build, folder):
    everywhere = ("Namespace", "CustomResourceDefinition", "ClusterRole", "ClusterRoleBinding")
    wanted = "models" if folder.endswith("more-namespaces") else "fe"
    for item in build(folder):
        assert item["metadata"].get("namespace") == (None if item["kind"] in everywhere else wanted), item["kind"]


def test_overlays_differ_in_the_number_of_front_ends_alone(build):
    single, several = (list(build(folder)) for folder in OVERLAYS)
    assert one(single, "Deployment")["spec"]["replicas"] == 1
    assert one(several, "Deployment")["spec"]["replicas"] == 3
    for objects in (single, several):
        deployment = one(objects, "Deployment")
        objects[objects.index(deployment)] = {**deployment, "spec": {**deployment["spec"], "replicas": None}}
    assert single == several


@pytest.mark.parametrize("folder", FOLDERS)
def test_selectors_find_the_pods(build, folder):
    base = build(OVERLAYS[0])
    labels = pod(base)["metadata"]["labels"]
    selectors = [item["spec"].get("selector") or item["spec"].get("podSelector") for item in build(folder)
                 if item["kind"] in ("Service", "NetworkPolicy", "PodDisruptionBudget", "Deployment")]  # fmt: skip
    selectors += [constraint["labelSelector"] for constraint in pod(base)["spec"]["topologySpreadConstraints"]]
    for selector in selectors:
        wanted = selector.get("matchLabels", selector)
        assert wanted
        assert wanted.items() <= labels.items()


@pytest.mark.parametrize("folder", FOLDERS)
def test_ports_that_are_named_exist(build, folder):
    base = build(OVERLAYS[0])
    named = {port["name"]: port["containerPort"] for port in container(base)["ports"]}
    _, config = router(base)
    assert named == {key: int(config[at].rpartition(":")[2]) for key, at in (("http", "listen"), ("admin", "admin"))}
    for item in build(folder):
        if item["kind"] == "Service":
            assert {port["targetPort"] for port in item["spec"]["ports"]} <= set(named)
        if item["kind"] == "NetworkPolicy":
            assert {port["port"] for rule in item["spec"]["ingress"] for port in rule["ports"]} <= set(named)


def test_prometheus_finds_the_admin_port(build):
    objects = build("options/monitoring")
    monitor, service = one(objects, "ServiceMonitor"), one(objects, "Service", "fe-admin")
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    ports = {port["name"] for port in service["spec"]["ports"]}
    assert {endpoint["port"] for endpoint in monitor["spec"]["endpoints"]} <= ports


def test_only_the_port_for_requests_is_open(build):
    policy = one(build("overlays/ha"), "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"protocol": "TCP", "port": "http"}]}]


def test_pods_are_restricted(build):
    """What the Pod Security Standard `restricted` demands, which the namespace enforces, and a read-only root."""
    objects = build("overlays/ha")
    labels = one(objects, "Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    inside, around = container(objects)["securityContext"], pod(objects)["spec"]["securityContext"]
    assert around["runAsNonRoot"]
    assert around["runAsUser"] > 0
    assert around["seccompProfile"] == {"type": "RuntimeDefault"}
    assert inside == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    kinds = {kind for volume in pod(objects)["spec"]["volumes"] for kind in set(volume) - {"name"}}
    assert kinds <= {"configMap", "secret", "emptyDir"}


def test_resources_are_those_of_the_original(build):
    assert container(build("overlays/ha"))["resources"] == {
        "requests": {"cpu": "900m", "memory": "800Mi"},
        "limits": {"cpu": "2000m", "memory": "1200Mi"},
    }


def test_a_drain_is_not_cut_off(build):
    """Whoever kills is more patient than what is waited for, one after the other."""
    objects = build("overlays/ha")
    pause = int(container(objects)["lifecycle"]["preStop"]["exec"]["command"][1])
    _, config = router(objects)
    assert pod(objects)["spec"]["terminationGracePeriodSeconds"] >= pause + config["drain_timeout"] + 1 + 5 + 10


def test_probes_are_patient_enough(build):
    """The supervisor replaces a controller that hangs for 30 s; a restart of the pod would cost requests."""
    probes = {
        name: container(build("overlays/ha"))[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")
    }
    assert [probe["httpGet"]["path"] for probe in probes.values()] == ["/healthz", "/readyz", "/healthz"]
    alive = probes["livenessProbe"]
    assert alive["failureThreshold"] * alive["periodSeconds"] > 30 + 10


def test_the_pod_reads_the_generated_configuration(build):
    objects = build("overlays/ha")
    name, _ = router(objects)
    assert name.startswith("fe-router-")
    volumes = {volume["name"]: volume for volume in pod(objects)["spec"]["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container(objects)["volumeMounts"]}
    assert volumes["router"]["configMap"]["name"] == name
    assert container(objects)["args"] == ["--config", f"{mounts['router']}/fe.yaml"]
    assert one(objects, "Deployment")["spec"]["template"]["spec"]["automountServiceAccountToken"]


def test_the_configuration_is_one_of_fe():
    command = [sys.executable, "-m", "fe", "--check", "--config", str(FOLDER / "base/fe.yaml")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=tree.ROOT, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_documented_kustomization_is_what_it_says(build):
    objects = build(MINE)
    assert container(objects)["image"] == f"registry.example/team/fe-router:{__version__}"
    assert router(objects)[1]["kubernetes"] == {"namespaces": ["fe", "models"]}
    assert one(objects, "Service", "fe-public")["spec"]["type"] == "LoadBalancer"
    bindings = [item["metadata"] for item in objects if item["kind"] == "RoleBinding"]
    assert {item["namespace"] for item in bindings if item["name"] == "fe-models"} == {"fe", "models"}


def test_image_is_of_this_version(build):
    assert container(build("overlays/ha"))["image"] == f"fe-router:{__version__}"
