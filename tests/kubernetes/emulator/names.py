"""Names, identities and times as the server makes and checks them.

Owns what is random in an answer: one generator, so that a seed repeats it. Never knows a kind.
"""

from __future__ import annotations

import random
import re
import uuid
from datetime import UTC, datetime, timedelta

LETTERS = "bcdfghjklmnpqrstvwxz2456789"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and "
    "end with an alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


class Names:
    """Random names and identities."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 - names, not secrets

    def suffix(self, length: int = 5) -> str:
        return "".join(self._random.choices(LETTERS, k=length))

    def uid(self) -> str:
        return str(uuid.UUID(int=self._random.getrandbits(128), version=4))


def is_subdomain(name: str) -> bool:
    return len(name) <= 253 and SUBDOMAIN.match(name) is not None


def now(ahead: float = 0.0) -> str:
    """The time as metav1.Time writes it, `ahead` seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=ahead)).strftime("%Y-%m-%dT%H:%M:%SZ")
