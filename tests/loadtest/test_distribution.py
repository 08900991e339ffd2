"""Durations, distributions and faults: what is understood, what is refused and in which words, what is drawn."""

from __future__ import annotations

from random import Random

import pytest

from loadtest.server.distribution import EXAMPLES, KINDS, LONGEST, SpecError, parse_distribution, parse_duration
from loadtest.server.faults import MODES, check_together, draw_fault, parse_fault


@pytest.mark.parametrize(("text", "seconds"), [("0ms", 0), ("250us", 250e-6), ("1.5s", 1.5), ("2m", 120)])
def test_durations(text, seconds):
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "20", "ms", "-1s", "1e3ms", "1 s", "1S", "1h", "11m", "nan", ".5s", "1.s", "1s\n", "٣s"]
)
def test_no_durations(text):
    with pytest.raises(SpecError):
        parse_duration(text)


@pytest.mark.parametrize("text", EXAMPLES.values())
def test_examples_have_the_mean_they_say(text):
    distribution, random = parse_distribution(text), Random(7)  # noqa: S311
    drawn = [distribution.draw(random) for _ in range(100_000)]
    # The pareto of the example has no variance: its average is far from its mean more often than the others'.
    assert sum(drawn) / len(drawn) == pytest.approx(distribution.mean, rel=0.15 if "pareto" in text else 0.03)
    assert 0 <= min(drawn) <= max(drawn) <= LONGEST


def test_every_kind_has_an_example():
    assert list(KINDS) == list(EXAMPLES)


def test_a_duration_is_constant():
    assert parse_distribution("20ms").draw(Random()) == pytest.approx(0.02)  # noqa: S311


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("normal:20ms", "'normal' is no kind of distribution; there are constant:20ms, "),
        ("constant:", "'' is no duration"),
        ("constant:1s,2s", "write it as constant:20ms"),
        ("exponential:0s", "the mean has to be above 0"),
        ("lognormal:20ms", "write it as lognormal:20ms,0.8"),
        ("lognormal:20ms,x", "sigma is a number above 0, not 'x'"),
        ("lognormal:20ms,0", "sigma is a number above 0, not '0'"),
        ("uniform:30ms-10ms", "30ms is more than 10ms"),
        ("uniform:10ms,30ms", "write it as uniform:10ms-30ms"),
        ("pareto:20ms,1", "alpha has to be above 1"),
        ("bimodal:1ms,1s,1.5", "at most 1"),
        ("20", "'20' is no duration"),
    ],
)
def test_errors_say_what_would_be_right(text, said):
    with pytest.raises(SpecError) as caught:
        parse_distribution(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("reset", "write a mode, = and a probability"),
        ("reset=2", "from 0 to 1"),
        ("reset=-0.1", "from 0 to 1"),
        ("boom=0.1", "there are status:CODE, reset, "),
        ("reset:1=0.1", "'reset:1' is no way to fail"),
        ("status=0.1", "'status' is no way to fail"),
        ("status:99=0.1", "a status is a number from 200 to 599"),
        ("slow:2=0.1", "'2' is no duration"),
    ],
)
def test_faults_that_are_none(text, said):
    with pytest.raises(SpecError) as caught:
        parse_fault(text)
    assert said in str(caught.value)


def test_faults_are_drawn_as_often_as_they_should():
    faults = [parse_fault("reset=0.1"), parse_fault("status:503=0.2"), parse_fault("slow:lognormal:2s,1=0.3")]
    check_together(faults)
    random = Random(3)  # noqa: S311
    drawn = [fault.name if (fault := draw_fault(faults, random)) else "" for _ in range(20_000)]
    shares = {name: drawn.count(name) / len(drawn) for name in set(drawn)}
    expected = {"reset": 0.1, "status:503": 0.2, "slow:lognormal:2s,1": 0.3, "": 0.4}
    assert shares == pytest.approx(expected, abs=0.02)


def test_every_mode_can_be_given():
    arguments = {"status:CODE": "status:503", "slow:TIME": "slow:2s"}
    assert {parse_fault(f"{arguments.get(mode, mode)}=1").mode for mode in MODES} == {
        mode.partition(":")[0] for mode in MODES
    }


def test_more_than_always_is_refused():
    with pytest.raises(SpecError, match=r"are 1\.2 together"):
        check_together([parse_fault("reset=0.6"), parse_fault("hang=0.6")])
