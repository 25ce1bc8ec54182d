"""Servers that were removed and whose history is still to go."""

from uuid import UUID

from opsfleet.store.database import Connection

_HISTORY = (
    "server_health_checks",
    "health_transitions",
    "unmonitored_periods",
    "server_metrics_aggregated",
    "server_last_collections",
)


async def select(connection: Connection, limit: int) -> list[UUID]:
    """Return removed servers whose history is still there, the longest removed first."""
    rows = await connection.fetch("SELECT server_id FROM removed_servers ORDER BY removed_at LIMIT $1", limit)
    return [row["server_id"] for row in rows]


async def purge(connection: Connection, server_id: UUID) -> None:
    """Remove the history of one removed server, and the note about it."""
    for table in _HISTORY:
        await connection.execute(f"DELETE FROM {table} WHERE server_id = $1", server_id)
    await connection.execute("DELETE FROM removed_servers WHERE server_id = $1", server_id)
