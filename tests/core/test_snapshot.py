"""The published configuration: whole, versioned, and never seen half-written."""

from __future__ import annotations

import os
import select

import pytest

from tests.core.tables import SMALL, bench


def test_nothing_before_the_first(bench):
    assert bench.table.snapshot() == (0, b"")


def test_versions_count_up_and_everybody_is_rung(bench):
    bench.holders(2)
    for version, text in enumerate((b"one", b"", b"x" * bench.table.limits.config_bytes), start=1):
        bench.listen()
        assert bench.table.publish(text) == version
        assert bench.table.snapshot() == (version, text)
        assert bench.rung(0)
        assert bench.rung(1)


def test_too_large_changes_nothing(bench):
    bench.table.publish(b"old")
    with pytest.raises(ValueError, match="config_bytes"):
        bench.table.publish(b"x" * (bench.table.limits.config_bytes + 1))
    assert bench.table.snapshot() == (1, b"old")


def test_readers_see_one_version_whole():
    """Two processes; whatever is read while the other publishes was published so, and is never older than before."""
    with bench(SMALL._replace(config_bytes=1 << 20)) as made:  # a copy takes long enough to be overtaken
        size, rounds = made.table.limits.config_bytes, 400
        started, starter = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(starter)
            os.read(started, 1)
            for number in range(1, rounds + 1):
                made.table.publish(bytes([number % 256]) * (size - number % 7))
            os._exit(0)
        os.close(started)
        os.write(starter, b"!")
        last, ended = 0, os.pidfd_open(pid)
        while not (over := select.select([ended], [], [], 0)[0]) or last < rounds:
            version, text = made.table.snapshot()
            assert version >= last
            assert text == (bytes([version % 256]) * (size - version % 7) if version else b"")
            assert not over or version == rounds
            last = version
        os.waitpid(pid, 0)
        os.close(ended)
        os.close(starter)
