"""Errors of the operating system, and missed deadlines, in words."""

import errno
import ssl

from opsfleet.polling.outcome import Fault, FaultKind
from opsfleet.polling.tls import fault_of

_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_NO_ROUTE = {
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTDOWN: "host is down",
    errno.EACCES: "connecting is not permitted",
    errno.EPERM: "connecting is not permitted",
    errno.EINVAL: "address cannot be reached from here",
}


def is_exhaustion(error: OSError) -> bool:
    """Say whether we, not the host, ran out of something that fewer connections would give back."""
    return error.errno in _EXHAUSTED


def connect_fault(error: OSError, host: str) -> Fault:
    """Return the fault for an error while connecting to `host`."""
    if isinstance(error, ssl.SSLError):
        return fault_of(error, host)
    if isinstance(error, ConnectionRefusedError):
        return Fault(FaultKind.REFUSED, "connection refused")
    if isinstance(error, ConnectionError):
        return Fault(FaultKind.RESET, "connection reset")
    if isinstance(error, TimeoutError):
        return Fault(FaultKind.TIMEOUT, "connecting timed out", {"phase": "connect"})
    number = error.errno or 0
    facts: dict[str, object] = {"errno": errno.errorcode.get(number, number)}
    if is_exhaustion(error):
        return Fault(FaultKind.LOCAL, f"not polled: the control plane lacks resources ({error.strerror})", facts)
    if number == errno.EADDRNOTAVAIL:
        # No port is left for this one address, or (IPv6 switched off) we have no address of its kind.
        return Fault(FaultKind.LOCAL, "not polled: the control plane has no local address or port to call from", facts)
    return Fault(FaultKind.NO_ROUTE, _NO_ROUTE.get(number, f"cannot connect: {error.strerror or error}"), facts)


def timeout_fault(seconds: float, phase: str) -> Fault:
    """Return the fault for a deadline of `seconds` missed in `phase` (resolve, room, connect, waiting, head, body)."""
    facts: dict[str, object] = {"phase": phase, "seconds": seconds}
    if phase == "room":
        return Fault(FaultKind.LOCAL, f"not polled: the control plane lacked resources for {seconds:g} s", facts)
    what = {"resolve": "resolving the name timed out", "connect": "connecting timed out"}.get(phase, "timed out")
    return Fault(FaultKind.TIMEOUT, f"{what} after {seconds:g} s", facts)
