"""How keys of endpoints are read: as plain text, from a file, or from an environment variable.

Owns: the one place where the clear text of a key is in memory, as long as it takes to make a digest of it. Never: a
message that shows it, whatever is wrong with it.
"""

from __future__ import annotations

import hashlib
import os
from typing import Any, Final

from fe.config.annotations import Secret
from fe.config.problems import Place, shown
from fe.config.reader import INVALID, Field, Reader, kind, problem, wrong_type
from fe.config.source import Node, Scalar, read_regular

MAX_SECRET_BYTES: Final = 64 * 1024
SHORT_KEY: Final = 16  # characters


@kind("secret")
def _secret(reader: Reader, node: Node, place: Place, _field: Field) -> Any:
    if not isinstance(node, Scalar):
        return wrong_type(reader, node, place, "text, file:PATH or env:NAME", show=False)
    if node.text.startswith("file:"):
        clear, origin = _secret_file(reader, place, node.text.removeprefix("file:")), "file"
    elif node.text.startswith("env:"):
        origin = node.text
        clear = reader.environ.get(node.text.removeprefix("env:"))
        if clear is None:
            return problem(reader, place, f"the environment variable {shown(origin.removeprefix('env:'))} is not set")
    elif reader.references_only:
        return problem(reader, place, "is a key in plain text, for all to see who may read this; change it, then "
                       "write file:PATH or env:NAME")  # fmt: skip
    else:
        clear, origin = node.text, "plain"
    if clear is None:
        return INVALID
    if not clear:
        return problem(reader, place, "is empty", "an empty key would let everybody in")
    if not clear.isascii() or not clear.isprintable() or " " in clear:
        return problem(reader, place, "has a blank, a line end or a character outside ASCII, which no client can send")
    if len(clear) < SHORT_KEY:
        reader.findings.note(place, f"is shorter than {SHORT_KEY} characters: easy to guess")
    return Secret(hashlib.sha256(clear.encode()).digest(), origin)


def _secret_file(reader: Reader, place: Place, name: str) -> str | None:
    """The text of a secret's file without its last line end; None after a problem."""
    path = os.path.join(reader.folder, name)
    try:
        raw, mode = read_regular(path, MAX_SECRET_BYTES)
    except ValueError as error:
        problem(reader, place, f"the file {shown(path, 200)} {error}")
        return None
    if mode & 0o007:
        reader.findings.note(place, f"the file {shown(path, 200)} is open to every user of this machine (chmod o-rwx)")
    return raw.decode("utf-8", "replace").removesuffix("\n").removesuffix("\r")
