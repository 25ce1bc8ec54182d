"""Rows of small tables that are past their retention."""

from datetime import datetime

from opsfleet.store.database import Connection

# A server's newest transition before the limit stays: it says what its health was at the limit.
_STATEMENTS = (
    """
    DELETE FROM health_transitions WHERE (server_id, at) IN (
        SELECT server_id, at FROM health_transitions AS old
        WHERE at < $1 AND EXISTS (
            SELECT FROM health_transitions AS newer
            WHERE newer.server_id = old.server_id AND newer.at > old.at AND newer.at < $1
        )
        LIMIT $2
    )
    """,
    """
    DELETE FROM unmonitored_periods WHERE (server_id, started_at) IN (
        SELECT server_id, started_at FROM unmonitored_periods WHERE ended_at < $1 LIMIT $2
    )
    """,
)


async def delete(connection: Connection, before: datetime, limit: int) -> int:
    """Remove at most `limit` rows of each kind that ended before `before`; return the most that one kind had."""
    tags = [await connection.execute(statement, before, limit) for statement in _STATEMENTS]
    return max(int(tag.rpartition(" ")[2]) for tag in tags)
