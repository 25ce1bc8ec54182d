"""Real PostgreSQL for each test: one migrated template for a run, one clone of it for each test."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from ipaddress import ip_network
from itertools import count

import asyncpg
import pytest

from opsfleet.embedded import EmbeddedPostgres
from opsfleet.polling import Limits, NetworkPolicy, PollingEngine
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.simulate.fleet import SimulatedFleet
from opsfleet.store.database import Database
from opsfleet.store.migrate import migrate
from tests.support.postgres import throw_away_postgres
from tests.support.product import Product, running_product

TEMPLATE = "opsfleet"

_numbers = count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL server whose database `opsfleet` is migrated: the template of all the others."""
    with throw_away_postgres(database=TEMPLATE) as server:

        async def prepare() -> None:
            database = Database(server.dsn)
            await migrate(database)
            await MaintenanceService(database).ensure_partitions()
            await database.close()

        asyncio.run(prepare())
        yield server


def dsn_of(server: EmbeddedPostgres, database: str) -> str:
    """Return the address of another database of the server."""
    assert f"/{TEMPLATE}?" in server.dsn
    return server.dsn.replace(f"/{TEMPLATE}?", f"/{database}?")


async def _make_database(server: EmbeddedPostgres, template: str) -> str:
    name = f"test_{next(_numbers)}"
    connection = await asyncpg.connect(dsn_of(server, "postgres"))
    # Copying files is ten times as fast here as writing every page through the log.
    await connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    await connection.close()
    return name


async def _drop_database(server: EmbeddedPostgres, name: str) -> None:
    connection = await asyncpg.connect(dsn_of(server, "postgres"))
    await connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
    await connection.close()


@pytest.fixture
async def dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of a migrated database of the test's own."""
    name = await _make_database(postgres, TEMPLATE)
    yield dsn_of(postgres, name)
    await _drop_database(postgres, name)


@pytest.fixture
async def empty_dsn(postgres: EmbeddedPostgres) -> AsyncIterator[str]:
    """The address of an empty database of the test's own."""
    name = await _make_database(postgres, "template0")
    yield dsn_of(postgres, name)
    await _drop_database(postgres, name)


@pytest.fixture
async def database(dsn: str) -> AsyncIterator[Database]:
    """A migrated database of the test's own."""
    found = Database(dsn)
    yield found
    await found.close()


@pytest.fixture
async def engine() -> AsyncIterator[PollingEngine]:
    """A polling engine that may call this machine only."""
    policy = NetworkPolicy(http_allow=[ip_network("127.0.0.0/8"), ip_network("::1/128")])
    found = PollingEngine(Limits(request_timeout=2.0, max_connections=1_000), policy)
    yield found
    await found.close()


@pytest.fixture
async def agents() -> AsyncIterator[SimulatedFleet]:
    """Twenty simulated agents that answer well until told otherwise."""
    async with SimulatedFleet(servers=20, port=0) as fleet:
        yield fleet


@pytest.fixture
async def product(dsn: str) -> AsyncIterator[Product]:
    """A running control plane that checks only on request (its next cycle is an hour away)."""
    async with running_product(dsn) as running:
        yield running
