"""One pass over all servers that metrics are collected from."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from uuid import UUID

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.metrics import LastCollection
from opsfleet.polling import Outcome
from opsfleet.services.metric_reports import collection_of
from opsfleet.services.targets import PolledServer
from opsfleet.store.metrics import CollectionToWrite

_ANSWERING = (HealthStatus.HEALTHY, HealthStatus.DEGRADED)


def choose(servers: Sequence[PolledServer]) -> list[PolledServer]:
    """Return the servers to collect from: those that answer well enough, the most recently seen first."""
    wanted = [server for server in servers if server.health in _ANSWERING]
    wanted.sort(key=lambda server: server.seen_at, reverse=True)
    return wanted


class MetricsCycle:
    """Takes the outcomes of one cycle and passes collections on to be recorded.

    All rows of a cycle stand for the same `minute`, so that a server has one row for each cycle, whenever in it the
    server was asked. `known` holds what is remembered of the servers' last collections.
    """

    def __init__(
        self,
        servers: Sequence[PolledServer],
        minute: datetime,
        known: Mapping[UUID, LastCollection],
        record: Callable[[CollectionToWrite], None],
    ) -> None:
        self._servers: Mapping[UUID, PolledServer] = {server.id: server for server in servers}
        self._minute = minute
        self._known = known
        self._record = record
        self._remaining = len(servers)
        self.collected = 0
        self.failed: list[str] = []
        self.done = asyncio.Event()
        self._ended = False
        if not servers:
            self.done.set()

    def take(self, outcome: Outcome) -> None:
        """Take the outcome of one server of the cycle (the sink of its polls); after `end` it counts for nothing."""
        if self._ended:
            return
        server = self._servers[outcome.target.key]  # type: ignore[index]  # our keys are the servers' ids
        collection = collection_of(outcome, server.id, self._minute, server.source.read_metrics)
        if collection is None or collection.reading is None:
            self.failed.append(server.name)
        else:
            self.collected += 1
        if collection is not None:
            known = self._known.get(server.id)
            # A failure that is remembered already need not be written again.
            if collection.reading is not None or known is None or known.error != collection.error:
                self._record(CollectionToWrite(collection, server.revision, known))
        self._remaining -= 1
        if not self._remaining:
            self.done.set()

    def end(self) -> None:
        """End the cycle, whether or not it is complete: what comes later is neither recorded nor counted."""
        self._ended = True
