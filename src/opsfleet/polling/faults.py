"""Errors of the operating system, and missed deadlines, in words."""

import errno
import ssl

from opsfleet.polling.outcome import Fault, FaultKind
from opsfleet.polling.tls import fault_of

_OURS = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})
_NO_ROUTE = {
    errno.EHOSTUNREACH: "no route to host",
    errno.ENETUNREACH: "network unreachable",
    errno.EHOSTDOWN: "host is down",
    errno.EACCES: "connecting is not permitted",
    errno.EPERM: "connecting is not permitted",
    errno.EINVAL: "address cannot be reached from here",
}


def is_exhaustion(error: OSError) -> bool:
    """Say whether we, not the host, ran out of descriptors, ports or memory."""
    return error.errno in _OURS


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
        return exhausted_fault(error)
    return Fault(FaultKind.NO_ROUTE, _NO_ROUTE.get(number, f"cannot connect: {error.strerror or error}"), facts)


def exhausted_fault(error: OSError) -> Fault:
    """Return the fault for our own lack of descriptors, ports or memory."""
    facts: dict[str, object] = {"errno": errno.errorcode.get(error.errno or 0, "")}
    return Fault(FaultKind.LOCAL, f"not polled: the control plane lacks resources ({error.strerror})", facts)


def timeout_fault(seconds: float, phase: str) -> Fault:
    """Return the fault for a deadline of `seconds` missed in `phase` (resolve, connect, waiting, head or body)."""
    facts: dict[str, object] = {"phase": phase, "seconds": seconds}
    what = {"resolve": "resolving the name timed out", "connect": "connecting timed out"}.get(phase, "timed out")
    return Fault(FaultKind.TIMEOUT, f"{what} after {seconds:g} s", facts)
