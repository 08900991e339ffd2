"""`check` finds what is wrong: each invariant is broken by hand, in shared memory, and named by its number."""

from __future__ import annotations

import mmap
import runpy

import pytest

from fe import _core
from tests.core.tables import FAR, SMALL, Bench
from tests.project import tree

LAYOUT = runpy.run_path(str(tree.ROOT / "tools/table_reference.py"))["layout"]()
NONE = 2**32 - 1


class Scene:
    """A deployment at work: two replicas of capacity 2, all four places held, three requests waiting, one granted."""

    def __init__(self) -> None:
        self.bench = Bench(SMALL)
        self.table = self.bench.table
        self.deployment, self.generation, self.members = self.bench.deployment(capacity=2, replicas=2)
        self.holder, self.waiter = self.bench.holders(2)
        held = [self.holder.acquire(self.deployment, self.generation, FAR)[1] for _ in range(4)]
        self.waiting = [self.waiter.acquire(self.deployment, self.generation, FAR)[1] for _ in range(4)]
        self.holder.release(held[0])
        self.memory = mmap.mmap(self.table.fd, self.table.size)
        assert self.table.check() == []

    def at(self, record: str, index: int, field: str) -> tuple[int, int]:
        """Where a field of a record lies, and its size."""
        fields, size = LAYOUT[record]
        [found] = [entry for entry in fields if entry.name == field]
        begins = {"fe_deployment": "at_deployments", "fe_replica": "at_replicas", "fe_holder": "at_holders"}
        begins["fe_slot"] = "at_slots"
        start = 0 if record == "fe_header" else self.get("fe_header", 0, begins[record])
        return start + index * size + found.offset, found.size

    def get(self, record: str, index: int, field: str) -> int:
        offset, size = self.at(record, index, field)
        return int.from_bytes(self.memory[offset : offset + size], "little")

    def put(self, record: str, index: int, field: str, value: int) -> None:
        offset, size = self.at(record, index, field)
        self.memory[offset : offset + size] = value.to_bytes(size, "little")

    def add(self, record: str, index: int, field: str, more: int) -> None:
        self.put(record, index, field, self.get(record, index, field) + more)

    def slot(self, waiter: int) -> int:
        """The number of the waiter's slot among all holders' slots."""
        return SMALL.slots + self.waiting[waiter]

    def lowest_level(self) -> int:
        return self.get("fe_deployment", self.deployment, "level_head")

    def marks(self) -> slice:
        """The waiter's mailbox."""
        words = self.get("fe_header", 0, "mail_words")
        offset = self.get("fe_header", 0, "at_mail") + 8 * words
        return slice(offset, offset + 8 * words)

    def unmark(self) -> None:
        self.memory[self.marks()] = bytes(len(self.memory[self.marks()]))


@pytest.fixture
def scene():
    made = Scene()
    yield made
    made.memory.close()
    made.bench.close()


def word(state: int, deployment: int, replica: int, generation: int) -> int:
    return state | deployment << 4 | replica << 20 | generation << 40


