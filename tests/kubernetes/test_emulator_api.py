"""What the emulator answers where nothing was recorded: the documented behaviour of the API that fe relies on."""

from __future__ import annotations

import pytest

from tests.kubernetes.emulator import Emulator
from tests.kubernetes.emulator.caller import calling, config, deployment, run

MAPS = "/api/v1/namespaces/models/configmaps"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/models/leases"
DEPLOYMENTS = "/apis/apps/v1/namespaces/models/deployments"
PODS = "/api/v1/namespaces/models/pods"


def each(test):
    """Run a test with a caller that has all rights, at an emulator of its own."""

    def wrapped():
        async def whole():
            async with Emulator() as emulator, calling(emulator) as call:
                await test(call)

        run(whole())

    wrapped.__name__ = test.__name__
    return wrapped


@each
async def test_nothing_changed_is_nothing_written(call):
    _, made = await call("POST", MAPS, config("a"))
    _, same = await call("PUT", f"{MAPS}/a", made)
    _, patched = await call("PATCH", f"{MAPS}/a", {"data": {"a": "1"}}, "merge")
    assert same == patched == made
    _, other = await call("PATCH", f"{MAPS}/a", {"data": {"a": "2"}}, "merge")
    assert int(other["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])


@each
async def test_preconditions(call):
    _, made = await call("POST", MAPS, config("a"))
    stale = {"preconditions": {"resourceVersion": "1"}}
    assert (await call("DELETE", f"{MAPS}/a", stale))[0] == 409
    assert (await call("DELETE", f"{MAPS}/a", {"preconditions": {"uid": "another"}}))[0] == 409
    other = {**made, "metadata": {**made["metadata"], "uid": "another"}}
    assert (await call("PUT", f"{MAPS}/a", other))[0] == 409
    assert (await call("PUT", f"{MAPS}/b", made))[0] == 400
    assert (await call("POST", MAPS, made))[0] == 400  # a resourceVersion on an object to be made
    without = {**made, "metadata": {"name": "a"}}
    assert (await call("PUT", f"{MAPS}/a", without))[0] == 200  # unconditional, as most kinds allow
    exact = {"preconditions": {"uid": made["metadata"]["uid"]}}
    assert (await call("DELETE", f"{MAPS}/a", exact))[0] == 200


@each
async def test_dry_run_changes_nothing(call):
    status, made = await call("POST", f"{MAPS}?dryRun=All", config("a"))
    assert (status, made["metadata"]["name"]) == (201, "a")
    assert (await call("GET", f"{MAPS}/a"))[0] == 404


@each
async def test_json_patch(call):
    await call("POST", MAPS, config("a", {"a": "1", "b": "2"}))
    operations = [
        {"op": "test", "path": "/data/a", "value": "1"},
        {"op": "replace", "path": "/data/a", "value": "3"},
        {"op": "move", "from": "/data/b", "path": "/data/c"},
        {"op": "copy", "from": "/data/c", "path": "/data/d~1e"},
        {"op": "add", "path": "/metadata/labels", "value": {"x": "y"}},
        {"op": "remove", "path": "/data/c"},
    ]
    status, body = await call("PATCH", f"{MAPS}/a", operations, "patch")
    assert (status, body["data"], body["metadata"]["labels"]) == (200, {"a": "3", "d/e": "2"}, {"x": "y"})
    for wrong in ({"op": "remove", "path": "/data/nosuch"}, {"op": "add", "path": "/nosuch/x", "value": 1}):
        assert (await call("PATCH", f"{MAPS}/a", [wrong], "patch"))[0] == 422


@each
async def test_strategic_patch_merges_by_key(call):
    await call("POST", DEPLOYMENTS, deployment())
    path = f"{DEPLOYMENTS}/m"

    async def containers(*patch):
        body = {"spec": {"template": {"spec": {"containers": list(patch)}}}}
        status, answer = await call("PATCH", path, body, "strategic")
        assert status == 200, answer
        return [(each["name"], each["image"]) for each in answer["spec"]["template"]["spec"]["containers"]]

    assert await containers({"name": "side", "image": "side:1"}) == [("model", "model:1"), ("side", "side:1")]
    assert await containers({"name": "model", "image": "model:2"}) == [("model", "model:2"), ("side", "side:1")]
    assert await containers({"name": "side", "$patch": "delete"}) == [("model", "model:2")]
    _, body = await call("PATCH", path, {"spec": {"template": {"spec": {"containers": []}}}}, "merge")
    assert body["reason"] == "Invalid"  # a merge patch replaces lists


@each
async def test_apply(call):
    path = f"{MAPS}/a?fieldManager="
    mine = {**config("a", {"x": "1", "y": "1"})}
    assert (await call("PATCH", f"{MAPS}/a", mine, "apply"))[0] == 422  # nobody says who applies
    assert (await call("PATCH", path + "one", mine, "apply"))[0] == 201
    status, answer = await call("PATCH", path + "two", config("a", {"x": "2"}), "apply")
    assert (status, answer["reason"]) == (409, "Conflict")
    assert answer["details"]["causes"][0] == {
        "reason": "FieldManagerConflict", "message": 'conflict with "one"', "field": ".data.x",
    }  # fmt: skip
    _, forced = await call("PATCH", path + "two&force=true", config("a", {"x": "2"}), "apply")
    assert forced["data"] == {"x": "2", "y": "1"}
    _, dropped = await call("PATCH", path + "one", config("a", {"z": "1"}), "apply")
    assert dropped["data"] == {"x": "2", "z": "1"}  # y was given up, x belongs to another by now
    await call("PATCH", f"{MAPS}/a?fieldManager=three", {"data": {"z": "3"}}, "merge")
    assert (await call("PATCH", path + "one", config("a", {"z": "1"}), "apply"))[0] == 409


@each
async def test_fields_of_built_in_kinds(call):
    body = {**config("a"), "nosuch": 1, "metadata": {"name": "a", "more": 1}}
    status, answer = await call("POST", f"{MAPS}?fieldValidation=Strict", body)
    assert status == 400
    assert 'unknown field "nosuch"' in answer["message"]
    assert 'unknown field "metadata.more"' in answer["message"]
    status, answer = await call("POST", MAPS, body)
    assert status == 201
    assert "nosuch" not in answer
    assert "more" not in answer["metadata"]
    wrong = deployment("n") | {"spec": {**deployment("n")["spec"], "replicas": "2"}}
    status, answer = await call("POST", DEPLOYMENTS, wrong)
    assert status == 400
    assert "cannot unmarshal string into Go struct field spec.replicas of type int32" in answer["message"]
    assert (await call("POST", MAPS, {**config("b"), "kind": "Secret"}))[0] == 400
    assert (await call("POST", MAPS, config("Not_A_Name")))[0] == 422


@each
async def test_times_of_a_lease_have_six_digits(call):
    for time, status in (
        ("2026-11-22T08:00:00.000000Z", 201),
        ("2026-11-22T08:00:00.000000+01:00", 201),
        ("2026-11-22T08:00:00Z", 400),
        ("2026-11-22T08:00:00.000Z", 400),
        ("2026-11-22 08:00:00.000000Z", 400),
        (1, 400),
    ):
        body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"generateName": "l-"},
                "spec": {"holderIdentity": "", "renewTime": time}}  # fmt: skip
        assert (await call("POST", LEASES, body))[0] == status, time
    empty = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "new"}}
    assert (await call("PUT", f"{LEASES}/new", empty))[0] == 201  # a PUT creates a Lease


