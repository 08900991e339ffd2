"""The command `fe`: its help, its errors, its exit codes, and that it loads no more than it needs."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from importlib import import_module

import pytest

import fe
from fe.commands.main import COMMANDS, _build_parser
from tests.commands.run import COMMAND, refused
from tests.commands.run import fe as run
from tests.project import tree


def examples() -> list[str]:
    """Every `fe ...` that a user is shown: in the documents, and in the help of the commands."""
    texts = [block for path in tree.files() if path.suffix == ".md"
             for block in re.findall(r"```(?:sh|console)\n(.*?)```", path.read_text(), re.DOTALL)]  # fmt: skip
    texts += [run("--help").stdout, *(run(name, "--help").stdout for name in ("size", "simulate"))]
    lines = (line.strip() for text in texts for line in text.splitlines())
    return sorted({re.split(r" {3,}| +# ", line)[0] for line in lines if line.startswith("fe ") and " --" in line})


def test_version():
    for command in ([str(COMMAND)], [sys.executable, "-m", "fe.commands.main"]):
        result = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=100, check=True)
        assert result.stdout == f"fe {fe.__version__}\n"


def test_help_teaches():
    result = run("--help")
    assert result.returncode == 0
    for word in (*COMMANDS, "examples:", "exit codes:", "docs/autoscaling.md"):
        assert word in result.stdout
    assert max(map(len, result.stdout.splitlines())) <= 120


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = run(name, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: fe {name} ")
    where, summary = COMMANDS[name]
    module, _, function = where.partition(":")
    assert getattr(import_module(module), function).__doc__.strip() in result.stdout
    assert summary


def test_examples_are_right():
    found = examples()
    assert len(found) >= 5
    for line in found:
        words = shlex.split(line)[1:]
        options = _build_parser(words).parse_args(words)
        assert callable(options.run)


def test_wrong_usage():
    assert "COMMAND" in refused()
    assert "invalid choice: 'siez'" in refused("siez")
    assert "--rps" in refused("size", "--seconds", "1")
    assert "unrecognized arguments: --targ" in refused("size", "--rps", "1", "--seconds", "1", "--targ=5")


def test_a_command_loads_only_what_it_needs():
    heavy = ["numpy", "yaml", "aiohttp", "msgspec", "asyncio", "matplotlib", "rich", "fe._core"]
    code = (
        "import json, sys; from fe.commands.main import main; main(['size', '--rps=1', '--seconds=1', '--json']);"
        f" print(json.dumps([name for name in {heavy} if name in sys.modules]), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=True)
    assert json.loads(result.stderr) == []


@pytest.mark.parametrize("closed", ["1>&-", "0<&- 1>&- 2>&-", "| head -n 1 >&2"])
def test_nobody_has_to_read_the_output(closed):
    """A pipe whose reader has gone, and descriptors that are closed, are no fault."""
    script = f'set -o pipefail; "$0" simulate --load steady:1rps,100m --service constant:1s --every 1s {closed}'
    result = subprocess.run(
        ["bash", "-c", script, str(COMMAND)], capture_output=True, text=True, timeout=100, check=False
    )
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr
