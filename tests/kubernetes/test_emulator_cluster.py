"""The cluster behind the emulator: controllers, nodes and definitions of kinds, as far as fe meets their work."""

from __future__ import annotations

import pytest

from tests.kubernetes.emulator import Emulator, Refused
from tests.kubernetes.emulator.caller import calling, deployment, run

DEPLOYMENT = "/apis/apps/v1/namespaces/models/deployments/m"
PODS = "/api/v1/namespaces/models/pods"
SLICES = "/apis/discovery.k8s.io/v1/namespaces/models/endpointslices"


def each(test):
    """Run a test with an emulator in which the seconds of graces are short."""

    def wrapped():
        async def whole():
            async with Emulator(second=0.001) as emulator:
                await test(emulator)

        run(whole())

    wrapped.__name__ = test.__name__
    return wrapped


async def scaled(e, replicas):
    await e.patch(f"{DEPLOYMENT}/scale", {"spec": {"replicas": replicas}})
    await e.settled()


def living(e):
    return [pod["metadata"]["name"] for pod in e.pods() if "deletionTimestamp" not in pod["metadata"]]


@each
async def test_pods_follow_the_number_of_replicas(e):
    e.nodes.stop_after = float("inf")
    await e.create(deployment(replicas=3))
    await e.settled()
    first, second, _ = living(e)
    e.nodes.running("models", first)
    e.nodes.running("models", second, ready=False)
    await scaled(e, 2)
    assert living(e) == [first, second]  # the one that never ran went first, and at once
    assert len(e.pods()) == 2
    await scaled(e, 1)
    assert living(e) == [first]  # then the one that is not ready, which has its grace
    ending = next(pod for pod in e.pods() if pod["metadata"]["name"] == second)
    assert ending["metadata"]["deletionGracePeriodSeconds"] == 30
    e.nodes.finish("models", second)
    assert [pod["metadata"]["name"] for pod in e.pods()] == [first]
    status = (await e.get(DEPLOYMENT))["status"]
    assert (status["replicas"], status["readyReplicas"], status["conditions"][0]["status"]) == (1, 1, "True")
    await scaled(e, 0)
    assert living(e) == []


@each
async def test_a_terminating_pod_ends_with_its_grace(e):
    await e.create(deployment(replicas=1))
    await e.settled()
    name = living(e)[0]
    e.nodes.running("models", name)
    async with calling(e) as call, call.watch(f"{PODS}?watch=true&fieldSelector=metadata.name%3D{name}") as events:
        assert (await anext(events))["type"] == "ADDED"
        await e.delete(f"{PODS}/{name}")
        seen = [await anext(events) for _ in range(3)]
    assert [event["type"] for event in seen] == ["MODIFIED", "MODIFIED", "DELETED"]
    assert [event["object"]["metadata"]["deletionGracePeriodSeconds"] for event in seen] == [30, 0, 0]


@each
async def test_nodes_run_pods_by_themselves(e):
    e.nodes.run(lambda pod: ["10.2.0.1", "fd00::1"] if "first" in pod["metadata"]["labels"]["app"] else None)
    await e.create(deployment("first", 1))
    await e.create(deployment("second", 1))
    await e.settled()
    first, second = e.pods()
    assert first["status"]["podIPs"] == [{"ip": "10.2.0.1"}, {"ip": "fd00::1"}]
    assert [condition["status"] for condition in first["status"]["conditions"]] == ["True"] * 4
    assert second["status"] == {"phase": "Pending", "qosClass": "BestEffort"}
    name = first["metadata"]["name"]
    crashed = e.nodes.crash("models", name)["status"]["containerStatuses"][0]
    assert (crashed["ready"], crashed["restartCount"]) == (False, 1)
    e.nodes.ready("models", name)
    e.nodes.fail("models", name)
    await e.settled()
    assert len(e.pods("models", "app=first")) == 2  # a failed pod stays, and is replaced


