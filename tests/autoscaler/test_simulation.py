"""The simulation as a whole: loads, traces, start-up, draining, what is recorded, and that chance is repeatable."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from fe.control.numeric import np
from fe.simulation.draws import parse_draws
from fe.simulation.loads import UNKNOWN, Loads, parse_load, read_trace
from fe.simulation.outcome import Outcome
from fe.simulation.run import Scenario, Simulation
from fe.sizing import waiting
from tests.autoscaler.walk import policy

SECOND = 1_000_000_000


def load(*texts: str) -> Loads:
    return Loads(tuple(parse_load(text) for text in texts))


def scenario(*texts: str, **changes) -> Scenario:
    settings = Scenario(
        source=load(*texts) if texts else load("poisson:50rps,10m"),
        service=parse_draws("lognormal:200ms,0.8"),
        start_up=parse_draws("uniform:10-20s"),
        policy=policy(max_instances=400),
        polling_interval=1.0,
        max_queue_length=1000,
        max_queue_wait=0.5,
        cold_start_timeout=60.0,
        instances=1,
        seed=1,
    )
    return replace(settings, **changes)


def simulate(*texts: str, every: int = 10**9, **changes) -> Outcome:
    return Simulation(scenario(*texts, **changes)).run(every)


def fixed(count: int, **changes):
    return {"policy": policy(min_instances=count, max_instances=count, **changes), "instances": count}


# --- the whole -------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_outcome():
    one, same, other = simulate(seed=5), simulate(seed=5), simulate(seed=6)
    assert one == same
    assert one != other


def test_a_setting_leaves_the_rest_of_chance_as_it_was():
    """The same requests come, whatever the replicas do."""
    arrived = [
        simulate(**changes).total.tally.arrived for changes in ({}, fixed(3), {"start_up": parse_draws("constant:0s")})
    ]
    assert len(set(arrived)) == 1


@pytest.mark.parametrize(
    "changes",
    [{}, fixed(3), fixed(15), {"policy": policy(min_instances=0), "instances": 0}, {"max_queue_length": 3},
     {"max_queue_wait": 0.0}, {"polling_interval": 0.1}, {"polling_interval": 7.3}, {"policy": policy(capacity=4)}],
)  # fmt: skip
def test_every_request_is_accounted_for(changes):
    outcome = simulate("spike:5-200rps,10m,1m", "ramp:50-0rps,5m", **changes)
    tally = outcome.total.tally
    assert tally.arrived > 10_000
    assert tally.arrived == tally.served + outcome.total.refused + outcome.in_system


def test_it_agrees_with_erlang_c():
    outcome = simulate("poisson:45rps,6h", service=parse_draws("exponential:200ms"), max_queue_wait=1000.0, **fixed(10))
    theory = waiting(45, 0.2, 10)
    assert outcome.total.wait_mean == pytest.approx(theory.mean, rel=0.05)
    assert outcome.total.wait_quantile(0.99) == pytest.approx(theory.p99, rel=0.1)
    assert outcome.total.wait_quantile(0.1) == 0.0
    assert outcome.total.utilization == pytest.approx(0.9 + theory.mean * 45 / 10, rel=0.03)


def test_utilization_comes_to_the_target():
    """Even arrivals and durations: nothing but the rules moves it. 40 in flight need 58 replicas, 69 % in use."""
    outcome = simulate("steady:200rps,20m", service=parse_draws("constant:200ms"), every=1)
    last = outcome.rows[-1]
    assert (last.desired, last.ready) == (58, 58)
    assert last.utilization == pytest.approx(40 / 58)
    assert outcome.changes[-1].at < 200


def test_replicas_are_ready_after_their_start_up():
    outcome = simulate(
        "steady:10rps,1m", service=parse_draws("constant:1s"), start_up=parse_draws("constant:20s"), every=1
    )
    first = outcome.changes[0]
    assert (first.at, first.before) == (1.0, 1)
    assert [row.ready for row in outcome.rows[:25]] == [1] * 20 + [first.after] * 5


def test_scaling_down_drains_and_costs_less():
    outcome = simulate("poisson:100rps,5m", "poisson:1rps,10m", every=60)
    rows = outcome.merged()
    assert rows[-1].desired < 10 < rows[4].desired
    assert rows[-1].replica_hours < rows[4].replica_hours / 3
    assert rows[-1].refused == 0


def test_replica_hours_count_those_that_start():
    """Ten more are wanted from the first second on, and none is ever ready."""
    changes = {"start_up": parse_draws("constant:24h"), "service": parse_draws("constant:1s")}
    outcome = simulate("steady:50rps,1h", policy=policy(max_instances=11), **changes)
    assert outcome.total.replica_hours == pytest.approx(1 + 10 * (3599 / 3600))


def test_replicas_that_are_not_needed_any_more_are_not_waited_for():
    outcome = simulate("steady:70rps,10s", "steady:0rps,10m", service=parse_draws("constant:1s"),
                       start_up=parse_draws("constant:1h"), every=1)  # fmt: skip
    assert outcome.most_desired >= 30
    assert {row.ready for row in outcome.rows} == {1}
    assert outcome.rows[-1].desired == 1


def test_scale_to_zero_and_back():
    settings = {"policy": policy(min_instances=0, scale_to_zero_delay=120), "service": parse_draws("constant:100ms"),
                "max_queue_wait": 5.0}  # fmt: skip
    outcome = simulate("steady:1rps,1m", "steady:0rps,5m", "steady:1rps,1m", every=1, **settings)
    rows = outcome.rows
    assert [rows[at].ready for at in (59, 250, 419)] == [1, 0, outcome.rows[-1].desired]
    assert outcome.total.tally.no_replica == 0
    assert outcome.total.refused == 0, "they waited for the first replica"
    assert 10 < outcome.total.wait_quantile(1) < 21
    rules = [change.rule for change in outcome.changes]
    assert "zero" in rules
    assert "from_zero" in rules
    impatient = simulate("steady:1rps,1m", cold_start_timeout=1.0, **(settings | {"instances": 0}))
    assert impatient.total.tally.queue_wait > 5
    assert simulate("steady:1rps,1m", **(settings | {"instances": 0})).total.refused == 0


def test_rows_add_up():
    settings = scenario("poisson:100rps,10m")
    fine, coarse = (Simulation(settings).run(every) for every in (1, 40))
    assert fine.total == coarse.total
    assert [row.seconds for row in coarse.merged()] == [40.0] * 15
    assert len(coarse.rows) == 300
    uneven = Simulation(settings).run(7)
    assert [row.seconds for row in uneven.merged()] == [7.0] * 85 + [5.0]


# --- loads -----------------------------------------------------------------------------------------------------------


def arrivals(source, seconds: float, pieces: int = 1, seed: int = 1) -> np.ndarray:
    """When requests arrive in the first seconds, asked for in so many pieces; in s."""
    random = np.random.default_rng(seed)
    bounds = [round(seconds * SECOND * piece / pieces) for piece in range(pieces + 1)]
    spans = [source.span(begin, end, random).arrivals for begin, end in pairwise(bounds)]
    for (begin, end), span in zip(pairwise(bounds), spans, strict=True):
        assert ((begin <= span) & (span < end)).all()
    found = np.concatenate(spans)
    assert (np.diff(found) >= 0).all()
    return found / SECOND


def rates(at: np.ndarray, seconds: float, parts: int) -> list[float]:
    counts, _edges = np.histogram(at, bins=parts, range=(0, seconds))
    return list(counts / (seconds / parts))


@pytest.mark.parametrize("pieces", [1, 7, 600])
def test_steady_is_evenly_spaced(pieces):
    at = arrivals(load("steady:3rps,10m"), 600, pieces)
    assert len(at) == 1800
    assert np.diff(at) == pytest.approx(1 / 3, abs=1e-8)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("poisson:1000rps,8m", [1000] * 4), ("ramp:0-1000rps,8m", [125, 375, 625, 875]),
        ("ramp:1000-0rps,8m", [875, 625, 375, 125]), ("spike:100-900rps,8m,4m", [100, 900, 900, 100]),
        ("diurnal:0-1000rps,8m", [182, 818, 818, 182]), ("diurnal:0-1000rps,8m,4m", [500] * 4),
    ],
)  # fmt: skip
@pytest.mark.parametrize("pieces", [1, 100])
def test_random_loads_have_their_rates(text, wanted, pieces):
    at = arrivals(load(text), 480, pieces)
    assert rates(at, 480, 4) == pytest.approx(wanted, rel=0.03)


def test_random_arrivals_are_a_poisson_process():
    counts, _edges = np.histogram(arrivals(load("poisson:100rps,1h"), 3600, 60), bins=3600, range=(0, 3600))
    assert counts.var() / counts.mean() == pytest.approx(1, rel=0.1)


def test_loads_follow_each_other():
    source = load("steady:10rps,1m", "steady:0rps,1m", "poisson:1000rps,2m")
    assert source.nanoseconds == 240 * SECOND
    assert source.peak == 1000
    assert rates(arrivals(source, 240, 10), 240, 4) == pytest.approx([10, 0, 1000, 1000], rel=0.03)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("rampe:0-1rps,1m", "is none of steady:RATE"), ("ramp", "is none of"), ("ramp:200rps,1m", "not a range"),
        ("ramp:0-200rps", "1 part between commas"), ("steady:5rps,1m,2m", "3 parts"), ("spike:1-2,1m", "2 parts"),
        ("steady:5km,1m", "'5km' is not a rate; write for example 200rps"), ("steady:5,10x", "'10x' is not a time"),
        ("steady:5,0", "a length of 0"), ("spike:1-2,1m,2m", "the spike is longer"), ("steady:-5,1m", "is not a rate"),
        ("steady:nan,1m", "is not a rate"), ("steady:2e9,1m", "is not a rate"), ("steady:2000000,1m", "is too much"),
        ("diurnal:1-2rps,800d", "is too much"), ("", "is none of"),
    ],
)  # fmt: skip
def test_loads_that_are_none(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        parse_load(text)


# --- durations -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "mean", "deviation"),
    [
        ("constant:200ms", 0.2, 0), ("exponential:2s", 2, 2), ("uniform:100-300ms", 0.2, 0.2 / 12**0.5),
        ("uniform:1-2m", 90, 60 / 12**0.5), ("lognormal:200ms,0.5", 0.2, 0.2 * (np.exp(0.25) - 1) ** 0.5),
    ],
)  # fmt: skip
def test_durations_scatter_as_they_should(text, mean, deviation):
    drawn = parse_draws(text).take(200_000, np.random.default_rng(3)) / SECOND
    assert drawn.mean() == pytest.approx(mean, rel=0.02)
    assert drawn.std() == pytest.approx(deviation, rel=0.05, abs=1e-9)
    assert parse_draws(text).mean == pytest.approx(mean)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("normal:1s", "is none of lognormal:MEAN,SIGMA"), ("constant", "is none of"), ("lognormal:1s", "sigma is"),
        ("lognormal:0s,1", "the mean has to be more than 0"), ("lognormal:1s,x", "'x' is not a number"),
        ("lognormal:1s,11", "sigma at most 10"), ("uniform:5s", "is not a range"), ("uniform:5-3s", "less than"),
        ("exponential:1y", "'1y' is not a time; write for example 500ms"),
    ],
)  # fmt: skip
def test_durations_that_are_none(text, wrong):
    with pytest.raises(ValueError, match=wrong):
        parse_draws(text)


# --- traces ----------------------------------------------------------------------------------------------------------


def test_a_trace_is_replayed(tmp_path):
    path = tmp_path / "trace.txt"
    path.write_text("# recorded\n1700000000.5, 0.25\n\n1700000001.0 0.5  # slow\n1700000001.0\n")
    trace = read_trace(str(path))
    assert list(trace.arrivals) == [0, SECOND // 2, SECOND // 2]
    assert list(trace.durations) == [SECOND // 4, SECOND // 2, UNKNOWN]
    assert not trace.complete
    outcome = simulate(source=trace, service=parse_draws("constant:2s"), **fixed(3))
    assert outcome.total.tally.arrived == 3
    assert outcome.total.tally.in_flight_integral == SECOND * 3 // 4 + SECOND // 2


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("1\nx\n", ":2: 'x' is not an arrival in seconds"), ("1 2 3\n", ":1: '1 2 3' is not"), ("-1\n", ":1: '-1'"),
        ("nan\n", ":1: 'nan'"), ("2\n1\n", ":2: 1 is earlier than the line before"), ("# none\n", "has no request"),
        ("1 -2\n", ":1: '1 -2'"), ("0\n99999999999\n", ":2: '9999"), ("0\n99999999\n", "longer than 366 days"),
    ],
)  # fmt: skip
def test_traces_that_are_none(tmp_path, text, wrong):
    path = tmp_path / "trace.txt"
    path.write_text(text)
    with pytest.raises(ValueError, match=wrong):
        read_trace(str(path))
