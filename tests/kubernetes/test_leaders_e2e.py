"""Three real front-ends that each want another number of pods: one at a time scales, and nobody past its lease.

What is judged is what the API server saw: each call's time and user, and each change of the Lease. Where the machine
stopped that server, what it saw later may have been sent before.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import signal

import pytest

from tests.kubernetes.relay import Relay
from tests.kubernetes.serving import PATIENT, fe, leads, load, model, status, wait_ready
from tests.kubernetes.town import TICK, Town
from tests.support.fe_process import wait_for

DURATION = 2
ELECTION = {"duration": DURATION, "renew_deadline": 0.9, "retry": 0.2}
ONE_AT_ONCE = {**PATIENT, "max_concurrent_requests_per_instance": 1}
SCALE = {"max_instances": 9, "scale_down_delay": "300ms", "polling_interval": "200ms"}
NAMES = ("one", "two", "three")


@pytest.fixture
def town():
    with Town(service=0.1) as made:
        yield made


class Terms:
    """Who held the Lease since when, by the emulator's clock: each write of it."""

    def __init__(self, town):
        self.town = town
        self.list = []
        town.now(lambda: town.emulator.store.listen(self._on_change))

    def _on_change(self, change):
        if change.id == "leases.coordination.k8s.io" and change.new is not None:
            holder = change.new["spec"]["holderIdentity"]
            self.list.append((self.town.clock(), holder.rpartition("_")[0]))

    def judge(self):
        """One at a time: a lease is taken when it was given up, or has not been renewed for its duration."""
        for (before, former), (at, holder) in itertools.pairwise(self.list):
            assert former in ("", holder) or holder == "" or at - before >= DURATION - 0.05, (former, holder)

    def judge_writes(self, records):
        """Each by whoever held the lease when it was sent; their number."""
        written = [one for one in records if is_write(one)]
        for one in written:
            sent = one.at - self.town.stopped(one.at - DURATION, one.at + TICK)
            before = [term for term in self.list if term[0] <= sent][-1:]
            terms = before + [term for term in self.list if sent < term[0] <= one.at]
            assert any(one.user == holder and sent - at <= DURATION for at, holder in terms), (one, terms)
        return len(written)


def is_write(record):
    """Of what only the leader writes: numbers, status, events."""
    changes = record.verb in ("update", "patch", "create")
    return changes and (record.path.endswith(("/scale", "/status")) or "/events" in record.path)


def keeps(record, name):
    return record.verb == "update" and "leases" in record.path and holder(record).startswith(name)


def holder(record):
    return json.loads(record.body)["spec"]["holderIdentity"]


@pytest.mark.timeout(400)  # leads are waited for again and again
def test_one_leads_whoever_is_stopped_cut_off_slow_or_ended(town, tmp_path):
    model(town, 1, scale_settings=SCALE, request_settings=ONE_AT_ONCE)
    terms = Terms(town)
    relays = {name: Relay(town.emulator) for name in NAMES}
    with contextlib.ExitStack() as stack:
        those = {}
        for number, name in enumerate(NAMES):
            town.do(relays[name].start())
            stack.callback(lambda relay=relays[name]: town.do(relay.stop()))
            those[name] = stack.enter_context(fe(town, tmp_path, name, 1, relays[name], election=ELECTION))
            wait_ready(those[name], town)
            running = stack.enter_context(load(those[name], 2 + 2 * number))
            stack.callback(lambda running=running: check(running))
        for how in (stopped, cut_off, slow):
            how(town, those, relays, wait_scales(town, those))
            for process in those.values():
                wait_ready(process, town)
        leader = wait_scales(town, those)
        assert those[leader].stop() == 0
        wait_scales(town, those, leader)
        terms.judge()
        assert terms.judge_writes(town.emulator.records) > 3


def check(running):
    running.stop()
    refused = [one for one in running.failures if one.failure]
    assert not refused, running.summary()


def leading(those, but=""):
    """The name of one that leads, as it says itself."""
    return next((name for name, one in those.items() if name != but and one.process.poll() is None and leads(one)), "")


def wait_scales(town, those, but=""):
    """Until whoever leads has written the number that its own load asks for; its name."""

    def scales():
        name = leading(those, but)
        return name if name and town.replicas() == min(9, -(-(2 + 2 * NAMES.index(name)) * 10 // 7)) else ""

    return wait_for(scales, f"another one than '{but}' leads and scales")


def stopped(town, those, _relays, leader):
    controller = those[leader].controller()
    os.kill(controller, signal.SIGSTOP)
    try:
        wait_scales(town, those, leader)
    finally:
        began = len(town.emulator.records)
        os.kill(controller, signal.SIGCONT)
    wait_for(lambda: follows(those, leader), "it follows now")
    assert not [one for one in town.emulator.records[began:] if keeps(one, leader)]


def cut_off(town, those, relays, leader):
    town.now(relays[leader].freeze)
    wait_scales(town, those, leader)
    assert not leads(those[leader])
    town.now(relays[leader].thaw)
    wait_for(lambda: follows(those, leader), "it follows now")


def slow(town, _those, _relays, leader):
    """Each answer late by up to two fifths of what a leader goes on without one, like 4 s of 10."""
    faults = town.emulator.faults
    town.now(lambda: [faults.slow(0.08), faults.slow(0.12, chance=0.5), faults.slow(0.16, chance=0.5)])
    began = len(town.emulator.records)
    wait_for(lambda: sum(keeps(one, "") for one in town.emulator.records[began:]) > 12, f"{leader} or others renew")
    town.now(faults.clear)


def follows(those, name):
    """Whether this one knows that another one leads, as that one says itself."""
    shown = status(those[name])["kubernetes"]
    return not shown["leading"] and shown["leader"] == leading(those, name)
