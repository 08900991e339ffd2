"""What holds for every load: bounds, stability, agreement with a plain reading of the rules that forgets nothing."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from fe.control.autoscaler import ScalePolicy
from fe.sizing import replicas_for
from tests.autoscaler.walk import Walk

loads = st.floats(0, 500) | st.sampled_from([0.0, 5e-324])


@st.composite
def policies(draw) -> ScalePolicy:
    low = draw(st.integers(0, 20))
    return ScalePolicy(
        min_instances=low,
        max_instances=low + draw(st.integers(0, 400)),
        target=draw(st.integers(1, 100)) / 100,
        capacity=draw(st.integers(1, 8)),
        scale_down_delay=draw(st.sampled_from([0, 5, 20])),
        scale_to_zero_delay=draw(st.sampled_from([0, 3, 30])),
        max_scale_up_rate=draw(st.sampled_from([0, 1.5, 4])),
    )


@st.composite
def patterns(draw) -> list[dict]:
    """Looks with any load, any last tenth, and replicas that are ready, starting or failing in any number."""
    look = st.fixed_dictionaries(
        {"load": loads, "queued": loads, "recent": loads},
        optional={"ready": st.integers(0, 50), "starting": st.integers(0, 50), "failing": st.integers(0, 50)},
    )
    return draw(st.lists(look, max_size=60))


@settings(max_examples=150)
@given(policies(), patterns(), st.integers(0, 500))
def test_any_load_stays_within_bounds(policy, pattern, current):
    walk = Walk(policy, current)
    for look in pattern:
        before = walk.current
        decision = walk.step(look.pop("load"), **look)
        assert policy.min_instances <= decision.desired <= policy.max_instances
        assert decision.desired <= max(before, decision.need, policy.min_instances), "nobody asked for more"
        assert decision.reason
        assert decision.utilization >= 0


@settings(max_examples=150)
@given(policies(), patterns(), st.integers(0, 300), loads, st.integers(0, 10))
def test_a_constant_load_comes_to_rest(policy, pattern, current, load, start_up):
    """After whatever went before: up at most, then down at most, then still, although replicas take time to start."""
    walk = Walk(policy, current)
    for look in pattern:
        walk.step(look.pop("load"), **look)
    ordered = [walk.current]
    for _ in range(150 + 25 * start_up):  # enough to grow by half at each start
        ready = min(ordered[-1], ordered[max(0, len(ordered) - 1 - start_up)])
        ordered.append(walk.step(load, ready=ready, starting=ordered[-1] - ready).desired)
    moves = [after - before for before, after in pairwise(ordered) if after != before]
    turns = sum(one < 0 < other for one, other in pairwise(moves))
    assert turns <= 1, ordered
    assert len(set(ordered[-20:])) == 1, ordered
    need = replicas_for(load, policy.capacity, policy.target)
    assert ordered[-1] == max(policy.min_instances, min(need, policy.max_instances))


@settings(max_examples=150)
@given(policies(), st.lists(loads, min_size=1, max_size=120), st.integers(0, 300))
def test_the_past_is_remembered_exactly(policy, pattern, current):
    """Against a list of all that ever was."""
    walk = Walk(policy, current)
    needs: list[int] = []
    for load in pattern:
        before = walk.current
        decision = walk.step(load, ready=before)
        needs.append(replicas_for(load, policy.capacity, policy.target))
        if decision.desired < min(before, policy.max_instances):
            window = needs[-max(1, policy.scale_down_delay) :]
            assert decision.desired == max(policy.min_instances, min(max(window), policy.max_instances)) or (
                decision.rule == "idle" and max(window) == 0 and decision.desired == 1
            )
            assert len(needs) >= policy.scale_down_delay
