"""How a cycle is spread over time."""

import math
from dataclasses import dataclass

SHORTEST_DELAY = 0.01
"""Seconds. Below this, waking up costs more than the spreading gains."""


@dataclass(frozen=True, slots=True)
class Pace:
    """`batch_size` servers are launched every `delay` seconds."""

    batch_size: int
    delay: float

    def span(self, servers: int) -> float:
        """Return the seconds from the first launch to the last."""
        return max(0, math.ceil(servers / self.batch_size) - 1) * self.delay


def plan(servers: int, *, batch_size: int, delay: float, interval: float) -> Pace:
    """Return the gentlest pace at which all `servers` are launched within half the `interval` (seconds).

    `batch_size` and `delay` are kept while they fit. When they don't, batches grow and the delay shrinks by the same
    factor, just enough.
    """
    wanted = Pace(batch_size, delay)
    room = interval / 2
    excess = wanted.span(servers) / room
    if excess <= 1:
        return wanted
    shorter = max(min(delay, SHORTEST_DELAY), delay / math.sqrt(excess))
    launches = int(room / shorter) + 1
    return Pace(max(batch_size, math.ceil(servers / launches)), shorter)
