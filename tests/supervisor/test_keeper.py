"""Keepers: what a command is started with, what is reported of it, and that nothing below it stays behind.

The keepers are real, forked from this process; the commands are shells and Python scripts that say on their output
how far they have come.
"""

from __future__ import annotations

import gc
import os
import re
import select
import signal
import struct
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest

from fe import _keeper
from tests.support import proc
from tests.support.fe_process import wait_for

LIMIT = 60.0
REPORT = struct.Struct(_keeper.REPORT)
GLIBCS_OWN = 0x1_8000_0000  # signals 32 and 33: what posix_spawn leaves ignored (under make, say) no program can reset

# Leaves its group and session and lives on with another parent, as daemons do; ends when the daemon has said so.
DAEMON = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
here, there = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.setpgid(0, 0)
        os.write(1, b"daemon\\n")
        os.write(there, b".")
        time.sleep(1000)
    os.read(here, 1)
    os._exit(0)
os.wait()
"""


class Kept:
    """A command under a keeper."""

    def __init__(self, *argv: str, grace_ms: int = 60_000, env: dict[str, str] | None = None, **options) -> None:
        self.mark = uuid.uuid4().hex
        self.reports, reporter = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.output, output = os.pipe2(os.O_CLOEXEC)
        environment = {"PATH": os.environ["PATH"], **(env or {}), "FE_KEPT": self.mark}
        self.keeper = _keeper.spawn_keeper(
            argv, environment, options.pop("cwd", "/"), output, reporter, grace_ms, **options
        )
        os.close(reporter)
        os.close(output)
        self._read = b""

    def report(self) -> tuple[int, int, int]:
        """The next report: kind, value, stage."""
        assert select.select([self.reports], [], [], LIMIT)[0], "no report"
        keeper, kind, value, stage = REPORT.unpack(os.read(self.reports, REPORT.size))
        assert keeper == self.keeper
        return kind, value, stage

    def started(self) -> int:
        kind, pid, _ = self.report()
        assert kind == _keeper.STARTED
        return pid

    def line(self) -> str:
        """The next line of the command's output."""
        while b"\n" not in self._read:
            assert select.select([self.output], [], [], LIMIT)[0], "no output"
            more = os.read(self.output, 4096)
            assert more, "output ended"
            self._read += more
        line, _, self._read = self._read.partition(b"\n")
        return line.decode()

    def lines(self) -> list[str]:
        """All output until it ends."""
        while more := os.read(self.output, 4096):
            self._read += more
        return self._read.decode().splitlines()

    def signal(self, number: int) -> None:
        os.kill(self.keeper, number)

    def ended(self) -> int:
        """Waits for the keeper; what it says the command's exit code was (or minus the signal)."""
        wait_for(lambda: os.waitpid(self.keeper, os.WNOHANG)[0], "the keeper ends")
        assert self.left() == []
        kind, status, _ = self.report()
        assert kind == _keeper.EXITED
        return os.waitstatus_to_exitcode(status)

    def left(self) -> list[int]:
        return proc.with_environment(f"FE_KEPT={self.mark}")


def sh(script: str, **options) -> Kept:
    return Kept("sh", "-c", script, **options)


def test_command_gets_what_it_was_promised_and_nothing_else(tmp_path):
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    with open(tmp_path / "inherited", "w") as inherited:
        os.set_inheritable(inherited.fileno(), True)
        kept = sh(
            "ls -l /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status; pwd; env; readlink /proc/self/fd/0;"
            "ulimit -n; echo err >&2; ps -o sid= -p $$; echo $$",
            env={"A": "b c"}, cwd=str(tmp_path), nofile=123,
        )  # fmt: skip
        pid = kept.started()
        text = "\n".join(kept.lines())
    signal.signal(signal.SIGUSR2, signal.SIG_DFL)
    assert "inherited" not in text
    assert text.count("pipe:") == 2  # its output; neither the reports nor anything of this process
    assert "SigBlk:\t0000000000000000" in text
    ignored = int(re.search(r"SigIgn:\t(\w+)", text)[1], 16)
    assert ignored & ~GLIBCS_OWN == 0
    assert {str(tmp_path), "A=b c", "/dev/null", "123", "err", str(pid)} <= set(text.splitlines())
    assert [line.strip() for line in text.splitlines()[-2:]] == [str(pid), str(pid)]  # leader of its own session
    assert not any(line.startswith("HOME=") for line in text.splitlines())
    assert kept.ended() == 0


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", -9), ("kill -SEGV $$", -11)])
def test_exit_code_and_signal_are_reported(script, code):
    kept = sh(script)
    kept.started()
    assert kept.ended() == code