@each
async def test_a_new_template_rolls(e):
    e.nodes.run(lambda _: [e.nodes.ip()])
    await e.create(deployment(replicas=4))
    await e.settled()
    await e.patch(DEPLOYMENT, {"spec": {"template": deployment(image="model:2")["spec"]["template"]}})
    for _ in range(200):
        await e.settled()
        fewest = sum(pod["status"]["phase"] == "Running" for pod in e.pods())
        assert fewest >= 3
        images = [pod["spec"]["containers"][0]["image"] for pod in e.pods()
                  if "deletionTimestamp" not in pod["metadata"]]  # fmt: skip
        if images == ["model:2"] * 4:
            break
    assert images == ["model:2"] * 4
    body = await e.get(DEPLOYMENT)
    assert body["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2"
    assert body["status"]["conditions"][1]["reason"] == "NewReplicaSetAvailable"


@each
async def test_what_belongs_to_a_deployment_goes_with_it(e):
    await e.create(deployment(replicas=2))
    await e.settled()
    assert len((await e.get("/apis/apps/v1/replicasets"))["items"]) == 1
    await e.delete(DEPLOYMENT)
    await e.settled()
    assert (e.pods(), (await e.get("/apis/apps/v1/replicasets"))["items"]) == ([], [])


@each
async def test_a_namespace_takes_everything_along(e):
    await e.create(deployment(replicas=2))
    await e.settled()
    await e.delete("/api/v1/namespaces/models")
    await e.settled()
    assert e.pods() == []
    with pytest.raises(Refused, match='namespaces "models" not found'):
        await e.create(deployment())


@each
async def test_slices_list_the_pods_of_a_service(e):
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m", "namespace": "models"},
               "spec": {"selector": {"app": "m"}, "ports": [{"port": 80, "targetPort": "http"}]}}  # fmt: skip
    await e.create(service)
    await e.create(deployment(replicas=2))
    await e.settled()
    first, second = living(e)
    e.nodes.running("models", first, ["10.3.0.1"])
    e.nodes.running("models", second, ["10.3.0.2"], ready=False)
    await e.settled()
    [found] = (await e.get(SLICES))["items"]
    assert found["ports"] == [{"name": "", "protocol": "TCP", "port": 5001}]
    assert [(point["addresses"], point["conditions"]["ready"]) for point in found["endpoints"]] == [
        (["10.3.0.1"], True), (["10.3.0.2"], False),
    ]  # fmt: skip
    await e.delete("/api/v1/namespaces/models/services/m")
    await e.settled()
    assert (await e.get(SLICES))["items"] == []


@each
async def test_paused_controllers_do_nothing(e):
    e.controllers.pause()
    await e.create(deployment(replicas=2))
    await e.settled()
    assert e.pods() == []
    e.controllers.resume()
    await e.settled()
    assert len(e.pods()) == 2


def definition(schema, **version):
    return {
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.fe.test"},
        "spec": {
            "group": "fe.test", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema},
                          **version}],
        },
    }  # fmt: skip


def thing(**spec):
    return {"apiVersion": "fe.test/v1", "kind": "Thing", "metadata": {"name": "t", "namespace": "models"}, "spec": spec}


def specified(**properties):
    return {"type": "object", "properties": {"spec": {"type": "object", "properties": properties}}}


@each
async def test_definitions_come_change_and_go(e):
    await e.create(definition(specified(a={"type": "integer"})))
    await e.settled()
    assert (await e.create(thing(a=1, b=2)))["spec"] == {"a": 1}
    body = await e.get("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.fe.test")
    body["spec"]["versions"][0]["schema"]["openAPIV3Schema"] = specified(a={"type": "integer"}, b={"type": "integer"})
    await e.replace({**body, "metadata": {**body["metadata"], "namespace": ""}})
    await e.settled()
    path = "/apis/fe.test/v1/namespaces/models/things/t"
    assert (await e.patch(path, {"spec": {"b": 2}}))["spec"] == {"a": 1, "b": 2}
    await e.delete("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/things.fe.test")
    await e.settled()
    async with calling(e) as call:
        assert await call("GET", path) == (404, "404 page not found\n")


TEXT, NUMBER = {"type": "string"}, {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        (specified(a={}), "properties[a].type"),
        (specified(a={"type": "array"}), "properties[a].items"),
        (specified(a={"type": "array", "items": {}}), "properties[a].items.type"),
        (specified(a={"type": "text"}), "properties[a].type"),
        (specified(a={**TEXT, "$ref": "#/x"}), "properties[a].$ref"),
        (specified(a={**TEXT, "pattern": "^(?!x)"}), "properties[a].pattern"),
        (specified(a={**NUMBER, "default": "x"}), "properties[a].default"),
        (specified(a={**NUMBER, "anyOf": [{"minimum": 1, "type": "integer"}]}), "properties[a].anyOf[0].type"),
        (specified(a={"type": "object", "additionalProperties": False}), "properties[a].additionalProperties"),
        (specified(a={"type": "array", "items": TEXT, "uniqueItems": True}), "properties[a].uniqueItems"),
        (specified(a={"type": "array", "items": TEXT, "x-kubernetes-list-type": "map"}),
         "properties[a].x-kubernetes-list-map-keys"),
        (specified(a={"type": "object", "additionalProperties": TEXT, "properties": {"b": TEXT}}),
         "properties[a].additionalProperties"),
        ({"type": "object", "properties": {"metadata": {"type": "object", "required": ["labels"]}}},
         "properties[metadata]"),
    ],
)  # fmt: skip
def test_schemas_that_are_not_structural(schema, field):
    async def test():
        async with Emulator() as e:
            with pytest.raises(Refused) as caught:
                await e.create(definition(schema))
            fields = [cause["field"] for cause in caught.value.details["causes"]]
            assert any(found.endswith(field) for found in fields), fields

    run(test())


