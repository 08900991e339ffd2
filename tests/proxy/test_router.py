"""Which endpoint, which deployment: scoring URIs, routes by host and path, traffic, mirrors."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from fe import model
from fe.proxy._router import Deployment, Endpoint, Router
from tests.proxy.heads import deployment, endpoint, read


def router(*endpoints: Any) -> Router:
    return Router(model.Snapshot(endpoints=endpoints))


def named(name: str, *routes: tuple[str | None, str]) -> Any:
    return endpoint(name, {"main": 100}, routes=tuple(model.RouteView(host, prefix) for host, prefix in routes))


def route(table: Router, target: str, host: str = "fe.example", method: str = "GET") -> tuple[str, bytes] | None:
    request = read(line=f"{method} {target} HTTP/1.1", host=f"Host: {host}")
    found = table.routed(request)
    return None if found is None else (found.name, request.upstream_target)


URIS = [
    ("/api/v1/endpoint/one/score", ("one", b"/score")),
    ("/api/v1/service/one/score", ("one", b"/score")),
    ("/api/v1/endpoint/one/swagger.json?a=/b", ("one", b"/swagger.json?a=/b")),
    ("/api/v1/endpoint/two/a/b/c", ("two", b"/a/b/c")),
    ("/api/v1/endpoint/one/", ("one", b"/")),
    ("/api/v1/endpoint/one", ("one", b"/")),
    ("/api/v1/endpoint/one?a=b/c", ("one", b"/?a=b/c")),
    ("/api/v1/endpoint/one/?a", ("one", b"/?a")),
    ("/api/v1/endpoint/one//x", ("one", b"//x")),
    ("/api/v1/endpoint/one/../two/score", ("one", b"/../two/score")),
    ("/api/v1/endpoint/one/%2e%2e/%2Fscore", ("one", b"/%2e%2e/%2Fscore")),
    ("/api/v1/endpoint/one/api/v1/endpoint/two/score", ("one", b"/api/v1/endpoint/two/score")),
    ("/api/v1/endpoint/other/score", None),
    ("/api/v1/endpoint/One/score", None),
    ("/api/v1/endpoint/on/score", None),
    ("/api/v1/endpoint/ones/score", None),
    ("/api/v1/endpoint/one%2fscore", None),
    ("/api/v1/endpoint/on%65/score", None),
    ("/api/v1/endpoint/../one/score", None),
    ("/api/v1/endpoint//one/score", None),
    ("/api/v1/endpoint/", None),
    ("/api/v1/service/", None),
    ("/api/v1/endpoint/?one", None),
]
ELSEWHERE = [
    "/", "/score", "/api/v1/endpoint", "/api/v1/endpoints/one/score", "/API/v1/endpoint/one/score", "/api/v1/", "*",
    "//api/v1/endpoint/one/score", "/api/v1//endpoint/one/score", "/api/v1/%65ndpoint/one/score", "/api/v1/service?a",
    "/x/../api/v1/endpoint/one/score", "/?/api/v1/endpoint/one/score", "/./api/v1/endpoint/one/score",
]  # fmt: skip


@pytest.mark.parametrize("catch_all", [False, True])
@pytest.mark.parametrize(("target", "found"), URIS)
def test_scoring_uris(target: str, found: tuple[str, bytes] | None, catch_all: bool) -> None:
    """An unknown name there is nobody else's, even beside a catch-all."""
    endpoints = [named("one"), named("two"), *([named("all", (None, "/"))] if catch_all else [])]
    assert route(router(*endpoints), target) == found


@pytest.mark.parametrize("target", ELSEWHERE)
def test_anything_else_is_a_matter_of_routes(target: str) -> None:
    method = "OPTIONS" if target == "*" else "GET"
    assert route(router(named("one")), target, method=method) is None
    assert route(router(named("one"), named("all", (None, "/"))), target, method=method) == ("all", target.encode())


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("/", None),
        ("/a", "a"),
        ("/a/", "a"),
        ("/a/x", "a"),
        ("/a?x", "a"),
        ("/ab", None),
        ("/A", None),
        ("/a%2fx", None),
        ("/a/b", "ab"),
        ("/a/b/c", "ab"),
        ("/a/bc", "a"),
        ("/a//b", "a"),
        ("/a/./b", "a"),
        ("/c", "c"),
        ("/c/x", "c"),
        ("/x?/a", None),
    ],
)
def test_the_longest_prefix_of_whole_segments(target: str, name: str | None) -> None:
    table = router(named("a", (None, "/a")), named("ab", (None, "/a/b")), named("c", (None, "/c/")))
    assert route(table, target) == (None if name is None else (name, target.encode()))


@pytest.mark.parametrize(
    ("host", "target", "name"),
    [
        ("x.example", "/", "x"),
        ("X.Example:8080", "/", "x"),
        ("x.example", "/a/b", "xa"),
        ("[2001:DB8::1]:80", "/", "v6"),
        ("y.example", "/a", "all"),
        ("x.example.", "/a", "all"),
        ("a.x.example", "/", "all"),
        ("z.example", "/a", "za"),
        ("z.example", "/b", "all"),
    ],
)
def test_hosts_come_before_paths(host: str, target: str, name: str) -> None:
    table = router(
        named("all", (None, "/"), (None, "/a")),
        named("x", ("X.example", "/")),
        named("xa", ("x.example", "/a")),
        named("za", ("z.example", "/a")),
        named("v6", ("[2001:db8::1]", "/")),
    )
    assert route(table, target, host) == (name, target.encode())


