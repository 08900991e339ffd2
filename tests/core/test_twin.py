"""Every operation of the lease table against its plain twin, in any order, by several holders.

The holders are of one process but have an eventfd each: whoever has news and did not cause it himself must have been
rung. After each step the counts agree and every invariant holds.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from fe import _core
from fe._core import Limits
from tests.core.tables import FAR, PAST, Bench
from tests.core.twin import ACTIVE, Twin

# Few of each, so that they run out, are used again and meet each other.
LIMITS = Limits(deployments=3, replicas=5, holders=3, slots=8, workers=1, config_bytes=64)
HOLDERS = st.integers(0, LIMITS.holders - 1)
SLOTS = st.integers(0, LIMITS.slots - 1)
DEPLOYMENTS = st.integers(0, LIMITS.deployments - 1)
REPLICAS = st.integers(0, LIMITS.replicas - 1)
CAPACITIES = st.sampled_from([1, 1, 2, 3, 0])
QUEUES = st.sampled_from([0, 2, 50])
DEADLINES = st.sampled_from([FAR, FAR, FAR, PAST])
STATES = st.sampled_from([_core.REPLICA_READY] * 3 + [_core.REPLICA_STARTING, _core.REPLICA_DRAINING])


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.bench = Bench(LIMITS)
        self.table = self.bench.table
        self.twin = Twin(LIMITS)
        self.holders = self.bench.holders(LIMITS.holders)
        for holder in range(LIMITS.holders):
            self.twin.claim(holder)
        self.alive = [True] * LIMITS.holders
        self.told = [False] * LIMITS.holders  # rung, or seen its mail while awake
        self.awake: int | None = None  # who acted last: it is not rung for what it causes itself
        for capacity in (1, 2):
            index, _ = self.add_deployment_to_both(capacity, 50)
            for number in range(2):
                self.add_replica_to_both(index, b"%d" % number, _core.REPLICA_READY)

    def teardown(self) -> None:
        self.bench.close()

    def add_deployment_to_both(self, capacity: int, max_queue: int) -> tuple[int, int]:
        name = f"e/{self.twin.tick()}"
        expected = self.twin.add_deployment(name, capacity, max_queue)
        try:
            answer = self.table.add_deployment(name, capacity, max_queue)
        except OverflowError:
            answer = None
        assert answer == expected
        return answer or (0, 0)

    def add_replica_to_both(self, deployment: int, sockaddr: bytes, state: int) -> None:
        expected = self.twin.add_replica(deployment, sockaddr, state)
        try:
            answer = self.table.add_replica(deployment, sockaddr, state)
        except (OverflowError, ValueError):
            answer = None
        assert answer == expected

    def pick_slot(self, holder: int, slot: int) -> int:
        """One in use if there is any."""
        used = [key[1] for key, lease in self.twin.slots.items() if key[0] == holder and lease.state]
        return sorted(used)[slot % len(used)] if used else slot

    # --- Requests

    @rule(
        holder=HOLDERS,
        deployment=DEPLOYMENTS,
        deadline=DEADLINES,
        way=st.sampled_from(["acquire"] * 3 + ["await_"] * 2 + ["try_acquire"]),
        stale=st.integers(0, 9),
        times=st.integers(1, 4),
    )
    def acquire(self, holder: int, deployment: int, deadline: int, way: str, stale: int, times: int) -> None:
        self.awake = holder
        generation = self.twin.deployments[deployment].generation + (stale == 0)
        for _ in range(times if self.alive[holder] else 0):
            expected = self.twin.acquire(holder, deployment, generation, deadline, way)
            ask = getattr(self.holders[holder], way)
            answer = ask(deployment, generation, *([] if way == "try_acquire" else [deadline]))
            assert answer[0] == expected[0]
            if answer[0] in (_core.HELD, _core.WAITING):
                assert answer == expected

    @rule(holder=HOLDERS, slot=SLOTS)
    def release(self, holder: int, slot: int) -> None:
        self.awake = holder
        if self.alive[holder]:
            slot = self.pick_slot(holder, slot)
            self.twin.release(holder, slot)
            self.holders[holder].release(slot)

    @rule(holder=HOLDERS, slot=SLOTS, deadline=DEADLINES, awaits=st.booleans())
    def retry(self, holder: int, slot: int, deadline: int, awaits: bool) -> None:
        self.awake = holder
        if self.alive[holder]:
            slot = self.pick_slot(holder, slot)
            expected = self.twin.retry(holder, slot, deadline, awaits)
            assert self.holders[holder].retry(slot, deadline, awaits) == expected

    @rule(holder=HOLDERS, slot=SLOTS)
    def cancel(self, holder: int, slot: int) -> None:
        self.awake = holder
        if self.alive[holder]:
            slot = self.pick_slot(holder, slot)
            assert self.holders[holder].cancel(slot) == self.twin.cancel(holder, slot)

    @rule(holder=HOLDERS, most=st.sampled_from([1, 2, 256]))
    def collect(self, holder: int, most: int) -> None:
        self.awake = holder
        if self.alive[holder]:
            assert self.holders[holder].collect(most) == self.twin.collect(holder, most)
            self.told[holder] = False

    @rule(holder=HOLDERS, replica=REPLICAS, threshold=st.sampled_from([0, 1, 2]), stale=st.integers(0, 9))
    def fail(self, holder: int, replica: int, threshold: int, stale: int) -> None:
        self.awake = holder
        if self.alive[holder]:
            incarnation = self.twin.replicas[replica].incarnation + (stale == 0)
            expected = self.twin.failed(replica, incarnation, threshold)
            assert self.holders[holder].failed(replica, incarnation, threshold) == expected

    @rule(holder=HOLDERS, replica=REPLICAS)
    def succeed(self, holder: int, replica: int) -> None:
        self.holders[holder].succeeded(replica)
        self.twin.replicas[replica].failures = 0

    @rule(holder=HOLDERS, replica=REPLICAS, elsewhere=st.integers(0, 9))
    def adopt(self, holder: int, replica: int, elsewhere: int) -> None:
        self.awake = holder
        if self.alive[holder]:
            deployment = (self.twin.replicas[replica].deployment + (elsewhere == 0)) % LIMITS.deployments
            expected = self.twin.adopt(holder, deployment, replica)
            try:
                answer = self.holders[holder].adopt(deployment, replica)
            except (OverflowError, ValueError):
                answer = None
            assert answer == expected

    # --- Control

    @rule(capacity=CAPACITIES, max_queue=QUEUES)
    def add_deployment(self, capacity: int, max_queue: int) -> None:
        self.add_deployment_to_both(capacity, max_queue)

    @rule(deployment=DEPLOYMENTS, capacity=CAPACITIES, max_queue=QUEUES)
    def configure(self, deployment: int, capacity: int, max_queue: int) -> None:
        if self.twin.deployments[deployment].state == ACTIVE:
            self.twin.configure_deployment(deployment, capacity, max_queue)
            self.table.configure_deployment(deployment, capacity, max_queue)

    @rule(deployment=DEPLOYMENTS, really=st.integers(0, 3))
    def remove_deployment(self, deployment: int, really: int) -> None:
        if really == 0:
            self.twin.remove_deployment(deployment)
            self.table.remove_deployment(deployment)

    @rule(deployment=DEPLOYMENTS, state=STATES, sockaddr=st.binary(min_size=1, max_size=116))
    def add_replica(self, deployment: int, state: int, sockaddr: bytes) -> None:
        self.add_replica_to_both(deployment, sockaddr, state)

    @rule(replica=REPLICAS, state=STATES, expect=st.none() | st.integers(1, 4))
    def set_replica_state(self, replica: int, state: int, expect: int | None) -> None:
        expected = self.twin.set_replica_state(replica, state, expect)
        assert self.table.set_replica_state(replica, state, expect) == expected

    @rule(replica=REPLICAS)
    def remove_replica(self, replica: int) -> None:
        self.twin.set_replica_state(replica, _core.REPLICA_REMOVING)
        self.table.remove_replica(replica)

    # --- Holders that die and come back

    @rule(holder=HOLDERS)
    def die(self, holder: int) -> None:
        self.alive[holder] = False
        self.table.mark_absent(holder)
        assert self.table.recover(holder) == self.twin.recover(holder)

    @precondition(lambda self: not all(self.alive))
    @rule()
    def come_back(self) -> None:
        holder = self.alive.index(False)
        self.twin.claim(holder)
        self.holders[holder] = self.table.holder(holder)
        self.alive[holder] = True

    @rule()
    def repair(self) -> None:
        self.table.repair()
        for deployment in range(LIMITS.deployments):
            self.twin.recount(deployment)
        self.twin.control = True

    # --- After every step

    @invariant()
    def healthy(self) -> None:
        assert self.table.check() == []

    @invariant()
    def deployments_agree(self) -> None:
        listed = self.table.deployments()
        assert listed == [i for i, d in enumerate(self.twin.deployments) if d.state]
        for index in listed:
            load, twin = self.table.deployment(index), self.twin.deployments[index]
            assert load[:5] == (twin.name, twin.generation, twin.state, twin.capacity, twin.max_queue)
            assert load.replicas == len(self.table.replicas(index))
            assert self.table.replicas(index) == self.twin.members(index)
            assert (load.ready, load.in_flight) == (len(self.twin.ready(index)), self.twin.in_flight(index))
            assert load.queue_depth == len(self.twin.queue(index))
            glance = (load.in_flight, load.capacity, load.ready, load.queue_depth, load.max_queue)
            assert self.table.glance(index) == glance

    @invariant()
    def replicas_agree(self) -> None:
        for index, twin in enumerate(self.twin.replicas):
            load = self.table.replica(index)
            assert (load.state, load.incarnation) == (twin.state, twin.incarnation)
            if twin.state:
                assert load[0] == twin.deployment
                assert load[3:] == (self.twin.load(index), twin.failures, twin.sockaddr)

    @invariant()
    def nobody_misses_news(self) -> None:
        for holder in range(LIMITS.holders):
            rung = self.bench.rung(holder)
            self.told[holder] = self.told[holder] or rung or (holder == self.awake and self.holders[holder].mail())
            if self.alive[holder] and self.twin.news(holder):
                assert self.told[holder]
                assert self.holders[holder].mail()
        self.awake = None
        assert self.bench.control_rung() == self.twin.control
        self.twin.control = False


TestTwin = Machine.TestCase
TestTwin.settings = settings(max_examples=100, stateful_step_count=60, suppress_health_check=list(HealthCheck))
