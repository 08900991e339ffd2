"""Access lines on their way out: nothing a sink does can hold up a request, and what is lost is counted."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fe.proxy.access_log import AccessLog


def line(number: int, size: int = 0) -> bytes:
    return b"%d %s" % (number, b"a" * size)


def numbers(data: bytes) -> list[int]:
    return [int(row.partition(b" ")[0]) for row in data.splitlines()]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "access"


@pytest.fixture
def sink(path: Path) -> Iterator[int]:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    yield fd
    os.close(fd)


def wait_for(path: Path, lines: int) -> list[str]:
    poll = threading.Event()
    for _ in range(6000):
        if len(found := path.read_text().splitlines()) >= lines:
            return found
        poll.wait(0.01)
    raise AssertionError(f"{path} never had {lines} lines")


def test_lines_are_written_in_order_after_a_flush(sink: int, path: Path) -> None:
    log = AccessLog(sink)
    for number in range(500):
        log.add(line(number))
    log.flush()
    assert [int(row) for row in wait_for(path, 500)] == list(range(500))
    log.close(60)
    assert log.lost == 0


def test_closing_writes_what_is_left(sink: int, path: Path) -> None:
    log = AccessLog(sink)
    log.add(b"only")
    log.close(60)
    assert path.read_bytes() == b"only\n"


def drain(reader: int, log: AccessLog, writer: int) -> bytes:
    """Closes the log while its pipe is read to the end."""
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 65536), b"")))
    thread.start()
    log.close(60)
    os.close(writer)
    thread.join(60)
    os.close(reader)
    return b"".join(received)


def test_a_blocked_sink_loses_lines_and_counts_them() -> None:
    """The sink is a full pipe: adding and flushing go on at once; what does not fit is counted."""
    reader, writer = os.pipe()
    log = AccessLog(writer, most_held=200_000)
    count = 5000
    for number in range(count):
        log.add(line(number, 200))
        log.flush()
    lost = log.lost
    assert lost > 0
    kept = numbers(drain(reader, log, writer))
    assert log.lost == lost
    assert len(kept) == count - lost
    assert kept == sorted(kept)


def test_a_pipe_gets_whole_lines_in_one_piece_each(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    written: list[bytes] = []
    real = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: (written.append(bytes(data)), real(fd, data))[1])
    log = AccessLog(writer)
    for number in range(60):
        log.add(line(number, 600))
    assert numbers(drain(reader, log, writer)) == list(range(60))
    assert len(written) > 5
    assert all(len(data) <= 4096 and data.endswith(b"\n") for data in written)


def test_a_broken_sink_loses_lines_and_counts_them() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog(writer)
    log.add(line(1))
    log.add(line(2))
    log.close(60)
    os.close(writer)
    assert log.lost == 2
    closed = AccessLog(-1)
    closed.add(line(3))
    closed.close(60)
    assert closed.lost == 1


def test_the_sink_may_be_exchanged_behind_its_descriptor(sink: int, path: Path) -> None:
    log = AccessLog(sink)
    log.add(b"1")
    log.flush()
    wait_for(path, 1)
    path.rename(path.with_suffix(".1"))
    fresh = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fresh, sink)
    os.close(fresh)
    log.add(b"2")
    log.close(60)
    assert (path.with_suffix(".1").read_bytes(), path.read_bytes()) == (b"1\n", b"2\n")


def test_a_non_blocking_descriptor_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(writer)
    for number in range(1000):
        log.add(line(number, 200))
    log.flush()
    assert numbers(drain(reader, log, writer)) == list(range(1000))
    assert log.lost == 0
