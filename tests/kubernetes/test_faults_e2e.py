"""Every fault of the API server in turn, then mixed ones, under load: nothing is lost, and it is not stormed."""

from __future__ import annotations

import pytest

from tests.kubernetes.soak import WAYS, Soak


@pytest.mark.timeout(400)  # some 40 s where nothing else runs
def test_every_fault_in_turn_and_then_mixed(tmp_path):
    with Soak(tmp_path) as soak:
        for way in (*WAYS, "mixed"):
            spell = soak.run(way, 0.3)
            assert spell.failed == 0, f"{way}: {soak.load.summary()}"
            assert spell.lists <= spell.allowed, spell
        soak.load.stop()
        soak.process.wait_idle()
