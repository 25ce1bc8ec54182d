"""What counts as one network when the question is whether our own is down."""

import pytest

from opsfleet.domain.cycles import can_be_suspect, network_of


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.1.2.3", "10.1.2.200"),
        ("2001:db8:1:2::1", "2001:db8:1:3::9"),
        ("web-1.eu.example.com", "web-2.eu.example.com"),
    ],
)
def test_neighbours_share_a_network(one: str, other: str) -> None:
    assert network_of(one) == network_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("10.1.2.3", "10.1.3.3"),
        ("2001:db8:1::1", "2001:db8:2::1"),
        ("a.eu.example.com", "a.us.example.com"),
        ("a", "b"),
    ],
)
def test_others_do_not(one: str, other: str) -> None:
    assert network_of(one) != network_of(other)


def test_only_ten_servers_in_two_networks_can_tell() -> None:
    assert can_be_suspect(10, 2)
    assert not can_be_suspect(9, 2)
    assert not can_be_suspect(10, 1)
