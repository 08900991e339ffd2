"""What holds for every test.

Owns: that a run of the tests does not depend on chance, nor on how it was started; which files begin first.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The same examples in every run; FE_EXAMPLES=random looks for new ones. No time limit: it would be one on the machine.
PATIENT = settings(deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("same", PATIENT, derandomize=True)
settings.register_profile("random", PATIENT)
settings.load_profile("random" if os.environ.get("FE_EXAMPLES") == "random" else "same")

# A shell starts what it runs in the background with SIGINT ignored, and processes pass that on.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Where files of tests run side by side, the last to begin should be short, or everything waits for it in the end.
LONG = (
    "deploy/test_container.py",
    "project/test_build.py",
    "core/test_crash.py",
    "kubernetes/test_faults_e2e.py",
    "page/test_page.py",
    "e2e/test_faults.py",
    "e2e/test_http_responses.py",
    "core/test_interleaving.py",
    "loadtest/test_runner.py",
    "kubernetes/test_cluster_e2e.py",
    "kubernetes/test_scale.py",
    "commands/test_simulate.py",
    "page/test_cluster.py",
    "page/test_live.py",
    "kubernetes/test_leaders_e2e.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that take long come first, the longest at the very first."""
    here = Path(__file__).parent
    first = {here / name: place for place, name in enumerate(LONG)}
    assert all(path.is_file() for path in first), "LONG names a file that is not there"
    items.sort(key=lambda item: first.get(item.path, len(first)))