def test_an_absolute_target_is_routed_by_its_own_host() -> None:
    table = router(named("x", ("x.example", "/")), named("y", ("y.example", "/")))
    assert route(table, "http://x.example:80/a", "y.example") == ("x", b"/a")


def test_a_long_path_costs_few_look_ups() -> None:
    table = router(named("a", (None, "/a")))
    assert route(table, "/a" + "/" * 8000) == ("a", b"/a" + b"/" * 8000)
    assert route(table, "/" * 8000) is None


def test_many_endpoints() -> None:
    table = router(*[named(f"e-{n}", (f"h{n}.example", "/"), (None, f"/p{n}")) for n in range(500)])
    for n in (0, 1, 250, 499):
        assert route(table, f"/api/v1/endpoint/e-{n}/score") == (f"e-{n}", b"/score")
        assert route(table, "/", f"h{n}.example") == (f"e-{n}", b"/")
        assert route(table, f"/p{n}/x") == (f"e-{n}", f"/p{n}/x".encode())


def choices(chosen: Endpoint, count: int, *fields: str) -> Counter[str | None]:
    request = read(*fields)
    found = [chosen.chosen(request) for _ in range(count)]
    return Counter(None if each is None else each.name for each in found)


@pytest.mark.parametrize("traffic", [{"a": 100}, {"a": 99, "b": 1}, {"a": 30, "b": 60, "c": 10}, {"a": 0, "b": 100}])
def test_traffic_is_exact_over_a_hundred_requests(traffic: dict[str, int]) -> None:
    """From any start: after 37 other requests it is the same."""
    chosen = Endpoint(endpoint("one", traffic))
    choices(chosen, 37)
    assert choices(chosen, 300) == {name: 3 * percent for name, percent in traffic.items() if percent}


def test_no_traffic_no_deployment() -> None:
    assert choices(Endpoint(endpoint("one", {"a": 0, "b": 0})), 200) == {None: 200}
    assert choices(Endpoint(endpoint("one", {})), 1) == {None: 1}


def test_a_deployment_can_be_asked_for_by_name() -> None:
    chosen = Endpoint(endpoint("one", {"a": 100, "b": 0}))
    assert choices(chosen, 50, "azureml-model-deployment: b") == {"b": 50}
    assert choices(chosen, 50, "azureml-model-deployment: c") == {None: 50}
    assert choices(chosen, 50, "azureml-model-deployment: B") == {None: 50}
    assert choices(chosen, 50, "azureml-model-deployment:") == {None: 50}
    assert choices(Endpoint(endpoint("one", {"a": 0})), 5, "azureml-model-deployment: a") == {"a": 5}


def test_starts_differ() -> None:
    """Workers that started alike would send their first requests to the same deployment."""
    view = endpoint("one", {"a": 50, "b": 50})
    assert len({tuple(Endpoint(view).chosen(read()).name for _ in range(40)) for _ in range(20)}) > 1


def mirrors(traffic: dict[str, int]) -> Counter[str | None]:
    chosen = Endpoint(endpoint("one", {"a": 100, "b": 0, "c": 0}, mirror_traffic=traffic))
    found = [chosen.mirrored() for _ in range(200)]
    return Counter(None if each is None else each.name for each in found)


def test_mirrors() -> None:
    assert mirrors({}) == {None: 200}
    assert mirrors({"b": 0}) == {None: 200}
    assert mirrors({"b": 10}) == {"b": 20, None: 180}
    assert mirrors({"b": 10, "c": 50}) == {"b": 20, "c": 100, None: 80}
    assert mirrors({"b": 100}) == {"b": 200}


def test_settings_are_in_the_units_of_the_data_path() -> None:
    found = Endpoint(endpoint("one", {"a": 100})).deployments[0]
    assert (found.name, found.full_name, found.index, found.generation) == ("a", "one/a", 0, 1)
    assert found.header_line == b"azureml-model-deployment: a\r\n"
    assert (found.request_timeout_ns, found.queue_wait_ns) == (5_000_000_000, 500_000_000)
    assert found.cold_start_ns == 0
    assert Deployment("one", deployment("a", cold_start_timeout_ms=1500)).cold_start_ns == 1_500_000_000
    assert (found.abandon_timeout_ns, found.max_body_bytes, found.capacity) == (9_000_000_000, 1000, 1)
    assert (found.finish, found.retry_on_reset, found.websocket) == (True, False, False)


def test_keys_are_asked_for_unless_told_otherwise() -> None:
    assert not Endpoint(endpoint("one", {"a": 100})).needs_key
    assert Endpoint(endpoint("one", {"a": 100}, auth_mode="key", key_digests=(b"x" * 32,))).needs_key
    assert Endpoint(endpoint("one", {"a": 100}, auth_mode="aml_token")).needs_key
