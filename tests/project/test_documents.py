"""The documents are true as far as a machine can tell: links lead somewhere, commands and functions named exist.

Looks at README, CONTRIBUTING, CHANGELOG and docs/. What they say in words is for people to check.
"""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest

from tests.project import tree

DOCUMENTS = [path for path in tree.files() if path.suffix == ".md"]
TARGETS = set(re.findall(r"^([a-z-]+):", (tree.ROOT / "Makefile").read_text(), re.MULTILINE))


def prose(path) -> str:
    return re.sub(r"```.*?```", "", path.read_text(), flags=re.DOTALL)


def anchors(path) -> set[str]:
    headings = re.findall(r"^#+\s+(.*)$", prose(path), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands(path) -> list[str]:
    blocks = re.findall(r"```(?:sh|console|bash)\n(.*?)```", path.read_text(), re.DOTALL)
    return [line.removeprefix("$ ").strip() for block in blocks for line in block.splitlines()]


@pytest.mark.parametrize("path", DOCUMENTS, ids=tree.label)
def test_links_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if re.match(r"[a-z]+://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        linked = (path.parent / name).resolve() if name else path
        assert linked.exists(), f"{tree.label(path)} links to {target}"
        assert not anchor or anchor in anchors(linked), f"{tree.label(path)} links to {target}"


@pytest.mark.parametrize("path", DOCUMENTS, ids=tree.label)
def test_make_targets_exist(path):
    named = {name for line in commands(path) for name in re.findall(r"\bmake ([a-z-]+)", line)}
    named |= set(re.findall(r"`make ([a-z-]+)", prose(path)))
    assert named <= TARGETS, named - TARGETS


@pytest.mark.parametrize("path", DOCUMENTS, ids=tree.label)
def test_files_in_commands_exist(path):
    named = {name for line in commands(path) for name in re.findall(r"(?:examples|tools|tests|docs)/[\w./-]+", line)}
    named |= set(re.findall(r"`((?:examples|tools|tests|docs|fe)/[\w./-]+)`", prose(path)))
    absent = [name for name in named if not (tree.ROOT / name.rstrip("/.")).exists()]
    assert not absent, f"{tree.label(path)} names {absent}"


def test_options_of_the_command_exist():
    help_text = subprocess.run(
        [sys.executable, "-m", "fe", "--help"], capture_output=True, text=True, check=True, timeout=100, cwd=tree.ROOT
    ).stdout
    used = {
        option
        for path in DOCUMENTS
        for line in [*commands(path), *re.findall(r"`([^`\n]+)`", prose(path))]
        if "fe-serve" in line
        for option in re.findall(r"(?<!\S)(--[a-z-]+)", line)
    }
    assert "--config" in used
    assert not [option for option in used if option not in help_text]


def test_the_life_of_a_request_names_real_functions():
    """docs/architecture.md names functions as `file.pyx: name`; each is defined in that file."""
    text = (tree.ROOT / "docs/architecture.md").read_text()
    named = re.findall(r"`(fe/[\w/]+\.(?:pyx|py|pxd)): ([\w.]+)`", text)
    assert len(named) >= 15
    for file, name in named:
        source = (tree.ROOT / file).read_text()
        last = name.rpartition(".")[2]
        assert re.search(rf"\b(?:def|cdef|cpdef|class)\b[^\n=]*\b{last}\b", source), f"{file} does not define {name}"


@pytest.mark.parametrize("tool", sorted((tree.ROOT / "tools").glob("*_reference.py")), ids=tree.label)
def test_generated_tables_are_current(tool):
    """Each tools/*_reference.py names its DOCUMENT and has `generate(text)`; `make docs` writes what is compared."""
    names = runpy.run_path(str(tool))
    text = names["DOCUMENT"].read_text()
    assert names["generate"](text) == text, "make docs"


def test_changelog_shape():
    lines = (tree.ROOT / "CHANGELOG.md").read_text().splitlines()
    headings = [line for line in lines if line.startswith("## ")]
    assert headings[0] == "## Unreleased"
    assert all(re.fullmatch(r"## (Unreleased|\d+\.\d+\.\d+ - \d{4}-\d\d-\d\d)", heading) for heading in headings)
    assert headings.count("## Unreleased") == 1
    entries = lines[lines.index("## Unreleased") + 1 :]
    assert any(line.startswith("- ") for line in entries)
    assert all(re.match(r"$|#{2,3} |- |  \S", line) for line in entries), "entries are lists, wrapped by two spaces"


def test_no_path_of_somebodys_machine():
    """Checked-in text names no home folder and no checkout of one machine."""
    pattern = re.compile(r"(?<![\w.$}])/(?:work|root|home/\w+|Users/\w+)/")
    texts = [path for path in tree.files() if path.suffix not in (".png", ".svg", ".ico")]
    found = [tree.label(path) for path in texts if pattern.search(path.read_text(errors="replace"))]
    assert not found
