"""Keys: which credentials open an endpoint."""

from __future__ import annotations

from hashlib import sha256

import pytest

from fe.proxy._auth import matches
from tests.proxy.heads import read

DIGESTS = (sha256(b"first-key").digest(), sha256(b"second-key").digest())


@pytest.mark.parametrize(
    "value",
    [
        "Bearer first-key",
        "Bearer second-key",
        "bearer first-key",
        "BEARER first-key",
        "Bearer    first-key",
        " Bearer first-key ",
    ],
)
def test_right_keys(value: str) -> None:
    assert matches(read(f"Authorization: {value}"), DIGESTS)


@pytest.mark.parametrize(
    "value",
    [
        "", "Bearer", "Bearer ", "Bearer x", "first-key", "Basic first-key", "Bearer first-keys", "Bearer first-ke",
        "Bearer First-Key", "Bearer first-key second-key", "Bearer first-key,", 'Bearer "first-key"', "Bearerfirst-key",
        "Bearer\tfirst-key", "Bearer first-key\xe9", "Bearer " + DIGESTS[0].hex(), "Bearer " + "x" * 5000,
    ],
)  # fmt: skip
def test_wrong_keys(value: str) -> None:
    assert not matches(read(f"Authorization: {value}"), DIGESTS)


def test_no_key_at_all() -> None:
    assert not matches(read(), DIGESTS)
    assert not matches(read("Author_ization: Bearer first-key", "Proxy-Authorization: Bearer first-key"), DIGESTS)


def test_no_digest_opens_nothing() -> None:
    assert not matches(read("Authorization: Bearer first-key"), ())
    assert not matches(read("Authorization: Bearer first-key"), (b"", b"short", DIGESTS[0][:31]))


def test_a_key_of_boundless_length_is_wrong() -> None:
    key = "x" * 5000
    assert not matches(read(f"Authorization: Bearer {key}"), (sha256(key.encode()).digest(),))


def test_every_byte_of_a_digest_counts() -> None:
    for at in range(32):
        other = bytearray(DIGESTS[0])
        other[at] ^= 1
        assert not matches(read("Authorization: Bearer first-key"), (bytes(other),))


def test_every_digest_is_looked_at() -> None:
    for key in (b"first-key", b"second-key"):
        for digests in (DIGESTS, DIGESTS[::-1], (*DIGESTS, bytes(32))):
            assert matches(read(f"Authorization: Bearer {key.decode()}"), digests)
