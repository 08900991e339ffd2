"""Shared by the end-to-end tests: a back-end and a fe-serve with one worker in front of it, one each per module.

Owns: fixtures only. Tests that change the configuration or hurt processes start their own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support import proc, scripts
from tests.support.backends import Backend, Exchange, ok
from tests.support.fe_process import FeProcess, endpoint, wait_for

# A head or a body that comes byte by byte, each behind a barrier, takes its time on a busy machine.
PATIENT = {"header_timeout_ms": 300_000, "body_timeout_ms": 300_000}


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    """Answers everything; `/canary/...` and `/barrier` by name."""
    with Backend(script=_by_prefix) as one:
        yield one
        assert one.faults == []


def _by_prefix(exchange: Exchange) -> None:
    (scripts.answer(b"canary") if exchange.request.target.startswith("/canary/") else ok)(exchange)


@pytest.fixture(scope="module")
def fe(backend: Backend) -> Iterator[FeProcess]:
    model = endpoint([backend.address], max_concurrent_requests_per_instance=512, max_body_bytes=2_000_000)
    small = endpoint([backend.address], "small", "/small", max_body_bytes=1000)
    with FeProcess({"endpoints": [model, small], "limits": {"upstream_idle_ms": 500, **PATIENT}}) as one:
        with one.client() as client:
            assert client.get("/barrier").status == 200
        worker = one.workers()[0]
        files = proc.open_files(worker)
        yield one
        wait_for(lambda: proc.open_files(worker) <= files, "every descriptor is given back")
        assert one.workers() == [worker]
