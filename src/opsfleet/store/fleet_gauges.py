"""What is known of an organization's servers at this moment, for whoever draws it elsewhere."""

from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from opsfleet.domain.health import HealthStatus
from opsfleet.store.database import Connection
from opsfleet.store.metrics import HOUR_OF_ROW


class ServerGauges(NamedTuple):
    """One server. Percentages are 0 to 100; null where it has none, or the last collection is too old."""

    id: UUID
    name: str
    region: str | None
    environment: str | None
    health_status: HealthStatus | None
    last_seen_at: datetime | None
    response_time_ms: float | None
    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None
    active_services: int | None
    failed_services: int | None
    total_services: int | None
    active_users: int | None
    total_users: int | None


class Averages(NamedTuple):
    """Averages over the servers of an organization, 0 to 100; null when nothing recent is known."""

    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None


# LIMIT 1 keeps the planner from joining whole months in place of looking up one row of each server.
OF_SERVERS = f"""
    SELECT server.id, server.name, server.region, server.environment, server.health_status, server.last_seen_at,
        checked.response_time_ms, measured.*
    FROM (
        SELECT * FROM managed_servers WHERE organization_id = $1 AND status = 'active' ORDER BY name, id LIMIT $2
    ) AS server
    LEFT JOIN server_last_collections AS last ON last.server_id = server.id AND last.minute >= $3
    LEFT JOIN LATERAL (
        SELECT health.response_time_ms FROM server_health_checks AS health
        WHERE health.server_id = server.id AND health.timestamp = server.last_health_check_at LIMIT 1
    ) AS checked ON true
    LEFT JOIN LATERAL (
        SELECT cpu_percent, memory_percent, disk_percent, active_services, failed_services, total_services,
            active_users, total_users
        FROM server_metrics_aggregated
        WHERE period = '1m' AND server_id = server.id AND timestamp = last.minute AND timestamp >= $3
            AND {HOUR_OF_ROW} = date_bin('1 hour', last.minute, timestamptz '2000-01-01 00:00:00+00')
        LIMIT 1
    ) AS measured ON true
    ORDER BY server.name, server.id
"""
"""The query of `of_servers`: its arguments are the organization, the number of servers, and the oldest moment."""


async def of_servers(
    connection: Connection, organization_id: UUID, *, limit: int, since: datetime
) -> list[ServerGauges]:
    """Return the organization's first `limit` active servers by name, with metrics not older than `since`."""
    rows = await connection.fetch(OF_SERVERS, organization_id, limit, since)
    return [ServerGauges._make((*row[:4], HealthStatus(row[4]) if row[4] else None, *row[5:])) for row in rows]


async def averages(connection: Connection, organization_id: UUID, *, since: datetime) -> Averages:
    """Return the averages of the organization's newest minute that is rolled up, if it is not older than `since`."""
    row = await connection.fetchrow(
        """
        SELECT sum(cpu_percent_sum) / nullif(sum(cpu_percent_count), 0),
            sum(memory_percent_sum) / nullif(sum(memory_percent_count), 0),
            sum(disk_percent_sum) / nullif(sum(disk_percent_count), 0)
        FROM fleet_metrics
        WHERE organization_id = $1 AND period = '1m' AND timestamp >= $2 AND timestamp = (
            SELECT max(timestamp) FROM fleet_metrics
            WHERE organization_id = $1 AND period = '1m' AND timestamp >= $2
        )
        """,
        organization_id,
        since,
    )
    return Averages(*row) if row else Averages(None, None, None)
