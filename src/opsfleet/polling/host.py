"""What the engine remembers of one target between polls."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from opsfleet.polling.connection import Connection
    from opsfleet.polling.engine import PollingEngine
    from opsfleet.polling.outcome import Fault, Sink
    from opsfleet.polling.target import Target


class Host:
    """One target's connection and its one poll under way; owner of its connection.

    `sequence` changes whenever a poll starts or ends, so that a deadline noted for an earlier one is recognised.
    `doubtful` hosts hung at their last poll: they wait in a lane of their own.
    """

    __slots__ = (
        "_engine",
        "connecting",
        "connection",
        "doubtful",
        "forgotten",
        "in_flight",
        "path",
        "repeated",
        "requests",
        "sequence",
        "sink",
        "step",
        "target",
        "waiting",
    )

    def __init__(self, engine: PollingEngine, target: Target) -> None:
        self._engine = engine
        self.target = target
        self.requests: dict[str, bytes] = {}
        self.connection: Connection | None = None
        self.connecting: asyncio.Task[None] | None = None
        self.path = ""
        self.sink: Sink | None = None
        self.sequence = 0
        self.in_flight = False
        self.repeated = False
        self.doubtful = False
        self.forgotten = False
        self.step = ""
        # Made when a second poll comes before the first has ended, which is rare: an empty deque takes 600 bytes.
        self.waiting: deque[tuple[Target, str, Sink]] | None = None

    def request(self) -> bytes:
        """Return the request of the current poll, made once for each path."""
        request = self.requests.get(self.path)
        if request is None:
            request = self.requests[self.path] = self.target.request(self.path)
        return request

    def wait(self, target: Target, path: str, sink: Sink) -> None:
        """Let a poll wait until the one under way has ended."""
        if self.waiting is None:
            self.waiting = deque()
        self.waiting.append((target, path, sink))

    def take(self, target: Target, path: str, sink: Sink) -> None:
        """Make this the current poll. A changed target gets a fresh connection."""
        if target is not self.target:
            self.target = target
            self.requests = {}
            self.doubtful = False
            self._engine.drop_connection(self)
        self.path = path
        self.sink = sink
        self.repeated = False

    # ConnectionOwner

    def answered(self, connection: Connection) -> None:
        """Pass the answer on."""
        self._engine.on_answer(self, connection)

    def failed(self, connection: Connection, fault: Fault, *, stale: bool) -> None:
        """Pass the fault on, or repeat on a fresh connection."""
        self._engine.on_failure(self, connection, fault, stale=stale)

    def opened(self) -> None:
        """Count the connection."""
        self._engine.on_opened()

    def closed(self, connection: Connection) -> None:
        """Forget the connection."""
        self._engine.on_closed(self, connection)
