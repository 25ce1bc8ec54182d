"""The address of a server's agent: which spellings are accepted, and their parts."""

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

MAX_URL = 2_048

_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)", re.IGNORECASE)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_NUMBER = re.compile(r"(0x[0-9a-f]*|\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ApiUrl:
    """The parts of an `api_url`. `host` is without brackets; `path_prefix` is empty or starts with a slash."""

    tls: bool
    host: str
    port: int
    path_prefix: str


def parse_api_url(url: str) -> ApiUrl:
    """Return the parts of `url`; raises `ValueError` with a sentence that says what is accepted."""
    if len(url) > MAX_URL:
        raise ValueError(f"must have at most {MAX_URL} characters")
    if _CONTROL.search(url) or " " in url or "\\" in url:
        raise ValueError("must not contain spaces, backslashes or control characters")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ValueError("must be a URL such as https://server.example.com:9100") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError("must start with https:// or http://")
    if "@" in parts.netloc:
        raise ValueError("must not contain a user name or password")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("must not contain a query or a fragment")
    if not parts.hostname:
        raise ValueError("must name a host, as in https://server.example.com:9100")
    if port == 0:
        raise ValueError("must have a port between 1 and 65535")
    if not parts.path.isascii():
        raise ValueError("must have a path of ASCII characters")
    tls = parts.scheme == "https"
    return ApiUrl(tls, _host(parts.hostname, parts.netloc), port or (443 if tls else 80), parts.path.rstrip("/"))


def _host(host: str, netloc: str) -> str:
    address: IPv4Address | IPv6Address
    if "[" in netloc:
        try:
            address = ip_address(host)
        except ValueError:
            raise ValueError("must have a valid IPv6 address in the brackets") from None
        if not isinstance(address, IPv6Address) or address.scope_id:
            raise ValueError("must have a valid IPv6 address without a zone in the brackets")
        return str(address)
    try:
        return str(IPv4Address(host))
    except ValueError:
        pass
    try:
        name = host.encode("idna").decode("ascii").rstrip(".")
    except UnicodeError:
        name = ""
    labels = name.split(".")
    if not name or len(name) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("must have a valid host name or address")
    if _NUMBER.fullmatch(labels[-1]):
        # Shorthand, octal, decimal and hexadecimal spellings would be read differently by different resolvers.
        raise ValueError("must have an IPv4 address in its usual form of four decimal numbers")
    return name.lower()