def test_definitions_with_fields_of_wrong_types():
    async def test():
        async with Emulator() as e:
            for schema in (
                specified(a={**NUMBER, "minimum": 0, "exclusiveMinimum": 0}),
                specified(a={"type": ["null"]}),
            ):
                with pytest.raises(Refused, match="cannot unmarshal") as caught:
                    await e.create(definition(schema))
                assert caught.value.status == 400
            named = definition(specified())
            named["metadata"]["name"] = "other"
            columns = [{"name": "A", "type": "int", "jsonPath": "spec.a"}]
            for body, fields in (
                (named, ["metadata.name"]),
                (definition(specified(), additionalPrinterColumns=columns),
                 ["spec.additionalPrinterColumns[0].type", "spec.additionalPrinterColumns[0].jsonPath"]),
                (definition(specified(), storage=False), ["spec.versions"]),
            ):  # fmt: skip
                with pytest.raises(Refused) as caught:
                    await e.create(body)
                assert [cause["field"] for cause in caught.value.details["causes"]] == fields

    run(test())


SPEC = specified(
    number={"type": "integer", "minimum": 1, "maximum": 3},
    text={"type": "string", "minLength": 2, "maxLength": 4, "pattern": "^[a-z]+$"},
    time={"x-kubernetes-int-or-string": True},
    list={"type": "array", "maxItems": 2, "items": {"type": "string"}, "x-kubernetes-list-type": "set"},
    map={"type": "object", "additionalProperties": {"type": "number"}},
    free={"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    null={"type": "string", "nullable": True},
    some={"type": "object", "required": ["a"], "properties": {"a": NUMBER, "b": {**TEXT, "default": "x"}}},
)


@pytest.mark.parametrize(
    ("spec", "fields"),
    [
        ({"number": 0}, ["spec.number"]),
        ({"number": 4}, ["spec.number"]),
        ({"number": 1.5}, ["spec.number"]),
        ({"number": True}, ["spec.number"]),
        ({"text": "a"}, ["spec.text"]),
        ({"text": "abcde"}, ["spec.text"]),
        ({"text": "AB"}, ["spec.text"]),
        ({"time": 1.5}, ["spec.time"]),
        ({"list": ["a", "a"]}, ["spec.list[1]"]),
        ({"list": ["a", "b", "c"]}, ["spec.list"]),
        ({"list": [1]}, ["spec.list[0]"]),
        ({"map": {"x": "y"}}, ["spec.map.x"]),
        ({"some": {}}, ["spec.some.a"]),
        ({"number": 0, "text": "a"}, ["spec.number", "spec.text"]),
    ],
)
def test_custom_objects_that_are_invalid(spec, fields):
    async def test():
        async with Emulator() as e:
            await e.create(definition(SPEC))
            await e.settled()
            with pytest.raises(Refused) as caught:
                await e.create(thing(**spec))
            assert [cause["field"] for cause in caught.value.details["causes"]] == fields

    run(test())


@each
async def test_custom_objects_that_are_valid(e):
    await e.create(definition(SPEC))
    await e.settled()
    spec = {"number": 2, "text": "ab", "time": "5s", "list": ["a"], "map": {"x": 1.5}, "null": None, "some": {"a": 1},
            "free": {"any": [{"thing": 1}]}}  # fmt: skip
    assert (await e.create(thing(**spec)))["spec"] == {**spec, "some": {"a": 1, "b": "x"}}


@each
async def test_a_thousand_pods(e):
    e.nodes.run(lambda _: [e.nodes.ip()])
    await e.create(deployment(replicas=1000))
    await e.settled()
    assert (await e.get(DEPLOYMENT))["status"]["readyReplicas"] == 1000
    assert len({pod["status"]["podIP"] for pod in e.pods()}) == 1000
    await scaled(e, 0)
    assert living(e) == []
