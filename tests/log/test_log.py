"""Fe's log lines: their form, and that writing them never blocks, never fails and never changes a shared descriptor."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import select
import socket
import subprocess
import sys

import pytest

from fe import log

HUMAN = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (debug  |info   |warning|error  ) worker-3\[\d+\] (.*)"


def run(code: str, form: str = "human", level: str = "info") -> list[str]:
    """The lines that a process writes to stderr."""
    begin = f"from fe import log; log.configure('worker-3', form={form!r}, level={level!r}); l = log.logger('test');"
    process = subprocess.run([sys.executable, "-c", begin + code], capture_output=True, timeout=100, check=True)
    assert process.stdout == b""
    return process.stderr.decode().splitlines()


def test_human_lines_have_time_level_process_and_fields():
    (line,) = run("l.info('worker ended', pid=7, reason='two words', share=0.25, empty='', quote='a\"b')")
    match = re.fullmatch(HUMAN, line)
    assert match
    assert match[2] == 'worker ended pid=7 reason="two words" share=0.25 empty="" quote="a\\"b"'


def test_json_lines_are_objects():
    (line,) = run("l.warning('wörker\\nended', pid=7, where=('a', 1), message='no')", "json")
    entry = json.loads(line)
    assert (entry["level"], entry["process"], entry["logger"]) == ("warning", "worker-3", "fe.test")
    assert (entry["message"], entry["where"]) == ("wörker\nended", ["a", 1])
    assert entry["pid"] != 7  # what every line has is not overwritten by a field
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", entry["time"])


def test_levels():
    assert len(run("l.debug('d'); l.info('i'); l.warning('w'); l.error('e')", level="warning")) == 2
    assert len(run("l.debug('d'); l.info('i'); l.warning('w'); l.error('e')", level="debug")) == 4


def test_text_from_outside_cannot_begin_a_line_or_paint_the_terminal():
    lines = run("l.info('a\\nb\\x1b[31m', path='/x\\n2026 error fake', name='\\x9b')")
    assert len(lines) == 1
    assert "\x1b" not in lines[0]
    assert "\x9b" not in lines[0]
    assert r"a\nb\x1b[31m" in lines[0]


@pytest.mark.parametrize(("form", "lines"), [("human", 4), ("json", 1)])
def test_exceptions_keep_their_traceback(form, lines):
    code = "\ntry:\n 1/0\nexcept ZeroDivisionError:\n l.exception('failed', id=4)"
    written = run(code, form)
    assert len(written) >= lines
    assert "ZeroDivisionError" in "\n".join(written)


def test_messages_of_libraries_and_of_the_logging_module_have_the_same_form():
    lines = run(
        "import logging; logging.getLogger('asyncio').error('slow %s', 'x'); logging.getLogger('fe.x').info('y')"
    )
    assert [re.fullmatch(HUMAN, line)[2] for line in lines] == ["slow x", "y"]


def test_a_field_without_text_costs_its_line_only():
    code = "\nclass Bad:\n def __str__(self): raise RuntimeError\nl.info('a', bad=Bad())\nl.info('b')"
    lines = run(code)
    assert lines[0] == "a log line could not be made: RuntimeError"
    assert lines[1].endswith(" b")


def test_surrogates_and_other_halves():
    (line,) = run("l.info('name', path='\\udcff')")
    assert "udcff" in line


def test_set_process_after_a_fork():
    child = "if os.fork() == 0:\n log.set_process('worker-4'); l.info('child'); os._exit(0)"
    lines = run(f"import os\n{child}\nos.wait(); l.info('own')")
    assert [re.search(r"(worker-\d)\[", line)[1] for line in lines] == ["worker-4", "worker-3"]


# --- the way out -----------------------------------------------------------------------------------------------------


@pytest.fixture
def pipe():
    reading, writing = os.pipe()
    yield reading, writing
    os.close(reading)
    os.close(writing)


def fill(fd: int) -> None:
    os.set_blocking(fd, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(fd, b"x" * 4096)
    os.set_blocking(fd, True)


def drain(fd: int) -> bytes:
    parts = []
    while select.select([fd], [], [], 0)[0]:
        parts.append(os.read(fd, 1 << 20))
    return b"".join(parts)


def test_a_full_pipe_loses_lines_and_says_so(pipe):
    reading, writing = pipe
    output = log.Output(writing)
    fill(writing)
    assert not output.write(b"lost 1\n")
    assert not output.write(b"lost 2\nlost 3\n", 2)
    assert output.lost == 3
    drain(reading)
    assert output.write(b"here\n")
    assert drain(reading) == b"3 log lines were lost: nobody took them\nhere\n"
    assert output.lost == 0
    output.close()


def test_the_shared_descriptor_stays_as_it_was(pipe):
    _reading, writing = pipe
    output = log.Output(writing)
    output.write(b"line\n")
    assert os.get_blocking(writing)
    output.close()
    os.fstat(writing)


def test_a_line_that_was_cut_is_ended_before_the_next(pipe):
    reading, writing = pipe
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    output = log.Output(writing)
    assert not output.write(b"y" * 10_000 + b"\n")
    assert set(drain(reading)) == {ord("y")}
    assert output.write(b"next\n")
    assert drain(reading) == b"\n1 log lines were lost: nobody took them\nnext\n"
    output.close()


def test_a_reader_that_is_gone(pipe):
    _reading, writing = pipe
    ours, theirs = os.pipe()
    output = log.Output(theirs)
    os.close(ours)
    assert not output.write(b"line\n")
    output.close()
    os.close(theirs)
    os.fstat(writing)


def test_a_socket_that_nobody_reads():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        output = log.Output(ours.fileno())
        while output.write(b"z" * 4096 + b"\n"):
            pass
        assert output.lost == 1
        output.close()
        assert ours.fileno() >= 0


def test_closed_and_full_targets(tmp_path):
    fd = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    output = log.Output(fd)
    assert output.write(b"line\n")
    os.close(fd)
    assert not output.write(b"line\n")
    with open("/dev/full", "wb", buffering=0) as full:
        output = log.Output(full.fileno())
        assert not output.write(b"line\n")
        output.close()


def test_a_closed_stderr_does_not_become_something_else():
    code = "import os, socket; from fe import log; log.ensure_standard_fds(); print(socket.socket().fileno() > 2)"
    process = subprocess.run(
        ["sh", "-c", f'exec {sys.executable} -c "{code}" 0<&- 2>&-'], capture_output=True, timeout=100, check=True
    )
    assert process.stdout == b"True\n"


def test_a_file_is_appended_to_and_opened_again(tmp_path):
    path = tmp_path / "fe.log"
    path.write_text("before\n")
    fd = log.open_file(str(path))
    output = log.Output(fd)
    output.write(b"one\n")
    path.rename(tmp_path / "fe.log.1")
    log.reopen_file(str(path), fd)
    output.write(b"two\n")
    path.rename(tmp_path / "fe.log.2")
    (tmp_path / "fe.log").mkdir()
    log.reopen_file(str(path), fd)  # fails, and the old file stays
    output.write(b"three\n")
    os.close(fd)
    assert (tmp_path / "fe.log.1").read_text() == "before\none\n"
    assert (tmp_path / "fe.log.2").read_text() == "two\nthree\n"
    assert (tmp_path / "fe.log.1").stat().st_mode & 0o007 == 0o004  # made by this test; fe's own is 640
    assert (tmp_path / "fe.log.2").stat().st_mode & 0o777 == 0o640
    assert log.open_file(None) == 2
