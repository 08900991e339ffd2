"""Tools for tests of the election: electors that have a user each, and what was written into the Lease.

Owns: what several of these tests need.
"""

from __future__ import annotations

import contextlib
import json

from fe.control.kubernetes.election import Elector, Timing
from tests.kubernetes.harness import connected, eventually

LEASES = "/apis/coordination.k8s.io/v1/namespaces/models/leases"
LEASE = f"{LEASES}/fe"
PATIENT = Timing(duration=60.0, renew_deadline=50.0, retry=0.02)  # longer than any machine stops a test
QUICK = Timing(duration=1.0, renew_deadline=0.6, retry=0.04)  # where the end of a lease is waited for


@contextlib.asynccontextmanager
async def elector(emulator, folder, name="a", timing=PATIENT, told=None, **options):
    """An elector with a user and connections of its own. `told` gets (name, leading)."""
    emulator.user(name)
    told = [] if told is None else told
    async with connected(emulator, folder, name) as cluster:
        one = Elector(
            cluster, "models", "fe", name, lambda leading: told.append((name, leading)), timing=timing, **options
        )
        one.start()
        try:
            yield one
        finally:
            await one.stop()


def writes(emulator):
    """The Leases that were asked to be written, with who asked and what came of it."""
    return [
        (record.user, record.verb, json.loads(record.body), record.status)
        for record in emulator.records
        if record.verb in ("create", "update") and "leases" in record.path
    ]


def held_by(name, **spec):
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "fe", "namespace": "models"},
        "spec": {"holderIdentity": name, "leaseDurationSeconds": 15, "leaseTransitions": 4, **spec},
    }


async def looked_often(emulator):
    looked = len(emulator.records)
    await eventually(lambda: len(emulator.records) > looked + 3, "it has looked several times")
