"""The units in deploy/systemd are what systemd takes, fit what fe does, and leave it few rights.

Owns: what systemd-analyze says without a running systemd, and the figures that depend on fe's own.
"""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

import pytest

from fe.config.schema import RouterConfig
from fe.errors import EXIT_CONFIG, EXIT_RESOURCE
from tests.project import tree

FOLDER = tree.ROOT / "deploy/systemd"
MOST_EXPOSED = 1.5  # of 10, by systemd's own measure


def analyze(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


@pytest.fixture
def unit(tmp_path) -> Path:
    """The unit as installed, with the command that is here: systemd looks whether it can be run."""
    text = (FOLDER / "fe.service").read_text()
    assert text.count("/opt/fe/bin/fe-serve") == 1
    file = tmp_path / "fe.service"
    file.write_text(text.replace("/opt/fe/bin/fe-serve", str(Path(sys.executable).parent / "fe-serve")))
    return file


def drop_in(unit: Path, text: str) -> None:
    folder = unit.with_name("fe.service.d")
    folder.mkdir()
    (folder / "local-replicas.conf").write_text(text)


def settings(section: str) -> configparser.SectionProxy:
    parser = configparser.ConfigParser(strict=False, interpolation=None, comment_prefixes="#", delimiters="=")
    parser.optionxform = str
    parser.read(FOLDER / "fe.service")
    return parser[section]


def complaints(unit: Path) -> tuple[int, list[str]]:
    """What `verify` says about this unit; other units of the machine are not our concern."""
    result = analyze("verify", "--man=no", unit)
    return result.returncode, [line for line in result.stderr.splitlines() if "fe.service" in line]


def test_unit_is_valid(unit):
    assert complaints(unit) == (0, [])


def test_unit_with_the_drop_in_is_valid(unit):
    drop_in(unit, (FOLDER / "local-replicas.conf").read_text())
    assert complaints(unit) == (0, [])


def test_verification_would_notice(unit):
    drop_in(unit, "[Service]\nProtectSistem=strict\n")
    _, lines = complaints(unit)
    assert any("ProtectSistem" in line for line in lines)


def test_few_rights_are_left(unit):
    result = analyze("security", "--offline=true", f"--threshold={round(MOST_EXPOSED * 10)}", "--no-pager", unit)
    assert result.returncode == 0, result.stdout[-300:] + result.stderr


def test_systemd_is_more_patient_than_fe():
    service, defaults = settings("Service"), RouterConfig()
    longest_stop_grace, rest = 10, 10
    assert int(service["TimeoutStopSec"]) >= defaults.drain_timeout + 1 + longest_stop_grace + rest
    assert int(service["WatchdogSec"]) > defaults.worker_timeout


def test_what_cannot_get_better_is_not_tried_again():
    assert settings("Service")["RestartPreventExitStatus"].split() == [str(EXIT_CONFIG), str(EXIT_RESOURCE)]


def test_the_supervisor_is_spoken_to_alone():
    service = settings("Service")
    assert (service["Type"], service["KillMode"]) == ("notify", "mixed")
    assert service["ExecReload"].endswith("-HUP $MAINPID")
    assert settings("Install")["WantedBy"] == "multi-user.target"
