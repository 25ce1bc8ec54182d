"""Changes of health."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from opsfleet.domain.health import HealthStatus
from opsfleet.store.database import Connection


@dataclass(frozen=True, slots=True)
class Transition:
    """A server's health went from one status to another; `from_status` is null at its first check."""

    server_id: UUID
    from_status: HealthStatus | None
    to_status: HealthStatus
    at: datetime
    reason: str | None


async def until(
    connection: Connection, organization_id: UUID, server_id: UUID, *, start: datetime, end: datetime
) -> list[tuple[datetime, HealthStatus]]:
    """Return since when a server had which health before `end`, oldest first: from the one it had at `start`."""
    rows = await connection.fetch(
        """
        SELECT at, to_status FROM health_transitions
        WHERE server_id = (SELECT id FROM managed_servers WHERE organization_id = $1 AND id = $2)
            AND at < $4
            AND at >= coalesce(
                (SELECT max(at) FROM health_transitions WHERE server_id = $2 AND at <= $3), '-infinity'::timestamptz
            )
        ORDER BY at
        """,
        organization_id,
        server_id,
        start,
        end,
    )
    return [(row["at"], HealthStatus(row["to_status"])) for row in rows]


async def select(
    connection: Connection,
    organization_id: UUID,
    server_id: UUID,
    *,
    start: datetime,
    end: datetime,
    before: datetime | None,
    limit: int,
) -> list[Transition]:
    """Return a server's transitions in `[start, end)`, newest first; those older than `before` when it is given."""
    rows = await connection.fetch(
        """
        SELECT server_id, from_status, to_status, at, reason FROM health_transitions
        WHERE server_id = (SELECT id FROM managed_servers WHERE organization_id = $1 AND id = $2)
            AND at >= $3 AND at < least($4::timestamptz, $5::timestamptz)
        ORDER BY at DESC LIMIT $6
        """,
        organization_id,
        server_id,
        start,
        end,
        before,
        limit,
    )
    return [
        Transition(
            server_id=row["server_id"],
            from_status=HealthStatus(row["from_status"]) if row["from_status"] else None,
            to_status=HealthStatus(row["to_status"]),
            at=row["at"],
            reason=row["reason"],
        )
        for row in rows
    ]
