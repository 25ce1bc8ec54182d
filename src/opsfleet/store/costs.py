"""Costs of language models, read from the rows of whole days.

By server and tag from each server's rows, by region and environment from those of the organization, which outlive the
servers. `period` and the bounds of `timestamp` stand in every query, so that only the days' parts of the months in
question are read.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from opsfleet.domain.costs import Cost, CostKey, DayCost, DayRange, KeyCost, day_start, hour_start
from opsfleet.store.database import Connection

_SUMS = """
    coalesce(sum(llm_cost_usd) FILTER (WHERE timestamp >= $3), 0) AS usd,
    coalesce(sum(llm_requests) FILTER (WHERE timestamp >= $3), 0) AS requests,
    coalesce(sum(llm_cost_usd) FILTER (WHERE timestamp < $3), 0) AS usd_before,
    coalesce(sum(llm_requests) FILTER (WHERE timestamp < $3), 0) AS requests_before
"""

_COLLECTED = "HAVING count(llm_cost_usd) > 0 OR count(llm_requests) > 0"

_SERVERS_ROWS = """
    server_metrics_aggregated AS metrics
    JOIN managed_servers AS servers ON servers.id = metrics.server_id AND servers.organization_id = $1
    WHERE period = '1d' AND timestamp >= $2
"""

_FLEET_ROWS = "fleet_metrics WHERE organization_id = $1 AND period = '1d' AND timestamp >= $2"

_BY_SERVER = f"""
    SELECT servers.id::text AS key, servers.name, servers.tags, {_SUMS}
    FROM {_SERVERS_ROWS} AND timestamp < $4
    GROUP BY servers.id {_COLLECTED}
"""

_KEYS = {
    CostKey.SERVER: _BY_SERVER,
    CostKey.REGION: f"""
        SELECT region AS key, NULL AS name, {_SUMS} FROM {_FLEET_ROWS} AND timestamp < $4
        GROUP BY region {_COLLECTED}
    """,
    CostKey.ENVIRONMENT: f"""
        SELECT environment AS key, NULL AS name, {_SUMS} FROM {_FLEET_ROWS} AND timestamp < $4
        GROUP BY environment {_COLLECTED}
    """,
    CostKey.TAG: f"""
        SELECT coalesce(tag, '') AS key, NULL AS name, sum(usd) AS usd, sum(requests) AS requests,
            sum(usd_before) AS usd_before, sum(requests_before) AS requests_before
        FROM ({_BY_SERVER}) AS by_server
        LEFT JOIN LATERAL (SELECT DISTINCT tag FROM jsonb_array_elements_text(by_server.tags) AS tag) AS each ON true
        GROUP BY coalesce(tag, '')
    """,
}
"""Statements of the costs by each key; it is empty for servers that have none. $3 parts the range from the one before.
"""

_DAYS = {
    True: f"FROM {_SERVERS_ROWS} AND timestamp < $3 GROUP BY timestamp ORDER BY timestamp",
    False: f"FROM {_FLEET_ROWS} AND timestamp < $3 GROUP BY timestamp ORDER BY timestamp",
}


@dataclass(frozen=True, slots=True)
class CostPage:
    """One page of keys, the largest first. `whole` and `keys` are the sum and the number of all keys, on any page."""

    items: list[KeyCost]
    whole: Cost
    keys: int


def page_statement(by: CostKey) -> str:
    """Return the statement of a page of costs: its numbers are those of `page`."""
    return f"""
        WITH costs AS ({_KEYS[by]}), whole AS (
            SELECT count(*) AS keys, coalesce(sum(usd), 0) AS whole_usd, coalesce(sum(requests), 0) AS whole_requests,
                coalesce(sum(usd_before), 0) AS whole_usd_before,
                coalesce(sum(requests_before), 0) AS whole_requests_before
            FROM costs
        )
        SELECT * FROM whole LEFT JOIN LATERAL (
            SELECT key, name, usd, requests, usd_before, requests_before FROM costs
            WHERE $5::text IS NULL OR usd < $5::text::numeric
                OR (usd = $5::text::numeric AND key COLLATE "C" > $6::text COLLATE "C")
            ORDER BY usd DESC, key COLLATE "C" LIMIT $7
        ) AS page ON true
    """


async def page(
    connection: Connection,
    organization_id: UUID,
    by: CostKey,
    days: DayRange,
    *,
    after: tuple[Decimal, str] | None,
    limit: int,
) -> CostPage:
    """Return the costs of the organization by key over `days` and the range before, the largest first.

    `after` is the cost and the key (empty for none) of the item before the page. A server of several tags counts
    under each.
    """
    rows = await connection.fetch(
        page_statement(by),
        organization_id,
        day_start(days.before.start),
        day_start(days.start),
        day_start(days.end),
        f"{after[0]:f}" if after else None,
        after[1] if after else None,
        limit,
    )
    first = rows[0]
    return CostPage(
        items=[
            KeyCost(
                row["key"] or None,
                row["name"],
                Cost(row["usd"], int(row["requests"]), row["usd_before"], int(row["requests_before"])),
            )
            for row in rows
            if row["key"] is not None
        ],
        whole=Cost(
            first["whole_usd"],
            int(first["whole_requests"]),
            first["whole_usd_before"],
            int(first["whole_requests_before"]),
        ),
        keys=first["keys"],
    )


def daily_statement(*, of_servers: bool) -> str:
    """Return the statement of costs per day: its numbers are those of `daily`."""
    return f"SELECT timestamp, sum(llm_cost_usd) AS usd, sum(llm_requests) AS requests {_DAYS[of_servers]}"


async def daily(
    connection: Connection, organization_id: UUID, days: DayRange, *, of_servers: bool = False
) -> list[DayCost]:
    """Return what each of `days` cost the organization; None on days of which nothing was collected.

    With `of_servers` only the servers that are still registered count.
    """
    rows = await connection.fetch(
        daily_statement(of_servers=of_servers), organization_id, day_start(days.start), day_start(days.end)
    )
    found = {
        row["timestamp"].date(): (row["usd"], int(row["requests"]) if row["requests"] is not None else None)
        for row in rows
    }
    return [DayCost(day, *found.get(day, (None, None))) for day in days.days]


async def complete_until(connection: Connection, now: datetime) -> datetime:
    """Return up to when the rows of days hold all that was collected, in any organization, to the hour.

    The hour that is not over is not in its day yet, and neither is what a noted roll-up will bring.
    """
    due: datetime | None = await connection.fetchval(
        """
        SELECT min(CASE WHEN period = '5m' THEN bucket ELSE greatest(bucket, date_trunc('hour', noted_at, 'UTC')) END)
        FROM metrics_rollups_due WHERE period IN ('5m', '15m', '1h', '1d')
        """
    )
    return hour_start(min(now, due) if due is not None else now)
