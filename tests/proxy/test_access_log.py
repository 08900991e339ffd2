"""The access log: nothing a client sends can forge a line, nothing a sink does can hold up a request."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fe.proxy import access_log
from fe.proxy.access_log import AccessLine, AccessLog, clean

HOSTILE = [
    b'a\r\n{"status":200}',
    b"a\nb",
    b"\x1b[2J\x1b]0;x\x07",
    b'"quoted\\"',
    b"\x00\x7f",
    b"\xc2\x9b31m",
    "\u2028\u202e\u00a0".encode(),
    b"\xff\xfe",
    b"a\tb",
]


def line(log: AccessLog, **values: Any) -> AccessLine:
    settings: dict[str, Any] = {"id": "1", "method": "POST", "path": "/score", "status": 200}
    return AccessLine(time=log.now(), **(settings | values))


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
    for _ in range(500):
        if len(found := path.read_text().splitlines()) >= lines:
            return found
        poll.wait(0.01)
    raise AssertionError(f"{path} never had {lines} lines")


@pytest.mark.parametrize("raw", HOSTILE)
@pytest.mark.parametrize("as_json", [True, False])
def test_a_line_is_one_line_of_printable_ascii(raw: bytes, as_json: bool, sink: int, path: Path) -> None:
    log = AccessLog(sink, json=as_json)
    log.add(line(log, path=clean(raw, 1024), user_agent=clean(raw, 256)))
    log.close()
    written = path.read_bytes()
    assert written.count(b"\n") == 1
    assert all(0x20 <= byte < 0x7F for byte in written[:-1])
    if as_json:
        assert json.loads(written)["user_agent"] == clean(raw, 256)


def test_a_client_cannot_pose_as_a_field_of_a_human_line(sink: int, path: Path) -> None:
    log = AccessLog(sink, json=False)
    log.add(line(log, path=clean(b'/x" id=2', 99), user_agent=clean(b'" status=500', 99)))
    log.close()
    text = path.read_text()
    assert r'"/x\" id=2"' in text
    assert r'agent="\" status=500"' in text


def test_what_is_logged(sink: int, path: Path) -> None:
    log = AccessLog(sink)
    log.add(line(log, endpoint="e", deployment="d", model_status=201, total_ms=1.5, reason="queue_wait", peer="::1"))
    log.add(line(log))
    log.close()
    first, second = (json.loads(text) for text in path.read_text().splitlines())
    assert (first["endpoint"], first["deployment"], first["model_status"], first["total_ms"]) == ("e", "d", 201, 1.5)
    assert first["time"].endswith("Z")
    assert "reason" not in second


def test_long_values_are_cut() -> None:
    assert clean(b"a" * 5000, 256) == "a" * 256


def test_lines_are_written_in_order_after_a_flush(sink: int, path: Path) -> None:
    log = AccessLog(sink)
    for number in range(500):
        log.add(line(log, id=str(number)))
    log.flush()
    assert [json.loads(text)["id"] for text in wait_for(path, 500)] == [str(number) for number in range(500)]
    log.close()
    assert log.lost == 0


def test_a_blocked_sink_loses_lines_and_counts_them() -> None:
    """The sink is a full pipe: adding and flushing go on at once; what does not fit is counted."""
    reader, writer = os.pipe()
    log = AccessLog(writer, most_held=200_000)
    count = 5000
    for number in range(count):
        log.add(line(log, id=str(number), path="/" + "a" * 200))
        log.flush()
    assert log.lost > 0
    lost = log.lost
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 65536), b"")))
    thread.start()
    log.close()
    os.close(writer)
    thread.join(10)
    os.close(reader)
    assert log.lost == lost
    kept = [json.loads(text)["id"] for text in b"".join(received).splitlines()]
    assert len(kept) == count - lost
    assert kept == sorted(kept, key=int)


def test_a_pipe_gets_whole_lines_in_one_piece_each(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    sizes: list[bytes] = []
    real = os.write
    monkeypatch.setattr(access_log.os, "write", lambda fd, data: (sizes.append(bytes(data)), real(fd, data))[1])
    log = AccessLog(writer)
    for number in range(60):
        log.add(line(log, id=str(number), path="/" + "a" * 500))
    log.close()
    monkeypatch.undo()
    os.close(writer)
    os.close(reader)
    assert len(sizes) > 5
    assert all(len(data) <= 4096 and data.endswith(b"\n") for data in sizes)


def test_a_closed_sink_loses_lines_and_counts_them() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    log = AccessLog(writer)
    log.add(line(log))
    log.add(line(log))
    log.close()
    os.close(writer)
    assert log.lost == 2


def test_the_sink_may_be_exchanged_behind_its_descriptor(sink: int, path: Path) -> None:
    log = AccessLog(sink)
    log.add(line(log, id="old"))
    log.flush()
    wait_for(path, 1)
    path.rename(path.with_suffix(".1"))
    fresh = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.dup2(fresh, sink)
    os.close(fresh)
    log.add(line(log, id="new"))
    log.close()
    assert json.loads(path.read_text())["id"] == "new"
    assert json.loads(path.with_suffix(".1").read_text())["id"] == "old"


def test_a_non_blocking_descriptor_is_waited_for() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    log = AccessLog(writer)
    for number in range(1000):
        log.add(line(log, id=str(number), path="/" + "a" * 200))
    log.flush()
    received: list[bytes] = []
    thread = threading.Thread(target=lambda: received.extend(iter(lambda: os.read(reader, 65536), b"")))
    thread.start()
    log.close()
    os.close(writer)
    thread.join(10)
    os.close(reader)
    assert (len(b"".join(received).splitlines()), log.lost) == (1000, 0)
