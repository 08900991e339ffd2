"""The patience of fe's calls, for every test of this folder.

A machine that stops a test for seconds, as a busy one does, must not look like an API server that is silent: whichever
test is about a limit sets it itself. Limits of a real fe-serve stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fe.control.kubernetes import client, election, events, exchange, hub, reporter, scale, watch

LONG = 60.0
LIMITS = (
    (client, "SILENCE"),
    (exchange, "CONNECT_WITHIN"),
    (election, "RELEASE_WITHIN"),
    (events, "SEND_WITHIN"),
    (hub, "STOP_WITHIN"),
    (reporter, "WRITE_WITHIN"),
    (scale, "WRITE_WITHIN"),
    (watch, "LIST_WITHIN"),
)


@pytest.fixture(autouse=True)
def patience() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:  # one of its own: what a test undoes of its own stays apart
        for module, name in LIMITS:
            patch.setattr(module, name, LONG)
        yield
