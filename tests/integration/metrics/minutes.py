"""History of a fleet as the worker would have written it, and what its roll-ups come to."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.domain.metrics import Period
from opsfleet.domain.partitions import Month
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.rollups import RollupService
from opsfleet.store import metrics, partitions
from opsfleet.store.database import Database

MINUTE = timedelta(minutes=1)
DAY = datetime(2028, 2, 29, tzinfo=UTC)
"""A leap day, and the last of its month."""

LATER = DAY + timedelta(days=1, hours=1)
"""When everything of the day is due."""

SUMS = ("network_rx_bytes", "network_tx_bytes", "llm_requests", "llm_cost_usd")
PERCENTAGES = ("cpu_percent", "memory_percent", "disk_percent")
LATEST = ("active_services", "failed_services", "total_services", "active_users", "total_users")


class History:
    """Servers, their minutes, and the service that rolls them up."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.maintenance = MaintenanceService(database)
        self.rollups = RollupService(database, self.maintenance)

    async def prepare(self, moment: datetime = DAY) -> None:
        """Make the partitions of a month."""
        for table in (metrics.SERVER_METRICS, metrics.FLEET_METRICS):
            await partitions.ensure(self.database, table, [Month.of(moment)])

    async def add_server(
        self,
        name: str,
        region: str | None = None,
        environment: str | None = None,
        organization_id: UUID = DEFAULT_ORGANIZATION,
    ) -> UUID:
        """Add a server to the registry."""
        server_id = new_id()
        async with self.database.connection() as connection:
            await connection.execute(
                """
                INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, api_token_hash,
                    api_token_ciphertext, region, environment)
                VALUES ($1, $2, $3, 'h', 'https://h', '', '', $4, $5)
                """,
                server_id,
                organization_id,
                name,
                region,
                environment,
            )
        return server_id

    async def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Write rows of minutes (`server_id`, `timestamp` and values) and note them, in one transaction."""
        async with self.database.transaction() as connection:
            for row in rows:
                values = {"period": "1m", "sample_count": 1, **row}
                await connection.execute(
                    f"INSERT INTO server_metrics_aggregated ({', '.join(values)}) "
                    f"VALUES ({', '.join(f'${number}' for number in range(1, len(values) + 1))})",
                    *values.values(),
                )
            await metrics.note_due(connection, {row["timestamp"] for row in rows})

    async def add_many(self, start: datetime, minutes: int, seed: int = 0) -> None:
        """Write and note a row of each server for each of so many minutes, with values of any kind, and nulls."""
        async with self.database.transaction() as connection:
            await connection.execute("SELECT setseed($1)", seed / 1000)
            await connection.execute(
                """
                INSERT INTO server_metrics_aggregated (period, timestamp, server_id, sample_count, cpu_percent,
                    memory_percent, disk_percent, cpu_percent_max, network_rx_bytes, network_tx_bytes, llm_requests,
                    llm_cost_usd, active_services, active_users)
                SELECT '1m', $1::timestamptz + number * interval '1 minute', id, 1 + floor(3 * random()), 50 * random(),
                    CASE WHEN random() < 0.7 THEN 100 * random() END, 40, CASE WHEN random() < 0.5 THEN 60 END,
                    CASE WHEN random() < 0.9 THEN (1e12 * random())::bigint END, (1e6 * random())::bigint,
                    CASE WHEN random() < 0.5 THEN (10 * random())::bigint END, (random() * 1e6)::bigint / 1e6::numeric,
                    CASE WHEN random() < 0.5 THEN (20 * random())::smallint END, (1000 * random())::integer
                FROM generate_series(0, $2 - 1) AS number, managed_servers
                """,
                start,
                minutes,
            )
            await metrics.note_due(connection, {start + number * MINUTE for number in range(minutes)})

    async def roll_up(self, now: datetime = LATER) -> int:
        """Roll up what is due at `now`."""
        return await self.rollups.roll_up(now)

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, *values))

    async def rows(self, period: Period, server_id: UUID | None = None) -> list[dict[str, Any]]:
        """Return the rows of a period, of one server or of all, oldest first."""
        found = await self.fetch(
            "SELECT * FROM server_metrics_aggregated WHERE period = $1 AND ($2::uuid IS NULL OR server_id = $2) "
            "ORDER BY server_id, timestamp",
            period.value,
            server_id,
        )
        return [dict(row) for row in found]

    async def noted(self) -> list[tuple[str, datetime]]:
        """Return what is noted as due, or will be."""
        rows = await self.fetch("SELECT period, bucket FROM metrics_rollups_due ORDER BY 1, 2")
        return [(row["period"], row["bucket"]) for row in rows]

    async def everything(self) -> list[Any]:
        """Return all that roll-ups wrote."""
        return [
            *await self.fetch("SELECT * FROM server_metrics_aggregated ORDER BY period, timestamp, server_id"),
            *await self.fetch(
                "SELECT * FROM fleet_metrics ORDER BY period, timestamp, organization_id, region, environment"
            ),
        ]

    async def totals(self, period: Period) -> dict[UUID, tuple[Decimal | None, ...]]:
        """Return for each server the sums of its increases and its number of samples."""
        rows = await self.fetch(
            f"SELECT server_id, {', '.join(f'sum({name})' for name in SUMS)}, sum(sample_count) "
            "FROM server_metrics_aggregated WHERE period = $1 GROUP BY server_id",
            period.value,
        )
        return {row[0]: tuple(row)[1:] for row in rows}
