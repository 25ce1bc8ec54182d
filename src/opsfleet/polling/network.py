"""Which addresses may be called. Checked on the resolved address at connect time, so no name can lead around it."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Network = IPv4Network | IPv6Network
Address = IPv4Address | IPv6Address


def unmapped(address: Address) -> Address:
    """Return the IPv4 address inside an IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), anything else as it is."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


class NetworkPolicy:
    """Allow and deny rules for outgoing connections.

    `deny` networks are never called. When `allow` is not empty, only its networks are. Plain HTTP goes only to
    `http_allow`.
    """

    def __init__(
        self,
        *,
        allow: Sequence[Network] = (),
        deny: Sequence[Network] = (),
        http_allow: Sequence[Network] = (),
    ) -> None:
        self._allow = tuple(allow)
        self._deny = tuple(deny)
        self._http_allow = tuple(http_allow)
        self.objection = lru_cache(maxsize=65_536)(self._objection)

    def _objection(self, address: str, tls: bool) -> str | None:
        """Return why `address` must not be called, as a sentence, or None when it may be."""
        found = unmapped(ip_address(address))
        if _inside(found, self._deny):
            return f"address {found} is in a denied network"
        if self._allow and not _inside(found, self._allow):
            return f"address {found} is in no allowed network"
        if not tls and not _inside(found, self._http_allow):
            return f"address {found} may be called only over https"
        return None


def _inside(address: Address, networks: Sequence[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
