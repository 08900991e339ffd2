"""Keys come from text, files and variables, and are shown nowhere, whatever is wrong with them or around them."""

from __future__ import annotations

import hashlib
import json
import os

import msgspec
import pytest

from fe.config.load import load
from fe.config.snapshot import build_snapshot, encode_config
from fe.errors import ConfigError
from tests.config.write import endpoint, loaded, problems

SECRET = "swordfish-swordfish"  # noqa: S105
DIGEST = hashlib.sha256(SECRET.encode()).digest()


def keys(text: str) -> str:
    return endpoint(f"keys: {text}")


def primary(config):
    return config.endpoints[0].keys.primary


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_from_a_file(tmp_path, ending):
    path = tmp_path / "key"
    path.write_text(SECRET + ending)
    path.chmod(0o600)
    read = loaded(tmp_path, keys("{primary: 'file:key'}"))
    assert primary(read.config).digest == DIGEST
    assert read.notes == []


def test_from_a_file_that_everybody_can_read(tmp_path):
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0o644)
    (note,) = loaded(tmp_path, keys(f"{{primary: 'file:{path}'}}")).notes
    assert "endpoints[demo].keys.primary: the file" in note
    assert "is open to every user" in note


def test_from_the_environment_and_as_text(tmp_path):
    assert primary(loaded(tmp_path, keys("{primary: env:KEY}"), {"KEY": SECRET}).config).digest == DIGEST
    assert primary(loaded(tmp_path, keys(f"{{primary: {SECRET}}}")).config).digest == DIGEST


def test_numbers_are_text(tmp_path):
    read = loaded(tmp_path, keys("{primary: 0123456789012345678}"))
    assert primary(read.config).digest == hashlib.sha256(b"0123456789012345678").digest()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{primary: env:NOT_SET}", "keys.primary: the environment variable 'NOT_SET' is not set"),
        ("{primary: env:EMPTY}", "keys.primary: is empty"),
        ("{primary: ''}", "keys.primary: is empty"),
        ("{primary: file:absent}", "absent' cannot be read: No such file"),
        ("{primary: file:.}", "cannot be read: it is not a regular file"),
        ("{primary: file:empty}", "keys.primary: is empty"),
        ("{primary: file:two-lines}", "has a blank, a line end or a character outside ASCII"),
        ("{primary: file:binary}", "has a blank, a line end or a character outside ASCII"),
        ("{primary: file:large}", "it is larger than 64 KiB"),
        ("{primary: [a]}", "has to be text, file:PATH or env:NAME, not a list"),
    ],
)
def test_mistakes(tmp_path, text, reason):
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "two-lines").write_text(f"{SECRET}\n{SECRET}\n")
    (tmp_path / "binary").write_bytes(SECRET.encode() + b"\xff")
    (tmp_path / "large").write_text("x" * 70_000)
    (problem,) = problems(tmp_path, keys(text), {"EMPTY": ""})
    assert reason in problem
    assert SECRET not in problem


@pytest.mark.parametrize(
    "text",
    [
        keys(SECRET),
        keys(f"[{SECRET}]"),
        keys(f"{{primary: {{a: {SECRET}}}}}"),
        keys(f"{{primary: [{SECRET}]}}"),
        keys(f"{{primary: '{SECRET} {SECRET}'}}"),
        keys(f"{{primary: !{SECRET} x}}"),
        keys(f"{{primary: *{SECRET}}}"),
        keys(f"{{primary: '{SECRET}', primary: '{SECRET}2'}}"),
        keys(f"{{primry: '{SECRET}'}}"),
        keys(f"{{primary:{SECRET}}}"),
        keys(f"{{{SECRET}}}"),
        keys(f"{{primary: '{SECRET}"),
        keys(f'{{primary: "{SECRET}\\xzz"}}'),
        endpoint(f"auth_mode: none\nauthmode: {SECRET}"),
        endpoint("auth_mode: none", f"replicas: {{process: {{command: a, env: {{'KEY-': {SECRET}}}}}}}"),
        endpoint("auth_mode: none", f"replicas: {{process: {{command: a, env: {SECRET}}}}}"),
        endpoint("auth_mode: none", f"replicas: {{process: {{command: a, env: {{KEY:{SECRET}}}}}}}"),
        endpoint("auth_mode: none", f"replicas: {{process: {{command: a, env: {{KEY: [{SECRET}]}}}}}}"),
    ],
)
def test_no_message_shows_a_secret(tmp_path, text):
    assert SECRET not in "\n".join(problems(tmp_path, text))


def test_nothing_made_of_the_configuration_shows_a_secret(tmp_path):
    (tmp_path / "key").write_text(SECRET)
    read = loaded(tmp_path, keys("{primary: file:key, secondary: env:KEY}"), {"KEY": SECRET + "2"})
    snapshot = build_snapshot(read.config, {("demo", "main"): (0, 0)})
    views = [repr(read), str(primary(read.config)), f"{primary(read.config)}", repr(snapshot), repr(read.config)]
    views += [json.dumps(msgspec.to_builtins(read.config)), encode_config(read.config).decode("latin-1")]
    assert not [view for view in views if SECRET in view]
    assert DIGEST.hex() not in repr(read.config)
    assert str(DIGEST) not in repr(read.config)


def test_weak_and_equal_keys_are_noted(tmp_path):
    notes = loaded(tmp_path, keys("{primary: short, secondary: short}")).notes
    assert sum("shorter than 16 characters" in note for note in notes) == 2
    assert any("primary and secondary are the same key" in note for note in notes)
    assert "short," not in "\n".join(notes)


def test_a_changed_file_is_a_changed_key(tmp_path):
    (tmp_path / "key").write_text(SECRET)
    before = loaded(tmp_path, keys("{primary: file:key}")).config
    (tmp_path / "key").write_text(SECRET + "!")
    assert load(str(tmp_path / "fe.yaml"), {}).config != before


def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "key"
    path.write_text(SECRET)
    path.chmod(0)
    text = keys("{primary: file:key}")
    if os.geteuid() == 0:  # root reads it all the same
        assert primary(loaded(tmp_path, text).config).digest == DIGEST
    else:
        with pytest.raises(ConfigError, match="cannot be read: Permission denied"):
            loaded(tmp_path, text)
