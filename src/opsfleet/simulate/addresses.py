"""Every simulated server has a loopback address of its own."""

_HOSTS_PER_BLOCK = 254
_SERVERS_PER_NETWORK = 256 * _HOSTS_PER_BLOCK

MAX_SERVERS = 254 * _SERVERS_PER_NETWORK
"""How many servers there are addresses for."""


def address_of(index: int) -> str:
    """Return the address of server `index`, from 0: 127.1.0.1, 127.1.0.2, and so on.

    The last octet is 1 to 254, and 127.0.x.y, where real programs listen, is left alone.
    """
    if not 0 <= index < MAX_SERVERS:
        raise ValueError(f"a simulated server's index is 0 to {MAX_SERVERS - 1}, not {index}")
    network, rest = divmod(index, _SERVERS_PER_NETWORK)
    block, host = divmod(rest, _HOSTS_PER_BLOCK)
    return f"127.{network + 1}.{block}.{host + 1}"


def index_of(address: str) -> int:
    """Return the index of the server at `address`, or -1 when no server can have that address."""
    try:
        first, network, block, host = map(int, address.split("."))
    except ValueError:
        return -1
    if first != 127 or not 1 <= network <= 254 or not 0 <= block <= 255 or not 1 <= host <= _HOSTS_PER_BLOCK:
        return -1
    return (network - 1) * _SERVERS_PER_NETWORK + block * _HOSTS_PER_BLOCK + host - 1
