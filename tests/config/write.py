"""Writes configurations for the tests of `fe.config` and says what becomes of them."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

import pytest

from fe.config.load import Loaded, load
from fe.errors import ConfigError

# A configuration with nothing wrong, into which the tests put one mistake at a time.
GOOD = """\
listen: 127.0.0.1:8080
endpoints:
  - name: demo
    auth_mode: none
    traffic: {main: 100}
    deployments:
      - name: main
        replicas: {static: ["127.0.0.1:5001"]}
"""


def write(folder: Path, text: str, name: str = "fe.yaml") -> Path:
    """A file with this text, its common indent taken away."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text))
    return path


def loaded(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> Loaded:
    """What the text is read as."""
    return load(str(write(folder, text)), {} if environ is None else environ)


def problems(folder: Path, text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    """The problems of the text, each without the name of its folder."""
    path = write(folder, text)
    with pytest.raises(ConfigError) as caught:
        load(str(path), {} if environ is None else environ)
    assert caught.value.exit_code == 2
    return [problem.replace(f"{folder}/", "") for problem in caught.value.problems]


def endpoint(block: str, deployment: str = "replicas: {static: ['127.0.0.1:5001']}") -> str:
    """A configuration with `block` (lines of keys) in an endpoint and `deployment` in its deployment."""
    lines = ["endpoints:", "  - name: demo", *(f"    {line}" for line in textwrap.dedent(block).splitlines() if line)]
    lines += ["    deployments:", "      - name: main"]
    lines += [f"        {line}" for line in textwrap.dedent(deployment).splitlines() if line]
    return "\n".join(lines) + "\n"


def deployment(block: str, replicas: str = "replicas: {static: ['127.0.0.1:5001']}") -> str:
    """A configuration with `block` (lines of keys) in its deployment."""
    return endpoint("auth_mode: none", f"{textwrap.dedent(block)}\n{replicas}")
