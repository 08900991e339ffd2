"""Scenarios, pace and verdict: plain functions, and what docs/loadtest.md says about them."""

from __future__ import annotations

import argparse
import json
import re
from types import SimpleNamespace

import pytest
import yaml

from fe.config.load import load as load_config
from loadtest.load import OptionError, add_options, build_load
from loadtest.pace import Pace
from loadtest.report import shares, split_lines, verdict
from loadtest.scenarios import SCENARIOS
from loadtest.server.distribution import EXAMPLES, parse_distribution
from loadtest.server.faults import MODES
from loadtest.server.options import build_parser, parse
from loadtest.server.replica import Replica
from tests.project import tree
from tests.support.fe_process import wait_for

DOCUMENT = (tree.ROOT / "docs/loadtest.md").read_text()


def given(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_options(parser, variables=False)
    return parser.parse_args(arguments)


def load(*arguments: str, users: int | None = None):
    return build_load(given("--endpoint", "scores", "--stream-endpoint", "tokens", *arguments), users, 60.0)


# --- scenarios --------------------------------------------------------------------------------------------------------


def users_over_time(name: str) -> list[int]:
    return [SCENARIOS[name].users_at(second, 60, 100) for second in (0, 12, 24, 36, 48, 59)]


@pytest.mark.parametrize("name", ["steady", "long-tail", "mixed", "streaming"])
def test_level_scenarios(name):
    assert users_over_time(name) == [100] * 6


def test_ramp_and_spike():
    assert users_over_time("ramp") == [1, 25, 50, 75, 100, 100]
    assert users_over_time("spike") == [10, 10, 100, 100, 10, 10]


def test_only_overload_expects_refusals():
    assert {name for name, one in SCENARIOS.items() if one.overload} == {"ramp", "spike"}


def test_headers_of_scenarios_are_understood_by_the_server():
    assert parse_distribution(SCENARIOS["long-tail"].headers["X-Service-Time"]).mean == pytest.approx(0.02)


# --- options ----------------------------------------------------------------------------------------------------------


def test_a_load_and_its_defaults():
    one = load("--rate", "40", "--request-bytes", "64", users=20)
    assert (one.scenario.name, one.users, one.each, len(one.body)) == ("mixed", 20, 2.0, 64)
    assert one.target("scores") == "/api/v1/endpoint/scores/score"
    assert load("--path", "/v2/x").target("scores") == "/v2/x"
    assert (load().users, load().rate) == (SCENARIOS["mixed"].users, SCENARIOS["mixed"].rate)
    json.loads(one.body)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--scenario", "flood"], "--scenario 'flood': there are steady, "),
        (["--rate", "0"], "--rate '0' is no number from 0.001"),
        (["--rate", "fast"], "--rate 'fast'"),
        (["--path", "score"], "does not begin with /"),
        (["--arrivals", "odd"], "there are even, poisson"),
        (["--max-failures", "101"], "--max-failures '101'"),
        (["--body", "no/such/file"], "--body no/such/file: No such file"),
        (["--expect-split", "scores"], "write it as scores=blue:90,green:10"),
        (["--key", "env:FE_NOT_SET"], "the variable FE_NOT_SET is not set"),
        (["--key", "file:no/such/key"], "the file no/such/key cannot be read"),
    ],
)
def test_options_that_cannot_be_used(arguments, said):
    with pytest.raises(OptionError) as caught:
        load(*arguments)
    assert said in str(caught.value)


@pytest.mark.parametrize(("scenario", "said"), [("steady", "--endpoint"), ("streaming", "--stream-endpoint")])
def test_a_scenario_without_its_endpoint(scenario, said):
    with pytest.raises(OptionError, match=said):
        build_load(given("--scenario", scenario), None, 60.0)


def test_a_key_is_found_but_not_shown(tmp_path, monkeypatch):
    file = tmp_path / "key"
    file.write_text("a-key-of-a-file\n")
    monkeypatch.setenv("A_KEY", "a-key-of-the-environment")
    for source, key in ((f"file:{file}", "a-key-of-a-file"), ("env:A_KEY", "a-key-of-the-environment")):
        one = load("--key", source)
        assert one.headers["Authorization"] == f"Bearer {key}"
        assert key not in repr(one)


@pytest.mark.parametrize("wrong", ["a-secret-on-the-command-line", "text:a-secret-on-the-command-line"])
def test_a_key_itself_is_refused_and_not_repeated(wrong):
    with pytest.raises(OptionError) as caught:
        load("--key", wrong)
    assert "a-secret" not in str(caught.value)


