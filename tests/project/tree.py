"""The project's own files, as the tests of this folder look at them.

Owns: which files count as sources, what they import, where a function begins and ends (in .pyx and .pxd by
indentation, since no linter reads those). Never: a rule; those stand in the tests that import this.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]


class Function(NamedTuple):
    name: str
    line: int
    lines: int


@cache
def files() -> tuple[Path, ...]:
    """Every file of the project that git has or would take, without what a build made."""
    command = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout.splitlines()
    return tuple(path for path in (ROOT / name for name in sorted(set(listed))) if path.is_file())


def sources(folder: str, *suffixes: str) -> list[Path]:
    return [path for path in files() if path.is_relative_to(ROOT / folder) and path.suffix in suffixes]


def label(path: Path) -> str:
    return str(path.relative_to(ROOT))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> set[str]:
    """The modules that a file imports or cimports, by their full names."""
    if path.suffix in (".py", ".pyi"):
        return set(_python_imports(path))
    return set(_cython_imports(path))


def functions(path: Path) -> list[Function]:
    if path.suffix in (".py", ".pyi"):
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kinds)]
        return [Function(node.name, node.lineno, (node.end_lineno or 0) - node.lineno + 1) for node in nodes]
    return list(_cython_functions(path.read_text().splitlines()))


def opening(path: Path) -> list[str]:
    """The lines of the docstring or comment that a file begins with."""
    text = path.read_text().removeprefix("#!/usr/bin/env bash\n")
    quoted = re.match(r'r?"""(.*?)"""', text, re.DOTALL)
    if quoted:
        return quoted.group(1).strip().splitlines()
    block = re.match(r"/\*(.*?)\*/", text, re.DOTALL)
    if block:
        return block.group(1).strip().splitlines()
    lines = re.match(r"(?:(?:#|//)[^\n]*\n)*", text)
    return lines.group(0).splitlines() if lines else []


def _python_imports(path: Path) -> Iterator[str]:
    package = module_name(path) if path.stem == "__init__" else module_name(path).rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from _named(_absolute(node.level, node.module or "", package), [alias.name for alias in node.names])


def _cython_imports(path: Path) -> Iterator[str]:
    package = module_name(path).rpartition(".")[0]
    text = re.sub(r"\(([^()]*)\)", lambda found: found.group(1).replace("\n", " "), path.read_text())
    for line in text.splitlines():
        code = line.partition("#")[0].strip()
        if found := re.match(r"from\s+(\.*)([\w.]*)\s+c?import\s+(.+)", code):
            names = [name.split()[0] for name in found.group(3).split(",") if name.strip()]
            yield from _named(_absolute(len(found.group(1)), found.group(2), package), names)
        elif found := re.match(r"c?import\s+(.+)", code):
            yield from (name.split()[0] for name in found.group(1).split(","))


def _absolute(level: int, module: str, package: str) -> str:
    if not level:
        return module
    base = package.split(".")[: len(package.split(".")) - level + 1]
    return ".".join([*base, module] if module else base)


def _named(module: str, names: list[str]) -> Iterator[str]:
    """`from fe import log` imports the module fe.log; `from fe.log import warn` imports fe.log."""
    if module.partition(".")[0] != "fe":
        yield module
        return
    for name in names:
        is_module = any((ROOT / f"{module}.{name}".replace(".", "/")).with_suffix(end).exists() for end in _MODULE_ENDS)
        is_package = (ROOT / f"{module}.{name}".replace(".", "/") / "__init__.py").exists()
        yield f"{module}.{name}" if is_module or is_package else module


_MODULE_ENDS = (".py", ".pyx", ".pxd")
_CYTHON_FUNCTION = re.compile(
    r"^(?P<indent>[ ]*)(?:async\s+def|def|cpdef|cdef)\s+(?!(?:class|struct|enum|union|extern|packed|cppclass)\b)"
    r"[^=#]*?\b(?P<name>\w+)\s*\("
)


def _cython_functions(lines: list[str]) -> Iterator[Function]:
    for number, line in enumerate(lines):
        found = _CYTHON_FUNCTION.match(line)
        if found:
            yield Function(
                found.group("name"), number + 1, _block_end(lines, number, len(found.group("indent"))) - number
            )


def _block_end(lines: list[str], start: int, indent: int) -> int:
    """The index behind the last line of the block that begins at `start`; brackets of the signature may span lines."""
    end, depth = start + 1, 0
    for number in range(start, len(lines)):
        line = lines[number]
        code = line.partition("#")[0]
        if number > start and depth == 0 and code.strip() and len(line) - len(line.lstrip()) <= indent:
            break
        depth += sum(map(code.count, "([{")) - sum(map(code.count, ")]}"))
        if line.strip():
            end = number + 1
    return end


def run_python(code: str, **options: object) -> str:
    """What a fresh interpreter prints for `code`, started in the project's folder."""
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=100, cwd=ROOT, **options
    )
    return result.stdout
