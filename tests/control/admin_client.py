"""Asks a world's admin server as `curl` and browsers would: any method, headers and body.

Owns: requests and their answers. Headers that a test does not name are those of a plain client; a body is JSON unless
it is bytes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.control.world import World


@dataclass
class Answer:
    """Status, and the body as text and as JSON."""

    status: int
    type: str
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)

    @property
    def code(self) -> str:
        """Of an error below /api."""
        code: str = self.json["error"]["code"]
        return code


async def ask(w: World, path: str, method: str = "GET", body: Any = None, **headers: str) -> Answer:
    """Header names are written with underscores; an empty value leaves the header out."""
    sent = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "localhost", "Connection": "close"}
    if method == "POST":
        fields |= {"Content-Type": "application/json", "Content-Length": str(len(sent))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in fields.items() if value)
    head, answer = await w.get(path, raw=f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + sent)
    return Answer(int(head.start[1]), head.value("content-type") or "", answer.decode())


async def post(w: World, path: str, body: Any, **headers: str) -> Answer:
    return await ask(w, path, "POST", body, **headers)
