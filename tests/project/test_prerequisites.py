"""A machine that lacks something is told what, and which package has it, before anything is built."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.project import tree

CHECK = tree.ROOT / "tools/prerequisites.py"


def check(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, *(arguments or [str(CHECK)])]
    env = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=100, env=env, stdin=subprocess.DEVNULL)


def test_this_machine_has_everything():
    assert (check().returncode, check().stderr) == (0, "")


def test_no_compiler():
    result = check(CC="no-such-compiler -O2")
    assert result.returncode == 1
    assert "C compiler (no-such-compiler): apt-get install gcc" in result.stderr


def test_a_compiler_that_does_not_work():
    result = check(CC="false")
    assert result.returncode == 1
    assert "links a program (false fails)" in result.stderr


def test_no_headers():
    code = f"import runpy, sysconfig; sysconfig.get_path = lambda name: '/nonexistent'; runpy.run_path({str(CHECK)!r}, "
    result = check("-c", code + "run_name='__main__')")
    assert result.returncode == 1
    assert "(Python.h): apt-get install python3-dev" in result.stderr


def test_make_without_an_interpreter(tmp_path):
    command = ["make", "-C", str(tree.ROOT), "PYTHON=no-such-python", f"VENV={tmp_path}/venv", "build"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, stdin=subprocess.DEVNULL)
    assert result.returncode != 0
    assert "no no-such-python here; install Python 3.11 or newer" in result.stderr
    assert not (tmp_path / "venv").exists()
