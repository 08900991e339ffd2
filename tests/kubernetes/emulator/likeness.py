"""Whether an answer is like the recorded one: equal in every field, and of the same shape where values are made.

Owns the comparison. Made values (uids, versions, times, generated names, addresses) are compared by shape and by
relation: one recorded uid is always the same one here, an object's versions only grow, a list is no older than what it
shows. Never talks to a server.
"""

from __future__ import annotations

import base64
import json
import re
from datetime import datetime
from typing import Any

from tests.kubernetes.emulator.names import LETTERS

Json = dict[str, Any]
TIMES = ("creationTimestamp", "deletionTimestamp", "lastTransitionTime", "lastUpdateTime", "last-change-trigger-time")
GIVEN = "2026-11-22T08:00"  # times that stood in a request begin so: they have to come back as they were
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
ADDRESS = re.compile(r"10\.96\.\d{1,3}\.\d{1,3}")
A_WHILE = 120  # seconds: longer than any run takes
# What the recorded server made within texts, and what may stand for it.
MADE = re.compile(r"(?P<pod>6b5fd74669-[a-z0-9]{5})|(?P<hash>6b5fd74669)|(?P<suffix>c6zjp|bppmw)|(?P<oldest>313)")
SHAPES = {"hash": f"[{LETTERS}]{{8,10}}", "suffix": f"[{LETTERS}]{{5}}", "oldest": r"\d+"}
SHAPES["pod"] = f"{SHAPES['hash']}-{SHAPES['suffix']}"


class Unlike(AssertionError):  # noqa: N818 - what the answer is
    """The answer differs; the message names the place."""


class Likeness:
    """Comparisons within one run. It remembers what recorded values are here, so that requests can be told anew."""

    def __init__(self) -> None:
        self._bound: dict[tuple[str, str], str] = {}
        self._newest: dict[str, int] = {}

    def here(self, kind: str, recorded: str) -> str:
        """What a recorded uid, version, token or name is in this run. KeyError: no answer has shown it yet."""
        return self._bound[kind, recorded]

    def check(self, expected: Any, actual: Any, path: str = "") -> None:
        """Raise Unlike unless `actual` is like `expected`."""
        if isinstance(expected, dict):
            self._check_map(expected, actual, path)
        elif isinstance(expected, list):
            self._same(isinstance(actual, list) and len(expected) == len(actual), path, expected, actual)
            for place, (wanted, had) in enumerate(zip(expected, actual, strict=True)):
                self.check(wanted, had, f"{path}[{place}]")
        elif isinstance(expected, str):
            self._same(isinstance(actual, str), path, expected, actual)
            self._check_text(expected, actual, path)
        else:
            self._same(type(expected) is type(actual) and expected == actual, path, expected, actual)

    def _check_map(self, expected: Json, actual: Any, path: str) -> None:
        self._same(isinstance(actual, dict), path, expected, actual)
        missing, extra = sorted(set(expected) - set(actual)), sorted(set(actual) - set(expected))
        self._same(not missing and not extra, path, f"missing {missing}, extra {extra}", actual)
        for key, wanted in expected.items():
            if key != "resourceVersion" or "uid" not in expected:
                self.check(wanted, actual[key], f"{path}.{key}" if path else key)
        if "resourceVersion" in expected and "uid" in expected:
            self._check_version(expected, actual, f"{path}.resourceVersion")
        if "deletionTimestamp" in expected:
            grace = _moment(actual["deletionTimestamp"]) - _moment(actual["creationTimestamp"])
            self._same(0 <= grace - expected["deletionGracePeriodSeconds"] < A_WHILE, path, "the grace", grace)
        if isinstance(expected.get("items"), list) and "metadata" in expected:
            newest = max((int(item["metadata"]["resourceVersion"]) for item in actual["items"]), default=0)
            self._same(int(actual["metadata"]["resourceVersion"]) >= newest, "metadata.resourceVersion", newest, actual)

    def _check_version(self, expected: Json, actual: Json, path: str) -> None:
        """One version of one object."""
        self._same(str(actual["resourceVersion"]).isdigit(), path, expected, actual)
        version, uid = int(actual["resourceVersion"]), actual["uid"]
        self._same(version >= self._newest.get(uid, 0), path, f"at least {self._newest.get(uid)}", version)
        self._newest[uid] = version
        self._bind("version", expected["resourceVersion"], actual["resourceVersion"], path)

    def _check_text(self, expected: str, actual: str, path: str) -> None:
        key = re.sub(r"\[\d+\]$", "", path).rpartition(".")[2].rpartition("/")[2]
        if key in TIMES and not expected.startswith(GIVEN):
            self._same(TIME.fullmatch(actual), path, expected, actual)
        elif key == "uid":
            self._same(UID.fullmatch(actual), path, expected, actual)
            self._bind("uid", expected, actual, path)
        elif key == "resourceVersion":  # of a list or a bookmark: other writes may have come between two of them
            self._same(actual.isdigit(), path, expected, actual)
            self._bound["list", expected] = actual
        elif key == "continue":
            self._check_token(expected, actual, path)
        elif key in ("clusterIP", "clusterIPs"):
            self._same(ADDRESS.fullmatch(actual), path, expected, actual)
            self._bind("address", expected, actual, path)
        else:
            self._check_words(expected, actual, path)

    def _check_token(self, expected: str, actual: str, path: str) -> None:
        wanted, had = _opened(expected), _opened(actual)
        self._same(set(wanted) == set(had) and wanted["v"] == had["v"], path, wanted, had)
        self._same((wanted["rv"] == -1) == (had["rv"] == -1), path, wanted, had)
        self._check_words(wanted["start"], had["start"], path)
        self._bound["token", expected] = actual

    def _check_words(self, expected: str, actual: str, path: str) -> None:
        pattern, end = "", 0
        for made in MADE.finditer(expected):
            pattern += re.escape(expected[end : made.start()]) + f"({SHAPES[made.lastgroup or '']})"
            end = made.end()
        match = re.fullmatch(pattern + re.escape(expected[end:]), actual)
        self._same(match, path, expected, actual)
        for made, here in zip(MADE.finditer(expected), match.groups() if match else (), strict=True):
            self._bind("name", made[0], here, path)

    def _bind(self, kind: str, expected: str, actual: str, path: str) -> None:
        had = self._bound.setdefault((kind, expected), actual)
        self._same(had == actual, path, f"{expected}, which was {had}", actual)

    @staticmethod
    def _same(holds: object, path: str, expected: Any, actual: Any) -> None:
        if not holds:
            raise Unlike(f"{path}: expected {json.dumps(expected)[:600]}, got {json.dumps(actual)[:600]}")


def _opened(token: str) -> Json:
    try:
        return dict(json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))))
    except ValueError:
        raise Unlike(f"not a continue token: {token}") from None


def _moment(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
