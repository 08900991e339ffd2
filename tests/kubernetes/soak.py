"""Every way in which an API server fails, one after the other and then mixed, under load, for as long as wanted:
`python -m tests.kubernetes.soak --minutes 3`.

Owns: the ways, what is done to the cluster meanwhile, and what is counted: requests that failed, list calls beside the
bound that fe/control/kubernetes/watch.py states, seconds until fe is current again. test_faults_e2e.py is a short one.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.kubernetes.emulator.faults import Faults
from tests.kubernetes.relay import Relay
from tests.kubernetes.scene import DEPLOYMENTS, QUICK
from tests.kubernetes.serving import PATIENT, RESENT, fe, is_current, load, model, wait_ready
from tests.kubernetes.town import Town
from tests.support.fe_process import FeProcess, wait_for
from tests.support.load import Load

SETTLED = 5.0  # seconds that a watch has to last for delays to begin anew
COLUMNS = "{:28} {:>8} {:>7} {:>12} {:>10}"


def mixed(faults: Faults) -> None:
    faults.status(500, chance=0.1)
    faults.status(429, retry_after=1, chance=0.05)
    faults.expire(chance=0.2)
    faults.reset(after=3, chance=0.1)
    faults.truncate(after=2, chance=0.1)
    faults.garble(after=2, chance=0.1)
    faults.empty(chance=0.1)
    faults.hang(chance=0.05)
    faults.silent(after=2, chance=0.1)
    faults.slow(0.1, chance=0.2)


FAULTS: dict[str, Callable[[Faults], Any]] = {
    "410 on every watch": lambda faults: faults.expire(),
    "410 on every list and watch": lambda faults: faults.status(410, chance=0.7),
    "409 on writes": lambda faults: faults.status(409, verb="update"),
    "429 with Retry-After": lambda faults: faults.status(429, retry_after=1, chance=0.7),
    "401": lambda faults: faults.status(401),
    "403": lambda faults: faults.status(403),
    "500": lambda faults: faults.status(500, chance=0.7),
    "503": lambda faults: faults.status(503),
    "resets": lambda faults: faults.reset(after=1),
    "a hanging watch": lambda faults: faults.silent(),
    "calls that hang": lambda faults: faults.hang(chance=0.5),
    "truncated JSON": lambda faults: faults.truncate(after=1),
    "garbled JSON": lambda faults: faults.garble(after=1),
    "one empty list": lambda faults: faults.empty(times=1),
    "slow answers": lambda faults: faults.slow(0.7),
    "mixed": mixed,
}
AWAY, DARK = "refuses connections", "a network that goes dark"
WAYS = (*FAULTS, AWAY, DARK)


@dataclass
class Spell:
    """What came of one way. `lists`: of the path that was listed most, `allowed`: how often it may be."""

    way: str
    requests: int
    failed: int
    lists: int
    allowed: float
    seconds: float  # until fe was current again

    def __str__(self) -> str:
        lists = f"{self.lists} of {self.allowed:.0f}"
        return COLUMNS.format(self.way, self.requests, self.failed, lists, f"{self.seconds:.2f} s")


class Soak:
    """One fe-serve beside one cluster, under load. Use it in a `with` block."""

    def __init__(self, folder: Path, seed: int = 0) -> None:
        self._folder = folder
        self._random = random.Random(seed)  # noqa: S311
        self._stack = contextlib.ExitStack()
        self.town: Town
        self.process: FeProcess
        self.load: Load
        self._relay: Relay

    def __enter__(self) -> Soak:
        with contextlib.ExitStack() as stack:
            self.town = stack.enter_context(Town(service=0.02))
            self._relay = Relay(self.town.emulator)
            self.town.do(self._relay.start())
            stack.callback(lambda: self.town.do(self._relay.stop()))
            self.process = stack.enter_context(fe(self.town, self._folder, relay=self._relay, election=QUICK))
            model(self.town, 4, request_settings={**PATIENT, **RESENT})
            wait_ready(self.process, self.town)
            self.load = stack.enter_context(load(self.process))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *what: Any) -> None:
        self._stack.__exit__(*what)

    def run(self, way: str, seconds: float) -> Spell:
        """One way for about so many seconds, while pods come and go; returns when fe is current again."""
        records = self.town.emulator.records
        began, requests, failed = len(records), len(self.load.outcomes), len(self.load.failures)
        with self._gone_wrong(way):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                if is_current(self.process, self.town):  # else pods would end until fe knows none that serves
                    self._stir()
                self.load.wait_more(50)
        back = time.monotonic()
        wait_ready(self.process, self.town)
        current = time.monotonic() - back
        self.load.wait_more(20)
        lists, allowed = bounded(records[began:])
        return Spell(way, len(self.load.outcomes) - requests, len(self.load.failures) - failed, lists, allowed, current)

    @contextlib.contextmanager
    def _gone_wrong(self, way: str) -> Iterator[None]:
        town, faults = self.town, self.town.emulator.faults
        if way == AWAY:
            town.do(town.emulator.away())
            yield
            town.do(town.emulator.back())
        elif way == DARK:
            town.now(self._relay.freeze)
            yield
            town.now(self._relay.thaw)
        else:
            before = faults.hits
            town.now(lambda: FAULTS[way](faults))
            town.now(town.emulator.end_watches)
            town.now(town.emulator.compact)
            wait_for(lambda: faults.hits > before, "met")
            yield
            town.now(faults.clear)

    def _stir(self) -> None:
        """Somebody deletes a pod, and wants another number of them."""
        running = list(self.town.pods())
        if running:
            self.town.delete(self._random.choice(running))
        count = self._random.randint(2, 6)
        self.town.patch(f"{DEPLOYMENTS}/m/scale", {"spec": {"replicas": count}})


def bounded(records: list[Any]) -> tuple[int, float]:
    """Lists of the one who has listed most, and how many the bound in watch.py allows."""
    if not records:
        return 0, 0.0
    seconds = records[-1].at - records[0].at
    lists = Counter((one.path, one.query.get("labelSelector")) for one in records if one.verb == "list")
    # Twice: aiohttp repeats what is reset, and an empty list is asked for again. One more was on its way before.
    return max(lists.values(), default=0), 2 * (6 + seconds / 1.3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--spell", type=float, default=6.0, help="seconds that each way lasts")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    print(COLUMNS.format("way", "requests", "failed", "lists", "current in"))
    bad, end = 0, time.monotonic() + 60 * options.minutes
    ways = iter(WAYS)
    with tempfile.TemporaryDirectory() as folder, Soak(Path(folder), options.seed) as soak:
        while time.monotonic() < end:
            way = next(ways, None) or "mixed"
            spell = soak.run(way, options.spell)
            print(spell, flush=True)
            bad += spell.failed > 0 or spell.lists > spell.allowed or spell.seconds > SETTLED
        soak.load.stop()
        print(soak.load.summary())
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
