"""A fleet whose counters grow, and the database that several workers share."""

import asyncio
import base64
from collections.abc import AsyncIterator
from ipaddress import ip_network
from typing import Any

import pytest
from tests.support.product import SECRET_KEY

from opsfleet.domain.ids import DEFAULT_ORGANIZATION
from opsfleet.polling import NetworkPolicy
from opsfleet.services.servers import ServerService
from opsfleet.simulate.behaviour import Behaviour, MetricsReport
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store.database import Database
from opsfleet.vault import Vault

FIRST = 1_000_000


class Shared:
    """Twenty servers, each with a counter that all workers see grow, and what is stored of them."""

    def __init__(self, dsn: str, database: Database, agents: SimulatedFleet) -> None:
        self.dsn = dsn
        self.database = database
        self.agents = agents
        self._count = FIRST
        self._growing: asyncio.Task[None] | None = None

    async def register(self) -> None:
        """Register the servers; their counters do not grow yet."""
        policy = NetworkPolicy(http_allow=[ip_network("127.0.0.0/8")])
        servers = ServerService(self.database, Vault(base64.b64decode(SECRET_KEY)), policy)
        for number in range(self.agents.servers):
            row = {"name": f"s-{number}", "hostname": f"s-{number}", "api_url": self.agents.url(number)}
            await servers.register(DEFAULT_ORGANIZATION, {**row, "api_token": "simulated-token"})
        self._report()

    async def grow(self) -> None:
        """Once every server was collected, let the counters grow until `settle`."""
        await self.until(
            "SELECT count(*) = $1 FROM server_last_collections WHERE network_rx_bytes = $2", self.agents.servers, FIRST
        )
        self._growing = asyncio.create_task(self._grow())

    async def settle(self) -> None:
        """Let the counters rest, wait until that is stored, and prove that what is stored is what they grew by."""
        await self.rest()
        await self.until(
            "SELECT count(*) = $1 FROM server_last_collections WHERE network_rx_bytes = $2",
            self.agents.servers,
            self._count,
        )
        assert self._count > FIRST
        sums = await self.fetch(
            "SELECT sum(network_rx_bytes)::bigint FROM server_metrics_aggregated WHERE period = '1m' GROUP BY server_id"
        )
        assert [row[0] for row in sums] == [self._count - FIRST] * self.agents.servers
        doubles = await self.fetch(
            "SELECT 1 FROM server_metrics_aggregated WHERE period = '1m' "
            "GROUP BY server_id, timestamp HAVING count(*) > 1"
        )
        assert not doubles, "a minute is there twice"

    async def rest(self) -> None:
        """Let the counters grow no more."""
        if self._growing is not None:
            self._growing.cancel()
            await asyncio.gather(self._growing, return_exceptions=True)
            self._growing = None

    async def _grow(self) -> None:
        while True:
            await asyncio.sleep(0.05)
            self._count += 7
            self._report()

    def _report(self) -> None:
        behaviour = Behaviour(metrics=MetricsReport(network_rx_bytes=self._count))
        self.agents.set_behaviour(range(self.agents.servers), behaviour)

    async def fetch(self, query: str, *values: Any) -> list[Any]:
        """Return the rows of a query."""
        async with self.database.connection() as connection:
            return list(await connection.fetch(query, *values))

    async def value(self, query: str, *values: Any) -> Any:
        """Return the first value of a query."""
        async with self.database.connection() as connection:
            return await connection.fetchval(query, *values)

    async def until(self, query: str, *values: Any, seconds: float = 60) -> None:
        """Ask until the answer is true; fails after `seconds`."""
        async with asyncio.timeout(seconds):
            while not await self.value(query, *values):
                await asyncio.sleep(0.05)

    async def checks_after(self, moment: Any, count: int = 1) -> None:
        """Wait until checks were stored that were made after `moment`."""
        await self.until("SELECT count(*) >= $2 FROM server_health_checks WHERE timestamp > $1", moment, count)

    async def lease(self) -> tuple[int, Any]:
        """Return the current term and its holder."""
        (row,) = await self.fetch("SELECT term, holder FROM worker_leases")
        return row["term"], row["holder"]


@pytest.fixture
async def shared(dsn: str, database: Database, agents: SimulatedFleet) -> AsyncIterator[Shared]:
    """Twenty servers on a database of the test's own."""
    found = Shared(dsn, database, agents)
    await found.register()
    yield found
    await found.rest()
