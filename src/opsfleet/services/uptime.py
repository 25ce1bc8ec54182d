"""Uptime: how long a server was in which health, and how long nobody looked."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

from opsfleet.domain.errors import NotFoundError
from opsfleet.domain.uptime import Uptime, uptime
from opsfleet.store import servers, transitions, unmonitored
from opsfleet.store.database import Database


class UptimeService:
    """Works out uptimes. A server whose last check is longer ago than `gap_after` is not monitored since then."""

    def __init__(self, database: Database, gap_after: timedelta) -> None:
        self._database = database
        self._gap_after = gap_after

    async def of_server(self, organization_id: UUID, server_id: UUID, *, start: datetime, end: datetime) -> Uptime:
        """Return a server's uptime in `[start, end)`, or until now when `end` is yet to come.

        Raises:
            NotFoundError: when the organization has no such server.
        """
        now = datetime.now(UTC)
        end = max(start, min(end, now))
        async with self._database.connection() as connection:
            server = await servers.get(connection, organization_id, server_id)
            if server is None:
                raise NotFoundError(f"there is no server {server_id}")
            changes = await transitions.until(connection, organization_id, server_id, start=start, end=end)
            gaps = await unmonitored.select(connection, organization_id, server_id, start=start, end=end)
        last = server.last_health_check_at
        if last is not None and now - last > self._gap_after:
            gaps.append((last, now))
        return uptime(start, end, changes, gaps)
