"""Files and functions stay small enough to be read at once, and every file says what it is for.

.py at most 400 lines, .pyx at most 900, functions at most 60; a module of fe/ opens with 3 to 12 lines: what it
owns, what it never does, where to read next.
"""

from __future__ import annotations

import pytest

from tests.project import tree

MOST_LINES = {".py": 400, ".pyi": 400, ".pyx": 900, ".pxd": 400}
MOST_FUNCTION_LINES = 60
FOLDERS = ("fe", "tests", "tools", "bench", "loadtest")
EVERYWHERE = [path for folder in FOLDERS for path in tree.sources(folder, *MOST_LINES)]
OPENED = [*EVERYWHERE, *tree.sources("fe", ".h"), *tree.sources("examples", ".py", ".yaml"), tree.ROOT / "Makefile"]


def is_marker(path) -> bool:
    """An empty __init__.py only makes a folder a package."""
    return path.name == "__init__.py" and not path.read_text().strip()


@pytest.mark.parametrize("path", EVERYWHERE, ids=tree.label)
def test_file_size(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MOST_LINES[path.suffix], f"{tree.label(path)} has {lines} lines: split it"


@pytest.mark.parametrize("path", EVERYWHERE, ids=tree.label)
def test_function_sizes(path):
    long = [function for function in tree.functions(path) if function.lines > MOST_FUNCTION_LINES]
    assert not long, f"{tree.label(path)}: {long}"


@pytest.mark.parametrize("path", [path for path in OPENED if not is_marker(path)], ids=tree.label)
def test_opening(path):
    lines = tree.opening(path)
    is_module = path.is_relative_to(tree.ROOT / "fe") and path.suffix in (".py", ".pyx")
    fewest, most = (3, 12) if is_module else (1, 14)
    assert len(lines) >= fewest, f"{tree.label(path)} opens with {len(lines)} lines"
    assert len([line for line in lines if line.strip("#/* ")]) <= most, (
        f"{tree.label(path)} opens at too great a length"
    )


def test_cython_functions_are_measured(tmp_path):
    """The measure itself: signatures over several lines, nested blocks, what only looks like a function."""
    source = tmp_path / "sample.pyx"
    source.write_text(
        "cdef extern from 'x.h':\n    int outside(int a)\n\n"
        "cdef class Thing:\n    cdef int count(self,\n                   int a) noexcept:\n        if a:\n"
        "            return 1\n\n        return 2\n\n    def last(self):\n        pass\n\n\n"
        "cdef int value = first(1)\n"
        "def outer(\n    a,\n):\n    return a\n"
    )
    found = {function.name: function.lines for function in tree.functions(source)}
    assert found == {"count": 6, "last": 2, "outer": 4}
