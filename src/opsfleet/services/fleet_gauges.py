"""The state of an organization's servers in numbers, for Prometheus."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from opsfleet.domain.servers import ServerStatus
from opsfleet.store import fleet_gauges, servers
from opsfleet.store.database import Database
from opsfleet.store.fleet_gauges import Averages, ServerGauges

FRESH = timedelta(minutes=5)
"""Prometheus, too, forgets a value after so long."""


@dataclass(frozen=True, slots=True)
class FleetGauges:
    """All servers of an organization by status and health, averages, and `servers`, of which `left_out` are missing."""

    counts: Sequence[tuple[ServerStatus, str | None, int]]
    averages: Averages
    servers: Sequence[ServerGauges]
    left_out: int


class FleetGaugesService:
    """Reads what is known at this moment. `metrics_interval` is in seconds; metrics older than three are not told."""

    def __init__(self, database: Database, metrics_interval: float) -> None:
        self._database = database
        self._fresh = max(FRESH, timedelta(seconds=3 * metrics_interval))

    async def read(self, organization_id: UUID, limit: int) -> FleetGauges:
        """Return the gauges of an organization, with at most `limit` of its active servers in name order."""
        since = datetime.now(UTC) - self._fresh
        async with self._database.connection() as connection:
            counts = await servers.summary(connection, organization_id)
            averages = await fleet_gauges.averages(connection, organization_id, since=since)
            found = await fleet_gauges.of_servers(connection, organization_id, limit=limit, since=since)
        active = sum(count for status, _, count in counts if status is ServerStatus.ACTIVE)
        return FleetGauges(counts, averages, found, max(0, active - len(found)))
