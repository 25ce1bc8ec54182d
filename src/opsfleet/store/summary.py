"""What a fleet is at this moment: counts of its servers, its last metrics, and the LLM use of a day."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from uuid import UUID

from opsfleet.domain.health import HealthStatus
from opsfleet.domain.servers import ServerStatus
from opsfleet.store.database import Connection


@dataclass(frozen=True, slots=True)
class ServerCount:
    """How many servers have the same status, health, region and environment."""

    status: ServerStatus
    health: HealthStatus | None
    region: str | None
    environment: str | None
    servers: int


@dataclass(frozen=True, slots=True)
class FleetMinute:
    """The metrics of a whole organization in one minute: averages of percentages over the servers, sums of users."""

    timestamp: datetime
    servers: int
    cpu_percent: float | None
    memory_percent: float | None
    disk_percent: float | None
    active_users: int | None
    total_users: int | None


async def counts(connection: Connection, organization_id: UUID) -> list[ServerCount]:
    """Return the numbers of the organization's servers."""
    rows = await connection.fetch(
        """
        SELECT status, health_status, region, environment, count(*) AS servers
        FROM managed_servers WHERE organization_id = $1
        GROUP BY status, health_status, region, environment
        """,
        organization_id,
    )
    return [
        ServerCount(
            ServerStatus(row["status"]),
            HealthStatus(row["health_status"]) if row["health_status"] else None,
            row["region"],
            row["environment"],
            row["servers"],
        )
        for row in rows
    ]


async def newest_minute(
    connection: Connection, organization_id: UUID, *, since: datetime, until: datetime
) -> FleetMinute | None:
    """Return the newest minute of the organization that began at `since` or later and at `until` or before."""
    row = await connection.fetchrow(
        """
        SELECT timestamp, sum(servers) AS servers,
            round((sum(cpu_percent_sum) / nullif(sum(cpu_percent_count), 0))::numeric, 2)::float8 AS cpu,
            round((sum(memory_percent_sum) / nullif(sum(memory_percent_count), 0))::numeric, 2)::float8 AS memory,
            round((sum(disk_percent_sum) / nullif(sum(disk_percent_count), 0))::numeric, 2)::float8 AS disk,
            sum(active_users)::bigint AS active_users, sum(total_users)::bigint AS total_users
        FROM fleet_metrics
        WHERE organization_id = $1 AND period = '1m' AND timestamp >= $2 AND timestamp <= $3
        GROUP BY timestamp ORDER BY timestamp DESC LIMIT 1
        """,
        organization_id,
        since,
        until,
    )
    if row is None:
        return None
    return FleetMinute(
        row["timestamp"],
        row["servers"],
        row["cpu"],
        row["memory"],
        row["disk"],
        row["active_users"],
        row["total_users"],
    )


async def llm_of_day(connection: Connection, organization_id: UUID, day: datetime) -> tuple[int, Decimal]:
    """Return the LLM requests and their cost (US dollars) of the day (UTC) that starts at `day`."""
    row = await connection.fetchrow(
        # Quarters are rolled up while they last; hours and days only as far as their parts are complete.
        """
        SELECT coalesce(sum(llm_requests), 0)::bigint AS requests, coalesce(sum(llm_cost_usd), 0) AS cost
        FROM fleet_metrics
        WHERE organization_id = $1 AND period = '15m' AND timestamp >= $2 AND timestamp < $3
        """,
        organization_id,
        day,
        day + timedelta(days=1),
    )
    assert row is not None
    return row["requests"], row["cost"]
