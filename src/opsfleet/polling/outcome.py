"""What came of one poll: an HTTP answer, or the fault that kept us from one."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TypeAlias

from opsfleet.polling.target import Target


class FaultKind(StrEnum):
    """Why there is no usable HTTP answer. The values are stable and machine-readable."""

    DNS = "dns"
    REFUSED = "refused"
    RESET = "reset"
    NO_ROUTE = "no_route"
    TLS = "tls"
    TIMEOUT = "timeout"
    TRUNCATED = "truncated"
    DENIED = "denied"
    """Our own network rules forbid the address."""
    TOO_LARGE = "too_large"
    """The answer came, but its head or body is over the limit."""
    PROTOCOL = "protocol"
    """Something answered, but not HTTP/1.x."""
    LOCAL = "local"
    """The fault is on our side (descriptors, ports, memory): it says nothing of the host."""


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault: its kind, one readable sentence without a full stop, and facts for machines."""

    kind: FaultKind
    message: str
    facts: Mapping[str, object] = field(default_factory=dict)


class Outcome:
    """The outcome of one poll.

    `at` is the wall clock at the end of the poll (seconds since the epoch, UTC). `elapsed` is the time in seconds from
    sending the request until the whole answer was there, without connecting, so that it means the same on a fresh and
    on a kept connection; None without an answer. `status` is 0 and `body` empty when `fault` is set.
    """

    __slots__ = ("at", "body", "elapsed", "fault", "path", "status", "target")

    def __init__(
        self,
        target: Target,
        path: str,
        at: float,
        elapsed: float | None,
        status: int,
        body: bytes,
        fault: Fault | None,
    ) -> None:
        self.target = target
        self.path = path
        self.at = at
        self.elapsed = elapsed
        self.status = status
        self.body = body
        self.fault = fault

    def __repr__(self) -> str:
        what = self.fault.message if self.fault else f"HTTP {self.status}, {len(self.body)} bytes"
        return f"<Outcome {self.target.host}:{self.target.port}{self.path}: {what}>"


Sink: TypeAlias = Callable[[Outcome], None]
"""Takes the outcomes. It is called once for each poll, on the event loop, and must neither block nor raise."""
