"""Each rule of the autoscaler by itself, in virtual time: what is decided, by which rule, with which words."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from fe.control.autoscaler import History, ScalePolicy, decide
from tests.autoscaler.walk import USUAL, Walk, decided, policy, seen

# --- up --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "target", "capacity", "need"),
    [
        (20 * 10, 0.7, 1, 286),  # the documented example: 20 requests/s of 10 s
        (14, 0.7, 1, 20), (14.0001, 0.7, 1, 21), (0.7 * 3, 0.7, 1, 3), (0.1 + 0.2, 0.3, 1, 1), (9, 0.9, 1, 10),
        (0, 0.7, 1, 0), (0.001, 0.7, 1, 1), (28, 0.7, 1, 40), (28, 0.7, 4, 10), (29, 0.7, 4, 11), (100, 1.0, 1, 100),
    ],
)  # fmt: skip
def test_what_a_load_needs(load, target, capacity, need):
    assert decided(0, seen(load, ready=0), policy(target=target, capacity=capacity, min_instances=0)).need == need


def test_no_rounding_error_orders_a_replica():
    for target in (0.1, 0.3, 0.6, 0.7, 0.9, 1.0):
        for replicas in range(1, 2000, 7):
            assert decided(0, seen(replicas * target, ready=0), policy(target=target)).need == replicas


def test_up_at_once_from_1_to_40():
    decision = decided(1, seen(28, ready=1))
    assert (decision.desired, decision.rule) == (40, "up")


def test_queued_requests_count_like_those_in_flight():
    decision = decided(10, seen(14.0, queued=6.2, ready=10))
    assert decision.desired == 29
    assert decision.utilization == pytest.approx(2.02)
    assert decision.reason == (
        "14.0 in flight + 6.2 queued on 10 replicas of capacity 1 are 202 % (target 70 %): 29 are needed"
    )


def test_hold():
    decision = decided(20, seen(14, ready=20))
    assert (decision.desired, decision.rule) == (20, "hold")


def test_replicas_that_start_are_not_ordered_again():
    """Ten minutes of a start, with the load that caused it."""
    walk = Walk()
    assert walk.step(28).desired == 40
    for decision in walk.run(28, 600, ready=1, starting=39):
        assert (decision.desired, decision.rule) == (40, "hold")


@pytest.mark.parametrize(
    ("ready", "rate", "desired", "rule"),
    [
        (10, 0, 100, "up"), (10, 2, 20, "rate"), (10, 1.5, 15, "rate"), (10, 1, 11, "rate"), (10, 0.1, 11, "rate"),
        (1, 1.5, 10, "hold"), (0, 3, 10, "hold"), (60, 2, 100, "up"), (50, 2, 100, "up"), (10, 1.29, 12, "rate"),
    ],
)  # fmt: skip
def test_max_scale_up_rate(ready, rate, desired, rule):
    """The limit counts from those that are ready, and takes none away that is wanted already."""
    decision = decided(10, seen(70, ready=ready, starting=0), policy(max_scale_up_rate=rate))
    assert decision.desired == desired
    assert decision.rule == ("rate" if rule == "hold" else rule)


def test_a_limited_rate_waits_for_replicas_to_be_ready():
    walk = Walk(policy(max_scale_up_rate=2))
    assert walk.step(70).desired == 2
    assert {d.desired for d in walk.run(70, 60, ready=1, starting=1)} == {2}
    assert [walk.step(70).desired for _ in range(7)] == [4, 8, 16, 32, 64, 100, 100]


# --- burst -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("load", "recent", "ready", "starting", "capacity", "desired", "rule"),
    [
        (3, 19, 10, 0, 1, 10, "no_history"),  # less than twice what they carry
        (3, 20, 10, 0, 1, 29, "burst"),
        (3, 20, 5, 5, 1, 29, "burst"),  # those that start carry, too
        (3, 20, 5, 6, 1, 10, "no_history"),
        (3, 20, 10, 0, 2, 10, "no_history"),
        (9, 40, 10, 0, 2, 29, "burst"),
        (30, 20, 10, 0, 1, 43, "up"),  # over already: the average decides
        (0.1, 2, 0, 0, 1, 10, "no_history"),  # no replica counts as one
    ],
)
def test_burst(load, recent, ready, starting, capacity, desired, rule):
    observed = seen(load, recent=recent, ready=ready, starting=starting)
    decision = decided(10, observed, policy(capacity=capacity))
    assert (decision.desired, decision.rule) == (desired, rule)


def test_a_burst_says_what_it_saw():
    decision = decided(10, seen(3, recent=60, ready=10))
    assert decision.reason == (
        "60.0 in flight or queued in the interval's last tenth on 10 replicas of capacity 1 are 600 % (target 70 %):"
        " 86 are needed"
    )


def test_a_burst_is_remembered():
    """The averages that follow are smaller: they must not undo it at once."""
    walk = Walk(current=10)
    walk.run(7, 100)
    assert walk.step(10, recent=100).desired == 143
    assert [d.desired for d in walk.run(20, 59)] == [143] * 59
    assert walk.step(20).desired == 29


# --- down ------------------------------------------------------------------------------------------------------------


def test_down_only_to_the_highest_need_of_the_delay():
    walk = Walk()
    walk.run(7, 3600)
    walk.step(70)
    walk.step(35)
    decisions = walk.run(7, 58)
    assert {(d.desired, d.rule) for d in decisions} == {(100, "window")}
    assert decisions[0].reason.endswith("10 are needed, but 100 were within the last 60 s")
    decision = walk.step(7)
    assert (decision.desired, decision.rule) == (50, "down")
    assert decision.reason.endswith("10 are needed, and at most 50 within the last 60 s")
    assert [(d.desired, d.rule) for d in walk.run(7, 2)] == [(10, "down"), (10, "hold")]


def test_a_load_that_comes_back_within_the_delay_changes_nothing():
    """Four hours of half a minute on, half a minute off."""
    walk = Walk()
    walk.run(70, 30)
    desired = {d.desired for _ in range(240) for d in [*walk.run(0, 30), *walk.run(70, 30)]}
    assert desired == {100}


def test_without_a_delay_it_follows_the_load():
    walk = Walk(policy(scale_down_delay=0))
    assert [walk.step(load).desired for load in (70, 7, 35, 0.7, 0)] == [100, 10, 50, 1, 1]


def test_after_a_restart_nothing_is_removed_before_the_delay_is_known():
    walk = Walk(current=50)
    decisions = walk.run(7, 59)
    assert {(d.desired, d.rule) for d in decisions} == {(50, "no_history")}
    assert decisions[9].reason.endswith("10 are needed, but of scale_down_delay 60 s only 10 s are known")
    assert walk.step(7).desired == 10


def test_after_a_restart_more_are_ordered_at_once():
    walk = Walk(current=50)
    walk.run(7, 30)
    assert walk.step(70).desired == 100


# --- zero ------------------------------------------------------------------------------------------------------------

TO_ZERO = policy(min_instances=0)


def test_the_last_replica_goes_after_its_own_delay():
    walk = Walk(TO_ZERO)
    walk.run(1.4, 100)
    assert walk.current == 2
    assert [d.desired for d in walk.run(0, 60)] == [2] * 59 + [1]
    decisions = walk.run(0, 239)
    assert {(d.desired, d.rule) for d in decisions} == {(1, "idle")}
    assert decisions[-1].reason == "no load for 299 s: the last replica stays for 300 s"
    last = walk.step(0)
    assert (last.desired, last.rule, last.reason) == (0, "zero", "no load for 300 s: none is needed")
    assert {(d.desired, d.rule) for d in walk.run(0, 3600)} == {(0, "hold")}


def test_any_load_keeps_the_last_replica():
    """A request of a millisecond every four minutes, for a day."""
    walk = Walk(TO_ZERO)
    desired = {d.desired for _ in range(360) for d in [walk.step(0.001), *walk.run(0, 239)]}
    assert desired == {1}


@pytest.mark.parametrize(("load", "desired"), [(0.0001, 1), (0.7, 1), (0.8, 2), (28, 40)])
def test_from_zero_any_load_brings_one(load, desired):
    decision = decided(0, seen(0, queued=load, ready=0), TO_ZERO)
    assert (decision.desired, decision.rule) == (desired, "from_zero")
    assert decision.utilization == math.inf
    assert "and no replica: " in decision.reason


def test_the_reason_from_zero_shows_what_has_made_it():
    """The first request waits since just now: on average over the interval that is next to nothing."""
    decision = decided(0, replace(seen(0, queued=0.0004, ready=0), recent=1.0), TO_ZERO)
    assert decision.reason == "0.0 in flight + 0.0004 queued, at last 1.0 together, and no replica: 1 is needed"


def test_from_zero_one_counts_as_ready():
    assert decided(0, seen(28, ready=0), policy(min_instances=0, max_scale_up_rate=5)).desired == 5
    assert decided(0, seen(28, ready=0), policy(min_instances=0, max_scale_up_rate=1)).desired == 2


def test_a_restart_at_idle_begins_the_delay_anew():
    walk = Walk(TO_ZERO)
    assert {d.desired for d in walk.run(0, 299)} == {1}
    assert walk.step(0).desired == 0


def test_the_longer_of_both_delays_keeps_the_last_replica():
    walk = Walk(policy(min_instances=0, scale_to_zero_delay=0))
    walk.step(0.5)
    assert {d.desired for d in walk.run(0, 59)} == {1}
    assert walk.step(0).desired == 0


# --- bounds, reload --------------------------------------------------------------------------------------------------


def test_max_instances():
    walk = Walk(policy(max_instances=20))
    decision = walk.step(70)
    assert (decision.desired, decision.need, decision.rule) == (20, 100, "max")
    assert decision.reason.endswith("100 are needed, max_instances is 20")


def test_min_instances():
    walk = Walk(policy(min_instances=5), current=10)
    walk.run(0, 60)
    assert walk.current == 5
    decision = walk.step(0)
    assert (decision.desired, decision.rule) == (5, "min")
    assert decision.reason.endswith("0 are needed, min_instances is 5")


@pytest.mark.parametrize(
    ("changes", "desired", "rule"),
    [
        ({"max_instances": 20}, 20, "max"), ({"min_instances": 80}, 80, "min"),
        ({"min_instances": 60, "max_instances": 60}, 60, "min"), ({"min_instances": 0, "max_instances": 0}, 0, "max"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("seconds", [1.0, 0.0])
def test_a_reload_with_other_bounds_holds_at_once(changes, desired, rule, seconds):
    """Before the window is full, too, and whether anything is known of the load or not."""
    decision = decided(50, seen(7, ready=50, seconds=seconds), policy(**changes))
    assert (decision.desired, decision.rule) == (desired, rule)
    assert f"{rule}_instances is {desired}" in decision.reason


def test_a_reload_with_another_target_holds_for_the_past_too():
    walk = Walk()
    walk.run(7, 100)
    walk.step(70)
    walk.policy = policy(target=0.35, capacity=2)
    assert walk.step(7).desired == 100
    walk.policy = policy(target=0.35)
    assert walk.step(7).desired == 100, "200 were needed, but nobody ordered them"
    assert {d.desired for d in walk.run(7, 57)} == {100}
    assert walk.run(7, 2)[-1].desired == 20


def test_a_reload_with_a_longer_delay_needs_to_know_more():
    walk = Walk()
    walk.run(7, 500)
    walk.current = 50
    walk.policy = policy(scale_down_delay=120)
    decisions = walk.run(7, 59)
    assert {(d.desired, d.rule) for d in decisions} == {(50, "no_history")}
    assert walk.run(7, 1)[-1].desired == 10


def test_a_reload_with_a_shorter_delay_holds_at_once():
    walk = Walk()
    walk.run(70, 100)
    walk.run(7, 20)
    walk.policy = policy(scale_down_delay=10)
    assert walk.step(7).desired == 10


@pytest.mark.parametrize(
    "changes",
    [{"min_instances": 2, "max_instances": 1}, {"min_instances": -1}, {"target": 0}, {"target": 1.1}, {"capacity": 0},
     {"target": math.nan}],
)  # fmt: skip
def test_settings_that_cannot_be_met(changes):
    with pytest.raises(ValueError, match="not 0 <"):
        replace(USUAL, **changes)


# --- odd observations ------------------------------------------------------------------------------------------------


def test_failing_replicas_are_named_and_do_not_count():
    decision = decided(10, seen(7, ready=5, failing=5))
    assert decision.utilization == pytest.approx(1.4)
    assert decision.reason.endswith("10 are needed; failing and not counted: 5")


@pytest.mark.parametrize(
    "odd",
    [
        {"seconds": 0.0},
        {"seconds": -1.0},
        {"queued": math.nan},
        {"recent": math.inf},
        {"at": math.nan},
        {"at": math.inf},
    ],
)
def test_nothing_is_decided_where_the_load_is_not_known(odd):
    observed = replace(seen(70, ready=10), **odd)
    history = History().record(USUAL, observed)
    decision = decide(USUAL, history, 10, observed)
    assert history == History()
    assert (decision.desired, decision.rule, decision.utilization) == (10, "hold", 0.0)
    assert decision.reason == "the load is not known, no time has passed"


def test_another_clock_begins_anew():
    walk = Walk()
    walk.run(70, 1000)
    walk.polls = 0
    assert {(d.desired, d.rule) for d in walk.run(7, 59)} == {(100, "no_history")}
    assert walk.step(7).desired == 10


def test_negative_noise_is_no_load():
    decision = decided(0, seen(-1e-9, ready=0), TO_ZERO)
    assert (decision.desired, decision.need, decision.utilization) == (0, 0, 0.0)


def test_the_same_question_has_the_same_answer():
    observed = seen(70, ready=10)
    history = History().record(USUAL, observed)
    assert decide(USUAL, history, 10, observed) == decide(USUAL, history, 10, observed)
    assert history == history.record(USUAL, observed)


def test_the_history_is_bounded():
    """The worst that can be: a load that falls at every look for a day."""
    settings = ScalePolicy(**(USUAL.__dict__ | {"scale_down_delay": 86400.0}))
    history = History()
    for poll in range(1, 50_000):
        history = history.record(settings, seen(1000 - poll / 100, ready=1, at=poll * 1.7))
        assert len(history.peaks) <= 1001
