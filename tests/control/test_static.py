"""Configured addresses and names: what is added and removed when, and that a bad answer removes nothing."""

from __future__ import annotations

import asyncio

import pytest

from fe.config.schema import Probe
from fe.control.addresses import display, pack_inet
from fe.control.deployment import Deployment
from fe.control.health import HealthPolicy
from fe.control.providers import static
from tests.control.harness import eventually, lease, on_loop, plan, replicas, stage, status

A, B, C = "127.0.0.1:7001", "127.0.0.1:7002", "[::1]:7003"
PROBED = HealthPolicy(readiness=Probe(period=0.1, timeout=60))


class Hosts:
    """A resolver whose answers the test writes: name -> addresses, or a kind of error."""

    def __init__(self, **names: list[str] | type[Exception]) -> None:
        self.names = names
        self.asked = 0

    async def __call__(self, host: str, port: int) -> list[bytes]:
        self.asked += 1
        found = self.names.get(host, OSError)
        if isinstance(found, type):
            raise found("no answer")
        return [pack_inet(address, port) for address in found]


@pytest.fixture(autouse=True)
def quick_names(monkeypatch):
    monkeypatch.setattr(static, "RESOLVE_RETRY", 0.02)
    monkeypatch.setattr(static.StaticProvider.__init__, "__defaults__", (0.05,))  # between two resolutions


@on_loop
async def test_literals_are_in_use_at_once():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan((A, C, "unix:/run/m.sock", A)))
        deployment.start()
        assert s.states(deployment) == {A: "ready", C: "ready", "unix:/run/m.sock": "ready"}
        assert deployment.wanted == 3


@on_loop
async def test_a_changed_list_is_followed_both_ways():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan((A, B)))
        deployment.start()
        deployment.apply(plan((B, C)))
        await eventually(lambda: s.states(deployment) == {B: "ready", C: "ready"}, "A gone, C there")
        assert s.in_table(deployment.index) == s.states(deployment)


@on_loop
async def test_what_goes_serves_until_what_comes_is_ready():
    async with stage() as s, replicas(2) as [old, new]:
        deployment = Deployment.create(s.around, plan((old.address,), health=PROBED))
        deployment.start()
        await eventually(lambda: s.states(deployment) == {old.address: "ready"}, "ready")
        new.answer = status(500)
        deployment.apply(plan((new.address,), health=PROBED))
        await eventually(lambda: new.asked >= 3, "the new one is probed")
        assert s.states(deployment) == {old.address: "ready", new.address: "starting"}
        new.answer = status(200)
        await eventually(lambda: s.states(deployment) == {new.address: "ready"}, "replaced")


@on_loop
async def test_a_successor_that_never_gets_ready_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(static, "REPLACE_WITHIN", 0.2)
    async with stage() as s, replicas(2) as [old, new]:
        new.answer = status(500)
        deployment = Deployment.create(s.around, plan((old.address,), health=PROBED))
        deployment.start()
        deployment.apply(plan((new.address,), health=PROBED))
        await eventually(lambda: s.states(deployment) == {new.address: "starting"}, "the user has the last word")


@on_loop
async def test_one_with_requests_drains_and_can_come_back():
    async with stage() as s:
        deployment = Deployment.create(s.around, plan((A,)))
        deployment.start()
        slot, _ = lease(s.holder, s.table, deployment.index)
        deployment.apply(plan((B,)))
        await eventually(lambda: s.states(deployment) == {A: "draining", B: "ready"}, "draining")
        deployment.apply(plan((A, B)))
        assert s.states(deployment) == {A: "ready", B: "ready"}
        assert len(s.table.replicas(deployment.index)) == 2  # two records for one replica would double its capacity
        deployment.apply(plan((B,)))
        await eventually(lambda: s.states(deployment)[A] == "draining", "draining again")
        s.holder.release(slot)
        await eventually(lambda: s.states(deployment) == {B: "ready"}, "gone with its last lease")


@on_loop
async def test_every_address_of_a_name_and_its_changes():
    hosts = Hosts(models=["10.0.0.1", "10.0.0.2"])
    async with stage(hosts) as s:
        deployment = Deployment.create(s.around, plan(("models:80", A)))
        deployment.start()
        assert deployment.wanted == 2  # the literal, and a name that stands for somebody
        await eventually(
            lambda: s.states(deployment) == {"10.0.0.1:80": "ready", "10.0.0.2:80": "ready", A: "ready"}, "resolved"
        )
        hosts.names["models"] = ["10.0.0.2", "::3"]
        await eventually(
            lambda: s.states(deployment) == {"10.0.0.2:80": "ready", "[::3]:80": "ready", A: "ready"}, "followed"
        )
        assert deployment.wanted == 3


