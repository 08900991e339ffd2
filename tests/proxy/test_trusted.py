"""Which peers are believed about where a request came from."""

from __future__ import annotations

import pytest

from fe.proxy.trusted import TrustedNetworks, plain_address

NETWORKS = TrustedNetworks(["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"])


@pytest.mark.parametrize(
    "host", ["10.0.0.1", "10.255.255.255", "192.0.2.1", "2001:db8::1", "::ffff:10.1.2.3", "2001:db8::1%eth0"]
)
def test_trusted(host: str) -> None:
    assert NETWORKS.covers(host)
    assert NETWORKS.covers(host)


@pytest.mark.parametrize("host", ["11.0.0.1", "192.0.2.2", "2001:db9::1", "::1", "127.0.0.1", "::ffff:11.0.0.1", None])
def test_strangers(host: str | None) -> None:
    assert not NETWORKS.covers(host)


def test_nobody_is_trusted_by_default() -> None:
    assert not TrustedNetworks([]).covers("127.0.0.1")
    assert not TrustedNetworks(["0.0.0.0/0"]).covers(None)


def test_a_unix_socket_is_trusted_by_name() -> None:
    networks = TrustedNetworks(["unix"])
    assert networks.covers(None)
    assert not networks.covers("127.0.0.1")


@pytest.mark.parametrize(
    ("host", "plain"), [("::ffff:10.1.2.3", "10.1.2.3"), ("FE80::1%eth0", "fe80::1"), ("10.1.2.3", "10.1.2.3")]
)
def test_addresses_as_they_are_written(host: str, plain: str) -> None:
    assert plain_address(host) == plain
