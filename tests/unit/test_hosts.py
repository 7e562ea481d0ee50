"""A source is what one machine cannot change of its address."""

import pytest

from broker.hosts import source_of


@pytest.mark.parametrize(
    ("host", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::1", "::/64"),
        ("[2001:db8:1:2:3:4:5:6]", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a.csv", ""),
        ("ehr.example.org", ""),
        ("", ""),
    ],
)
def test_source_is_an_address_or_an_ipv6_network(host: str, source: str) -> None:
    assert source_of(host) == source