@pytest.mark.parametrize("answer", [[], OSError, TimeoutError, UnicodeError])
@on_loop
async def test_a_bad_answer_removes_nothing(answer):
    hosts = Hosts(models=["10.0.0.1"], others=["10.0.0.9"])
    async with stage(hosts) as s:
        deployment = Deployment.create(s.around, plan(("models:80", "others:80")))
        deployment.start()
        both = {"10.0.0.1:80": "ready", "10.0.0.9:80": "ready"}
        await eventually(lambda: s.states(deployment) == both, "resolved")
        hosts.names["models"] = answer
        asked = hosts.asked
        await eventually(lambda: hosts.asked >= asked + 6, "resolved again and again")
        assert s.states(deployment) == both
        hosts.names["models"] = ["10.0.0.2"]
        await eventually(lambda: s.states(deployment) == {"10.0.0.2:80": "ready", "10.0.0.9:80": "ready"}, "recovered")


@on_loop
async def test_a_new_name_that_cannot_be_resolved_keeps_the_old_addresses(monkeypatch):
    monkeypatch.setattr(static, "REPLACE_WITHIN", 0.01)
    hosts = Hosts()
    async with stage(hosts) as s:
        deployment = Deployment.create(s.around, plan((A,)))
        deployment.start()
        deployment.apply(plan(("typo:80",)))
        await eventually(lambda: hosts.asked >= 10, "tried, for longer than what goes is kept otherwise")
        assert s.states(deployment) == {A: "ready"}
        hosts.names["typo"] = ["10.0.0.1"]
        await eventually(lambda: s.states(deployment) == {"10.0.0.1:80": "ready"}, "replaced")


@on_loop
async def test_names_off_the_list_are_not_asked_for_any_more():
    hosts = Hosts(models=["10.0.0.1"])
    async with stage(hosts) as s:
        deployment = Deployment.create(s.around, plan(("models:80",)))
        deployment.start()
        await eventually(lambda: hosts.asked >= 2, "resolved")
        deployment.apply(plan((A,)))
        await eventually(lambda: s.states(deployment) == {A: "ready"}, "replaced")
        asked = hosts.asked
        await asyncio.sleep(0.2)
        assert hosts.asked == asked


@on_loop
async def test_a_full_table_takes_what_it_can_and_the_rest_later():
    many = [f"10.0.{n // 200}.{n % 200 + 1}" for n in range(70)]
    hosts = Hosts(models=many)
    async with stage(hosts) as s:
        deployment = Deployment.create(s.around, plan(("models:80",)))
        deployment.start()
        await eventually(lambda: len(s.states(deployment)) == 64, "as many as there are records")
        hosts.names["models"] = many[10:]
        expected = {f"{address}:80" for address in many[10:]}
        await eventually(lambda: set(s.states(deployment)) == expected, "room was made")


def addresses(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}.{n // 200}.{n % 200 + 1}:80" for n in range(count))


@on_loop
@pytest.mark.parametrize("count", [64, 40, 1])
async def test_a_list_is_replaced_in_a_full_table(monkeypatch, caplog, count):
    """What goes makes room at once, but for one that serves until the first that comes is ready; told once."""
    monkeypatch.setattr(static, "REPLACE_WITHIN", 1000.0)
    before, after = addresses("10.1", count), addresses("10.2", count)
    async with stage() as s:
        if count == 1:
            Deployment.create(s.around, plan(addresses("10.3", 63), name="e/other")).start()
        deployment = Deployment.create(s.around, plan(before))
        deployment.start()
        assert set(s.states(deployment)) == set(before)
        serving = []
        deployment.apply(plan(after))

        def replaced() -> bool:
            serving.append("ready" in s.states(deployment).values())
            return set(s.states(deployment)) == set(after)

        await eventually(replaced, "the others are there")
        assert count == 1 or all(serving)
        assert len([one for one in caplog.records if "room" in one.getMessage()]) == 1


@on_loop
async def test_a_successor_takes_up_and_waits_for_names_before_it_removes(monkeypatch):
    monkeypatch.setattr(static, "REPLACE_WITHIN", 0.01)
    hosts = Hosts(models=["10.0.0.1", "10.0.0.2"])
    async with stage(hosts) as s:
        former = Deployment.create(s.around, plan(("models:80",)))
        former.start()
        await eventually(lambda: len(s.states(former)) == 2, "resolved")
        index = s.table.replicas(former.index)
        s.abandon()
        hosts.names["models"] = OSError
        after = s.successor()
        deployment = Deployment.take_up(after.around, plan(("models:80",)), former.index, [])
        deployment.start()
        asked = hosts.asked
        await eventually(lambda: hosts.asked >= asked + 10, "tried")
        assert s.in_table(former.index) == {"10.0.0.1:80": "ready", "10.0.0.2:80": "ready"}
        hosts.names["models"] = ["10.0.0.2"]
        await eventually(lambda: s.in_table(former.index) == {"10.0.0.2:80": "ready"}, "followed")
        assert s.table.replicas(former.index) == index[1:]  # the same record as ever
        after.checker.stop()


@on_loop
async def test_the_system_resolver_finds_this_machine():
    loop = asyncio.get_running_loop()
    found = await static.SystemResolver(loop)("localhost", 80)
    assert "127.0.0.1:80" in [display(one) for one in found]
    with pytest.raises(OSError, match=r"known|resolution"):
        await static.SystemResolver(loop)("no-such-host.invalid", 80)