def test_a_command_that_cannot_be_executed_is_reported_with_its_reason(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("no program")
    cases = [
        (("no-such-command-anywhere",), "/", _keeper.STAGE_EXEC, 2),
        ((str(tmp_path / "none"),), "/", _keeper.STAGE_EXEC, 2),
        ((str(plain),), "/", _keeper.STAGE_EXEC, 13),
        (("sh",), str(tmp_path / "none"), _keeper.STAGE_CWD, 2),
        (("sh",), str(plain), _keeper.STAGE_CWD, 20),
    ]
    for argv, cwd, stage, errno in cases:
        kept = Kept(*argv, cwd=cwd)
        assert kept.report() == (_keeper.FAILED, errno, stage)
        wait_for(lambda kept=kept: os.waitpid(kept.keeper, os.WNOHANG)[0], "the keeper ends")
        assert kept.left() == []


def test_the_path_of_its_own_environment_is_searched(tmp_path):
    (tmp_path / "fe-test-command").write_text("#!/bin/sh\necho found\n")
    (tmp_path / "fe-test-command").chmod(0o755)
    kept = Kept("fe-test-command", env={"PATH": f"/nowhere:{tmp_path}:/usr/bin:/bin"})
    kept.started()
    assert kept.lines() == ["found"]
    assert kept.ended() == 0


@pytest.mark.parametrize("wrong", [{"argv": []}, {"argv": ["a\0b"]}, {"env": {"A": "b\0"}}, {"cwd": "/a\0b"}])
def test_what_cannot_be_passed_on_is_refused_before_the_fork(wrong):
    arguments = {"argv": ["true"], "env": {}, "cwd": "/", **wrong}
    with pytest.raises(ValueError, match=r"NUL|empty"):
        _keeper.spawn_keeper(*arguments.values(), 1, 1, 0)


def test_sigterm_reaches_the_whole_group_and_nobody_waits_for_the_grace():
    kept = sh("sleep 1000 & sleep 1000 & trap 'wait; exit 3' TERM; echo up; wait; exit 9")
    kept.started()
    kept.line()
    kept.signal(signal.SIGTERM)
    assert kept.ended() == 3


def test_who_ignores_sigterm_is_killed_after_the_grace():
    kept = sh("trap '' TERM; echo up; sleep 1000 & wait; wait", grace_ms=300)
    kept.started()
    kept.line()
    began = time.monotonic()
    kept.signal(signal.SIGTERM)
    assert kept.ended() == -9
    assert time.monotonic() - began >= 0.3


def test_descendants_that_left_group_and_session_are_ended():
    kept = sh(f"trap 'exit 4' TERM; {sys.executable} -c '{DAEMON}'; echo up; sleep 1000 & wait")
    kept.started()
    assert [kept.line(), kept.line()] == ["daemon", "up"]
    wait_for(lambda: len(kept.left()) == 3, "shell, sleep and daemon run")
    kept.signal(signal.SIGTERM)
    assert kept.ended() == 4


@pytest.mark.parametrize("leftover", ["sleep 1000", 'trap "" TERM; sleep 1000', f"{sys.executable} -c '{DAEMON}'"])
def test_a_command_that_dies_takes_its_leftovers_with_it(leftover):
    kept = sh(f"({leftover}) & echo up; sleep 1000", grace_ms=200)
    pid = kept.started()
    kept.line()
    if "daemon" in leftover:
        kept.line()
    os.kill(pid, signal.SIGKILL)
    assert kept.ended() == -9


def test_at_once_means_at_once():
    kept = sh(f"trap '' TERM; {sys.executable} -c '{DAEMON}'; echo up; sleep 1000; sleep 1000")
    kept.started()
    assert [kept.line(), kept.line()] == ["daemon", "up"]
    kept.signal(signal.SIGTERM)  # a grace of a minute begins
    kept.signal(signal.SIGHUP)
    assert kept.ended() == -9


def test_orphans_are_reaped_while_the_command_runs():
    kept = sh("(sleep 0 & echo $! ) ; trap 'exit 0' TERM; echo up; sleep 1000 & wait")
    kept.started()
    orphan = int(kept.line())
    kept.line()
    wait_for(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan is reaped")
    kept.signal(signal.SIGTERM)
    assert kept.ended() == 0


def test_a_killed_keeper_takes_the_command_with_it():
    kept = Kept("sleep", "1000")
    kept.started()
    os.kill(kept.keeper, signal.SIGKILL)
    os.waitpid(kept.keeper, 0)
    wait_for(lambda: not kept.left(), "the command is gone")


def test_nothing_outlives_a_killed_supervisor():
    mark = uuid.uuid4().hex
    script = f"""
import os, sys, time
from fe import _keeper
daemon = {DAEMON!r}
for i in range(3):
    _keeper.spawn_keeper(["sh", "-c", "trap '' TERM; $0 -c \\"$1\\"; sleep 1000; sleep 1000", sys.executable, daemon],
                         dict(os.environ), "/", 1, os.open("/dev/null", os.O_WRONLY), 60000)
time.sleep(1000)
"""
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, env={**os.environ, "FE_KEPT": mark}
    )
    assert process.stdout is not None
    assert [process.stdout.readline() for _ in range(3)] == [b"daemon\n"] * 3
    everybody = proc.with_environment(f"FE_KEPT={mark}")
    assert len(everybody) >= 1 + 3 * 3  # it, and with each replica keeper, shell and daemon
    process.kill()
    process.wait()
    wait_for(lambda: not proc.with_environment(f"FE_KEPT={mark}"), "everybody is gone")


def test_a_keeper_costs_next_to_no_memory():
    gc.disable()  # it would write to every page that the keeper shares with this process, and leave it alone with them
    try:
        kept = Kept("sleep", "1000")
        kept.started()
        private = proc.private_bytes(kept.keeper)
    finally:
        gc.enable()
    assert private < 4 << 20
    assert proc.open_files(kept.keeper) <= 6  # /dev/null three times, reports, signals, perhaps a pipe
    kept.signal(signal.SIGTERM)
    assert kept.ended() == -signal.SIGTERM
