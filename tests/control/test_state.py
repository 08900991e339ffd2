"""The state for a successor: whole old or whole new, wherever its writer was killed."""

from __future__ import annotations

import os

import pytest

from fe.control.state import load_state, save_state


@pytest.fixture
def fd():
    made = os.memfd_create("state")
    yield made
    os.close(made)


def test_nothing_saved_is_nothing_found(fd):
    assert load_state(fd) is None


def test_the_last_state_is_found(fd):
    for size in (10, 100_000, 50, 0, 70_000, 20_000, 20_000, 1):
        raw = os.urandom(size)
        save_state(fd, raw)
        assert load_state(fd) == raw


def test_it_does_not_grow_with_every_state(fd):
    for _ in range(100):
        save_state(fd, os.urandom(50_000))
    assert os.fstat(fd).st_size < 4 * 50_000


class KilledError(Exception):
    """Stands for SIGKILL: the next system call is not made."""


@pytest.mark.parametrize("sizes", [(1000, 900), (900, 1000), (50_000, 10), (10, 50_000), (5000, 5000)])
def test_a_writer_killed_between_any_two_calls_leaves_the_old_or_the_new(fd, sizes, monkeypatch):
    old, new = (os.urandom(size) for size in sizes)
    write, cut = os.pwrite, os.ftruncate
    left = 0

    def counted(call):
        def instead(*args):
            nonlocal left
            if left == 0:
                raise KilledError
            left -= 1
            # Short writes are legal: halves make the states between them visible too.
            if call is write and len(args[1]) > 100:
                return call(args[0], args[1][: len(args[1]) // 2], args[2])
            return call(*args)

        return instead

    seen = set()
    for calls in range(40):
        os.ftruncate(fd, 0)
        save_state(fd, os.urandom(3000))
        save_state(fd, old)
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", counted(write))
            patch.setattr(os, "ftruncate", counted(cut))
            left = calls
            try:
                save_state(fd, new)
                done = True
            except KilledError:
                done = False
        found = load_state(fd)
        assert found in (old, new)
        seen.add(found)
        if done:
            assert found == new
            break
    assert seen == {old, new}


def test_garbage_is_not_trusted(fd):
    save_state(fd, b"x" * 1000)
    os.pwrite(fd, b"y", 4096 + 500)
    assert load_state(fd) is None
    os.pwrite(fd, b"other---", 0)
    assert load_state(fd) is None