# number of the invariant -> ways to break it
BREAKS = [
    (1, "deployment counts one more", lambda s: s.add("fe_deployment", s.deployment, "in_flight", 1)),
    (2, "replica counts one more", lambda s: s.add("fe_replica", s.members[0], "in_flight", 1)),
    (3, "queue cut short", lambda s: s.put("fe_slot", s.slot(1), "next", NONE)),
    (3, "queue says one more", lambda s: s.add("fe_deployment", s.deployment, "queue_length", 1)),
    (3, "link back is wrong", lambda s: s.put("fe_slot", s.slot(2), "prev", NONE)),
    (3, "out of order", lambda s: s.put("fe_slot", s.slot(1), "seq", s.get("fe_slot", s.slot(3), "seq") + 1)),
    (3, "a circle", lambda s: s.put("fe_slot", s.slot(3), "next", s.slot(1))),
    (3, "tail is wrong", lambda s: s.put("fe_deployment", s.deployment, "queue_tail", s.slot(1))),
    (3, "leads outside", lambda s: s.put("fe_deployment", s.deployment, "queue_head", NONE - 1)),
    (4, "capacity is free", lambda s: s.put("fe_deployment", s.deployment, "settings", 3 | 100 << 32)),
    (5, "above the ceiling", lambda s: s.put("fe_deployment", s.deployment, "ceiling", 1)),
    (
        6,
        "wrong load",
        lambda s: s.add("fe_replica", s.get("fe_deployment", s.deployment, "level_head"), "node_load", 1),
    ),
    (6, "a replica is missing", lambda s: s.put("fe_deployment", s.deployment, "ready", 1)),
    (6, "no levels", lambda s: s.put("fe_deployment", s.deployment, "level_head", NONE)),
    (6, "not ready", lambda s: s.add("fe_replica", s.members[1], "word", 2)),
    (7, "member count", lambda s: s.add("fe_deployment", s.deployment, "replicas", 1)),
    (7, "members cut short", lambda s: s.put("fe_deployment", s.deployment, "member_head", NONE)),
    (7, "a node is lost", lambda s: s.put("fe_deployment", s.deployment, "node_free", NONE)),
    (8, "no mark", lambda s: s.unmark()),
    (9, "another generation", lambda s: s.put("fe_slot", 1, "word", word(3, s.deployment, s.members[1], 99))),
    (9, "a stranger's replica", lambda s: s.put("fe_slot", 1, "word", word(3, s.deployment, 11, s.generation))),
    (9, "no such deployment", lambda s: s.put("fe_slot", 1, "word", word(3, 4, 0, 1))),
    (9, "no such state", lambda s: s.put("fe_slot", 1, "word", word(7, s.deployment, s.members[1], s.generation))),
    (9, "above the mark", lambda s: s.put("fe_holder", 0, "high_water", 1)),
    (10, "waiters of the removed", lambda s: s.add("fe_deployment", s.deployment, "word", 1)),
    (11, "seq used twice", lambda s: s.put("fe_deployment", s.deployment, "seq", 1)),
    (12, "used beyond the limit", lambda s: s.put("fe_header", 0, "replicas_used", 13)),
    (12, "snapshot too long", lambda s: s.put("fe_header", 0, "config_length", 257)),
    (12, "signature", lambda s: s.add("fe_header", 0, "signature", 1)),
]


@pytest.mark.parametrize(
    ("number", "damage"), [(n, d) for n, _, d in BREAKS], ids=[f"{n} {what}" for n, what, _ in BREAKS]
)
def test_each_invariant_can_be_broken(scene, number, damage):
    damage(scene)
    assert number in {int(found.partition(":")[0]) for found in scene.table.check()}


def test_every_invariant_is_among_them():
    assert {number for number, _, _ in BREAKS} == set(range(1, len(_core.INVARIANTS) + 1))


def test_what_is_found_says_where(scene):
    scene.add("fe_deployment", scene.deployment, "in_flight", 1)
    assert scene.table.check() == [f"1: {_core.INVARIANTS[0]} (deployment {scene.deployment})"]


def test_a_lease_of_an_earlier_generation_is_not_counted(scene):
    """It can only be a mistake, and must not become another deployment's."""
    scene.put("fe_slot", 1, "word", word(3, scene.deployment, scene.members[1], scene.generation + 1))
    scene.table.repair()
    assert [found.partition(":")[0] for found in scene.table.check()] == ["9"]
    assert scene.table.deployment(scene.deployment).in_flight == 4
    assert [scene.table.replica(member).in_flight for member in scene.members] == [2, 2]
    assert len(scene.waiter.collect()) == 2, "its place has gone to the next"


def test_collecting_clears_the_marks(scene):
    """Those of slots taken up, and those whose news `cancel` has taken already."""
    scene.holder.release(1)
    assert scene.waiter.cancel(scene.waiting[1])[0] == _core.HELD
    assert any(scene.memory[scene.marks()])
    assert len(scene.waiter.collect()) == 1
    assert not any(scene.memory[scene.marks()])


CACHES = [
    (record, entry.name)
    for record in ("fe_deployment", "fe_replica", "fe_slot")
    for entry in LAYOUT[record][0]
    if entry.meaning.startswith("cache")
]


@pytest.mark.parametrize(("record", "field"), CACHES, ids=lambda value: value)
def test_a_recount_needs_no_cache(scene, record, field):
    """Whatever a cache holds, however wild, the recount neither reads nor keeps it."""
    count = {"fe_deployment": SMALL.deployments, "fe_replica": SMALL.replicas, "fe_slot": SMALL.slots * SMALL.holders}
    before = scene.table.deployment(scene.deployment)
    for index in range(count[record]):
        scene.put(record, index, field, 0xDEADBEEF)
    scene.table.repair()
    assert scene.table.check() == []
    after = scene.table.deployment(scene.deployment)
    assert after[:9] == before[:9]
    assert scene.waiter.collect() == [(scene.waiting[0], scene.members[0], _core.HELD)]
    scene.holder.release(1)
    assert scene.waiter.collect() == [(scene.waiting[1], scene.members[1], _core.HELD)]
