"""How much one caller may ask of the agent."""

import msgspec


class Limits(msgspec.Struct, frozen=True):
    """Sizes in bytes, times in seconds.

    `arrival` is for a whole request and, on a new connection, for the TLS handshake too. `idle` is well above the
    control plane's intervals, so that a polling connection is kept. `linger` is for the rest of a request that was
    refused, and `stop` for running requests at the end.
    """

    connections: int = 64
    head: int = 16 * 1024
    body: int = 64 * 1024
    unsent: int = 64 * 1024
    arrival: float = 10.0
    idle: float = 180.0
    linger: float = 2.0
    stop: float = 5.0
