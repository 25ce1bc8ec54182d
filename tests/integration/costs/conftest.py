"""Organizations whose servers spent money on language models, day by day."""

from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from opsfleet.domain.costs import day_start
from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.services.costs import CostService
from opsfleet.store.database import Database


class Spending:
    """What a test wants to do to the history of costs, and the service that tells of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.costs = CostService(database)
        self._places: dict[UUID, tuple[UUID, str, str]] = {}

    async def execute(self, query: str, *values: Any) -> None:
        """Run one statement."""
        async with self.database.connection() as connection:
            await connection.execute(query, *values)

    async def organization(self, slug: str) -> UUID:
        """Add an organization."""
        organization_id = new_id()
        await self.execute("INSERT INTO organizations (id, name, slug) VALUES ($1, $2, $2)", organization_id, slug)
        return organization_id

    async def server(
        self,
        name: str,
        *,
        organization_id: UUID = DEFAULT_ORGANIZATION,
        region: str | None = None,
        environment: str | None = None,
        tags: Sequence[str] = (),
    ) -> UUID:
        """Add a server."""
        server_id = new_id()
        await self.execute(
            """
            INSERT INTO managed_servers (id, organization_id, name, hostname, api_url, region, environment, tags)
            VALUES ($1, $2, $3, 'h', 'https://h', $4, $5, $6)
            """,
            server_id,
            organization_id,
            name,
            region,
            environment,
            list(tags),
        )
        self._places[server_id] = organization_id, region or "", environment or ""
        return server_id

    async def spend(
        self, server_id: UUID, start: date, *amounts: str | Decimal | float | None, requests: int = 10
    ) -> None:
        """Record what a server spent on the days from `start` on, as the roll-up does; None for a day without rows."""
        organization_id, region, environment = self._places[server_id]
        spent = [
            (day_start(start + timedelta(days=number)), Decimal(str(amount)))
            for number, amount in enumerate(amounts)
            if amount is not None
        ]
        async with self.database.transaction() as connection:
            await connection.executemany(
                """
                INSERT INTO server_metrics_aggregated
                    (server_id, timestamp, period, sample_count, llm_cost_usd, llm_requests)
                VALUES ($1, $2, '1d', 1440, $3, $4)
                """,
                [(server_id, day, amount, requests) for day, amount in spent],
            )
            await connection.executemany(
                """
                INSERT INTO fleet_metrics AS fleet (organization_id, period, timestamp, region, environment, servers,
                    sample_count, cpu_percent_count, memory_percent_count, disk_percent_count, llm_cost_usd,
                    llm_requests)
                VALUES ($1, '1d', $2, $3, $4, 1, 1440, 0, 0, 0, $5, $6)
                ON CONFLICT (organization_id, period, timestamp, region, environment) DO UPDATE
                SET llm_cost_usd = fleet.llm_cost_usd + excluded.llm_cost_usd,
                    llm_requests = fleet.llm_requests + excluded.llm_requests
                """,
                [(organization_id, day, region, environment, amount, requests) for day, amount in spent],
            )

    async def by(self, by: str, start: str, end: str, **more: Any) -> dict[str | None, Any]:
        """Return what the service tells by a key: the items by their name or key."""
        report = await self.costs.report(DEFAULT_ORGANIZATION, by, start=start, end=end, **more)
        return {item.of.name or item.of.key: item for item in report.items}

    async def due(self, period: str, bucket: datetime) -> None:
        """Note, at its start, that a bucket is to be rolled up again."""
        await self.execute("INSERT INTO metrics_rollups_due VALUES ($1, $2, $2)", period, bucket)


@pytest.fixture
def spending(database: Database) -> Spending:
    """The history of costs of a database of the test's own."""
    return Spending(database)
