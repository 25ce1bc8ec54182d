import pytest
from hypothesis import given
from hypothesis import strategies as st

from opsfleet.simulate.addresses import MAX_SERVERS, address_of, index_of


def test_the_first_servers_have_the_first_addresses() -> None:
    assert [address_of(index) for index in (0, 1, 253, 254)] == ["127.1.0.1", "127.1.0.2", "127.1.0.254", "127.1.1.1"]
    assert address_of(256 * 254) == "127.2.0.1"
    assert address_of(100_000) == "127.2.137.179"


@given(st.integers(0, MAX_SERVERS - 1))
def test_an_address_leads_back_to_its_server(index: int) -> None:
    address = address_of(index)
    assert index_of(address) == index
    octets = [int(octet) for octet in address.split(".")]
    assert octets[0] == 127
    assert octets[1] not in {0, 255}
    assert octets[3] not in {0, 255}


@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.5.5", "127.1.0.0", "127.255.0.1", "10.1.0.1", "::1", ""])
def test_other_addresses_belong_to_no_server(address: str) -> None:
    assert index_of(address) == -1


@pytest.mark.parametrize("index", [-1, MAX_SERVERS])
def test_an_index_out_of_range_is_refused(index: int) -> None:
    with pytest.raises(ValueError, match="index is 0 to"):
        address_of(index)
