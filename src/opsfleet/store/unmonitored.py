"""Times in which nobody checked a server."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from opsfleet.store.database import Connection


async def insert(connection: Connection, gaps: Sequence[tuple[UUID, datetime, datetime]]) -> None:
    """Record for each server that nobody checked it from one moment to another; a gap known already stays."""
    await connection.execute(
        """
        INSERT INTO unmonitored_periods (server_id, started_at, ended_at)
        SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[])
        ON CONFLICT DO NOTHING
        """,
        [server_id for server_id, _, _ in gaps],
        [started_at for _, started_at, _ in gaps],
        [ended_at for _, _, ended_at in gaps],
    )


async def select(
    connection: Connection, organization_id: UUID, server_id: UUID, *, start: datetime, end: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the times that overlap `[start, end)` in which nobody checked a server, oldest first."""
    rows = await connection.fetch(
        """
        SELECT started_at, ended_at FROM unmonitored_periods
        WHERE server_id = (SELECT id FROM managed_servers WHERE organization_id = $1 AND id = $2)
            AND started_at < $4 AND ended_at > $3
        ORDER BY started_at
        """,
        organization_id,
        server_id,
        start,
        end,
    )
    return [(row["started_at"], row["ended_at"]) for row in rows]