# --- pace -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("poisson", [False, True])
def test_a_plan_does_not_move_with_what_is_late(poisson):
    pace = Pace(1000.0, poisson)
    wait_for(lambda: not pace.until_next(), "the first request is due")
    wait_for(lambda: pace.begin() > 0.02, "late requests are caught up one by one", limit=60)


def test_a_request_in_time_is_not_late():
    pace = Pace(0.00001, False)
    first = pace.until_next()
    assert 0 < first <= 100_000
    assert pace.begin() == 0.0
    assert pace.until_next() == pytest.approx(first + 100_000, abs=60)


# --- verdict ----------------------------------------------------------------------------------------------------------


def stats(*rows: tuple[str, str, int, int]) -> SimpleNamespace:
    """Statistics as locust has them: type, name, requests, failures."""
    entries = {(name, kind): SimpleNamespace(num_requests=sent, num_failures=bad) for kind, name, sent, bad in rows}
    return SimpleNamespace(entries=entries)


GOOD = (("POST", "scores/blue", 860, 0), ("503", "scores/blue queue_wait", 40, 0), ("POST", "scores/green", 100, 0))
SPLIT = ("--expect-split", "scores=blue:90,green:10")


def test_a_good_run():
    found = stats(*GOOD, ("LATE", "scores", 5000, 0), ("SSE", "scores/blue gap", 9, 0))
    assert verdict(found, load(*SPLIT)) == []
    assert shares(found) == {"scores": {"blue": 900, "green": 100}}
    (line,) = split_lines(found, load(*SPLIT))
    assert line.startswith("split of scores: blue 90.0 % (configured: 90 %), green 10.0 % (configured: 10 %) of 1000 ")
    assert line.endswith("requests: as configured")


def test_a_split_that_is_off():
    found = stats(("POST", "scores/blue", 800, 0), ("POST", "scores/green", 200, 0))
    assert verdict(found, load(*SPLIT)) == [
        "scores sent 80.0 % to blue instead of 90 %",
        "scores sent 20.0 % to green instead of 10 %",
    ]
    (line,) = split_lines(found, load(*SPLIT))
    assert "as configured" not in line
    assert verdict(stats(*GOOD, ("POST", "scores/red", 9, 0)), load(*SPLIT)) == [
        "scores sent 0.9 % to red instead of 0 %"
    ]


def test_failures_are_measured_against_requests_only():
    found = stats(("POST", "tokens/main", 100, 2), ("SSE", "tokens/main gap", 10_000, 0))
    assert verdict(found, load("--max-failures", "2")) == []
    assert verdict(found, load("--max-failures", "1.5")) == ["2 of 100 requests (2 %), where --max-failures is 1.5 %"]


def test_nothing_is_no_good_run():
    assert verdict(stats(("LATE", "scores", 3, 0)), load()) == ["no request was sent"]


# --- the document and the example -------------------------------------------------------------------------------------


def table_under(heading: str) -> set[str]:
    """What stands in code style in the first column of the tables below a heading of docs/loadtest.md."""
    text = DOCUMENT.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`[^|]*) \|", text, re.MULTILINE)
    return {word for row in rows for word in re.findall(r"`([^`]+)`", row)}


def test_the_document_has_every_option_of_the_server():
    options = {option for action in build_parser()._actions for option in action.option_strings}
    documented = {row.split()[0] for row in table_under("The simulated model server") if row.startswith("--")}
    assert documented == options - {"-h", "--help"}


def test_the_document_has_every_distribution_and_mode():
    rest = {row for row in table_under("The simulated model server") if not row.startswith("--")}
    assert rest == {*EXAMPLES.values(), *(mode.replace("TIME", "SPEC") for mode in MODES)}


def test_the_document_has_every_scenario():
    assert set(SCENARIOS) <= table_under("Scenarios")


def test_the_document_shows_the_statistics():
    shown = json.loads(re.search(r"```json\n(.*?)```", DOCUMENT, re.DOTALL)[1])
    assert list(shown) == list(Replica(parse([]), 0).stats())


def test_the_example_tells_fe_what_it_tells_the_servers():
    file = tree.ROOT / "examples/loadtest.yaml"
    deployments = [one for endpoint in load_config(str(file)).config.endpoints for one in endpoint.deployments]
    commands = [
        one["replicas"]["process"]["command"]
        for endpoint in yaml.safe_load(file.read_text())["endpoints"]
        for one in endpoint["deployments"]
    ]
    assert len(deployments) == 3
    for one, command in zip(deployments, commands, strict=True):
        settings = parse(command.replace("{port}", "5001").split()[3:])
        assert settings.concurrency == one.request_settings.max_concurrent_requests_per_instance
