"""A metrics worker on a database, with what a test wants to do and see."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from opsfleet.domain.health import HealthCheck, HealthStatus
from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.polling import NetworkPolicy, PollingEngine
from opsfleet.services.health import HealthService
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.metrics import MetricsService
from opsfleet.services.servers import ServerService
from opsfleet.services.targets import TargetSource
from opsfleet.store import targets
from opsfleet.store.database import Database
from opsfleet.store.health_checks import CheckToWrite
from opsfleet.vault import Vault
from opsfleet.workers.metrics import FleetMetricsWorker, stop_metrics_worker
from opsfleet.workers.polling import Pacing

KEY = bytes(range(32))


class Collecting:
    """A registry, and a worker that collects when a test says so."""

    def __init__(self, database: Database, engine: PollingEngine) -> None:
        self.database = database
        self.engine = engine
        self.vault = Vault(KEY)
        self.servers = ServerService(database, self.vault, NetworkPolicy(http_allow=engine._policy._http_allow))
        self.health = HealthService(database, engine, self.vault)
        self.maintenance = MaintenanceService(database)
        self.metrics = MetricsService(database, engine, self.vault, self.maintenance)
        self.source, self.worker = self.new_worker()

    def new_worker(self) -> tuple[TargetSource, FleetMetricsWorker]:
        """Return another worker that remembers nothing, as after a restart of the control plane."""
        source = TargetSource(self.database, self.vault)
        pacing = Pacing(interval=3600.0, batch_size=10, batch_delay=0.0, buffer_capacity=10_000)
        worker = FleetMetricsWorker(source, self.engine, pacing, service=self.metrics, maintenance=self.maintenance)
        return source, worker

    async def add(
        self, name: str, api_url: str, health: HealthStatus | None = HealthStatus.HEALTHY, **more: Any
    ) -> UUID:
        """Register a server whose health is known already."""
        row = {"name": name, "hostname": name, "api_url": api_url, "api_token": "simulated-token", **more}
        server = await self.servers.register(DEFAULT_ORGANIZATION, row)
        if health is not None:
            async with self.database.connection() as connection:
                (target,) = await targets.select(connection, [server.id])
            check = HealthCheck(server.id, datetime.now(UTC), health, 1.0)
            await self.health.record([CheckToWrite(check, target.revision, None)])
        self.source._note_change()
        return server.id

    async def cycle(self, at: datetime, worker: FleetMetricsWorker | None = None) -> None:
        """Run one cycle that was to begin at `at`, and wait until its results are stored."""
        await (worker or self.worker).run_cycle(at)

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, *values))

    async def rows(self, server_id: UUID) -> list[Any]:
        """Return the rows of minutes of a server, oldest first."""
        return await self.fetch(
            "SELECT * FROM server_metrics_aggregated WHERE server_id = $1 AND period = '1m' ORDER BY timestamp",
            server_id,
        )


@pytest.fixture
async def collecting(database: Database, engine: PollingEngine) -> AsyncIterator[Collecting]:
    """A registry and a metrics worker on a database of the test's own."""
    found = Collecting(database, engine)
    await found.worker.initialize()
    yield found
    await stop_metrics_worker(found.worker)
