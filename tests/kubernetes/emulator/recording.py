"""The recorded exchanges, told anew: other names, other versions, in another order.

Owns the reading of exchanges.jsonl, the renaming, and which exchange needs which others to have gone before. What is
compared with what, and how, is in likeness.py.
"""

from __future__ import annotations

import base64
import functools
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

Json = dict[str, Any]
FILE = Path(__file__).parent.parent / "exchanges.jsonl"

# Everything in the recording that a user chose. English words among them only count where they stand alone.
CHOSEN = (
    "models", "m", "app", "fe", "t", "u", "v", "bad", "nosuch", "model", "other", "http",
    "onlinethings", "onlinething", "OnlineThing", "OnlineThingList", "ot", "others", "Other",
)  # fmt: skip
ORDERED = ("t", "u", "v")  # names in one list, which is ordered by them
PORT = 5001
CONTINUE = "eyJ2Ijoib"  # how a continue token begins: base64 of JSON

# What has to have gone before each exchange, for what it shows to be so. Everything else may come in any order, and
# all but the last few need the namespace.
SETUP = "namespace create"
COMPACTION = "compaction"  # no exchange: the test makes it
NEEDS = {
    "lease read missing": [SETUP],
    "lease create": ["lease read missing"],
    "lease create again": ["lease create"],
    "lease replace": ["lease create"],
    "lease replace with stale resourceVersion": ["lease replace"],
    "lease replace without resourceVersion": ["lease create"],
    "lease merge-patch": ["lease replace"],
    "lease merge-patch with stale resourceVersion": ["lease merge-patch"],
    "lease json-patch with failing test": ["lease create"],
    "deployment read": ["deployment create"],
    "scale read": ["deployment read"],
    "scale merge-patch": ["scale read"],
    "scale replace with stale resourceVersion": ["scale merge-patch"],
    "scale negative": ["deployment create"],
    "selector is immutable": ["deployment create"],
    "pods list by selector": ["scale merge-patch"],
    "pods list first page": ["pods list by selector"],
    "pods list next page": ["pods list first page"],
    "pods list resourceVersion 0": ["scale merge-patch"],
    "pods watch": ["pods list next page", "pods list resourceVersion 0"],
    "pods watch from resourceVersion 0": ["pods watch"],
    COMPACTION: ["pods watch"],
    "watch from a resourceVersion that is too old": [COMPACTION],
    "list at a compacted resourceVersion": [COMPACTION],
    "next page with an expired continue token": [COMPACTION],
    "crd established": ["crd create"],
    "custom object create": ["crd established"],
    "custom object invalid": ["crd established"],
    "custom object unknown field, strict": ["crd established"],
    "custom object unknown field, pruned": ["crd established"],
    "status merge-patch": ["custom object create"],
    "spec patch on the main resource": ["status merge-patch"],
    "strategic patch on a custom object": ["custom object create"],
    "server-side apply of status": ["spec patch on the main resource"],
    "custom objects as a table": ["server-side apply of status", "custom object unknown field, pruned"],
    "custom objects watch": ["custom objects as a table"],
    "unknown resource": ["crd established"],
    "hpa list": ["hpa create"],
    "endpointslices of the service": ["service create"],
    "deployment delete": [
        "pods watch from resourceVersion 0", "scale replace with stale resourceVersion", "scale negative",
        "selector is immutable",
    ],
}  # fmt: skip
ANYWHERE = (
    "version", "readyz", "no credential", "unknown credential", "forbidden list", "forbidden scale",
    "access review allowed", "access review denied", "crd create", "crd established",
    "crd with a non-structural schema", "unknown resource", "unknown group", "namespace of an unknown name",
    "scale missing deployment",
)  # fmt: skip


@functools.cache
def exchanges() -> dict[str, Json]:
    """All of them by name; explanations behind a name are cut off."""
    told = [json.loads(line) for line in FILE.read_text().splitlines()]
    return {re.split(r"[(:]", exchange["name"])[0].strip(): exchange for exchange in told}


def order(seed: int) -> Iterator[str]:
    """All names (and COMPACTION) in a random order that causes allow."""
    chance = random.Random(seed)  # noqa: S311 - an order, not a secret
    needs = {name: set(NEEDS.get(name, ())) for name in (*exchanges(), COMPACTION)}
    for name in set(needs) - {SETUP, *ANYWHERE}:
        needs[name].add(SETUP)
    # A slice changes while pods run, which they do during the watch: the service comes all before it, or all behind.
    before, after = "endpointslices of the service", "service create"
    first, last = ("pods watch", before) if chance.random() < 0.5 else (after, "pods watch")
    needs[first].add(last)
    while needs:
        ready = sorted(name for name, missing in needs.items() if not missing)
        chosen = chance.choice(ready)
        del needs[chosen]
        for missing in needs.values():
            missing.discard(chosen)
        yield chosen


class Renaming:
    """Other words for what users chose, by seed: the same word becomes the same other one everywhere."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)  # noqa: S311 - names, not secrets
        self.words = {word: _word(chance) for word in CHOSEN}
        self.words |= zip(ORDERED, sorted(_word(chance) for _ in ORDERED), strict=True)
        kind = _word(chance).capitalize()
        plural = kind.lower() + "s"
        self.words |= {"OnlineThing": kind, "OnlineThingList": f"{kind}List", "onlinething": kind.lower()}
        self.words |= {"onlinethings": plural, "Other": f"X{kind}", "others": f"x{plural}"}
        self.words |= {"example.dev": f"{_word(chance)}.dev", "nosuch.dev": f"{_word(chance)}.org"}
        self.port = chance.randrange(1024, 65536)
        longest = sorted(self.words, key=len, reverse=True)
        self._pattern = re.compile(rf"(?<![A-Za-z0-9'])({'|'.join(map(re.escape, longest))})(?![A-Za-z0-9])")

    def text(self, text: str) -> str:
        return self._pattern.sub(lambda match: self.words[match[1]], text)

    def token(self, token: str) -> str:
        """A continue token, of which the real server and the emulator make the same use."""
        told = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        text = json.dumps({**told, "start": self.text(told["start"])}, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")

    def value(self, value: Any) -> Any:
        """A JSON value with every word in it renamed, in keys as well: labels and unknown fields are chosen, too."""
        if isinstance(value, str):
            return self.token(value) if value.startswith(CONTINUE) else self.text(value)
        if isinstance(value, list):
            return [self.value(item) for item in value]
        if isinstance(value, dict):
            return {self.text(key): self.value(item) for key, item in value.items()}
        return self.port if value == PORT and not isinstance(value, bool) else value


def _word(chance: random.Random) -> str:
    return "".join(chance.choices("bcdfghjkmnpqrz", k=chance.randint(3, 8)))
