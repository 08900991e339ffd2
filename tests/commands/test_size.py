"""`fe size`: the documented example, its words, its JSON, its errors."""

from __future__ import annotations

import json

import pytest

from fe.sizing import waiting
from tests.commands.run import fe, refused


def sized(*arguments: str) -> dict:
    result = fe("size", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_the_documented_example():
    result = fe("size", "--rps", "20", "--seconds", "10", "--target", "70", "--concurrency", "1")
    assert result.returncode == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "286 replicas"
    assert "  200 / 70 % / 1 at once each = 285.71, rounded up" in lines
    for words in ("Erlang C", "random arrivals", "nobody gives up"):
        assert words in result.stdout


def test_as_json():
    found = sized("--rps", "20", "--seconds", "10")
    assert found["replicas"] == 286
    assert found["in_flight"] == 200
    assert found["utilization"] == pytest.approx(200 / 286)
    assert found["wait"]["probability"] == pytest.approx(waiting(20, 10, 286).probability)


@pytest.mark.parametrize(
    ("arguments", "replicas"),
    [
        ("--rps=900 --seconds=200ms --concurrency=4 --target=80", 57), ("--rps=30/m --seconds=1m", 43),
        ("--rps=14 --seconds=1", 20), ("--rps=0 --seconds=1", 1), ("--rps=7rps --seconds=1s --target=100%", 7),
    ],
)  # fmt: skip
def test_units(arguments, replicas):
    assert sized(*arguments.split())["replicas"] == replicas


def test_what_grows_without_bound_is_said():
    arguments = ["--rps", "7", "--seconds", "1", "--target", "100"]
    assert sized(*arguments)["wait"] == {"probability": 1.0, "mean": None, "p99": None}
    assert "mean wait         grows without bound" in fe("size", *arguments).stdout


def test_waits_are_in_units_that_fit():
    text = fe("size", "--rps", "9", "--seconds", "1", "--target", "90").stdout
    assert "have to wait      66.9 %" in text
    assert "mean wait         669 ms" in text
    assert "99 % wait at most 4.2 s" in text


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--rps", "x", "'x' is not a rate; write for example 200rps"), ("--rps", "-1", "is not a rate"),
        ("--rps", "1e6", "is not a rate"), ("--rps", "2000000", "is too much"), ("--seconds", "9999d", "too much"),
        ("--seconds", "1y", "write for example 500ms"), ("--target", "0", "0 % is too little"),
        ("--target", "101", "is too much: 100"), ("--target", "0.7x", "not a percentage"),
        ("--concurrency", "0", "1 is the least"), ("--concurrency", "1.5", "is not a whole number"),
    ],
)  # fmt: skip
def test_errors_say_how_to_write_it(option, value, words):
    given = {"--rps": "1", "--seconds": "1"} | {option: value}
    last = refused("size", *(f"{name}={text}" for name, text in given.items()))
    assert f"argument {option}: " in last
    assert words in last


def test_what_no_machine_has():
    assert "beyond" in refused("size", "--rps=1000000", "--seconds=300d", "--concurrency=1")
