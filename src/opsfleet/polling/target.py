"""What is polled: one host, how to reach it, and how to prove who we are."""

from collections.abc import Hashable
from dataclasses import dataclass, field

from opsfleet.polling.dns import is_address

USER_AGENT = "opsfleet"


@dataclass(frozen=True, slots=True, eq=False)
class Target:
    """One host to be polled. A changed host is a new `Target` under the same `key`.

    `host` is a name or an address without brackets; `path_prefix` is empty or starts with a slash; `ca_certificate` is
    a PEM bundle to trust instead of the system's; `token` goes into the Authorization header,
    `accept` into the header of that name.
    """

    key: Hashable
    host: str
    port: int
    tls: bool
    path_prefix: str = ""
    token: str = field(default="", repr=False)
    ca_certificate: str | None = field(default=None, repr=False)
    accept: str = "application/json"
    is_address: bool = field(init=False, repr=False)
    """Whether `host` is an address, which needs no resolver; worked out once, not at each connection."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_address", is_address(self.host))

    def request(self, path: str) -> bytes:
        """Return the whole GET request for `path` as it goes over the wire."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        authority = host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"
        authorization = f"Authorization: Bearer {self.token}\r\n" if self.token else ""
        head = (
            f"GET {self.path_prefix}{path} HTTP/1.1\r\nHost: {authority}\r\n{authorization}"
            f"User-Agent: {USER_AGENT}\r\nAccept: {self.accept}\r\n\r\n"
        )
        return head.encode("ascii")