@each
async def test_no_replicas_wanted_is_no_field_in_a_scale(call):
    await call("POST", DEPLOYMENTS, deployment())
    _, scale = await call("GET", f"{DEPLOYMENTS}/m/scale")
    scale["spec"]["replicas"] = 0
    status, answer = await call("PUT", f"{DEPLOYMENTS}/m/scale", scale)
    assert (status, answer["spec"]) == (200, {})
    _, body = await call("GET", f"{DEPLOYMENTS}/m")
    assert body["spec"]["replicas"] == 0
    assert body["metadata"]["generation"] == 2
    operations = [{"op": "replace", "path": "/spec/replicas", "value": 3}]
    assert (await call("PATCH", f"{DEPLOYMENTS}/m/scale", operations, "patch"))[0] == 422  # no field, no replacing it
    operations[0]["op"] = "add"
    assert (await call("PATCH", f"{DEPLOYMENTS}/m/scale", operations, "patch"))[1]["spec"] == {"replicas": 3}


@each
async def test_pages(call):
    for number in range(5):
        await call("POST", MAPS, config(f"c{number}"))
    _, first = await call("GET", f"{MAPS}?limit=2")
    assert first["metadata"]["remainingItemCount"] == 3
    await call("DELETE", f"{MAPS}/c2")
    await call("POST", MAPS, config("c3a"))
    token = first["metadata"]["continue"]
    _, rest = await call("GET", f"{MAPS}?limit=9&continue={token}")
    assert [item["metadata"]["name"] for item in rest["items"]] == ["c2", "c3", "c4"]  # as it was at the first page
    assert rest["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
    call.emulator.compact()
    status, gone = await call("GET", f"{MAPS}?limit=2&continue={token}")
    assert status == 410
    _, inconsistent = await call("GET", f"{MAPS}?continue={gone['metadata']['continue']}")
    assert [item["metadata"]["name"] for item in inconsistent["items"]] == ["c3", "c3a", "c4"]
    assert (await call("GET", f"{MAPS}?limit=2&continue=nonsense"))[0] == 400
    _, everywhere = await call("GET", "/api/v1/configmaps?limit=1")
    assert (await call("GET", f"/api/v1/configmaps?continue={everywhere['metadata']['continue']}"))[1]["items"]


@each
async def test_versions_of_a_list(call):
    _, made = await call("POST", MAPS, config("a"))
    then = made["metadata"]["resourceVersion"]
    await call("PATCH", f"{MAPS}/a", {"data": {"a": "2"}}, "merge")
    call.emulator.skip(10)

    async def listed(query):
        status, body = await call("GET", f"{MAPS}?{query}")
        return status, body["items"][0]["data"]["a"] if status == 200 else body["reason"]

    assert await listed(f"resourceVersion={then}&resourceVersionMatch=Exact") == (200, "1")
    assert await listed(f"resourceVersion={then}&limit=5") == (200, "1")
    assert await listed(f"resourceVersion={then}&resourceVersionMatch=NotOlderThan") == (200, "2")
    assert await listed(f"resourceVersion={then}") == (200, "2")
    assert await listed("resourceVersionMatch=Exact") == (422, "Invalid")
    assert await listed("resourceVersion=0&resourceVersionMatch=Exact") == (422, "Invalid")
    assert await listed("resourceVersion=99999999") == (504, "Timeout")
    assert await listed("resourceVersion=x") == (400, "BadRequest")


@each
async def test_selectors(call):
    for name, labels in (("a", {"app": "x"}), ("b", {"app": "y", "tier": "t"}), ("c", {})):
        await call("POST", MAPS, config(name, None, **labels))

    async def names(query):
        status, body = await call("GET", f"{MAPS}?{query}")
        return "".join(item["metadata"]["name"] for item in body["items"]) if status == 200 else status

    assert await names("labelSelector=app%3Dx") == "a"
    assert await names("labelSelector=app!%3Dx") == "bc"
    assert await names("labelSelector=app in (x,y),tier") == "b"
    assert await names("labelSelector=app notin (x)") == "bc"
    assert await names("labelSelector=!app") == "c"
    assert await names("fieldSelector=metadata.name%3Db") == "b"
    assert await names("fieldSelector=metadata.name!%3Db") == "ac"
    assert await names("fieldSelector=data.a%3D1") == 400
    assert await names("labelSelector=a b c") == 400


@each
async def test_a_watch_sees_objects_enter_and_leave_its_selector(call):
    await call("POST", MAPS, config("a", None, app="x"))
    async with call.watch(f"{MAPS}?watch=true&labelSelector=app%3Dx&resourceVersion=0") as events:
        assert (await anext(events))["type"] == "ADDED"
        _, left = await call("PATCH", f"{MAPS}/a", {"metadata": {"labels": {"app": "y"}}, "data": {"a": "2"}}, "merge")
        event = await anext(events)
        assert (event["type"], event["object"]["data"]) == ("DELETED", {"a": "1"})
        assert event["object"]["metadata"]["resourceVersion"] == left["metadata"]["resourceVersion"]
        await call("PATCH", f"{MAPS}/a", {"metadata": {"labels": {"app": "x"}}}, "merge")
        event = await anext(events)
        assert (event["type"], event["object"]["data"]) == ("ADDED", {"a": "2"})
        await call("DELETE", f"{MAPS}/a")
        assert (await anext(events))["type"] == "DELETED"


def test_a_watch_ends_by_itself_with_bookmarks():
    async def test():
        async with Emulator(second=0.01) as e, calling(e) as call:
            async with call.watch(f"{MAPS}?watch=true&allowWatchBookmarks=true&timeoutSeconds=3") as events:
                seen = [event async for event in events]
            assert [event["type"] for event in seen] == ["BOOKMARK", "BOOKMARK"]
            assert seen[0]["object"].keys() == {"kind", "apiVersion", "metadata"}
            async with call.watch(f"{MAPS}?watch=true&timeoutSeconds=1") as events:
                assert [event async for event in events] == []

    run(test())


def test_initial_events_where_they_are_served():
    async def test():
        query = "watch=true&sendInitialEvents=true&allowWatchBookmarks=true"
        async with Emulator(streams=True) as e, calling(e) as call:
            await e.create(config("a"))
            assert (await call("GET", f"{MAPS}?{query}"))[0] == 422  # without resourceVersionMatch
            async with call.watch(f"{MAPS}?{query}&resourceVersionMatch=NotOlderThan") as events:
                assert (await anext(events))["type"] == "ADDED"
                mark = await anext(events)
                assert mark["object"]["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}
                await e.create(config("b"))
                assert (await anext(events))["object"]["metadata"]["name"] == "b"

    run(test())


def test_history_is_bounded():
    async def test():
        async with Emulator(history=10) as e:
            for number in range(50):
                await e.create(config(f"c{number}"))
            assert e.store.oldest > 200
            assert len(list(e.store.since(0))) <= 20

    run(test())


@each
async def test_finalizers(call):
    await call("POST", MAPS, {**config("a"), "metadata": {"name": "a", "finalizers": ["fe/one"]}})
    status, body = await call("DELETE", f"{MAPS}/a")
    assert (status, "deletionTimestamp" in body["metadata"]) == (200, True)
    assert (await call("GET", f"{MAPS}/a"))[0] == 200
    await call("PATCH", f"{MAPS}/a", {"metadata": {"finalizers": None}}, "merge")
    assert (await call("GET", f"{MAPS}/a"))[0] == 404


@each
async def test_collections_are_deleted_by_selector(call):
    await call("POST", MAPS, config("a", None, app="x"))
    await call("POST", MAPS, config("b"))
    status, body = await call("DELETE", f"{MAPS}?labelSelector=app%3Dx")
    assert (status, [item["metadata"]["name"] for item in body["items"]]) == (200, ["a"])
    assert [item["metadata"]["name"] for item in (await call("GET", MAPS))[1]["items"]] == ["b"]


@each
async def test_what_cannot_be_asked(call):
    for method, path, status in (
        ("POST", f"{MAPS}/a", 405),
        ("PUT", MAPS, 405),
        ("GET", f"{DEPLOYMENTS}/m/nosuch", 404),
        ("GET", "/nosuch", 404),
        ("POST", "/api/v1/namespaces/nosuch/configmaps", 404),
        ("GET", "/api/v1/namespaces/models/namespaces", 404),
        ("GET", "/api/v1/namespaces/models/customresourcedefinitions", 404),
        ("GET", "/api/v1/configmaps/a", 404),
        ("POST", "/api/v1/configmaps", 405),
        ("GET", "/api/v1/namespaces/models", 200),
    ):
        assert (await call(method, path, None if method == "GET" else {"metadata": {"name": "a"}}))[0] == status, path
    assert (await call("GET", "/apis/apps/v1"))[1]["resources"][0]["name"] == "deployments"
    assert {group["name"] for group in (await call("GET", "/apis"))[1]["groups"]} > {"apps", "coordination.k8s.io"}


RULES = [
    {"apiGroups": [""], "resources": ["pods"], "verbs": ["list", "watch"]},
    {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["get", "patch"]},
    {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "resourceNames": ["fe"], "verbs": ["get", "watch"]},
]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", PODS, True),
        ("GET", "/api/v1/pods", False),
        ("GET", "/api/v1/namespaces/default/pods", False),
        ("GET", f"{PODS}/x", False),
        ("GET", f"{DEPLOYMENTS}/m/scale", True),
        ("GET", f"{DEPLOYMENTS}/m", False),
        ("PUT", f"{DEPLOYMENTS}/m/scale", False),
        ("GET", f"{LEASES}/fe", True),
        ("GET", f"{LEASES}/other", False),
        ("GET", f"{LEASES}?watch=true&fieldSelector=metadata.name%3Dfe&timeoutSeconds=1", True),
        ("GET", f"{LEASES}?watch=true&timeoutSeconds=1", False),
        ("GET", f"{LEASES}?fieldSelector=metadata.name%3Dfe", False),
        ("GET", "/version", True),
    ],
)
def test_rules_of_a_role(method, path, allowed):
    async def test():
        async with Emulator(second=0.01) as e:
            e.user("fe", RULES, "models")
            async with calling(e, "fe") as call:
                status, _ = await call(method, path)
                assert (status != 403) is allowed, status

    run(test())


def test_reviews_tell_what_rules_allow():
    async def test():
        async with Emulator() as e:
            e.user("fe", RULES, "models")
            async with calling(e, "fe") as call:
                for verb, name, allowed in (("get", "fe", True), ("get", "other", False), ("update", "fe", False)):
                    asked = {"namespace": "models", "verb": verb, "group": "coordination.k8s.io", "resource": "leases"}
                    body = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                            "spec": {"resourceAttributes": {**asked, "name": name}}}  # fmt: skip
                    path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
                    status, answer = await call("POST", path, body)
                    assert (status, answer["status"]["allowed"]) == (201, allowed)
                e.access.revoke("fe")
                assert (await call("GET", PODS))[0] == 403
                e.access.rotate("fe")
                assert (await call("GET", PODS))[0] == 401

    run(test())
