"""Whatever happens to polls, agents and the control plane: the stored increases add up to the true one."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from opsfleet.domain.errors import DatabaseUnavailableError
from opsfleet.domain.ids import DEFAULT_ORGANIZATION, new_id
from opsfleet.domain.metrics import LastCollection, MetricsCollection
from opsfleet.polling import NetworkPolicy
from opsfleet.services.maintenance import MaintenanceService
from opsfleet.services.metric_reports import read_agent
from opsfleet.services.metrics import MetricsService
from opsfleet.services.servers import ServerService
from opsfleet.store import targets
from opsfleet.store.database import Database
from opsfleet.store.metrics import CollectionToWrite
from opsfleet.vault import Vault

START = datetime(2026, 1, 31, 23, 50, tzinfo=UTC)
COUNTERS = ("network_rx_bytes", "network_tx_bytes", "llm_requests", "llm_cost_usd")

Step = tuple[str, int]
growths = st.integers(0, 10_000_000_000)
steps: st.SearchStrategy[list[Step]] = st.lists(
    st.one_of(
        st.tuples(st.just("poll"), growths),
        st.tuples(st.just("poll twice in a minute"), growths),
        st.tuples(st.just("miss"), growths),
        st.tuples(st.just("a counter is absent"), growths),
        st.tuples(st.just("agent restarts"), growths),
        st.tuples(st.just("control plane restarts"), st.just(0)),
        st.tuples(st.just("another instance polls"), growths),
        st.tuples(st.just("flush repeated"), growths),
        st.tuples(st.just("several wait for one flush"), growths),
    ),
    min_size=1,
    max_size=25,
)


@dataclass
class Agent:
    """A machine with four counters. `lost` is what a restart took with it before anybody saw it."""

    counter: int = 0
    seen: int | None = None
    true_increase: int = 0

    def report(self, *, without: str | None = None) -> bytes:
        values: dict[str, Any] = dict.fromkeys(COUNTERS, self.counter)
        values["llm_cost_usd"] = self.counter / 1_000_000
        if without is not None:
            del values[without]
        return msgspec.json.encode({"cpu_percent": 50.0, **values})

    def grow(self, by: int) -> None:
        self.counter += by

    def restart(self, by: int) -> None:
        # Counters begin at zero again. One that is as high as before cannot be told from one that went on.
        self.counter = min(by, self.seen - 1) if self.seen else by if self.seen is None else 0

    def look(self) -> None:
        """Note what an observer who sees this value must count."""
        if self.seen is not None:
            self.true_increase += self.counter - self.seen if self.counter >= self.seen else self.counter
        self.seen = self.counter


@dataclass
class ControlPlane:
    """Instances that write collections of one server, each with what it remembers."""

    service: MetricsService
    server_id: UUID
    revision: int
    moment: datetime = START
    remembered: list[LastCollection | None] = field(default_factory=lambda: [None, None])

    def item(self, body: bytes, instance: int = 0) -> CollectionToWrite:
        minute = self.moment.replace(second=0, microsecond=0)
        collection = MetricsCollection(self.server_id, self.moment, minute, read_agent(body), None)
        return CollectionToWrite(collection, self.revision, self.remembered[instance])

    async def store(self, items: Sequence[CollectionToWrite], instance: int = 0, *, repeated: bool = False) -> None:
        written = await self.service.record(items, repeated=repeated)
        self.remembered[instance] = written.last[self.server_id] if written else None


async def play(database: Database, story: list[Step]) -> None:
    service = MetricsService(database, None, Vault(bytes(32)), MaintenanceService(database))  # type: ignore[arg-type]
    servers = ServerService(database, Vault(bytes(32)), NetworkPolicy())
    row = {"name": str(new_id()), "hostname": "h", "api_url": "https://h.example:1", "api_token": "t"}
    server = await servers.register(DEFAULT_ORGANIZATION, row)
    async with database.connection() as connection:
        (target,) = await targets.select(connection, [server.id])
    agent, plane = Agent(), ControlPlane(service, server.id, target.revision)
    polls = 0
    for what, by in story:
        plane.moment += timedelta(seconds=60)
        if what == "agent restarts":
            agent.restart(by)
        else:
            agent.grow(by)
        if what in {"miss", "control plane restarts"}:
            plane.remembered = [None, None] if what == "control plane restarts" else plane.remembered
            continue
        if what == "a counter is absent":
            # The others are seen; this one only later, with nothing lost. Its sum is checked like theirs at the end.
            await plane.store([plane.item(agent.report(without="llm_requests"))])
            plane.moment += timedelta(seconds=1)
        agent.look()
        polls += 1
        instance = 1 if what == "another instance polls" else 0
        items = [plane.item(agent.report(), instance)]
        if what == "several wait for one flush":
            for _ in range(2):
                plane.moment += timedelta(seconds=60)
                agent.grow(by // 3)
                agent.look()
                items.append(plane.item(agent.report(), instance))
        await plane.store(items, instance)
        if what == "flush repeated":
            await plane.store(items, instance, repeated=True)
        if what == "poll twice in a minute":
            plane.moment += timedelta(seconds=7)
            agent.grow(by // 2)
            agent.look()
            await plane.store([plane.item(agent.report())])
    async with database.connection() as connection:
        sums = await connection.fetchrow(
            """
            SELECT coalesce(sum(network_rx_bytes), 0) AS network_rx_bytes,
                coalesce(sum(network_tx_bytes), 0) AS network_tx_bytes,
                coalesce(sum(llm_requests), 0) AS llm_requests, coalesce(sum(llm_cost_usd), 0) AS llm_cost_usd,
                count(*) = count(DISTINCT timestamp) AS one_row_per_minute
            FROM server_metrics_aggregated WHERE server_id = $1 AND period = '1m'
            """,
            server.id,
        )
    assert sums is not None
    assert sums["network_rx_bytes"] == sums["network_tx_bytes"] == sums["llm_requests"] == agent.true_increase
    assert sums["llm_cost_usd"] == Decimal(agent.true_increase).scaleb(-6)
    assert sums["one_row_per_minute"]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(story=steps)
def test_the_stored_sum_equals_the_true_increase(dsn: str, story: list[Step]) -> None:
    async def run() -> None:
        database = Database(dsn)
        try:
            await play(database, story)
        finally:
            await database.close()

    asyncio.run(run())


async def test_a_flush_of_unknown_fate_is_not_counted_twice(database: Database) -> None:
    """The commit reaches the database, its answer does not reach us, and the flush is repeated."""
    await play(database, [("poll", 5), ("flush repeated", 7), ("several wait for one flush", 9), ("flush repeated", 1)])


async def test_a_batch_that_cannot_be_stored_now_leaves_nothing(database: Database) -> None:
    service = MetricsService(
        Database("postgresql:///nowhere?host=/nonexistent"),
        None,  # type: ignore[arg-type]
        Vault(bytes(32)),
        MaintenanceService(database),
    )
    collection = MetricsCollection(new_id(), START, START, read_agent(b"{}"), None)
    try:
        await service.record([CollectionToWrite(collection, 0, None)])
    except DatabaseUnavailableError:
        return
    raise AssertionError("it must say that the database is away")
