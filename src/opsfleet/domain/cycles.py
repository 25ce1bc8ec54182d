"""Whether the checks of one cycle may be believed."""

from ipaddress import ip_address, ip_network

SUSPECT_FLEET = 10
"""A cycle of fewer servers is never suspect."""

SUSPECT_NETWORKS = 2
"""Servers in fewer networks may well be away together."""


def network_of(host: str) -> str:
    """Return the network that `host` counts for: its /24 or /48, or the domain that a name stands in."""
    try:
        address = ip_address(host)
    except ValueError:
        _, dot, domain = host.partition(".")
        return domain if dot and "." in domain else host
    return str(ip_network((address, 24 if address.version == 4 else 48), strict=False))


def can_be_suspect(servers: int, networks: int) -> bool:
    """Say whether silence of all `servers` in `networks` networks would rather mean that our own network is down."""
    return servers >= SUSPECT_FLEET and networks >= SUSPECT_NETWORKS
