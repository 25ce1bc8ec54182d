"""How much the machine received and sent."""

import os
from collections.abc import Sequence
from typing import NamedTuple

import psutil

INTERFACES = "/sys/class/net"


class Traffic(NamedTuple):
    """Bytes received and sent."""

    received: int
    sent: int


class NetworkSensor:
    """Bytes received and sent since the agent started; the sums only grow.

    Without `interfaces` those that are hardware are counted: a bridge, a tunnel or a container's interface would count
    the same bytes again. A machine without any such interface, like a container, counts all but loopback.
    """

    def __init__(self, interfaces: Sequence[str] = ()) -> None:
        self._interfaces = frozenset(interfaces)
        self._received = 0
        self._sent = 0
        self._last: dict[str, Traffic] = {}
        self._last = self._read() or {}

    def measure(self) -> Traffic | None:
        """Return the sums since the start, or None where they cannot be read."""
        now = self._read()
        if now is None:
            return None
        for name, traffic in now.items():
            last = self._last.get(name, Traffic(0, 0))
            # After a counter went down (the interface was made anew, or it wrapped), its value is the increase.
            self._received += traffic.received - (last.received if traffic.received >= last.received else 0)
            self._sent += traffic.sent - (last.sent if traffic.sent >= last.sent else 0)
        self._last = now
        return Traffic(self._received, self._sent)

    def _read(self) -> dict[str, Traffic] | None:
        try:
            counters = psutil.net_io_counters(pernic=True, nowrap=False)
        except (OSError, RuntimeError, ValueError):
            return None
        if not counters:
            return None
        counted = self._interfaces or {name for name in counters if is_hardware(name)} or counters.keys() - {"lo"}
        return {
            name: Traffic(counter.bytes_recv, counter.bytes_sent)
            for name, counter in counters.items()
            if name in counted
        }


def is_hardware(name: str) -> bool:
    """Tell whether a device stands behind the network interface `name`, a virtual machine's included."""
    return os.path.exists(f"{INTERFACES}/{name}/device")
