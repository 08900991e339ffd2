"""YAML is read as plain data within bounds: no tags, no bombs, nothing that hangs or eats memory."""

from __future__ import annotations

import pytest

from fe.config import source
from fe.config.load import load, load_value
from fe.config.problems import Findings
from fe.errors import ConfigError
from tests.config.write import GOOD, loaded, problems, write

BOMB = "x-a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"x-{after}: &{after} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("workers: !!python/object/apply:os.system ['true']\n", "fe.yaml:1: workers: has a tag"),
        ("workers: !!int 2\n", "fe.yaml:1: workers: has a tag"),
        ("a: b: c\n", "fe.yaml:1: is not YAML: mapping values are not allowed"),
        ("listen: [::1]:80\n", "(does a value with brackets, ': ' or a special first character lack its quotes?)"),
        ("a: 'open\n", "is not YAML: found unexpected end of stream"),
        ("workers: \x01\n", "is not YAML: control characters are not allowed"),
        ("workers: *nobody\n", "fe.yaml:1: workers: is an alias (*...) of nothing before it"),
        ("workers: &a [*a]\n", "fe.yaml:1: workers[0]: is an alias (*...) of nothing before it"),
        ("? [a, b]\n: 1\n", "a key has to be a word, not a list or a mapping"),
        ("<<: 5\n", "'<<' merges mappings only"),
        ('workers: "\\ud800"\n', "fe.yaml"),
        ("workers: " + "[" * 40 + "]" * 40, "is nested deeper than 32 levels"),
        (BOMB, "more than 1,000,000 values, aliases expanded"),
    ],
)
def test_refused(tmp_path, text, expected):
    assert expected in "\n".join(problems(tmp_path, text))


def test_nesting_without_end(tmp_path):
    found = problems(tmp_path, "a: " + "[" * 500_000)
    assert len(found) == 1
    assert "is nested deeper than 32 levels" in found[0]


def test_too_large(tmp_path):
    path = write(tmp_path, GOOD)
    with path.open("a") as file:
        file.write("#" * (source.MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="it is larger than 16,384 KiB"):
        load(str(path))


def test_not_text(tmp_path):
    path = tmp_path / "fe.yaml"
    path.write_bytes(b"workers: \xff\xfe\n")
    with pytest.raises(ConfigError, match=r"is not UTF-8 text \(byte 9\)"):
        load(str(path))
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.encode())
    assert load(str(path)).config.listen == ("127.0.0.1:8080",)


def test_other_problems_are_told_beside_a_syntax_error(tmp_path):
    write(tmp_path, "workers: 0\n", "conf/a.yaml")
    write(tmp_path, "name: [\n", "conf/b.yaml")
    with pytest.raises(ConfigError) as caught:
        load(str(tmp_path / "conf"))
    assert len(caught.value.problems) == 2


def test_words_that_other_parsers_change(tmp_path):
    """YAML 1.1 makes numbers, dates or booleans of these; here the model decides what a value is."""
    text = GOOD.replace("demo", "off").replace("main", "no1") + "x-date: 2024-01-01\n"
    assert loaded(tmp_path, text).config.endpoints[0].name == "off"
    env = GOOD.replace(
        'static: ["127.0.0.1:5001"]', "process: {command: [a, 1.10], env: {A: 010, B: yes, C: 1:30, D: }}"
    )
    process = loaded(tmp_path, env).config.endpoints[0].deployments[0].replicas
    assert process.command == ("a", "1.10")
    assert process.env == {"A": "010", "B": "yes", "C": "1:30", "D": ""}


def test_composer_counts_aliases_and_keeps_lines():
    findings = Findings()
    (node,) = source.parse_documents("a: &x [1, 2]\nb:\n  - *x\n", "f", findings)
    assert isinstance(node, source.Mapping)
    assert node.key_lines == {"a": 1, "b": 2}
    assert not findings.problems


@pytest.mark.parametrize("value", [{1: object()}, object(), {"a": {1, 2}}, b"bytes"])
def test_values_that_are_not_plain_data(value):
    with pytest.raises(ConfigError):
        load_value(value)
