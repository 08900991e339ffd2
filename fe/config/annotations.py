"""What the model's fields are annotated with: meaning, unit, bounds and example of a key, and the type of a secret.

Owns: the form of these annotations. Never: a setting (`fe.config.schema`), the reading of a value (`fe.config.kinds`).
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

from msgspec import Meta, Struct


def key(
    description: str,
    *,
    kind: str = "",
    unit: str = "",
    example: Any = None,
    ge: float | None = None,
    le: float | None = None,
    numbers: tuple[int, int] | None = None,
) -> Meta:
    """What is known of a key. `kind` names the way to read it where the type alone does not say enough; `ge` and `le`
    bound a number, `numbers` those in a type that is more than a number."""
    extra = {"kind": kind, "unit": unit, "example": example, "bounds": numbers or (ge, le)}
    return Meta(description=description, extra=extra, ge=ge, le=le)


class Secret(Struct, frozen=True, repr_omit_defaults=True):
    """A credential of which only the SHA-256 digest is kept, and where it came from: `plain`, `file` or `env:NAME`."""

    digest: bytes
    origin: str

    def __repr__(self) -> str:
        return f"Secret(from {self.origin})"

    __str__ = __repr__


Milliseconds: TypeAlias = int
Bytes: TypeAlias = int
Seconds: TypeAlias = float
Percent: TypeAlias = int

MAX_MS: Final = 86_400_000  # a day: longer is a mistake of units
MAX_SECONDS: Final = 86_400
